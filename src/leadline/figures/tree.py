"""A tree that grows to the right: boxes, one column per depth, with paths picked out in colour."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from leadline.figures.theme import ACCENT, AXIS, COLOURS, NEUTRAL, new_figure, plain, translucent

HALF_WIDTH, HALF_HEIGHT = 0.34, 0.36
"""Of a box, in columns and in rows."""

ROW = 54
"""Height of a row in pixels."""

LETTER, SMALL_LETTER, PADDING = 7.6, 6.2, 12
"""Mean widths of a letter of a label and of a note, and the room around them in a box, in pixels."""


def tree(
    parent: np.ndarray,
    labels: Sequence[str],
    notes: Sequence[str],
    *,
    title: str,
    faint: Sequence[bool] = (),
    paths: Mapping[str, Sequence[int]] | None = None,
    marks: Mapping[int, str] | None = None,
    columns: Sequence[str] = (),
    hidden: Sequence[bool] = (),
    **layout: Any,
) -> go.Figure:
    """Boxes joined to their parents; siblings from top to bottom in the order in which they are given.

    All text is plain. Where the figure is drawn on less than ``layout.meta["min_width"]`` pixels, text sticks out of
    the boxes: a page should let it scroll instead.

    Args:
        parent: index of each node's parent, -1 for a root, shape (n,), int; parents come before their children.
        labels: first line of each box.
        notes: second line of each box.
        title: what the figure shows.
        faint: nodes drawn grey and dashed: what was not chosen.
        paths: name -> nodes in one colour; the first is in the accent colour. A node on two paths takes the first.
        marks: node -> a remark under its box.
        columns: headings, one per depth.
        hidden: nodes that are not drawn and keep their place, so that a tree can grow without moving; with a node, all
            that grows from it.
        layout: further Plotly layout.

    >>> figure = tree(np.array([-1, 0, 0]), ["start", "a", "b"], ["", "-0.1", "-2.3"], title="", paths={"best": [0, 1]})
    >>> len(figure.layout.shapes)
    5
    """
    parent = np.asarray(parent)
    x, y = _places(parent)
    paths, marks = paths or {}, marks or {}
    is_faint = np.asarray(faint) if len(faint) else np.zeros(len(parent), dtype=bool)
    colour = np.full(len(parent), "", dtype=object)
    for (_, nodes), path_colour in reversed(list(zip(paths.items(), (ACCENT, *COLOURS[1:]), strict=False))):
        colour[list(nodes)] = path_colour
    is_drawn = ~np.asarray(hidden) if len(hidden) else np.ones(len(parent), dtype=bool)
    drawn = np.flatnonzero(is_drawn).tolist()
    figure = new_figure(title, **{"height": 110 + ROW * int(1 + y.max() - y.min()), **layout})
    shapes = _edges(drawn, parent, x, y, is_faint, colour) + _boxes(drawn, x, y, is_faint, colour)
    texts: list[dict[str, Any]] = []
    room = max(6, int(105 / (1 + x.max())))
    short = [label if len(label) <= room else label[: room - 1] + "…" for label in labels]
    widest = max([LETTER * len(text) for text in short] + [SMALL_LETTER * len(note) for note in notes]) + PADDING
    for i in drawn:
        strong = f"<b>{plain(short[i])}</b>" if colour[i] else plain(short[i])
        second = f"<br><span style='font-size:11px'>{plain(notes[i])}</span>" if notes[i] else ""
        look = {"color": NEUTRAL} if is_faint[i] and not colour[i] else {}
        texts.append({"x": x[i], "y": y[i], "text": strong + second, "font": look, "hovertext": plain(labels[i])})
    for node, text in marks.items():
        if not is_drawn[node]:
            continue
        ink = colour[node] or NEUTRAL
        where = {"x": x[node], "y": y[node] - HALF_HEIGHT, "yanchor": "top", "yshift": 1}
        texts.append({**where, "text": plain(text), "font": {"color": ink, "size": 11}})
    for depth, heading in enumerate(columns):
        where = {"x": depth, "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 2}
        texts.append({**where, "text": plain(heading), "font": {"color": NEUTRAL, "size": 12}})
    # All at once: Plotly copies and checks what is there each time that something is added.
    figure.update_layout(shapes=shapes, annotations=[{**text, "showarrow": False} for text in texts])
    for (name, _), path_colour in zip(paths.items(), (ACCENT, *COLOURS[1:]), strict=False):
        figure.add_scatter(x=[None], y=[None], name=plain(name), mode="lines", line={"color": path_colour, "width": 3})
    figure.update_xaxes(visible=False, range=[x.min() - 0.45, x.max() + 0.45], fixedrange=True)
    figure.update_yaxes(visible=False, range=[y.min() - 0.75, y.max() + 0.6], fixedrange=True)
    return figure.update_layout(
        showlegend=bool(paths),
        legend={"y": 0, "yanchor": "top", "x": 0, "xanchor": "left"},
        margin={"t": 64, "b": 34},
        meta={"min_width": round((x.max() + 0.9) * widest / (2 * HALF_WIDTH))},
    )


def _places(parent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns by depth; leaves in consecutive rows, first at the top, and parents in the middle of their children."""
    children: list[list[int]] = [[] for _ in parent]
    x = np.zeros(len(parent), dtype=int)
    for i, above in enumerate(parent.tolist()):
        if above >= 0:
            children[above].append(i)
            x[i] = x[above] + 1
    y, row = np.zeros(len(parent)), 0
    stack = [(int(root), False) for root in np.flatnonzero(parent < 0)[::-1]]
    while stack:
        node, is_done = stack.pop()
        if not children[node]:
            y[node], row = -row, row + 1
        elif is_done:
            y[node] = (y[children[node][0]] + y[children[node][-1]]) / 2
        else:
            stack += [(node, True), *((child, False) for child in reversed(children[node]))]
    return x, y


def _edges(drawn: list[int], parent: Any, x: Any, y: Any, faint: Any, colour: Any) -> list[dict[str, Any]]:
    shapes = []
    for i in sorted(drawn, key=lambda node: bool(colour[node])):  # coloured ones last, on top
        above = int(parent[i])
        if above < 0:
            continue
        left, right = x[above] + HALF_WIDTH, x[i] - HALF_WIDTH
        middle = (left + right) / 2
        # A child that has its own colour is on a path, and so is its parent.
        line = {"color": colour[i] or AXIS, "width": 2.5 if colour[i] else 1.2, "dash": "dot" if faint[i] else "solid"}
        path = f"M {left},{y[above]} C {middle},{y[above]} {middle},{y[i]} {right},{y[i]}"
        shapes.append({"type": "path", "path": path, "line": line, "layer": "below"})
    return shapes


def _boxes(drawn: list[int], x: Any, y: Any, faint: Any, colour: Any) -> list[dict[str, Any]]:
    shapes = []
    for i in drawn:
        edge = colour[i] or (NEUTRAL if faint[i] else AXIS)
        corners = {"x0": x[i] - HALF_WIDTH, "x1": x[i] + HALF_WIDTH, "y0": y[i] - HALF_HEIGHT, "y1": y[i] + HALF_HEIGHT}
        line = {"color": edge, "width": 2 if colour[i] else 1, "dash": "dot" if faint[i] else "solid"}
        fill = translucent(colour[i] or NEUTRAL, 0.14 if colour[i] else 0.0 if faint[i] else 0.08)
        shapes.append({"type": "rect", **corners, "line": line, "fillcolor": fill})
    return shapes
