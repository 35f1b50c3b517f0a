"""Panels side by side under one title."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from leadline import checks
from leadline.figures import _arguments as arguments
from leadline.figures._theme import AXIS_STYLE, Drawing, merged, new_drawing, plain


def panels(title: str, axes: Sequence[tuple[str, str, str]], **layout: Any) -> Drawing:
    """Return an empty drawing with panels side by side.

    The traces of panel i have ``xaxis="x{i}"`` and ``yaxis="y{i}"``; those of panel 1 need neither.

    Args:
        title: title of the figure; plain text.
        axes: for each panel its heading (plain text, may be empty) and the labels of its horizontal
            and its vertical axis (markup).
        layout: further properties of Plotly's layout.

    >>> drawing = panels("Two views", [("left", "t", "norm"), ("right", "t", "norm")])
    >>> drawing["layout"]["xaxis2"]["anchor"]
    'y2'
    """
    arguments.check_layout(layout)
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
    base_layout = merged(merged(new_drawing(title)["layout"], placed), arguments.expanded(layout))
    return {"data": [], "layout": base_layout}


def stacked(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layout of :func:`panels` with one panel below another, for a narrow page.

    A layout with a single panel is returned unchanged.

    >>> drawing = panels("Two views", [("above", "t", "norm"), ("below", "t", "norm")])
    >>> found = stacked(drawing["layout"])
    >>> found["yaxis"]["domain"], found["xaxis2"]["domain"], found["height"]
    ([0.59, 1.0], [0.0, 1.0], 760)
    """
    properties = checks.mapping(layout, "layout")
    names = sorted(
        (name for name in properties if _X_AXIS.fullmatch(str(name))),
        key=lambda name: int(name[5:] or 1),
    )
    if len(names) < 2:
        return properties
    count = len(names)
    gap = _gap(0.18, count)
    height = (1 - gap * (count - 1)) / count
    properties["height"] = count * properties.get("height", DEFAULT_HEIGHT)
    legend = properties.get("legend", {})
    properties["legend"] = merged(legend, {"y": legend.get("y", 1.0) / count})
    tops = {}
    for i, name in enumerate(names):
        top = round(1 - i * (height + gap), 4)
        tops[name] = top
        y = f"y{name[1:]}"
        properties[name] = merged(properties[name], {"domain": [0.0, 1.0], "automargin": True})
        domain = [round(max(top - height, 0.0), 4), top]
        properties[y] = merged(properties.get(y, {}), {"domain": domain, "automargin": True})
    annotations = properties.get("annotations") or ()
    properties["annotations"] = [
        merged(note, {"x": 0.0, "y": tops[note["name"]]}) if note.get("name") in tops else note
        for note in annotations
    ]
    return properties


_X_AXIS = re.compile(r"xaxis\d*")

DEFAULT_HEIGHT = 450
"""Height in pixels that Plotly gives to a figure whose layout has none."""


def _gap(usual: float, count: int) -> float:
    """Return the gap between two panels as a share of the figure; it shrinks if there are many."""
    return min(usual, 0.5 / max(count - 1, 1))
