"""Axes of stills: panels, scales, ticks, grids and ranges."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    MultipleLocator,
    NullLocator,
)

from leadline.figures._markup import lines_of

Name = Literal["x", "y"]
"""Name of an axis."""

POINTS = 0.72
"""Points for each pixel of a drawing: stills have 100 pixels in an inch."""


@dataclass
class Panel:
    """One pair of axes, and the names on an axis of categories."""

    number: str
    """``""`` for the first panel, then ``"2"``, ``"3"`` ..."""
    axes: Axes
    x: Mapping[str, Any]
    """The horizontal axis in the layout."""
    y: Mapping[str, Any]
    """The vertical axis in the layout."""
    width: float
    """Width in pixels."""
    categories: dict[str, list[str]] = field(default_factory=dict)
    """Names on the axes ``"x"`` and ``"y"``, where they are not numbers."""

    def places(self, values: Any, axis: str) -> np.ndarray:
        """Return values as numbers on an axis; a name becomes the number of its category."""
        listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
        is_named = any(isinstance(value, str) for value in listed)
        layout = self.x if axis == "x" else self.y
        if not is_named and layout.get("type") != "category":
            numbers = [np.nan if value is None else value for value in listed]
            return np.asarray(numbers, dtype=float)
        names = self.categories.setdefault(axis, list(layout.get("categoryarray", ())))
        for value in listed:
            if str(value) not in names:
                names.append(str(value))
        return np.array([names.index(str(value)) for value in listed], dtype=float)


def panels_of(layout: Mapping[str, Any], figure: Figure) -> dict[str, Panel]:
    """Return the panels by number; the domains of the axes place them in rows and columns."""
    numbers = [name[5:] for name in layout if name.startswith("xaxis")] or [""]
    x_axes = {number: layout.get(f"xaxis{number}", {}) for number in numbers}
    y_axes = {number: layout.get(f"yaxis{number}", {}) for number in numbers}
    lefts = sorted({_start(x_axes[number]) for number in numbers})
    bottoms = sorted({_start(y_axes[number]) for number in numbers}, reverse=True)
    grid = figure.add_gridspec(len(bottoms), len(lefts))
    width = 100 * figure.get_size_inches()[0] / len(lefts)
    panels = {}
    for number in numbers:
        row = bottoms.index(_start(y_axes[number]))
        column = lefts.index(_start(x_axes[number]))
        axes = figure.add_subplot(grid[row, column])
        axes.set_label(f"panel {number or 1}")
        panels[number] = Panel(number, axes, x_axes[number], y_axes[number], width)
    return panels


def _start(axis: Mapping[str, Any]) -> float:
    """Return the place of a panel's left or lower edge."""
    return float(axis.get("domain", (0.0, 1.0))[0])


def finish(panel: Panel, panels: Mapping[str, Panel], ink: Any, line: Any, grid: Any) -> None:
    """Give a panel its scales, ticks, labels and ranges, once everything is drawn into it."""
    axes = panel.axes
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    _scale(panel, "x", panel.x)
    _scale(panel, "y", panel.y)
    sides: list[tuple[Name, Mapping[str, Any]]] = [("x", panel.x), ("y", panel.y)]
    for name, layout in sides:
        _ticks(panel, name, layout)
        _look(panel, name, layout, ink, line, grid)
        _label(panel, name, layout, ink)
    shared = str(panel.y.get("matches") or "")
    if shared:
        axes.sharey(panels[shared[1:]].axes)
    if panel.x.get("visible") is False and panel.y.get("visible") is False:
        axes.set_axis_off()
    if "scaleanchor" in panel.y or "scaleanchor" in panel.x:
        axes.set_aspect("equal", adjustable="box")


def _scale(panel: Panel, name: Name, layout: Mapping[str, Any]) -> None:
    """Set the scale and the range of an axis."""
    axes = panel.axes
    is_log = layout.get("type") == "log"
    if is_log:
        (axes.set_xscale if name == "x" else axes.set_yscale)("log")
    set_limits = axes.set_xlim if name == "x" else axes.set_ylim
    limits = layout.get("range")
    if limits is not None:
        low, high = (10.0 ** float(end) if is_log else float(end) for end in limits)
        set_limits(low, high)
    elif layout.get("rangemode") == "tozero":
        low, high = axes.get_xlim() if name == "x" else axes.get_ylim()
        set_limits(min(low, 0.0), max(high, 0.0))
    if name in panel.categories and limits is None:
        set_limits(-0.5, len(panel.categories[name]) - 0.5)
    if layout.get("autorange") == "reversed":
        low, high = axes.get_xlim() if name == "x" else axes.get_ylim()
        set_limits(max(low, high), min(low, high))


