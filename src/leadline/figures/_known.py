"""The properties of drawings that the still renderer draws, and those without meaning in print.

A drawing with any other property is refused, so no still is silently incomplete.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from leadline import checks
from leadline.errors import InputError


def _listed(names: str, *groups: frozenset[str]) -> frozenset[str]:
    return frozenset(names.split()).union(*groups)


def _inside(above: str, names: str) -> frozenset[str]:
    return frozenset(f"{above}.{name}" for name in names.split())


_FONT = _inside("font", "color size family")
_ERRORS = "array arrayminus symmetric color thickness width visible type"
_ERROR_BARS = _inside("error_x", _ERRORS) | _inside("error_y", _ERRORS)
_COMMON = _listed(
    "type x y name legendgroup showlegend xaxis yaxis opacity"
    " hovertemplate hoverinfo hovertext customdata uid"
)

TRACES: dict[str, frozenset[str]] = {
    "scatter": _listed(
        "mode text textposition fill fillcolor connectgaps",
        _COMMON,
        _ERROR_BARS,
        _inside("line", "color dash width"),
        _inside("marker", "color symbol size opacity maxdisplayed"),
        _inside("textfont", "color size"),
    ),
    "heatmap": _listed(
        "z zmin zmax zmid colorscale showscale text texttemplate xgap ygap hoverongaps",
        _COMMON,
        _inside("colorbar", "title.text title.side title.font.size thickness outlinewidth"),
        _inside("colorbar", "tickprefix ticksuffix"),
    ),
    "bar": _listed("orientation width", _COMMON, _ERROR_BARS, _inside("marker", "color opacity")),
    "image": _listed("source", _COMMON),
}
"""Properties of traces, by the type of the trace."""

AXIS = _listed(
    "anchor automargin autorange categoryarray categoryorder constrain domain dtick exponentformat"
    " fixedrange gridcolor linecolor matches minor.ticks range rangemode scaleanchor showgrid"
    " showline showticklabels tickcolor ticklen tickprefix ticks ticksuffix ticktext tickvals type"
    " visible zeroline zerolinecolor title title.text title.font.size title.standoff"
)
"""Properties of an axis."""

SHAPE = _listed(
    "type path x0 x1 y0 y1 xref yref layer opacity fillcolor",
    _inside("line", "color dash width"),
)
"""Properties of a shape."""

ANNOTATION = _listed(
    "text x y xref yref xanchor yanchor xshift yshift name align hovertext"
    " showarrow arrowhead arrowcolor ax ay axref ayref",
    _FONT,
)
"""Properties of an annotation."""

LAYOUT = _listed(
    "height width colorway showlegend paper_bgcolor plot_bgcolor shapes annotations title",
    _inside("title", "text font.size x xref xanchor"),
    _FONT,
)
"""Properties of the layout, besides axes, shapes and annotations."""

IGNORED = _listed(
    "autosize dragmode hoverlabel hovermode legend margin meta modebar template uirevision"
)
"""Parts of the layout without meaning in print; matplotlib finds its own margins."""


def check_known(drawing: Mapping[str, Any]) -> None:
    """Refuse a drawing with a trace or property that the still renderer does not draw.

    >>> check_known({"data": [{"type": "pie"}], "layout": {}})
    Traceback (most recent call last):
    leadline.errors.InputError: still() draws traces of type scatter, heatmap, bar and image
      got:   a trace of type 'pie'
    """
    for trace in drawing["data"]:
        kind = trace.get("type", "scatter")
        if kind not in TRACES:
            raise InputError(
                "still() draws traces of type scatter, heatmap, bar and image",
                got=f"a trace of type {checks.shown(kind)}",
            )
        _check(trace, TRACES[kind], f"a {kind} trace")
    layout = drawing["layout"]
    for name, value in layout.items():
        if name[:5] in ("xaxis", "yaxis"):
            _check(value, AXIS, name)
        elif name not in IGNORED:
            _check({name: value}, LAYOUT, "the layout")
    for shape in layout.get("shapes", ()):
        _check(shape, SHAPE, "a shape")
    for annotation in layout.get("annotations", ()):
        _check(annotation, ANNOTATION, "an annotation")


def _check(properties: Mapping[str, Any], allowed: frozenset[str], owner: str) -> None:
    for name in _names(properties):
        if name not in allowed:
            raise InputError(f"still() cannot draw the property {name} of {owner}")


def _names(properties: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in properties.items():
        if isinstance(value, Mapping):
            yield from _names(value, f"{above}{name}.")
        elif value is not None and not _is_empty(value):
            yield f"{above}{name}"


def _is_empty(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and not len(value)
