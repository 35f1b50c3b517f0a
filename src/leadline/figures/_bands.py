"""Curves with their confidence bands."""

import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from leadline import checks
from leadline.errors import InputError
from leadline.figures._arguments import heights, labels, named, numbers, places, texts
from leadline.figures._theme import COLOURS, NEUTRAL, new_figure, plain, translucent


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
) -> go.Figure:
    """One line per curve, each inside the band of its interval.

    Where an estimate is not finite, its line has a gap; where an end of an interval is not, the band has one.

    Args:
        x: shape (n,), shared by the curves; finite, in any order.
        curves: name -> (estimate, low, high), each of shape (n,); names are plain text.
        title: what the figure shows; plain text.
        x_label: horizontal axis, with unit; markup.
        y_label: vertical axis, with unit; markup.
        log_x: a logarithmic axis whose ticks stand at the values of ``x``.
        baselines: names of curves that are drawn grey and dashed: they are what others are compared with.
        layout: further Plotly layout.

    Raises:
        InputError: lengths that differ, places that are not finite, or a low end above its high end.

    >>> y = np.array([0.5, 0.7])
    >>> len(bands([10, 100], {"raw": (y, y - 0.1, y + 0.1)}, title="", x_label="labels", y_label="accuracy").data)
    2
    """
    labels(title=title, x_label=x_label, y_label=y_label)
    is_log = checks.flag(log_x, "log_x")
    x = places(x, "x", log=is_log)
    known = named(curves, "curves")
    grey = set(texts(baselines, "baselines"))
    order = np.argsort(x, kind="stable")
    x = x[order]
    figure = new_figure(title, x_label, y_label, **layout)
    colours = cycle(COLOURS)
    dashes = cycle(("dash", "dot", "dashdot", "longdash"))
    for name, curve in known.items():
        estimate, low, high = (part[order] for part in _curve(curve, name, len(x)))
        is_baseline = name in grey
        colour, dash = (NEUTRAL, next(dashes)) if is_baseline else (next(colours), "solid")
        has_band = np.isfinite(low) & np.isfinite(high)
        band_x, band_y = _outline(x, low, high, has_band)
        figure.add_scatter(
            x=band_x,
            y=band_y,
            fill="toself",
            fillcolor=translucent(colour, 0.16),
            line_width=0,
            mode="lines",
            hoverinfo="skip",
            legendgroup=name,
            showlegend=False,
        )
        line = figure.add_scatter(
            x=x,
            y=estimate,
            name=plain(name),
            legendgroup=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"size": 6},
            customdata=np.stack([low, high], axis=1),
            hovertemplate="%{y:.3g} [%{customdata[0]:.3g}, %{customdata[1]:.3g}]",
        ).data[-1]
        alone = _alone(has_band)
        if alone.any():
            above = np.where(alone, high - estimate, np.nan)
            below = np.where(alone, estimate - low, np.nan)
            bars = {"array": above, "arrayminus": below, "symmetric": False}
            line.error_y = {
                **bars,
                "color": translucent(colour, 0.45),
                "thickness": 1.2,
                "width": 0,
            }
    if is_log:
        figure.update_xaxes(
            type="log", tickvals=x, ticktext=[f"{value:g}" for value in x], minor_ticks=""
        )
    return figure.update_layout(hovermode="x unified")


def _curve(curve: Any, name: str, length: int) -> list[np.ndarray]:
    """Estimate, low and high of a curve; refused where low is above high."""
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
    """There and back around each run of places that have a band; NaN between the runs, where Plotly starts anew."""
    corners = []
    edges = np.flatnonzero(np.diff(np.concatenate([[False], has_band, [False]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        run = slice(start, stop)
        there = np.stack([x[run], high[run]])
        back = np.stack([x[run], low[run]])[:, ::-1]
        corners += [there, back, np.full((2, 1), np.nan)]
    whole = np.concatenate(corners[:-1] or [np.zeros((2, 0))], axis=1)
    return whole[0], whole[1]


def _alone(has_band: np.ndarray) -> np.ndarray:
    """Places with a band between places without one: a band of no width would not be seen."""
    around = np.concatenate([[False], has_band, [False]])
    return has_band & ~around[:-2] & ~around[2:]


def mean_and_range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, least and largest over the first axis, as :func:`bands` takes them; NaN where nothing is finite.

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
        warnings.simplefilter("ignore", RuntimeWarning)  # of places without any
        mean = np.nanmean(finite, axis=0)
        if np.isinf(mean).any():  # the sum of numbers near the largest that there are
            mean = np.nansum(finite / np.isfinite(finite).sum(axis=0), axis=0)
        return mean, np.nanmin(finite, axis=0), np.nanmax(finite, axis=0)
