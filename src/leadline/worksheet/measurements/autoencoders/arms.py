"""The arms of a comparison: representations that are probed with the same labels and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from leadline.data import Dataset, Roles
from leadline.figures import ACCENT, NEUTRAL, Drawing, extended, markers, new_drawing, plain, rule
from leadline.probing import label_efficiency
from leadline.sounding import Interval, Protocol, Sounding, Verdict
from leadline.statistics import PERCENT, POINTS, paired_interval
from leadline.storage import record
from leadline.worksheet._setting import Setting

if TYPE_CHECKING:
    import pandas as pd


@record("worksheet.Arms")
@dataclass(frozen=True, eq=False)
class Arms(Sounding):
    """Accuracies of probes in percent; all arms share the same roles and label subsets."""

    title: str
    """Title of the figure."""
    names: tuple[str, ...]
    accuracy: Float[np.ndarray, "arms seeds"]
    """Mean accuracy over label subsets, on the test role."""
    labels: int
    reference: str = "raw"
    """The arm that the others are compared with."""

    def of(self, name: str) -> Float[np.ndarray, " seeds"]:
        """Return the accuracies of one arm."""
        return self.accuracy[self.names.index(name)]

    def difference(self, name: str, other: str) -> tuple[Float[np.ndarray, " seeds"], str, str]:
        """Return paired differences in points, their name and their unit, for ``effects_of``."""
        return (
            self.of(name) - self.of(other),
            f"{name} minus {other}, {self.labels} labels",
            "points",
        )

    @property
    def verdict(self) -> Verdict:
        """The mean accuracy of every arm."""
        means = ", ".join(f"{name} {self.of(name).mean():z.1f} %" for name in self.names)
        return Verdict(f"accuracy with {self.labels} labels: {means}")

    def table(self) -> "pd.DataFrame":
        """Return one row per arm: ``accuracy`` and ``gain``, with 95 % intervals.

        The accuracy is in percent. The gain is the difference from the reference arm in points.
        """
        import pandas as pd

        rows = []
        for name in self.names:
            row: dict[str, object] = {"representation": name}
            gains = self.of(name) - self.of(self.reference)
            for column, values in (("accuracy", self.of(name)), ("gain", gains)):
                interval = paired_interval(
                    values, bounds=PERCENT if column == "accuracy" else POINTS
                )
                row |= {
                    column: interval.estimate,
                    f"{column} low": interval.low,
                    f"{column} high": interval.high,
                }
            rows.append(row)
        return pd.DataFrame(rows)

    def drawing(self) -> Drawing:
        """Return each arm's gain over the reference: seeds, and the mean with its 95 % interval."""
        others = [name for name in self.names if name != self.reference][::-1]
        traces = []
        for y, name in enumerate(others):
            gains = self.of(name) - self.of(self.reference)
            interval = paired_interval(gains, bounds=POINTS)
            seeds = markers(
                gains,
                y - 0.16 + np.linspace(-0.1, 0.1, len(gains)),
                colour=NEUTRAL,
                size=5,
                opacity=0.5,
                showlegend=False,
                hoverinfo="skip",
            )
            mean = markers(
                [interval.estimate],
                [y + 0.12],
                name=plain(name),
                colour=ACCENT,
                size=9,
                error_x=error_bar([interval], width=5),
                showlegend=False,
            )
            traces += [seeds, mean]
        reference = f"{plain(self.reference)} ({self.of(self.reference).mean():z.1f} %)"
        drawing = new_drawing(
            self.title,
            f"points of accuracy over {reference}, {self.labels} labels",
            height=150 + 44 * len(others),
            yaxis={
                "tickvals": list(range(len(others))),
                "ticktext": [plain(name) for name in others],
                "range": [-0.6, len(others) - 0.4],
                "showgrid": False,
                "zeroline": False,
            },
        )
        return extended(drawing, traces, **rule(x=0, colour=NEUTRAL, width=1))


def error_bar(intervals: Sequence[Interval], width: int) -> dict[str, Any]:
    """Return Plotly's error bars for intervals, which may be asymmetric."""
    return {
        "array": [interval.high - interval.estimate for interval in intervals],
        "arrayminus": [interval.estimate - interval.low for interval in intervals],
        "width": width,
    }


def compared(
    title: str,
    encoders: Mapping[str, Any],
    dataset: Dataset,
    roles: Sequence[Roles],
    setting: Setting,
    *,
    labels: int,
    settings: Mapping[str, Any],
    baselines: Sequence[str] = ("raw",),
) -> Arms:
    """Probe one representation per seed and kind, all with the same number of labels.

    Args:
        title: title of the figure.
        encoders: encoders by name, as in :func:`leadline.probing.label_efficiency`.
        dataset: rows and labels.
        roles: one assignment of roles for each seed of the setting.
        setting: budget and seeds.
        labels: number of labels.
        settings: settings for the protocol.
        baselines: baselines that the comparison uses; no others are probed.
    """
    study = label_efficiency(
        encoders,
        dataset.X,
        dataset.labels,
        roles=roles,
        labels=[labels],
        num_subsets=setting.pick(quick=6, full=30),
        seeds=setting.seeds,
        baselines=baselines,
    )
    accuracy = 100 * study.accuracy[:, :, 0].mean(2)
    protocol = Protocol(
        {"data": dataset.name, **settings, **study.protocol.settings},
        seeds=setting.seeds,
        fingerprints=study.protocol.fingerprints,
    )
    return Arms(protocol, title, study.names, accuracy, labels)
