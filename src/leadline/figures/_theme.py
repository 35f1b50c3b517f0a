"""One look for every figure: quiet axes, colours that colour-blind readers can tell apart, a transparent ground.

The ground is transparent and text takes a single colour, so that a page can switch a figure between light and dark by
setting ``font.color`` alone. Grid and axis lines are translucent grey and suit both.

Plotly reads markup in every text that it draws. Here, labels of axes and of colour scales are markup, so that they can
hold ``h<sub>t</sub>``; every other text (titles, headings, names of curves, labels, notes, marks) is plain and is drawn
as it stands. Whoever puts a caller's text into markup, or hands it to Plotly directly, passes it through :func:`plain`.
"""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from leadline import checks
from leadline.figures._arguments import check_layout, figure, labels

COLOURS = ("#2878b5", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1")
"""Series colours in the order of use, after Okabe and Ito, *Color universal design*, 2008."""

ACCENT = COLOURS[0]
"""The one colour for "look here"."""

NEUTRAL = "#8a929c"
"""For what is shown for comparison only: baselines, what was not chosen."""

INK = "#1d2733"
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
    "modebar": {
        "remove": ["sendChartToCloud"]
    },  # a button that sends the figure to Plotly's servers
    "height": 380,
    "template": "none",
}


Drawing = dict[str, Any]
"""A figure as Plotly's JSON holds it: ``data`` and ``layout``. ``go.Figure(drawing)`` checks it, which takes longer
than to make it; a page that draws many in a second does without.
"""


def new_figure(title: str, x: str = "", y: str = "", **layout: Any) -> go.Figure:
    """An empty figure in the house's look.

    Args:
        title: what the figure shows; plain text.
        x: label of the horizontal axis, with its unit; markup.
        y: label of the vertical axis, with its unit; markup.
        layout: any further Plotly layout, which wins over the house's.

    Raises:
        InputError: a text that is none, or a layout that Plotly does not have.

    >>> new_figure("Loss", "epoch", "error").layout.xaxis.title.text
    'epoch'
    """
    # Merged first and checked by Plotly once: that takes a fifth of the time of as many updates of a figure.
    return figure(new_layout(title, x, y, **layout))


def new_layout(title: str, x: str = "", y: str = "", **layout: Any) -> dict[str, Any]:
    """The layout of :func:`new_figure`, for a :data:`Drawing`: its values are not checked by Plotly."""
    labels(title=title, x=x, y=y)
    check_layout(layout)
    texts = {
        "title": {"text": plain(title)},
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
    }
    return merged(merged(_LAYOUT, texts), layout)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One layout laid over another.

    >>> merged({"margin": {"t": 40, "b": 8}}, {"margin": {"t": 64}, "height": 300})
    {'margin': {'t': 64, 'b': 8}, 'height': 300}
    """
    found = checks.mapping(below, "below")
    for key, value in checks.mapping(above, "above").items():
        under = found.get(key)
        found[key] = (
            merged(under, value)
            if isinstance(value, Mapping) and isinstance(under, Mapping)
            else value
        )
    return found


def plain(text: str) -> str:
    """Markup that draws ``text`` as it stands: a token ``<s>`` is shown, and is no command to strike out.

    Shorten before, not after: a cut must not go through an entity.

    >>> plain("<s> R&D")
    '&lt;s> R&amp;D'
    """
    return checks.text(text, "text").replace("&", "&amp;").replace("<", "&lt;")


def translucent(colour: str, opacity: float) -> str:
    """The ``rgba(...)`` form of a ``#rrggbb`` colour.

    >>> translucent("#2878b5", 0.2)
    'rgba(40, 120, 181, 0.2)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {opacity})"
