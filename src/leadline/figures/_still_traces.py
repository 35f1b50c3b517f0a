"""Traces of stills: lines, points, fills, bars, heat maps and images."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from leadline.errors import InputError
from leadline.figures._markup import lines_of
from leadline.figures._still_axes import POINTS, Panel, segments

_DASHES: dict[str, Any] = {
    "solid": "solid",
    "dash": (0, (5, 3)),
    "dot": (0, (1.2, 2)),
    "dashdot": (0, (5, 2, 1.2, 2)),
    "longdash": (0, (9, 3)),
    "longdashdot": (0, (9, 2, 1.2, 2)),
}

_SYMBOLS: dict[str, str] = {
    "circle": "o",
    "diamond": "D",
    "square": "s",
    "triangle-up": "^",
    "triangle-down": "v",
    "triangle-left": "<",
    "triangle-right": ">",
    "cross": "P",
    "x": "X",
    "star": "*",
    "hexagon": "h",
    "x-thin": "x",
    "cross-thin": "+",
}

_COLOUR_MAPS = {"Viridis": "viridis"}


def colour(value: Any, opacity: float = 1.0) -> tuple[float, float, float, float]:
    """Return a colour of Plotly as red, green, blue and opacity, each in [0, 1].

    >>> colour("rgba(255, 0, 0, 0.5)")
    (1.0, 0.0, 0.0, 0.5)
    """
    found = re.fullmatch(r"rgba?\(([^()]*)\)", str(value))
    if found:
        red, green, blue, *rest = (float(part) for part in found[1].split(","))
        own = rest[0] if rest else 1.0
        return red / 255, green / 255, blue / 255, own * opacity
    red, green, blue, own = to_rgba(value)
    return red, green, blue, own * opacity


def dashes(name: str | None) -> Any:
    """Return matplotlib's pattern for a dash of Plotly.

    Raises:
        InputError: there is no such dash.
    """
    if (name or "solid") not in _DASHES:
        raise InputError(f"still() draws dashes named {', '.join(_DASHES)}", got=repr(name))
    return _DASHES[name or "solid"]


def draw_trace(panel: Panel, trace: Mapping[str, Any], own_colour: str, ink: Any) -> Any:
    """Draw one trace into a panel.

    Args:
        panel: where to draw.
        trace: the trace.
        own_colour: colour of the trace if it names none.
        ink: colour of text.

    Returns:
        The entry of the trace in the legend, or None.
    """
    match trace.get("type", "scatter"):
        case "heatmap":
            _draw_heat_map(panel, trace, ink)
        case "image":
            _draw_image(panel, trace)
        case "bar":
            return _draw_bars(panel, trace, own_colour)
        case _:
            return _draw_scatter(panel, trace, own_colour, ink)
    return None


def _draw_scatter(panel: Panel, trace: Mapping[str, Any], own_colour: str, ink: Any) -> Any:
    """Draw lines, points, texts, error bars and fills; return the look of the legend."""
    x = panel.places(trace["x"], "x")
    y = panel.places(trace["y"], "y")
    parts = trace.get("mode", "lines").split("+")
    opacity = trace.get("opacity", 1.0)
    line = trace.get("line", {})
    marker = trace.get("marker", {})
    marker_colour = marker.get("color")
    has_one_colour = isinstance(marker_colour, str)
    first = line.get("color") or (marker_colour if has_one_colour else None) or own_colour
    stroke = colour(first, opacity)
    if trace.get("fill"):
        _draw_fill(panel, trace, x, y, first)
    handle: dict[str, Any] = {"color": stroke, "linestyle": "none"}
    width = line.get("width", 2)
    if "lines" in parts and width:
        pattern = {"linestyle": dashes(line.get("dash")), "linewidth": width * POINTS}
        if trace.get("connectgaps"):
            is_known = ~(np.isnan(x) | np.isnan(y))
            panel.axes.plot(x[is_known], y[is_known], color=stroke, zorder=2.2, **pattern)
        else:
            panel.axes.plot(x, y, color=stroke, zorder=2.2, **pattern)
        handle |= pattern
    _draw_errors(panel, trace, x, y, stroke)
    if "markers" in parts:
        handle |= _draw_markers(panel, marker, x, y, first, opacity)
    if "text" in parts:
        _draw_texts(panel, trace, x, y, ink)
    return Line2D([], [], **handle)


def _draw_fill(
    panel: Panel, trace: Mapping[str, Any], x: np.ndarray, y: np.ndarray, first: str
) -> None:
    """Fill the area inside a line."""
    if trace["fill"] != "toself":
        raise InputError("still() fills a trace to itself", got=f"fill = {trace['fill']!r}")
    fill = colour(trace.get("fillcolor") or first)
    for part_x, part_y in segments([x, y]):
        panel.axes.fill(part_x, part_y, color=fill, linewidth=0, zorder=1.8)


def _draw_errors(
    panel: Panel, trace: Mapping[str, Any], x: np.ndarray, y: np.ndarray, stroke: Any
) -> None:
    """Draw the error bars of a trace."""
    for name in ("error_x", "error_y"):
        bars = trace.get(name)
        if not bars or bars.get("array") is None or bars.get("visible") is False:
            continue
        above = np.asarray(bars["array"], dtype=float)
        below = bars.get("arrayminus")
        below = above if below is None else np.asarray(below, dtype=float)
        sizes = np.nan_to_num(np.stack([below, above]), nan=0.0, posinf=0.0, neginf=0.0)
        panel.axes.errorbar(
            x,
            y,
            xerr=np.maximum(sizes, 0) if name == "error_x" else None,
            yerr=np.maximum(sizes, 0) if name == "error_y" else None,
            fmt="none",
            ecolor=colour(bars["color"]) if bars.get("color") else stroke,
            elinewidth=bars.get("thickness", 2) * POINTS,
            capsize=bars.get("width", 4) * POINTS,
            capthick=bars.get("thickness", 2) * POINTS,
            zorder=2.1,
        )


def _draw_markers(
    panel: Panel,
    marker: Mapping[str, Any],
    x: np.ndarray,
    y: np.ndarray,
    first: str,
    opacity: float,
) -> dict[str, Any]:
    """Draw points, in groups of one colour and symbol; return the look of the legend."""
    own = marker.get("color") or first
    colours = [own] * len(x) if isinstance(own, str) else list(own)
    symbol = marker.get("symbol") or "circle"
    symbols = [symbol] * len(x) if isinstance(symbol, str) else list(symbol)
    is_shown = _is_shown(len(x), marker.get("maxdisplayed", 0))
    size = float(marker.get("size", 6)) * POINTS
    alpha = opacity * marker.get("opacity", 1.0)
    look: dict[str, Any] = {}
    for kind in dict.fromkeys(zip(symbols, colours, strict=True)):
        places = [i for i in range(len(x)) if (symbols[i], colours[i]) == kind and is_shown[i]]
        look = _marker_look(kind[0], colour(kind[1], alpha), size)
        panel.axes.plot(x[places], y[places], linestyle="none", zorder=2.4, **look)
    return look


def _marker_look(symbol: str, ink: Any, size: float) -> dict[str, Any]:
    """Return matplotlib's settings for a symbol of Plotly."""
    name = symbol.removesuffix("-open")
    if name not in _SYMBOLS:
        raise InputError(f"still() draws symbols named {', '.join(_SYMBOLS)}", got=repr(symbol))
    is_open = symbol.endswith("-open") or name.endswith("-thin")
    return {
        "marker": _SYMBOLS[name],
        "markersize": size * (1.35 if name == "star" else 0.85 if name == "diamond" else 1.0),
        "markerfacecolor": "none" if is_open else ink,
        "markeredgecolor": ink,
        "markeredgewidth": 1.0 if is_open else 0.0,
    }


