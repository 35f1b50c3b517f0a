"""Curves with the bands of their confidence intervals."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from leadline import checks
from leadline.errors import InputError
from leadline.figures._arguments import heights, labels, named, numbers, places, texts
from leadline.figures._theme import (
    COLOURS,
    NEUTRAL,
    Drawing,
    merged,
    new_drawing,
    plain,
    translucent,
)


def bands(
    x: ArrayLike,
    curves: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    baselines: Sequence[str] = (),
    **layout: Any,
) -> Drawing:
    """Return curves, each inside the band of its interval.

    A curve has a gap where its estimate is not finite. A band has a gap where one of its ends is
    not finite.

    Args:
        x: shape (n,), shared by the curves; finite, in any order.
        curves: name -> (estimate, low, high), each of shape (n,); names are plain text.
        title: title of the figure; plain text.
        x_label: label of the horizontal axis, with its unit; markup.
        y_label: label of the vertical axis, with its unit; markup.
        log_x: use a logarithmic axis with a tick at each value of ``x``.
        baselines: names of curves to draw grey and dashed, for comparison.
        layout: further properties of Plotly's layout.

    Raises:
        InputError: the lengths differ, ``x`` is not finite, or a low end is above its high end.

    >>> y = np.array([0.5, 0.7])
    >>> curves = {"raw": (y, y - 0.1, y + 0.1)}
    >>> drawing = bands([10, 100], curves, title="", x_label="labels", y_label="accuracy")
    >>> [trace["mode"] for trace in drawing["data"]]
    ['lines', 'lines+markers']
    """
    labels(title=title, x_label=x_label, y_label=y_label)
    is_log = checks.flag(log_x, "log_x")
    x = places(x, "x", log=is_log)
    named_curves = named(curves, "curves")
    baseline_names = set(texts(baselines, "baselines"))
    order = np.argsort(x, kind="stable")
    x = x[order]
    axis: dict[str, Any] = {}
    if is_log:
        names = [f"{value:g}" for value in x]
        axis = {"type": "log", "tickvals": x, "ticktext": names, "minor": {"ticks": ""}}
    colours = cycle(COLOURS)
    dashes = cycle(("dash", "dot", "dashdot", "longdash"))
    traces: list[dict[str, Any]] = []
    for name, curve in named_curves.items():
        parts = [part[order] for part in _curve(curve, name, len(x))]
        if name in baseline_names:
            traces += _band_and_line(x, parts, name, NEUTRAL, next(dashes))
        else:
            traces += _band_and_line(x, parts, name, next(colours), "solid")
    drawing = new_drawing(title, x_label, y_label, **layout)
    overrides = {"xaxis": axis, "hovermode": "x unified"}
    return {"data": traces, "layout": merged(drawing["layout"], overrides)}


def _band_and_line(
    x: np.ndarray, parts: Sequence[np.ndarray], name: str, colour: str, dash: str
) -> list[dict[str, Any]]:
    """Return the trace of the band, and the trace of the curve."""
    estimate, low, high = parts
    has_band = np.isfinite(low) & np.isfinite(high)
    band_x, band_y = _outline(x, low, high, has_band)
    band = {
        "type": "scatter",
        "x": band_x,
        "y": band_y,
        "fill": "toself",
        "fillcolor": translucent(colour, 0.16),
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "legendgroup": name,
        "showlegend": False,
    }
    curve: dict[str, Any] = {
        "type": "scatter",
        "x": x,
        "y": estimate,
        "name": plain(name),
        "legendgroup": name,
        "mode": "lines+markers",
        "line": {"color": colour, "dash": dash, "width": 2},
        "marker": {"size": 6},
        "customdata": np.stack([low, high], axis=1),
        "hovertemplate": "%{y:.3g} [%{customdata[0]:.3g}, %{customdata[1]:.3g}]",
    }
    # The band of a single place has no width, so an error bar is drawn instead.
    is_alone = _alone(has_band)
    if is_alone.any():
        curve["error_y"] = {
            "array": np.where(is_alone, high - estimate, np.nan),
            "arrayminus": np.where(is_alone, estimate - low, np.nan),
            "symmetric": False,
            "color": translucent(colour, 0.45),
            "thickness": 1.2,
            "width": 0,
        }
    return [band, curve]


def _curve(curve: Any, name: str, length: int) -> list[np.ndarray]:
    """Return estimate, low and high of a curve; refuse a low end above its high end."""
    parts = checks.items(curve, f"curves[{name!r}]", of="arrays: estimate, low, high")
    if len(parts) != 3:
        raise InputError(
            f"curves[{name!r}] must be three arrays: estimate, low, high",
            got=f"{len(parts)} {checks.shown(curve)}",
        )
    ends = ("estimate", "low", "high")
    arrays = [
        heights(part, f"{end} of {name!r}", length=length)
        for end, part in zip(ends, parts, strict=True)
    ]
    _, low, high = arrays
    wrong = np.flatnonzero(low > high + 1e-9 * np.abs(high))
    if len(wrong):
        place = wrong[0]
        raise InputError(
            f"low of {name!r} must not be above high",
            got=f"low[{place}] = {low[place]}, high[{place}] = {high[place]}",
        )
    return arrays


def _outline(
    x: np.ndarray, low: np.ndarray, high: np.ndarray, has_band: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the outline of each run of places with a band, with NaN between the runs."""
    corners = []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], has_band, [False]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        run = slice(start, stop)
        upper = np.stack([x[run], high[run]])
        lower = np.stack([x[run], low[run]])[:, ::-1]
        corners += [upper, lower, np.full((2, 1), np.nan)]
    outline = np.concatenate(corners[:-1] or [np.zeros((2, 0))], axis=1)
    return outline[0], outline[1]


def _alone(has_band: np.ndarray) -> np.ndarray:
    """Return True for each place that has a band while its neighbours have none."""
    around = np.concatenate([[False], has_band, [False]])
    return has_band & ~around[:-2] & ~around[2:]


def mean_and_range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, minimum and maximum over the first axis, in the order of :func:`bands`.

    Values that are not finite are left out; the result is NaN where no value is finite.

    >>> [part.tolist() for part in mean_and_range(np.array([[1.0, 2.0], [3.0, np.nan]]))]
    [[2.0, 2.0], [1.0, 2.0], [3.0, 2.0]]
    """
    plain_values = numbers(values, "values")
    if not plain_values.ndim or not len(plain_values):
        raise InputError(
            "values must have at least one row", got=f"values of shape {plain_values.shape}"
        )
    finite = np.where(np.isfinite(plain_values), plain_values, np.nan)
    with warnings.catch_warnings():
        # NumPy warns about places without a finite value.
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(finite, axis=0)
        # The sum of numbers near the largest float overflows.
        if np.isinf(mean).any():
            mean = np.nansum(finite / np.isfinite(finite).sum(axis=0), axis=0)
        return mean, np.nanmin(finite, axis=0), np.nanmax(finite, axis=0)
