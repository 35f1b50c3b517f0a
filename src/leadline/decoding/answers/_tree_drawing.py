"""The drawing of a search trace as a tree of boxes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from leadline.decoding.answers._trace import Fate, Trace
from leadline.figures import Drawing, tree
from leadline.sounding import decimals

BOXES = 48
"""Limit of candidates in a drawing; of a wide trace the best of each step are drawn."""

STEPS = 7
"""Limit of steps in a drawing; of a long trace some steps are drawn."""

Tokens = tuple[int, ...]


def tree_drawing(
    trace: Trace,
    item: int,
    paths: Mapping[str, Sequence[int]],
    *,
    title: str,
    lost: int = 0,
    log_probs: Sequence[float] = (),
    until: int | None = None,
    names: Mapping[int, str] | None = None,
) -> Drawing:
    """Return a trace as a tree, with some token sequences in colour.

    A wide trace shows the best candidates of each step, and the heading counts the others. A long
    trace shows some steps around ``until``, around ``lost``, or at the end.

    Args:
        trace: the search.
        item: number of the prompt in the trace.
        paths: name -> token sequence to draw in colour. The last path may leave the trace after
            step ``lost``.
        title: title of the figure; plain text.
        lost: step at which the last path left the beam; 0 if it did not.
        log_probs: log-probability of each prefix of the last path, in nats.
        until: last step to draw; all steps, if left out.
        names: names of tokens that the search may not have considered.
    """
    names = {**(names or {}), **trace.names}
    nodes = np.flatnonzero(trace.item == item)
    steps = int(trace.step[nodes].max(initial=0))
    window, longest = _window(steps, paths.values(), until if until is not None else lost)
    nodes = nodes[np.isin(trace.step[nodes], window)]
    prefixes = {
        name: [tuple(path[:t]) for t in window if t <= len(path)] for name, path in paths.items()
    }
    node_of = {trace.tokens(int(node)): int(node) for node in nodes}
    wanted = {node_of[prefix] for path in prefixes.values() for prefix in path if prefix in node_of}
    shown = _choose(trace, nodes, wanted, max(2, BOXES // max(len(window), 1)))
    boxes = _Boxes(names, steps_before=window.start - 1)
    for node in shown:
        is_pruned = bool(trace.fate[node] == Fate.PRUNED)
        rank = f", rank {trace.rank[node]}" if is_pruned else ""
        note = decimals(trace.log_prob[node], ".2f") + rank
        boxes.add(trace.tokens(node), note, is_pruned)
    last_path = list(prefixes.values())[-1]
    for prefix in last_path:
        if prefix not in boxes.place:
            is_known = len(prefix) <= len(log_probs)
            note = decimals(log_probs[len(prefix) - 1], ".2f") if is_known else ""
            boxes.add(prefix, note, is_faint=True)
    # A complete sequence can lose its place after its last token.
    end = min(lost, len(list(paths.values())[-1]))
    mark = "lost here" if end == lost else f"lost at step {lost}"
    is_marked = end in window and (until is None or until >= lost)
    columns = _headings(trace, nodes, shown, window)
    if window and window[-1] < longest:
        columns[-1] += f", {longest - window[-1]} steps after"
    return tree(
        np.array(boxes.parents),
        boxes.labels,
        [note.replace("-", "−") for note in boxes.notes],
        title=title,
        faint=boxes.is_faint,
        paths={
            name: [0, *(boxes.place[prefix] for prefix in path)] for name, path in prefixes.items()
        },
        marks={boxes.place[last_path[end - window.start]]: mark} if is_marked else {},
        columns=columns,
        hidden=[False, *(until is not None and len(prefix) > until for prefix in boxes.place)],
    )


def _window(steps: int, paths: Iterable[Sequence[int]], centre: int) -> tuple[range, int]:
    """Return the steps to draw, and the length of the trace or of its longest path."""
    centre = centre or steps + STEPS
    first = max(1, min(centre - STEPS // 2, steps - STEPS + 1))
    longest = max(steps, *map(len, paths))
    return range(first, min(longest, first + STEPS - 1) + 1), longest


@dataclass
class _Boxes:
    """The boxes of a tree; the first is the root."""

    names: Mapping[int, str]
    """Names of tokens."""
    steps_before: int
    """Steps before the first one that is drawn."""
    place: dict[Tokens, int] = field(default_factory=dict)
    """Number of the box of each prefix."""
    parents: list[int] = field(default_factory=lambda: [-1])
    labels: list[str] = field(init=False)
    notes: list[str] = field(init=False)
    is_faint: list[bool] = field(default_factory=lambda: [False])

    def __post_init__(self) -> None:
        is_cut = self.steps_before > 0
        self.labels = ["…" if is_cut else "start"]
        self.notes = [f"{self.steps_before} steps before" if is_cut else ""]

    def add(self, prefix: Tokens, note: str, is_faint: bool) -> None:
        """Add the box of a prefix below the box of its own prefix, if there is one, or the root."""
        self.place[prefix] = len(self.labels)
        self.parents.append(self.place.get(prefix[:-1], 0))
        self.labels.append(self.names.get(prefix[-1], str(prefix[-1])))
        self.notes.append(note)
        self.is_faint.append(is_faint)


def _headings(trace: Trace, nodes: np.ndarray, shown: list[int], window: range) -> list[str]:
    """Return a heading for the root and for each step, with the number of hidden candidates."""
    headings = [""]
    for t in window:
        count = int((trace.step[nodes] == t).sum() - (trace.step[shown] == t).sum())
        headings.append(f"step {t} ({count} more)" if count else f"step {t}")
    return headings


def _choose(trace: Trace, nodes: np.ndarray, wanted: set[int], per_step: int) -> list[int]:
    """Return the nodes to draw, in the order of the trace.

    These are the wanted ones and the best of each step, as far as their parents are drawn.
    """
    shown: list[int] = []
    for t in np.unique(trace.step[nodes]):
        level = nodes[trace.step[nodes] == t]
        level = level[np.argsort(trace.rank[level], kind="stable")]
        # The parents of the first step in the drawing are not drawn.
        if shown:
            level = level[np.isin(trace.parent[level], shown)]
        shown += [
            node for place, node in enumerate(level.tolist()) if place < per_step or node in wanted
        ]
    return shown
