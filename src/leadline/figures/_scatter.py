"""Clouds of points, one colour for each group, with their uncertainty both ways."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import plotly.graph_objects as go

from leadline.checks import instance
from leadline.errors import InputError
from leadline.figures._arguments import heights, labels, named, texts
from leadline.figures._theme import COLOURS, NEUTRAL, new_figure, plain, translucent


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points of one group; checked when it is made.

    Raises:
        InputError: arrays of different lengths, or a half-width below 0.
    """

    x: np.ndarray
    """Shape (n,)."""
    y: np.ndarray
    """Shape (n,)."""
    labels: Sequence[str]
    """What each point is, n of them; plain text."""
    x_half: np.ndarray
    """Half-widths of intervals, shape (n,); NaN where there is no interval."""
    y_half: np.ndarray
    """Half-widths of intervals, shape (n,); NaN where there is no interval."""

    def __post_init__(self) -> None:
        x = heights(self.x, "x")
        for name in ("x", "y", "x_half", "y_half"):
            values = heights(getattr(self, name), name, length=len(x))
            object.__setattr__(self, name, values)
            if name.endswith("half") and (values < 0).any():
                place = int(np.argmax(values < 0))
                raise InputError(
                    f"{name} must not be negative", got=f"{name}[{place}] = {values[place]}"
                )
        object.__setattr__(self, "labels", texts(self.labels, "labels", length=len(x)))


SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "hexagon")
"""One for each colour, so that groups are told apart without it."""


def scatter(
    clouds: Mapping[str, Cloud], *, title: str, x_label: str, y_label: str, **layout: Any
) -> go.Figure:
    """Points with error bars. A remark says how many points are not finite, which no axis can show.

    Args:
        clouds: group -> its points; groups are plain text.
        title: what the figure shows; plain text.
        x_label: horizontal axis, with unit; markup.
        y_label: vertical axis, with unit; markup.
        layout: further Plotly layout.

    Raises:
        InputError: groups that are no clouds.

    >>> one = Cloud(np.array([1.0, 2.0]), np.array([3.0, 4.0]), ["a", "b"], np.zeros(2), np.ones(2))
    >>> scatter({"vanilla": one}, title="", x_label="loss", y_label="accuracy").data[0].text
    ('a', 'b')
    """
    labels(title=title, x_label=x_label, y_label=y_label)
    groups = {
        name: instance(cloud, f"clouds[{name!r}]", Cloud)
        for name, cloud in named(clouds, "clouds").items()
    }
    figure = new_figure(title, x_label, y_label, **layout)
    for (name, cloud), colour, symbol in zip(groups.items(), cycle(COLOURS), cycle(SYMBOLS)):
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
    missing = sum(
        int((~np.isfinite(cloud.x) | ~np.isfinite(cloud.y)).sum()) for cloud in groups.values()
    )
    if missing:
        text = f"{missing} point{'s are' if missing > 1 else ' is'} not finite and not drawn"
        where = {
            "x": 1,
            "y": 0,
            "xref": "paper",
            "yref": "paper",
            "xanchor": "right",
            "yanchor": "bottom",
        }
        figure.add_annotation(
            text=text, **where, showarrow=False, font={"size": 12, "color": NEUTRAL}
        )
    return figure
