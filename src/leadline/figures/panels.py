"""Several panels side by side under one title."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import plotly.graph_objects as go

from leadline.figures.theme import AXIS_STYLE, merged, new_layout, plain


def panels(title: str, axes: Sequence[tuple[str, str, str]], **layout: Any) -> go.Figure:
    """An empty figure with panels in a row; panel i is drawn on axes ``x{i}`` and ``y{i}`` (``x`` and ``y`` for 1).

    Args:
        title: what the figure shows; plain text.
        axes: per panel, its heading (plain text; none where it is empty) and the labels of its two axes (markup).
        layout: further Plotly layout.

    >>> figure = panels("Two views", [("left", "t", "norm"), ("right", "t", "norm")])
    >>> figure.layout.xaxis2.anchor
    'y2'
    """
    return go.Figure(layout=panel_layout(title, axes, **layout))


def panel_layout(title: str, axes: Sequence[tuple[str, str, str]], **layout: Any) -> dict[str, Any]:
    """The layout of :func:`panels`, for a drawing."""
    gap, width = 0.12, (1 - 0.12 * (len(axes) - 1)) / len(axes)
    placed: dict[str, Any] = {
        "margin": {"t": 64},
        "legend": {"y": -0.22, "yanchor": "top", "x": 0, "xanchor": "left"},
        "annotations": [],
    }
    for i, (heading, x_label, y_label) in enumerate(axes):
        suffix = "" if i == 0 else str(i + 1)
        left = i * (width + gap)
        x = {"domain": [left, left + width], "anchor": f"y{suffix}", "title": {"text": x_label}}
        placed[f"xaxis{suffix}"] = merged(AXIS_STYLE, x)
        placed[f"yaxis{suffix}"] = merged(AXIS_STYLE, {"anchor": f"x{suffix}", "title": {"text": y_label}})
        placed["annotations"] += [
            {
                "text": f"<b>{plain(heading)}</b>",
                "x": left,
                "y": 1.0,
                "xref": "paper",
                "yref": "paper",
                "xanchor": "left",
                "yanchor": "bottom",
                "showarrow": False,
                "font": {"size": 12},
            }
        ] * bool(heading)
    return new_layout(title, **merged(placed, layout))


def stacked(layout: Mapping[str, Any]) -> dict[str, Any]:
    """The layout of :func:`panels` with one panel below another, for a narrow page; any other layout as it is.

    >>> found = stacked(panels("Two views", [("above", "t", "norm"), ("below", "t", "norm")]).to_dict()["layout"])
    >>> found["yaxis"]["domain"], found["xaxis2"]["domain"], found["height"]
    ([0.59, 1.0], [0.0, 1.0], 760)
    """
    names = sorted((name for name in layout if name.startswith("xaxis")), key=lambda name: int(name[5:] or 1))
    if len(names) < 2:
        return dict(layout)
    gap, count = 0.18, len(names)
    height = (1 - gap * (count - 1)) / count
    found: dict[str, Any] = {**layout, "height": count * layout["height"]}
    found["legend"] = merged(layout["legend"], {"y": layout["legend"]["y"] / count})
    headings = []
    for i, (name, heading) in enumerate(zip_longest(names, layout["annotations"][:count])):
        top = round(1 - i * (height + gap), 4)
        y = f"y{name[1:]}"
        found[name] = merged(layout[name], {"domain": [0.0, 1.0], "automargin": True})
        found[y] = merged(layout[y], {"domain": [round(max(top - height, 0.0), 4), top], "automargin": True})
        headings += [merged(heading, {"x": 0.0, "y": top})] if heading else []
    found["annotations"] = [*headings, *layout["annotations"][count:]]
    return found
