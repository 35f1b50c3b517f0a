"""Curves with their confidence bands."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from leadline.figures.theme import COLOURS, NEUTRAL, new_figure, plain, translucent


def bands(
    x: Sequence[float] | np.ndarray,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    baselines: Sequence[str] = (),
    **layout: Any,
) -> go.Figure:
    """One line per curve, each inside the band of its interval.

    Args:
        x: shape (n,), shared by the curves.
        curves: name -> (estimate, low, high), each of shape (n,); names are plain text.
        title: what the figure shows; plain text.
        x_label: horizontal axis, with unit; markup.
        y_label: vertical axis, with unit; markup.
        log_x: a logarithmic axis whose ticks stand at the values of ``x``.
        baselines: names of curves that are drawn grey and dashed: they are what others are compared with.
        layout: further Plotly layout.

    >>> y = np.array([0.5, 0.7])
    >>> len(bands([10, 100], {"raw": (y, y - 0.1, y + 0.1)}, title="", x_label="labels", y_label="accuracy").data)
    2
    """
    figure = new_figure(title, x_label, y_label, **layout)
    x = np.asarray(x)
    colours, dashes = iter(COLOURS * (1 + len(curves))), iter(("dash", "dot", "dashdot", "longdash") * len(curves))
    for name, (estimate, low, high) in curves.items():
        is_baseline = name in baselines
        colour, dash = (NEUTRAL, next(dashes)) if is_baseline else (next(colours), "solid")
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=np.concatenate([high, low[::-1]]),
            fill="toself",
            fillcolor=translucent(colour, 0.16),
            line_width=0,
            mode="lines",
            hoverinfo="skip",
            legendgroup=name,
            showlegend=False,
        )
        figure.add_scatter(
            x=x,
            y=estimate,
            name=plain(name),
            legendgroup=name,
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"size": 6},
            customdata=np.stack([low, high], axis=1),
            hovertemplate="%{y:.3g} [%{customdata[0]:.3g}, %{customdata[1]:.3g}]",
        )
    if log_x:
        figure.update_xaxes(type="log", tickvals=x, ticktext=[f"{value:g}" for value in x], minor_ticks="")
    return figure.update_layout(hovermode="x unified")


def mean_and_range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, least and largest over the first axis, as :func:`bands` takes them; NaN where nothing is finite.

    >>> [part.tolist() for part in mean_and_range(np.array([[1.0, 2.0], [3.0, np.nan]]))]
    [[2.0, 2.0], [1.0, 2.0], [3.0, 2.0]]
    """
    values = np.where(np.isfinite(values), values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of places without any
        return np.nanmean(values, axis=0), np.nanmin(values, axis=0), np.nanmax(values, axis=0)
