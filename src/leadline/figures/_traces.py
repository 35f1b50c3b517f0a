"""Single traces and straight lines, for drawings that no other function of this package makes."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def line(
    x: ArrayLike,
    y: ArrayLike,
    *,
    name: str | None = None,
    colour: str | None = None,
    dash: str | None = None,
    width: float | None = None,
    panel: int = 1,
    **properties: Any,
) -> dict[str, Any]:
    """Return a line through points.

    Args:
        x: shape (n,); numbers or names.
        y: shape (n,); numbers or names. The line has a gap where a number is NaN.
        name: text of the legend; markup.
        colour: colour of the line; by default the next colour of the figure.
        dash: ``"solid"``, ``"dash"``, ``"dot"``, ``"dashdot"`` or ``"longdash"``.
        width: in pixels.
        panel: number of the panel, from 1.
        properties: further properties of Plotly's scatter trace. ``mode="lines+markers"`` adds
            markers.

    >>> line([1, 2], [3, 4], colour="#2878b5", panel=2)["xaxis"]
    'x2'
    """
    look = {"color": colour, "dash": dash, "width": width}
    trace = {**_scatter(x, y, name, "lines", panel), "line": _present(look)}
    return {**_present(trace), **properties}


def markers(
    x: ArrayLike,
    y: ArrayLike,
    *,
    name: str | None = None,
    colour: str | None = None,
    symbol: str | None = None,
    size: float | None = None,
    opacity: float | None = None,
    panel: int = 1,
    **properties: Any,
) -> dict[str, Any]:
    """Return points.

    Args:
        x: shape (n,); numbers or names.
        y: shape (n,); numbers or names.
        name: text of the legend; markup.
        colour: colour of the points; by default the next colour of the figure.
        symbol: one of Plotly's symbols, such as ``"circle"``, ``"diamond"`` or ``"x"``.
        size: in pixels.
        opacity: from 0 to 1.
        panel: number of the panel, from 1.
        properties: further properties of Plotly's scatter trace, such as ``error_y`` and ``text``.

    >>> markers([1, 2], [3, 4], size=9)["marker"]
    {'size': 9}
    """
    look = {"color": colour, "symbol": symbol, "size": size, "opacity": opacity}
    trace = {**_scatter(x, y, name, "markers", panel), "marker": _present(look)}
    return {**_present(trace), **properties}


def rule(
    *,
    x: float | None = None,
    y: float | None = None,
    colour: str,
    dash: str | None = None,
    width: float | None = None,
    note: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a straight line across the first panel, as layout for :func:`extended`.

    Args:
        x: place of a vertical line; leave out ``y``.
        y: height of a horizontal line; leave out ``x``.
        colour: colour of the line.
        dash: as in :func:`line`.
        width: in pixels.
        note: an annotation at the line's upper or right end: ``text`` (markup) and, if it differs
            from the figure's, ``font``.

    >>> rule(x=3, colour="#8a929c")["shapes"][0]["yref"]
    'y domain'
    """
    line_style = _present({"color": colour, "dash": dash, "width": width})
    if x is not None:
        ends = {"x0": x, "x1": x, "xref": "x", "y0": 0, "y1": 1, "yref": "y domain"}
        place = {"x": x, "xref": "x", "xanchor": "left", "y": 1, "yref": "y domain"}
    else:
        ends = {"x0": 0, "x1": 1, "xref": "x domain", "y0": y, "y1": y, "yref": "y"}
        place = {"x": 1, "xref": "x domain", "xanchor": "right", "y": y, "yref": "y"}
    found: dict[str, Any] = {"shapes": [{"type": "line", "line": line_style, **ends}]}
    if note is not None:
        vertical = "top" if x is not None else "bottom"
        found["annotations"] = [{**place, "yanchor": vertical, "showarrow": False, **note}]
    return found


def _scatter(x: Any, y: Any, name: str | None, mode: str, panel: int) -> dict[str, Any]:
    trace: dict[str, Any] = {"type": "scatter", "x": _places(x), "y": _places(y)}
    trace |= {"name": name, "mode": mode}
    if panel > 1:
        trace |= {"xaxis": f"x{panel}", "yaxis": f"y{panel}"}
    return trace


def _places(values: Any) -> Any:
    """Return numbers as an array, which a page can send in base64, and names as a list."""
    array = np.asarray(values)
    if array.dtype.kind in "fiu":
        return array
    return list(values)


def _present(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if value is not None}
