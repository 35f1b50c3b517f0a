"""A tree of boxes that grows to the right, with paths in colour."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leadline import checks
from leadline.errors import InputError
from leadline.figures import _arguments as arguments
from leadline.figures._theme import (
    ACCENT,
    AXIS,
    COLOURS,
    NEUTRAL,
    Drawing,
    merged,
    new_drawing,
    plain,
    translucent,
)

HALF_WIDTH = 0.34
"""Half the width of a box, in columns."""

HALF_HEIGHT = 0.36
"""Half the height of a box, in rows."""

ROW = 54
"""Height of a row in pixels."""

MOST_BOXES = 2000
"""Largest number of nodes in a tree. More take seconds to draw and do not fit on a page."""

PATH_COLOURS = (ACCENT, *COLOURS[1:])
"""Colours of the paths, in order."""

LETTER = 7.6
"""Mean width in pixels of a letter of a label."""

SMALL_LETTER = 6.2
"""Mean width in pixels of a letter of a note."""

PADDING = 12
"""Space in pixels around the text of a box."""


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
) -> Drawing:
    """Return a tree of boxes that grows to the right, with paths in colour.

    Siblings stand from top to bottom in the order of their indices. All text is plain. The boxes
    need ``layout["meta"]["min_width"]`` pixels; a narrower page should let the figure scroll.

    Args:
        parent: index of each node's parent, -1 for a root, shape (n,), int; parents come before
            their children.
        labels: first line of each box.
        notes: second line of each box.
        title: title of the figure.
        faint: True for each node to draw grey and dotted.
        paths: name -> nodes in one colour; the first path has the accent colour. A node on two
            paths has the colour of the first.
        marks: node -> a remark under its box.
        columns: headings, one for each depth.
        hidden: True for each node to leave out, together with its descendants. The other nodes
            keep their places, so a tree can grow without moving.
        layout: further properties of Plotly's layout.

    Raises:
        InputError: a parent comes after its child, a node does not exist, there are more than
            2,000 nodes, or there are more paths than colours.

    >>> paths = {"best": [0, 1]}
    >>> drawing = tree([-1, 0, 0], ["start", "a", "b"], ["", "-0.1", "-2.3"], title="", paths=paths)
    >>> len(drawing["layout"]["shapes"])
    5
    """
    above = _parents(parent)
    num = len(above)
    names = arguments.texts(labels, "labels", length=num)
    seconds = arguments.texts(notes, "notes", length=num)
    headings = arguments.texts(columns, "columns")
    is_faint = arguments.flags(faint, "faint", length=num)
    nodes_of_paths = _paths(paths, num)
    remarks = _marks(marks, num)
    is_drawn = ~_with_descendants(arguments.flags(hidden, "hidden", length=num), above)
    x, y = _places(above)
    colour = np.full(num, "", dtype=object)
    for nodes, path_colour in reversed(
        list(zip(nodes_of_paths.values(), PATH_COLOURS, strict=False))
    ):
        colour[nodes] = path_colour
    drawn = np.flatnonzero(is_drawn).tolist()
    most_letters = max(6, int(105 / (1 + x.max())))
    short = [_cut(name, most_letters) for name in names]
    annotations = [
        *_box_texts(drawn, x, y, names, short, seconds, is_faint, colour),
        *_remark_texts(remarks, is_drawn, x, y, colour),
        *_headings(headings),
    ]
    depth = max(int(x.max()), len(headings) - 1)
    overrides = {
        "xaxis": {"visible": False, "range": [x.min() - 0.45, depth + 0.45], "fixedrange": True},
        "yaxis": {"visible": False, "range": [y.min() - 0.75, y.max() + 0.6], "fixedrange": True},
        "shapes": _edges(drawn, above, x, y, is_faint, colour)
        + _boxes(drawn, x, y, is_faint, colour),
        "annotations": [{**text, "showarrow": False} for text in annotations],
        "showlegend": bool(nodes_of_paths),
        "legend": {"y": 0, "yanchor": "top", "x": 0, "xanchor": "left"},
        "margin": {"t": 64, "b": 34},
        "meta": {"min_width": round((depth + 0.9) * _widest(short, seconds) / (2 * HALF_WIDTH))},
    }
    height = 110 + ROW * int(1 + y.max() - y.min())
    drawing = new_drawing(title, **{"height": height, **layout})
    return {"data": _legend(nodes_of_paths), "layout": merged(drawing["layout"], overrides)}


def _cut(label: str, most_letters: int) -> str:
    """Return a label, cut off with an ellipsis if it is too long."""
    return label if len(label) <= most_letters else label[: most_letters - 1] + "…"


def _widest(labels: Sequence[str], notes: Sequence[str]) -> float:
    """Return the width in pixels that the longest text of a box needs."""
    widths = [LETTER * len(label) for label in labels]
    widths += [SMALL_LETTER * len(note) for note in notes]
    return max(widths) + PADDING


def _legend(paths: Mapping[str, list[int]]) -> list[dict[str, Any]]:
    """Return a trace without points for each path, which gives it an entry in the legend."""
    return [
        {
            "type": "scatter",
            "x": [None],
            "y": [None],
            "name": plain(name),
            "mode": "lines",
            "line": {"color": colour, "width": 3},
        }
        for name, colour in zip(paths, PATH_COLOURS, strict=False)
    ]


def _box_texts(
    drawn: list[int],
    x: np.ndarray,
    y: np.ndarray,
    names: list[str],
    short: list[str],
    notes: list[str],
    is_faint: np.ndarray,
    colour: np.ndarray,
) -> list[dict[str, Any]]:
    """Return the annotations inside the boxes."""
    texts = []
    for i in drawn:
        text = plain(short[i])
        if colour[i]:
            text = f"<b>{text}</b>"
        if notes[i]:
            text += f"<br><span style='font-size:11px'>{plain(notes[i])}</span>"
        font = {"color": NEUTRAL} if is_faint[i] and not colour[i] else {}
        place = {"x": int(x[i]), "y": float(y[i])}
        texts.append({**place, "text": text, "font": font, "hovertext": plain(names[i])})
    return texts


def _remark_texts(
    remarks: Mapping[int, str],
    is_drawn: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    colour: np.ndarray,
) -> list[dict[str, Any]]:
    """Return the annotations below marked boxes."""
    texts = []
    for node, text in remarks.items():
        if not is_drawn[node]:
            continue
        font = {"color": colour[node] or NEUTRAL, "size": 11}
        place = {"x": int(x[node]), "y": float(y[node]) - HALF_HEIGHT}
        texts.append({**place, "yanchor": "top", "yshift": 1, "text": plain(text), "font": font})
    return texts


def _headings(headings: Sequence[str]) -> list[dict[str, Any]]:
    """Return the annotations above the columns."""
    place = {"y": 1, "yref": "paper", "yanchor": "bottom", "yshift": 2}
    font = {"color": NEUTRAL, "size": 12}
    return [
        {**place, "x": depth, "text": plain(heading), "font": font}
        for depth, heading in enumerate(headings)
    ]


def _parents(parent: Any) -> np.ndarray:
    """Return the parents; refuse a parent after its child, so no node is its own ancestor."""
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
    """Return the nodes of each path."""
    entries = arguments.named(paths if paths is not None else {}, "paths")
    if len(entries) > len(PATH_COLOURS):
        raise InputError(
            f"a tree has at most {len(PATH_COLOURS)} paths, one for each colour",
            got=f"{len(entries)} paths",
        )
    found = {}
    for name, nodes in entries.items():
        found[name] = list(
            checks.whole_numbers(nodes, f"paths[{name!r}]", least=0, most=num - 1, at_least=0)
        )
    return found


def _marks(marks: Any, num: int) -> dict[int, str]:
    """Return the remark of each marked node."""
    entries = checks.mapping(marks if marks is not None else {}, "marks")
    found = {}
    for node, text in entries.items():
        found[checks.whole_number(node, "a key of marks", least=0, most=num - 1)] = checks.text(
            text, f"marks[{node}]"
        )
    return found


def _with_descendants(chosen: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Return True for the chosen nodes and for all of their descendants."""
    found = chosen.copy()
    for i, above in enumerate(parent.tolist()):
        found[i] |= above >= 0 and found[above]
    return found