def _is_shown(num: int, most: int) -> np.ndarray:
    """Return True for the points to mark: all, or at most ``most`` at equal distances."""
    if not most or num <= most:
        return np.ones(num, dtype=bool)
    found = np.zeros(num, dtype=bool)
    found[np.linspace(0, num - 1, most).round().astype(int)] = True
    return found


_ALIGNMENTS = {"left": "right", "center": "center", "right": "left"}
_SIDES = {"top": "bottom", "middle": "center", "bottom": "top"}


def _draw_texts(
    panel: Panel, trace: Mapping[str, Any], x: np.ndarray, y: np.ndarray, ink: Any
) -> None:
    """Write a text next to each point."""
    texts = trace.get("text", ())
    position = trace.get("textposition", "middle center")
    positions = [position] * len(x) if isinstance(position, str) else list(position)
    font = trace.get("textfont", {})
    for i, text in enumerate(texts):
        if not (np.isfinite(x[i]) and np.isfinite(y[i])):
            continue
        vertical, horizontal = positions[i].split()
        shift = {"left": -4, "center": 0, "right": 4}[horizontal]
        rise = {"top": 4, "middle": 0, "bottom": -4}[vertical]
        panel.axes.annotate(
            "\n".join(line.text for line in lines_of(str(text))),
            (x[i], y[i]),
            xytext=(shift, rise),
            textcoords="offset points",
            ha=_ALIGNMENTS[horizontal],
            va=_SIDES[vertical],
            color=colour(font["color"]) if "color" in font else ink,
            fontsize=font.get("size", 12) * POINTS,
            annotation_clip=False,
        )


def _draw_bars(panel: Panel, trace: Mapping[str, Any], own_colour: str) -> Any:
    """Draw bars with their error bars; return the look of the legend."""
    x = panel.places(trace["x"], "x")
    y = panel.places(trace["y"], "y")
    marker = trace.get("marker", {})
    own = marker.get("color") or own_colour
    alpha = trace.get("opacity", 1.0) * marker.get("opacity", 1.0)
    names = [own] * len(x) if isinstance(own, str) else list(own)
    fills = [colour(name, alpha) for name in names]
    width = trace.get("width", 0.8)
    if trace.get("orientation") == "h":
        panel.axes.barh(y, x, height=width, color=fills, zorder=2)
    else:
        panel.axes.bar(x, y, width=width, color=fills, zorder=2)
    _draw_errors(panel, trace, x, y, colour("#555555"))
    return Patch(facecolor=fills[0] if fills else colour(own_colour))


