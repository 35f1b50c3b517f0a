"""The still renderer: a drawing as a figure of matplotlib, for print, export and plain pages."""

import io
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from leadline import checks, storage
from leadline.errors import InputError
from leadline.figures._known import check_known
from leadline.figures._theme import AXIS, COLOURS, GRID, INK, Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Style = Literal["light", "dark", "neutral"]
"""Background of a still: white, dark, or none, with text that can be read on both."""


@dataclass(frozen=True)
class _Colours:
    background: str
    ink: str


_STYLES: dict[str, _Colours] = {
    "light": _Colours("#ffffff", INK),
    "dark": _Colours("#14191f", "#e4e8ec"),
    "neutral": _Colours("none", "#75808c"),
}

WIDTH = 760
"""Width of a still in pixels, unless its boxes need more."""

FORMATS = ("svg", "pdf", "png")

_RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.4,
    "text.usetex": False,
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": True,
    "axes.xmargin": 0.04,
    "axes.ymargin": 0.06,
    "path.simplify": True,
    "svg.fonttype": "path",
    "svg.hashsalt": "leadline",
    "pdf.fonttype": 42,
}
"""Settings of matplotlib while a still is drawn; the caller's settings are restored after it."""


def still(drawing: Drawing, *, style: Style = "light", width: int | None = None) -> "Figure":
    """Return a drawing as a figure of matplotlib.

    The figure belongs to no window: pyplot is not used and no setting of matplotlib is changed.

    Args:
        drawing: a dictionary with ``data`` and ``layout``.
        style: ``"light"``, ``"dark"``, or ``"neutral"``, which has no background.
        width: width in pixels, at 100 pixels in an inch; 760 or what the drawing needs, if left
            out.

    Raises:
        InputError: the drawing has a trace or property that stills do not show.

    >>> from leadline.figures import new_drawing
    >>> still(new_drawing("Loss")).get_size_inches().tolist()
    [7.6, 3.8]
    """
    parts = _parts(drawing)
    colours = _STYLES[checks.choice(style, "style", _STYLES)]
    least = int((parts["layout"].get("meta") or {}).get("min_width", 0))
    chosen = checks.optional_whole_number(width, "width", least=100, most=10_000)
    with _settings():
        return _draw(parts, colours, chosen or max(WIDTH, least))


def export(
    drawing: Drawing, path: str | PathLike[str], *, style: Style = "light", width: int | None = None
) -> None:
    """Write a drawing as an SVG, PDF or PNG file; no browser is needed.

    Args:
        drawing: a dictionary with ``data`` and ``layout``.
        path: the file; its ending, ``.svg``, ``.pdf`` or ``.png``, is the format.
        style: as in :func:`still`.
        width: as in :func:`still`.

    Raises:
        InputError: the ending is another one, or the drawing cannot be drawn as a still.
        SaveError: the file cannot be written; an earlier file stays unchanged.
    """
    file = checks.path(path, "path")
    kind = file.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError("export() writes .svg, .pdf and .png files", got=f"path = {str(file)!r}")
    storage.write(file, encoded(drawing, kind, style=style, width=width))


def encoded(
    drawing: Drawing, kind: str, *, style: Style = "light", width: int | None = None
) -> bytes:
    """Return the bytes of a still; ``kind`` is ``"svg"``, ``"pdf"`` or ``"png"``."""
    figure = still(drawing, style=style, width=width)
    buffer = io.BytesIO()
    # Without a date, equal drawings have equal files.
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    with _settings():
        figure.savefig(buffer, format=kind, dpi=130, metadata=undated)
    return buffer.getvalue()


def _parts(drawing: Drawing) -> dict[str, Any]:
    """Return the traces and the layout of a drawing, checked to be drawable."""
    properties = checks.mapping(drawing, "drawing")
    data = checks.items(properties.get("data", ()), "drawing['data']", of="traces")
    traces = [checks.mapping(trace, f"drawing['data'][{i}]") for i, trace in enumerate(data)]
    layout = checks.mapping(properties.get("layout", {}), "drawing['layout']")
    parts = {"data": traces, "layout": layout}
    check_known(parts)
    return parts


@contextmanager
def _settings() -> Iterator[None]:
    """Use Leadline's settings of matplotlib inside a block."""
    import matplotlib

    with matplotlib.rc_context(_RC):
        yield


def _draw(parts: Mapping[str, Any], colours: _Colours, width: int) -> "Figure":
    """Draw the traces, then axes, shapes, texts and the legend."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from leadline.figures._still_axes import finish, panels_of
    from leadline.figures._still_notes import draw_annotation, draw_shape
    from leadline.figures._still_traces import colour, draw_trace

    layout = parts["layout"]
    height = layout.get("height") or 450
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_facecolor(colours.background)
    ink = colour(colours.ink)
    panels = panels_of(layout, figure)
    handles = []
    colourway = layout.get("colorway", COLOURS)
    for i, trace in enumerate(parts["data"]):
        panel = panels[str(trace.get("xaxis") or "x")[1:]]
        panel.axes.set_facecolor("none")
        handle = draw_trace(panel, trace, colourway[i % len(colourway)], ink)
        if handle is not None and trace.get("showlegend") is not False and trace.get("name"):
            handles.append((handle, trace["name"]))
    for panel in panels.values():
        panel.axes.set_facecolor("none")
        finish(panel, panels, ink, colour(AXIS), colour(GRID))
    for shape in layout.get("shapes", ()):
        draw_shape(panels, shape)
    for annotation in layout.get("annotations", ()):
        draw_annotation(panels, annotation, ink)
    _draw_title(figure, layout, ink, width)
    _draw_legend(figure, layout, handles, ink, width, len(parts["data"]))
    return figure


def _draw_title(figure: "Figure", layout: Mapping[str, Any], ink: Any, width: int) -> None:
    """Draw the title in lines that fit the width."""
    from leadline.figures._markup import lines_of
    from leadline.figures._still_axes import POINTS

    title = layout.get("title") or {}
    text = title if isinstance(title, str) else title.get("text") or ""
    if not text:
        return
    size = 15 if isinstance(title, str) else title.get("font", {}).get("size", 15)
    lines = [
        part
        for line in lines_of(text)
        for part in textwrap.wrap(line.text, max(20, int(width / (0.6 * size)))) or [""]
    ]
    figure.suptitle("\n".join(lines), x=0.008, ha="left", color=ink, fontsize=size * POINTS)


def _draw_legend(
    figure: "Figure",
    layout: Mapping[str, Any],
    handles: Sequence[tuple[Any, str]],
    ink: Any,
    width: int,
    num_traces: int,
) -> None:
    """Draw the legend below the panels, in as many columns as fit."""
    from leadline.figures._markup import lines_of
    from leadline.figures._still_axes import POINTS

    is_shown = layout.get("showlegend")
    if is_shown is None:
        is_shown = num_traces > 1
    if not is_shown or not handles:
        return
    texts = [lines_of(name)[0] for _, name in handles]
    longest = max(line.num_letters for line in texts)
    columns = max(1, min(len(handles), math.floor(width / (7.2 * longest + 52))))
    legend = figure.legend(
        [handle for handle, _ in handles],
        [line.text for line in texts],
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=12 * POINTS,
        handlelength=1.9,
        columnspacing=1.6,
    )
    for text in legend.get_texts():
        text.set_color(ink)
