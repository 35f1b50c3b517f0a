"""The style of all figures, and the empty drawing with this style.

The background is transparent and all text has a single colour, so a page switches a figure between
light and dark by setting ``font.color`` alone. Grid and axis lines are translucent grey and suit
both.

Plotly reads markup in every text that it draws. In this package the labels of axes and of colour
scales are markup, so they can contain ``h<sub>t</sub>``. Every other text (titles, headings, names
of curves, notes) is plain and is drawn as it stands. Pass a text through :func:`plain` before you
put it into markup or hand it to Plotly directly.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from leadline import checks
from leadline.figures._arguments import check_layout, expanded, labels

COLOURS = ("#2878b5", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1")
"""Colours of curves in the order of use, after Okabe and Ito, *Color universal design*, 2008."""

ACCENT = COLOURS[0]
"""Colour of the main curve or path."""

NEUTRAL = "#8a929c"
"""Colour of baselines, and of everything that is shown for comparison only."""

INK = "#1d2733"
"""Colour of text on a light background."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
GRID = "rgba(128, 138, 150, 0.22)"
AXIS = "rgba(128, 138, 150, 0.65)"

AXIS_STYLE: dict[str, Any] = {
    "gridcolor": GRID,
    "linecolor": AXIS,
    "zerolinecolor": GRID,
    "ticks": "outside",
    "tickcolor": AXIS,
    "ticklen": 4,
    "showline": True,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13}},
}

_LAYOUT: dict[str, Any] = {
    "colorway": COLOURS,
    "font": {"family": FONT, "size": 13, "color": INK},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "xaxis": AXIS_STYLE,
    "yaxis": AXIS_STYLE,
    "margin": {"l": 8, "r": 8, "t": 40, "b": 8},
    "title": {"x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 15}},
    "legend": {
        "orientation": "h",
        "yanchor": "bottom",
        "y": 1.0,
        "xanchor": "right",
        "x": 1,
        "bgcolor": "rgba(0,0,0,0)",
    },
    "hoverlabel": {"font": {"family": FONT}},
    # This button sends the figure to Plotly's servers.
    "modebar": {"remove": ["sendChartToCloud"]},
    "height": 380,
    "template": "none",
}

Drawing = dict[str, Any]
"""A figure as Plotly's JSON: a dictionary with ``data`` (the traces) and ``layout``.

:func:`interactive` turns it into a figure of Plotly, :func:`still` into one of matplotlib. Plotly
checks every value, which takes longer than making the drawing. A page that draws many in a second
sends the drawing itself.
"""


def new_drawing(title: str, x: str = "", y: str = "", **layout: Any) -> Drawing:
    """Return an empty drawing in Leadline's style.

    Args:
        title: title of the figure; plain text.
        x: label of the horizontal axis, with its unit; markup.
        y: label of the vertical axis, with its unit; markup.
        layout: further properties of Plotly's layout; they override Leadline's style.

    Raises:
        InputError: a label is not text, or Plotly's layout has no such property.

    >>> new_drawing("Loss", "epoch", "error")["layout"]["xaxis"]["title"]["text"]
    'epoch'
    """
    labels(title=title, x=x, y=y)
    check_layout(layout)
    texts = {
        "title": {"text": plain(title)},
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
    }
    return {"data": [], "layout": merged(merged(deepcopy(_LAYOUT), texts), expanded(layout))}


def extended(drawing: Drawing, traces: Sequence[Mapping[str, Any]] = (), **layout: Any) -> Drawing:
    """Return a copy of a drawing with more traces and more layout.

    Args:
        drawing: the drawing to start from; it stays unchanged.
        traces: traces to draw after those of the drawing.
        layout: properties of Plotly's layout; they override the drawing's. ``shapes`` and
            ``annotations`` are added to those of the drawing.

    >>> extended(new_drawing(""), [{"type": "scatter"}], height=200)["layout"]["height"]
    200
    """
    result = checks.mapping(drawing, "drawing")
    check_layout(layout)
    properties = expanded(layout)
    before = checks.mapping(result.get("layout", {}), "drawing['layout']")
    for name in ("shapes", "annotations"):
        if name in properties:
            added = checks.items(properties[name], name, of="dictionaries")
            properties[name] = [*before.get(name, ()), *added]
    more = checks.items(traces, "traces", of="dictionaries")
    data = [*result.get("data", ()), *more]
    return {"data": data, "layout": merged(before, properties)}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return one layout with another on top; where both have a value, ``above`` wins.

    >>> merged({"margin": {"t": 40, "b": 8}}, {"margin": {"t": 64}, "height": 300})
    {'margin': {'t': 64, 'b': 8}, 'height': 300}
    """
    result = checks.mapping(below, "below")
    for key, value in checks.mapping(above, "above").items():
        old_value = result.get(key)
        if isinstance(value, Mapping) and isinstance(old_value, Mapping):
            result[key] = merged(old_value, value)
        else:
            result[key] = value
    return result


def plain(text: str) -> str:
    """Return markup that draws ``text`` without interpreting it.

    Otherwise Plotly would read a token such as ``<s>`` as a tag. Shorten a text before this call,
    because a cut after it might go through an entity.

    >>> plain("<s> R&D")
    '&lt;s> R&amp;D'
    """
    return checks.text(text, "text").replace("&", "&amp;").replace("<", "&lt;")


def translucent(colour: str, opacity: float) -> str:
    """Return the ``rgba(...)`` form of a ``#rrggbb`` colour.

    >>> translucent("#2878b5", 0.2)
    'rgba(40, 120, 181, 0.2)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"
