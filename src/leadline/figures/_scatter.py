"""Clouds of points with error bars, one colour for each group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from leadline.checks import ShortRepr, instance
from leadline.errors import InputError
from leadline.figures._arguments import heights, labels, named, texts
from leadline.figures._theme import (
    COLOURS,
    NEUTRAL,
    Drawing,
    extended,
    new_drawing,
    plain,
    translucent,
)


@dataclass(frozen=True, eq=False)
class Cloud(ShortRepr):
    """The points of one group, with the half-widths of their intervals.

    Raises:
        InputError: the lengths of the arrays differ, or a half-width is below 0.
    """

    x: np.ndarray
    """Shape (n,)."""
    y: np.ndarray
    """Shape (n,)."""
    labels: Sequence[str]
    """Name of each point, n texts; plain text."""
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
"""Symbols of the groups, so that groups also differ in print without colours."""


def scatter(
    clouds: Mapping[str, Cloud], *, title: str, x_label: str, y_label: str, **layout: Any
) -> Drawing:
    """Return points with error bars, one colour and symbol for each group.

    No axis can show a point that is not finite; a note says how many such points there are.

    Args:
        clouds: group -> its points; groups are plain text.
        title: title of the figure; plain text.
        x_label: label of the horizontal axis, with its unit; markup.
        y_label: label of the vertical axis, with its unit; markup.
        layout: further properties of Plotly's layout.

    Raises:
        InputError: a group is not a :class:`Cloud`.

    >>> ones = np.ones(2)
    >>> cloud = Cloud(np.array([1.0, 2.0]), np.array([3.0, 4.0]), ["a", "b"], ones, ones)
    >>> drawing = scatter({"vanilla": cloud}, title="", x_label="loss", y_label="accuracy")
    >>> drawing["data"][0]["text"]
    ['a', 'b']
    """
    labels(title=title, x_label=x_label, y_label=y_label)
    groups = {
        name: instance(cloud, f"clouds[{name!r}]", Cloud)
        for name, cloud in named(clouds, "clouds").items()
    }
    drawing = new_drawing(title, x_label, y_label, **layout)
    hover = f"%{{text}}<br>{x_label} %{{x:.4g}}, {y_label} %{{y:.4g}}<extra></extra>"
    traces = []
    for (name, cloud), colour, symbol in zip(groups.items(), cycle(COLOURS), cycle(SYMBOLS)):
        bars = {"color": translucent(colour, 0.45), "thickness": 1.2, "width": 0}
        trace = {
            "type": "scatter",
            "x": cloud.x,
            "y": cloud.y,
            "error_x": {"array": cloud.x_half, **bars},
            "error_y": {"array": cloud.y_half, **bars},
            "mode": "markers",
            "marker": {"color": colour, "symbol": symbol, "size": 9},
            "name": plain(name),
            "legendgroup": name,
            "text": [plain(label) for label in cloud.labels],
            "hovertemplate": hover,
        }
        traces.append(trace)
    missing = 0
    for cloud in groups.values():
        is_drawn = np.isfinite(cloud.x) & np.isfinite(cloud.y)
        missing += int((~is_drawn).sum())
    drawing = extended(drawing, traces)
    return extended(drawing, annotations=[_note(missing)]) if missing else drawing


def _note(missing: int) -> dict[str, Any]:
    """Return the annotation about points that are not drawn."""
    noun = "point is" if missing == 1 else "points are"
    return {
        "text": f"{missing} {noun} not finite and not drawn",
        "x": 1,
        "y": 0,
        "xref": "paper",
        "yref": "paper",
        "xanchor": "right",
        "yanchor": "bottom",
        "showarrow": False,
        "font": {"size": 12, "color": NEUTRAL},
    }
