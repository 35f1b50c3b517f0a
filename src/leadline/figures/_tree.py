"""A tree that grows to the right: boxes, one column per depth, with paths picked out in colour."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from leadline import checks
from leadline.errors import InputError
from leadline.figures import _arguments as arguments
from leadline.figures._theme import ACCENT, AXIS, COLOURS, NEUTRAL, new_figure, plain, translucent

HALF_WIDTH, HALF_HEIGHT = 0.34, 0.36
"""Of a box, in columns and in rows."""

ROW = 54
"""Height of a row in pixels."""

MOST_BOXES = 2000
"""Nodes of a tree: more take seconds to draw, and no page shows them."""

PATH_COLOURS = (ACCENT, *COLOURS[1:])
"""Colours of the paths, in order."""

LETTER, SMALL_LETTER, PADDING = 7.6, 6.2, 12
"""Mean widths of a letter of a label and of a note, and the room around them in a box, in pixels."""


def tree(
    parent: Sequence[int] | np.ndarray,
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

    Raises:
        InputError: a parent that comes after its child (so that there is no cycle), a node that does not exist, more
            than :data:`MOST_BOXES` nodes, or more paths than there are colours.

    >>> figure = tree(np.array([-1, 0, 0]), ["start", "a", "b"], ["", "-0.1", "-2.3"], title="", paths={"best": [0, 1]})
    >>> len(figure.layout.shapes)
    5
    """
    above = _parents(parent)
    num = len(above)
    names = arguments.texts(labels, "labels", length=num)
    seconds = arguments.texts(notes, "notes", length=num)
    headings = arguments.texts(columns, "columns")
    is_faint = arguments.flags(faint, "faint", length=num)
    picked = _paths(paths, num)
    remarks = _marks(marks, num)
    is_drawn = ~_with_descendants(arguments.flags(hidden, "hidden", length=num), above)
    x, y = _places(above)
    colour = np.full(num, "", dtype=object)
    for nodes, path_colour in reversed(list(zip(picked.values(), PATH_COLOURS, strict=False))):
        colour[nodes] = path_colour
    drawn = np.flatnonzero(is_drawn).tolist()
    figure = new_figure(title, **{"height": 110 + ROW * int(1 + y.max() - y.min()), **layout})
    shapes = _edges(drawn, above, x, y, is_faint, colour) + _boxes(drawn, x, y, is_faint, colour)
    texts: list[dict[str, Any]] = []
    room = max(6, int(105 / (1 + x.max())))
    short = [label if len(label) <= room else label[: room - 1] + "…" for label in names]
    widest = (
        max([LETTER * len(text) for text in short] + [SMALL_LETTER * len(note) for note in seconds])
        + PADDING
    )
    for i in drawn:
        strong = f"<b>{plain(short[i])}</b>" if colour[i] else plain(short[i])
        second = (
            f"<br><span style='font-size:11px'>{plain(seconds[i])}</span>" if seconds[i] else ""
        )
        look = {"color": NEUTRAL} if is_faint[i] and not colour[i] else {}
        texts.append(
            {
                "x": x[i],
                "y": y[i],
                "text": strong + second,
                "font": look,
                "hovertext": plain(names[i]),
            }
        )
    for node, text in remarks.items():
        if not is_drawn[node]:
            continue
        ink = colour[node] or NEUTRAL
        where = {"x": x[node], "y": y[node] - HALF_HEIGHT, "yanchor": "top", "yshift": 1}
        texts.append({**where, "text": plain(text), "font": {"color": ink, "size": 11}})
    for depth, heading in enumerate(headings):
        where = {"x": depth, "y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 2}
        texts.append({**where, "text": plain(heading), "font": {"color": NEUTRAL, "size": 12}})
    # All at once: Plotly copies and checks what is there each time that something is added.
    figure.update_layout(
        shapes=shapes, annotations=[{**text, "showarrow": False} for text in texts]
    )
    for name, path_colour in zip(picked, PATH_COLOURS, strict=False):
        figure.add_scatter(
            x=[None],
            y=[None],
            name=plain(name),
            mode="lines",
            line={"color": path_colour, "width": 3},
        )
    depth = max(int(x.max()), len(headings) - 1)
    figure.update_xaxes(visible=False, range=[x.min() - 0.45, depth + 0.45], fixedrange=True)
    figure.update_yaxes(visible=False, range=[y.min() - 0.75, y.max() + 0.6], fixedrange=True)
    return figure.update_layout(
        showlegend=bool(picked),
        legend={"y": 0, "yanchor": "top", "x": 0, "xanchor": "left"},
        margin={"t": 64, "b": 34},
        meta={"min_width": round((depth + 0.9) * widest / (2 * HALF_WIDTH))},
    )


def _parents(parent: Any) -> np.ndarray:
    """The parents, checked: each before its children, so that no node is its own ancestor."""
    listed = checks.whole_numbers(parent, "parent", least=-1)
    if len(listed) > MOST_BOXES:
        raise InputError(
            f"a tree has at most {MOST_BOXES:,} nodes",
            got=f"{len(listed):,} nodes",
            cure="draw a part",
        )
    for i, above in enumerate(listed):
        if above >= i:
            raise InputError(
                "parent must name an earlier node, or -1 for a root",
                got=f"parent[{i}] = {above}",
                cause="a cycle, a node that does not exist, or children before their parents",
            )
    return np.array(listed)


def _paths(paths: Any, num: int) -> dict[str, list[int]]:
    """Nodes by the names of their paths."""
    known = arguments.named(paths if paths is not None else {}, "paths")
    if len(known) > len(PATH_COLOURS):
        raise InputError(
            f"a tree has at most {len(PATH_COLOURS)} paths, one for each colour",
            got=f"{len(known)} paths",
        )
    found = {}
    for name, nodes in known.items():
        found[name] = list(
            checks.whole_numbers(nodes, f"paths[{name!r}]", least=0, most=num - 1, at_least=0)
        )
    return found


def _marks(marks: Any, num: int) -> dict[int, str]:
    """Remarks by their nodes."""
    known = checks.mapping(marks if marks is not None else {}, "marks")
    found = {}
    for node, text in known.items():
        found[checks.whole_number(node, "a key of marks", least=0, most=num - 1)] = checks.text(
            text, f"marks[{node}]"
        )
    return found


def _with_descendants(chosen: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """The nodes that are chosen, and all that grows from them."""
    found = chosen.copy()
    for i, above in enumerate(parent.tolist()):
        found[i] |= above >= 0 and found[above]
    return found


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


def _edges(
    drawn: list[int], parent: Any, x: Any, y: Any, faint: Any, colour: Any
) -> list[dict[str, Any]]:
    shapes = []
    for i in sorted(drawn, key=lambda node: bool(colour[node])):  # coloured ones last, on top
        above = int(parent[i])
        if above < 0:
            continue
        left, right = x[above] + HALF_WIDTH, x[i] - HALF_WIDTH
        middle = (left + right) / 2
        # A child that has its own colour is on a path, and so is its parent.
        line = {
            "color": colour[i] or AXIS,
            "width": 2.5 if colour[i] else 1.2,
            "dash": "dot" if faint[i] else "solid",
        }
        path = f"M {left},{y[above]} C {middle},{y[above]} {middle},{y[i]} {right},{y[i]}"
        shapes.append({"type": "path", "path": path, "line": line, "layer": "below"})
    return shapes


def _boxes(drawn: list[int], x: Any, y: Any, faint: Any, colour: Any) -> list[dict[str, Any]]:
    shapes = []
    for i in drawn:
        edge = colour[i] or (NEUTRAL if faint[i] else AXIS)
        corners = {
            "x0": x[i] - HALF_WIDTH,
            "x1": x[i] + HALF_WIDTH,
            "y0": y[i] - HALF_HEIGHT,
            "y1": y[i] + HALF_HEIGHT,
        }
        line = {
            "color": edge,
            "width": 2 if colour[i] else 1,
            "dash": "dot" if faint[i] else "solid",
        }
        fill = translucent(colour[i] or NEUTRAL, 0.14 if colour[i] else 0.0 if faint[i] else 0.08)
        shapes.append({"type": "rect", **corners, "line": line, "fillcolor": fill})
    return shapes
