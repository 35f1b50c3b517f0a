"""Several panels side by side under one title."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from leadline import checks
from leadline.figures import _arguments as arguments
from leadline.figures._theme import AXIS_STYLE, merged, new_layout, plain


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
    return arguments.figure(panel_layout(title, axes, **layout))


def panel_layout(title: str, axes: Sequence[tuple[str, str, str]], **layout: Any) -> dict[str, Any]:
    """The layout of :func:`panels`, for a drawing."""
    listed = checks.items(axes, "axes", least=1, of="panels")
    triples = [arguments.texts(axis, f"axes[{i}]", length=3) for i, axis in enumerate(listed)]
    gap = _gap(0.12, len(triples))
    width = (1 - gap * (len(triples) - 1)) / len(triples)
    placed: dict[str, Any] = {
        "margin": {"t": 64},
        "legend": {"y": -0.22, "yanchor": "top", "x": 0, "xanchor": "left"},
        "annotations": [],
    }
    for i, (heading, x_label, y_label) in enumerate(triples):
        suffix = "" if i == 0 else str(i + 1)
        left = i * (width + gap)
        x = {
            "domain": [left, min(left + width, 1.0)],
            "anchor": f"y{suffix}",
            "title": {"text": x_label},
        }
        placed[f"xaxis{suffix}"] = merged(AXIS_STYLE, x)
        placed[f"yaxis{suffix}"] = merged(
            AXIS_STYLE, {"anchor": f"x{suffix}", "title": {"text": y_label}}
        )
        placed["annotations"] += [
            {
                "name": f"xaxis{suffix}",
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
    found = checks.mapping(layout, "layout")
    names = sorted(
        (name for name in found if _X_AXIS.fullmatch(str(name))),
        key=lambda name: int(name[5:] or 1),
    )
    if len(names) < 2:
        return found
    count = len(names)
    gap = _gap(0.18, count)
    height = (1 - gap * (count - 1)) / count
    found["height"] = count * found.get("height", DEFAULT_HEIGHT)
    legend = found.get("legend", {})
    found["legend"] = merged(legend, {"y": legend.get("y", 1.0) / count})
    tops = {}
    for i, name in enumerate(names):
        top = round(1 - i * (height + gap), 4)
        tops[name] = top
        y = f"y{name[1:]}"
        found[name] = merged(found[name], {"domain": [0.0, 1.0], "automargin": True})
        domain = [round(max(top - height, 0.0), 4), top]
        found[y] = merged(found.get(y, {}), {"domain": domain, "automargin": True})
    annotations = found.get("annotations") or ()
    found["annotations"] = [
        merged(note, {"x": 0.0, "y": tops[note["name"]]}) if note.get("name") in tops else note
        for note in annotations
    ]
    return found


_X_AXIS = re.compile(r"xaxis\d*")

DEFAULT_HEIGHT = 450
"""Pixels that Plotly gives to a figure whose layout names no height."""


def _gap(usual: float, count: int) -> float:
    """The share of a figure between two panels: less than usual where there are so many that none would be left."""
    return min(usual, 0.5 / max(count - 1, 1))