def _ticks(panel: Panel, name: Name, layout: Mapping[str, Any]) -> None:
    """Set the places and the labels of the ticks."""
    axis = panel.axes.xaxis if name == "x" else panel.axes.yaxis
    is_log = layout.get("type") == "log"
    if name in panel.categories:
        names = panel.categories[name]
        letters = _letters(panel, name, len(names))
        axis.set_ticks(range(len(names)), labels=[_wrapped(text, letters) for text in names])
    elif layout.get("tickvals") is not None:
        values = np.asarray(layout["tickvals"], dtype=float)
        axis.set_major_locator(FixedLocator(values.tolist()))
        texts = layout.get("ticktext")
        if texts is not None:
            letters = _letters(panel, name, len(values))
            axis.set_ticks(values, labels=[_wrapped(str(text), letters) for text in texts])
        axis.set_minor_locator(NullLocator())
    elif layout.get("dtick") is not None:
        step = float(layout["dtick"])
        axis.set_major_locator(LogLocator(10.0**step) if is_log else MultipleLocator(step))
    if is_log and layout.get("tickvals") is None and name not in panel.categories:
        low, high = sorted(panel.axes.get_xlim() if name == "x" else panel.axes.get_ylim())
        if high < 4 * low:
            # There may be no power of ten in the range, so the ticks are round numbers.
            axis.set_major_locator(MaxNLocator(6))
            axis.set_minor_locator(NullLocator())
        is_short = high < 30 * low
        axis.set_minor_formatter(FuncFormatter(_minor_label if is_short else _no_label))
        if is_short:
            axis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    prefix = layout.get("tickprefix", "")
    suffix = layout.get("ticksuffix", "")
    if prefix or suffix:
        axis.set_major_formatter(
            FuncFormatter(lambda value, place: _joined(f"{prefix}{value:g}{suffix}"))
        )
    if layout.get("showticklabels") is False:
        axis.set_major_formatter(FuncFormatter(_no_label))


def _no_label(value: float, place: int | None) -> str:
    """Return an empty label."""
    return ""


def _minor_label(value: float, place: int | None) -> str:
    """Return a label at 2 and at 5 times a power of ten."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def _wrapped(markup: str, letters: int) -> str:
    """Return a label in lines of about so many letters; a label with markup stays in its lines."""
    lines = [line.text for line in lines_of(markup)]
    if len(lines) > 1 or "$" in lines[0]:
        return "\n".join(lines)
    return "\n".join(textwrap.wrap(lines[0], max(letters, 8)))


def _letters(panel: Panel, name: str, num_labels: int) -> int:
    """Return the number of letters for each label of an axis, so labels do not overlap."""
    if name == "y":
        return 60
    return int((panel.width - 70) / max(num_labels, 1) / 7)


def _look(
    panel: Panel, name: Name, layout: Mapping[str, Any], ink: Any, line: Any, grid: Any
) -> None:
    """Set the colours and sizes of ticks, axis line, grid and zero line."""
    axes = panel.axes
    has_ticks = layout.get("ticks") != ""
    size = 12 * POINTS
    axes.tick_params(axis=name, which="major", length=2.9 if has_ticks else 0, color=line)
    axes.tick_params(axis=name, which="minor", length=0)
    axes.tick_params(axis=name, labelsize=size, labelcolor=ink)
    spine = axes.spines["bottom" if name == "x" else "left"]
    spine.set_color(line)
    spine.set_linewidth(0.8)
    spine.set_visible(layout.get("showline") is not False)
    if layout.get("showgrid") is not False:
        axes.grid(visible=True, axis=name, color=grid, linewidth=0.7)
    axis = axes.xaxis if name == "x" else axes.yaxis
    if layout.get("visible") is False:
        axis.set_visible(False)
        spine.set_visible(False)
    has_zero = layout.get("zeroline") is not False and layout.get("type") != "log"
    low, high = sorted(axes.get_xlim() if name == "x" else axes.get_ylim())
    is_named = name in panel.categories
    if has_zero and not is_named and low < 0 < high and layout.get("visible") is not False:
        draw = axes.axvline if name == "x" else axes.axhline
        draw(0, color=grid, linewidth=1.2, zorder=0.6)


def _label(panel: Panel, name: Name, layout: Mapping[str, Any], ink: Any) -> None:
    """Write the label of an axis."""
    title = layout.get("title") or {}
    text = title if isinstance(title, str) else title.get("text") or ""
    if not text:
        return
    size = 13 if isinstance(title, str) else title.get("font", {}).get("size", 13)
    set_label = panel.axes.set_xlabel if name == "x" else panel.axes.set_ylabel
    set_label(_joined(text), color=ink, fontsize=size * POINTS)


def _joined(markup: str) -> str:
    """Return markup as lines for matplotlib."""
    return "\n".join(line.text for line in lines_of(markup))


def reference(panels: Mapping[str, Panel], name: str | None, axis: str) -> tuple[Panel, str]:
    """Return the panel and the kind (``data``, ``domain`` or ``paper``) of a reference.

    >>> reference({"": None, "2": None}, "x2 domain", "x")
    (None, 'domain')
    """
    name = name or axis
    if name == "paper":
        return next(iter(panels.values())), "paper"
    number = name.removesuffix(" domain")[1:]
    return panels[number], "domain" if name.endswith(" domain") else "data"


def segments(values: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Yield the parts of some arrays between the places where one of them is NaN."""
    is_gap = np.any([np.isnan(array) for array in values], axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], is_gap, [True]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        yield [array[start:stop] for array in values]