def _places(parent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the column and the row of each node.

    The column is the depth. Leaves stand in consecutive rows from the top, and a parent stands in
    the middle of its children.
    """
    children: list[list[int]] = [[] for _ in parent]
    x = np.zeros(len(parent), dtype=int)
    for i, above in enumerate(parent.tolist()):
        if above >= 0:
            children[above].append(i)
            x[i] = x[above] + 1
    y = np.zeros(len(parent))
    row = 0
    stack = [(int(root), False) for root in np.flatnonzero(parent < 0)[::-1]]
    while stack:
        node, is_done = stack.pop()
        if not children[node]:
            y[node] = -row
            row += 1
        elif is_done:
            y[node] = (y[children[node][0]] + y[children[node][-1]]) / 2
        else:
            stack += [(node, True), *((child, False) for child in reversed(children[node]))]
    return x, y


def _edges(
    drawn: list[int], parent: Any, x: Any, y: Any, faint: Any, colour: Any
) -> list[dict[str, Any]]:
    """Return the lines between parents and children."""
    shapes = []
    # Coloured edges come last, so they lie on top.
    for i in sorted(drawn, key=lambda node: bool(colour[node])):
        above = int(parent[i])
        if above < 0:
            continue
        left = x[above] + HALF_WIDTH
        right = x[i] - HALF_WIDTH
        middle = (left + right) / 2
        # If a child is on a path, its parent is on the path as well.
        line = {
            "color": colour[i] or AXIS,
            "width": 2.5 if colour[i] else 1.2,
            "dash": "dot" if faint[i] else "solid",
        }
        path = f"M {left},{y[above]} C {middle},{y[above]} {middle},{y[i]} {right},{y[i]}"
        shapes.append({"type": "path", "path": path, "line": line, "layer": "below"})
    return shapes


def _boxes(drawn: list[int], x: Any, y: Any, faint: Any, colour: Any) -> list[dict[str, Any]]:
    """Return the rectangles."""
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
        if colour[i]:
            fill = translucent(colour[i], 0.14)
        else:
            fill = translucent(NEUTRAL, 0.0 if faint[i] else 0.08)
        shapes.append({"type": "rect", **corners, "line": line, "fillcolor": fill})
    return shapes
