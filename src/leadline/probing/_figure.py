"""How the soundings of probing look."""

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from leadline.figures import NEUTRAL, Cloud, bands, matrix, panels, scatter
from leadline.sounding import Interval, decimals
from leadline.statistics import UNBOUNDED, Bounds, paired_interval

if TYPE_CHECKING:
    from leadline.probing.studies._label_efficiency import LabelEfficiency
    from leadline.probing.studies._rank_agreement import RankAgreement
    from leadline.probing.studies._transfer_matrix import TransferMatrix


def label_efficiency_curves(study: "LabelEfficiency") -> go.Figure:
    """Accuracy of each representation by label count; baselines grey."""
    from leadline.probing.studies._label_efficiency import BASELINES

    curves = {}
    for name in study.names:
        intervals = [study.interval(name, labels) for labels in study.budgets.tolist()]
        curves[name] = tuple(
            np.array([getattr(i, end) for i in intervals]) for end in ("estimate", "low", "high")
        )
    drawn = np.stack([end for curve in curves.values() for end in curve])
    if study.majority is not None:
        drawn = np.append(drawn, 100 * study.majority.mean())
    # Two seeds give no interval: its ends are NaN. An R² may be far below zero; the axis does not follow it.
    bottom = max(np.nanmin(drawn), 0.0 if study.measure == "accuracy" else -100.0)
    top = min(np.nanmax(drawn), 100.0)
    margin = 0.04 * (top - bottom) or 1.0
    figure = bands(
        study.budgets,
        curves,
        title="What a label is worth",
        yaxis_range=[bottom - margin, top + margin],
        x_label="labels",
        y_label="test accuracy, %"
        if study.measure == "accuracy"
        else "variance explained, test rows, %",
        log_x=True,
        baselines=[name for name in study.names if name in BASELINES],
    )
    if not all(np.isfinite(curve[1]).all() for curve in curves.values()):
        figure.update_traces(hovertemplate="%{y:.3g}", selector={"mode": "lines+markers"})
    return figure if study.majority is None else _with_largest_class(figure, study.majority)


def _with_largest_class(figure: go.Figure, majority: np.ndarray, **place: Any) -> go.Figure:
    """A thin line at the accuracy of always predicting the largest class."""
    share = 100 * float(np.mean(majority))
    note = {
        "text": f"largest class {decimals(share, '.1f')} %",
        "font": {"size": 11, "color": NEUTRAL},
    }
    return figure.add_hline(
        y=share, line={"color": NEUTRAL, "width": 1, "dash": "dot"}, annotation=note, **place
    )


def agreement_clouds(found: "RankAgreement") -> go.Figure:
    """Accuracy against validation loss, and against RankMe: a point with 95 % intervals for each configuration."""
    measured = "test accuracy, %" if found.measure == "accuracy" else "variance explained, %"
    axes = [
        ("told by the loss", "validation loss", measured),
        ("told by the effective rank", "RankMe", measured),
    ]
    figure = panels(f"Who tells the better representation? {found.labels} labels", axes, height=420)
    for i, told in enumerate((found.loss, found.rank_me)):
        bounds = UNBOUNDED if i == 0 else (0.0, np.inf)
        clouds, below = _by_variant(found, told, bounds)
        cloud = scatter(clouds, title="", x_label=axes[i][1], y_label=measured)
        for trace, (x_below, y_below) in zip(cloud.data, below, strict=True):
            axis = str(i + 1) if i else ""
            drawn = figure.add_trace(trace).data[-1]
            drawn.update(xaxis=f"x{axis}", yaxis=f"y{axis}", showlegend=not i)
            # Intervals end at 0 and 100 %, so that their halves differ.
            drawn.update(error_x={"symmetric": False, "arrayminus": x_below})
            drawn.update(error_y={"symmetric": False, "arrayminus": y_below})
    if found.majority is not None:
        _with_largest_class(figure, found.majority)
    return figure.update_layout(yaxis2_matches="y")


def _by_variant(
    found: "RankAgreement", told: np.ndarray, bounds: Bounds
) -> tuple[dict[str, Cloud], list[tuple[np.ndarray, np.ndarray]]]:
    """Points with the upper halves of their intervals; and the lower halves."""
    from leadline.probing.studies._label_efficiency import SCORES

    clouds: dict[str, Cloud] = {}
    below: list[tuple[np.ndarray, np.ndarray]] = []
    for variant in dict.fromkeys(found.variants):
        rows = [i for i, other in enumerate(found.variants) if other == variant]
        x = _ends([paired_interval(told[i], bounds=bounds) for i in rows])
        y = _ends(
            [paired_interval(100 * found.accuracy[i], bounds=SCORES[found.measure]) for i in rows]
        )
        names = [found.names[i] for i in rows]
        clouds[variant] = Cloud(x[0], y[0], names, x[2] - x[0], y[2] - y[0])
        below.append((x[0] - x[1], y[0] - y[1]))
    return clouds, below


def _ends(intervals: list[Interval]) -> np.ndarray:
    """Estimates, low ends and high ends, in rows; an unknown end is where the estimate is."""
    ends = np.array([[one.estimate, one.low, one.high] for one in intervals]).T
    return np.where(np.isnan(ends), ends[0], ends)


def transfer_map(found: "TransferMatrix") -> go.Figure:
    """Gain over raw inputs of each source on each target; accuracy and interval in each cell."""
    gains = [
        [found.gain(source, target).interval for target in found.targets]
        for source in found.sources
    ]
    texts = [
        [
            f"{decimals(found.interval(source, target).estimate, '.1f')} %"
            + (f"<br>{gain:+.1f}" if source != "raw" else "")
            for target, gain in zip(found.targets, row, strict=True)
        ]
        for source, row in zip(found.sources, gains, strict=True)
    ]
    return matrix(
        np.array([[gain.estimate for gain in row] for row in gains]),
        texts,
        rows=found.sources,
        columns=[
            f"{name} ({labels} labels, largest class {decimals(100 * share, '.1f')} %)"
            for name, labels, share in zip(
                found.targets, found.labels, found.majority.mean(axis=1), strict=True
            )
        ],
        title="What a representation is worth on other data",
        x_label="probed on",
        y_label="pretrained on",
        scale_label="points over raw inputs",
    )