def _draw_heat_map(panel: Panel, trace: Mapping[str, Any], ink: Any) -> None:
    """Draw a matrix as coloured cells with texts and a colour bar."""
    z = np.asarray(trace["z"], dtype=float)
    x = panel.places(trace["x"], "x") if "x" in trace else np.arange(z.shape[1])
    y = panel.places(trace["y"], "y") if "y" in trace else np.arange(z.shape[0])
    finite = z[np.isfinite(z)]
    low = float(trace.get("zmin", finite.min(initial=np.inf) if finite.size else 0.0))
    high = float(trace.get("zmax", finite.max(initial=-np.inf) if finite.size else 1.0))
    if low == high:
        low -= 0.5
        high += 0.5
    if "zmid" in trace:
        reach = max(high - trace["zmid"], trace["zmid"] - low)
        low = trace["zmid"] - reach
        high = trace["zmid"] + reach
    image = panel.axes.pcolormesh(
        _edges(x),
        _edges(y),
        np.ma.masked_invalid(z),
        cmap=_colour_map(trace.get("colorscale", "Viridis")),
        vmin=low,
        vmax=high,
        rasterized=z.size > 2000,
        zorder=1,
    )
    gap = trace.get("xgap", 0)
    if gap:
        image.set_edgecolor(panel.axes.get_facecolor())
        image.set_linewidth(gap * POINTS)
    _draw_cell_texts(panel, trace, x, y, np.asarray(image.cmap(image.norm(z))))
    if trace.get("showscale") is not False:
        _draw_colour_bar(panel, trace.get("colorbar", {}), image, ink)


def _edges(places: np.ndarray) -> np.ndarray:
    """Return the edges of cells around their centres."""
    if len(places) == 1:
        return np.array([places[0] - 0.5, places[0] + 0.5])
    middles = (places[1:] + places[:-1]) / 2
    first = places[0] - (middles[0] - places[0])
    last = places[-1] + (places[-1] - middles[-1])
    return np.concatenate([[first], middles, [last]])


def _colour_map(scale: Any) -> Any:
    """Return matplotlib's colour map for a colour scale of Plotly."""
    if isinstance(scale, str):
        if scale not in _COLOUR_MAPS:
            raise InputError(
                "still() draws the colour scale Viridis, or a list of places and colours",
                got=repr(scale),
            )
        return _COLOUR_MAPS[scale]
    stops = [(float(place), colour(name)) for place, name in scale]
    return LinearSegmentedColormap.from_list("drawing", stops)


def _draw_cell_texts(
    panel: Panel, trace: Mapping[str, Any], x: np.ndarray, y: np.ndarray, cells: np.ndarray
) -> None:
    """Write a text into each cell, in white on dark colours."""
    template = trace.get("texttemplate")
    if not template:
        return
    if template != "%{text}":
        raise InputError("still() draws the text of cells as it is", got=repr(template))
    texts: Sequence[Sequence[str]] = trace["text"]
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            red, green, blue, visible = cells[i, j]
            is_dark = visible > 0 and 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            panel.axes.text(
                x[j],
                y[i],
                "\n".join(line.text for line in lines_of(str(text))),
                ha="center",
                va="center",
                color="white" if is_dark else "#333a42",
                fontsize=12 * POINTS,
            )


def _draw_colour_bar(panel: Panel, look: Mapping[str, Any], image: Any, ink: Any) -> None:
    """Draw the colour bar of a heat map."""
    figure = panel.axes.figure
    bar = figure.colorbar(image, ax=panel.axes, fraction=0.05, pad=0.02, aspect=28)
    prefix = look.get("tickprefix", "")
    suffix = look.get("ticksuffix", "")
    if prefix or suffix:
        bar.ax.yaxis.set_major_formatter(
            lambda value, place: lines_of(f"{prefix}{value:g}{suffix}")[0].text
        )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=12 * POINTS, labelcolor=ink, color=ink, length=2.9)
    title = look.get("title", {})
    text = lines_of(title.get("text") or "")[0].text
    bar.set_label(text, color=ink, fontsize=title.get("font", {}).get("size", 13) * POINTS)


def _draw_image(panel: Panel, trace: Mapping[str, Any]) -> None:
    """Draw a PNG image."""
    from PIL import Image

    head, _, data = trace["source"].partition("base64,")
    if not head.startswith("data:image/png"):
        raise InputError("still() draws images from PNG data", got=repr(head[:40]))
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        pixels = np.asarray(picture)
    panel.axes.imshow(pixels, interpolation="nearest", aspect="equal", zorder=1)
