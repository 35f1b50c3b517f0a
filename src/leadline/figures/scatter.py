"""Clouds of points, one colour for each group, with their uncertainty both ways."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from leadline.figures.theme import COLOURS, new_figure, plain, translucent


class Cloud(NamedTuple):
    """Points of one group."""

    x: np.ndarray
    """Shape (n,)."""
    y: np.ndarray
    """Shape (n,)."""
    labels: Sequence[str]
    """What each point is, n of them; plain text."""
    x_half: np.ndarray
    """Half-widths of intervals, shape (n,)."""
    y_half: np.ndarray
    """Half-widths of intervals, shape (n,)."""


SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "hexagon")
"""One for each colour, so that groups are told apart without it."""


def scatter(clouds: Mapping[str, Cloud], *, title: str, x_label: str, y_label: str, **layout: Any) -> go.Figure:
    """Points with error bars.

    Args:
        clouds: group -> its points; groups are plain text.
        title: what the figure shows; plain text.
        x_label: horizontal axis, with unit; markup.
        y_label: vertical axis, with unit; markup.
        layout: further Plotly layout.

    >>> one = Cloud(np.array([1.0, 2.0]), np.array([3.0, 4.0]), ["a", "b"], np.zeros(2), np.ones(2))
    >>> scatter({"vanilla": one}, title="", x_label="loss", y_label="accuracy").data[0].text
    ('a', 'b')
    """
    figure = new_figure(title, x_label, y_label, **layout)
    for (name, cloud), colour, symbol in zip(clouds.items(), cycle(COLOURS), cycle(SYMBOLS)):
        bars = {"color": translucent(colour, 0.45), "thickness": 1.2, "width": 0}
        figure.add_scatter(
            x=cloud.x,
            y=cloud.y,
            error_x={"array": cloud.x_half, **bars},
            error_y={"array": cloud.y_half, **bars},
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 9},
            name=plain(name),
            legendgroup=name,
            text=[plain(label) for label in cloud.labels],
            hovertemplate=f"%{{text}}<br>{x_label} %{{x:.4g}}, {y_label} %{{y:.4g}}<extra></extra>",
        )
    return figure
