"""Shapes and annotations of stills."""

import re
from collections.abc import Mapping
from typing import Any

from matplotlib.patches import Ellipse, PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.transforms import Transform, blended_transform_factory

from leadline.errors import InputError
from leadline.figures._markup import lines_of
from leadline.figures._still_axes import POINTS, Panel, reference
from leadline.figures._still_traces import colour, dashes

_COMMANDS = {"M": (Path.MOVETO, 1), "L": (Path.LINETO, 1), "C": (Path.CURVE4, 3)}


def draw_shape(panels: Mapping[str, Panel], shape: Mapping[str, Any]) -> None:
    """Draw a line, rectangle, circle or path."""
    panel, transform = _transform(panels, shape)
    line = shape.get("line", {})
    opacity = shape.get("opacity", 1.0)
    fill = shape.get("fillcolor")
    look = {
        "edgecolor": colour(line.get("color", "#444444"), opacity),
        "linewidth": line.get("width", 2) * POINTS,
        "linestyle": dashes(line.get("dash")),
        "facecolor": colour(fill, opacity) if fill else "none",
        "transform": transform,
        "zorder": 0.9 if shape.get("layer") == "below" else 2.6,
        "clip_on": False,
    }
    kind = shape.get("type", "rect")
    if kind == "path":
        panel.axes.add_patch(PathPatch(_path(shape["path"]), **look))
        return
    x0, x1, y0, y1 = (float(shape[name]) for name in ("x0", "x1", "y0", "y1"))
    match kind:
        case "line":
            patch: Any = PathPatch(Path([(x0, y0), (x1, y1)]), **look)
        case "rect":
            patch = Rectangle((x0, y0), x1 - x0, y1 - y0, **look)
        case "circle":
            patch = Ellipse(((x0 + x1) / 2, (y0 + y1) / 2), x1 - x0, y1 - y0, **look)
        case _:
            raise InputError("still() draws lines, rectangles, circles and paths", got=repr(kind))
    # add_artist() keeps the range of the axes; add_patch() would not.
    panel.axes.add_artist(patch)


def _path(text: str) -> Path:
    """Return a path from SVG's commands M, L, C and Z."""
    vertices: list[tuple[float, float]] = []
    codes: list[Any] = []
    for command, numbers in re.findall(r"([A-Za-z])([^A-Za-z]*)", text):
        values = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", numbers)]
        points = list(zip(values[::2], values[1::2], strict=True))
        if command == "Z":
            vertices.append(vertices[0])
            codes.append(Path.CLOSEPOLY)
            continue
        if command not in _COMMANDS:
            raise InputError("still() draws paths of the commands M, L, C and Z", got=repr(text))
        code, _ = _COMMANDS[command]
        vertices += points
        codes += [code] * len(points)
    return Path(vertices, codes)


def draw_annotation(panels: Mapping[str, Panel], note: Mapping[str, Any], ink: Any) -> None:
    """Draw a text, an arrow, or the heading of a panel."""
    font = note.get("font", {})
    size = font.get("size", 13)
    own = colour(font["color"]) if "color" in font else ink
    heading = panels.get(str(note.get("name", ""))[5:]) if "name" in note else None
    if heading is not None:
        line = lines_of(note["text"])[0]
        weight = "bold" if line.is_bold else "normal"
        heading.axes.set_title(
            line.text, loc="left", color=own, fontsize=size * POINTS, fontweight=weight
        )
        return
    panel, transform = _transform(panels, note)
    if note.get("showarrow") is not False and note.get("ax") is not None:
        arrow = {"arrowstyle": "-|>", "color": colour(note.get("arrowcolor", "#444444"))}
        arrow |= {"shrinkA": 0, "shrinkB": 0, "linewidth": 1, "mutation_scale": 9}
        panel.axes.annotate(
            "", (note["x"], note["y"]), xytext=(note["ax"], note["ay"]), arrowprops=arrow
        )
    if note.get("text"):
        _draw_lines(panel, note, transform, own, size)


def _draw_lines(
    panel: Panel, note: Mapping[str, Any], transform: Transform, ink: Any, size: float
) -> None:
    """Draw the lines of a text below one another, each in its own size."""
    lines = lines_of(note["text"])
    sizes = [line.size or size for line in lines]
    heights = [1.3 * own * POINTS for own in sizes]
    vertical = _vertical(note)
    top = {"top": 0.0, "middle": sum(heights) / 2, "bottom": sum(heights)}[vertical]
    top += note.get("yshift", 0) * POINTS
    horizontal = _horizontal(note)
    padding = {"left": 3, "center": 0, "right": -3}[horizontal]
    shift = note.get("xshift", 0) * POINTS + padding
    for line, own, height in zip(lines, sizes, heights, strict=True):
        panel.axes.annotate(
            line.text,
            (float(note["x"]), float(note["y"])),
            xycoords=transform,
            xytext=(shift, top - height / 2),
            textcoords="offset points",
            ha=horizontal,
            va="center_baseline" if len(lines) == 1 else "center",
            color=ink,
            fontsize=own * POINTS,
            fontweight="bold" if line.is_bold else "normal",
            annotation_clip=False,
            zorder=3,
        )
        top -= height


def _horizontal(note: Mapping[str, Any]) -> str:
    """Return the horizontal alignment of a text."""
    anchor = note.get("xanchor", "auto")
    if anchor != "auto":
        return anchor
    is_placed = note.get("xref", "x") in ("paper",)
    return _third(float(note["x"]), ("left", "center", "right")) if is_placed else "center"


def _vertical(note: Mapping[str, Any]) -> str:
    """Return the vertical alignment of a text."""
    anchor = note.get("yanchor", "auto")
    if anchor != "auto":
        return anchor
    is_placed = note.get("yref", "y") in ("paper",)
    return _third(float(note["y"]), ("bottom", "middle", "top")) if is_placed else "middle"


def _third(share: float, names: tuple[str, str, str]) -> str:
    """Return Plotly's anchor for a place on the figure: by thirds."""
    if share < 1 / 3:
        return names[0]
    return names[1] if share <= 2 / 3 else names[2]


def _transform(panels: Mapping[str, Panel], owner: Mapping[str, Any]) -> tuple[Panel, Transform]:
    """Return the panel of a shape or text, and the transform of its coordinates."""
    x_panel, x_kind = reference(panels, owner.get("xref"), "x")
    y_panel, y_kind = reference(panels, owner.get("yref"), "y")
    panel = y_panel if x_kind == "paper" else x_panel
    x_side = x_panel.axes.transData if x_kind == "data" else x_panel.axes.transAxes
    y_side = y_panel.axes.transData if y_kind == "data" else y_panel.axes.transAxes
    if x_kind == y_kind == "data":
        return panel, panel.axes.transData
    return panel, blended_transform_factory(x_side, y_side)
