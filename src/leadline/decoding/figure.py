"""Drawings of soundings of the decoder."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from leadline.decoding.judging._audit import SearchAudit
from leadline.decoding.judging._comparison import Comparison
from leadline.decoding.judging._complexity import Complexity
from leadline.decoding.judging._search_errors import SearchErrors
from leadline.decoding.search._decoded import Decoded
from leadline.decoding.search._trace import Fate, Trace
from leadline.figures import NEUTRAL, bands, new_figure, plain, tree
from leadline.sounding import decimals

BOXES = 48
"""More candidates than this are not drawn one by one."""

STEPS = 7
"""More steps than this are not drawn side by side."""


def draw_decoded(decoded: Decoded, item: int) -> go.Figure:
    """The search tree of one item with its answer, or its hypotheses token by token."""
    hypotheses = decoded.hypotheses(item)
    if decoded.trace is not None:
        answer = hypotheses[0].tokens if hypotheses else ()
        paths = {"the search's answer": answer}
        return draw_tree(decoded.trace, item, paths, title="What the beam kept, and what it pruned")
    x = np.arange(1, decoded.tokens.shape[2] + 1)
    figure = new_figure("Each hypothesis, token by token", "token", "log-probability so far / nats")
    for rank, hypothesis in enumerate(hypotheses[:7], 1):
        upto = decoded.token_log_prob[item, rank - 1, : len(hypothesis.tokens)].cumsum()
        name = " ".join(hypothesis.words)
        name = plain(f"{rank}: {name if len(name) < 40 else name[:39] + '…'}")
        look = {"mode": "lines+markers", "hovertemplate": "%{text} %{y:.2f}"}
        figure.add_scatter(
            x=x, y=upto, name=name, text=[plain(word) for word in hypothesis.words], **look
        )
    return figure


def draw_audit(audit: SearchAudit, item: int, until: int | None = None) -> go.Figure:
    """Where the most likely sequence left the beam; up to a step, if one is given."""
    trace = audit.traces[item]
    if trace is None:
        return draw_decoded(audit.decoded, item)
    answer = audit.decoded.hypotheses(item)
    paths = {"the search's answer": answer[0].tokens if answer else ()}
    best = f"{audit.praise(item)} sequence"
    title = (
        f"The answer is {best}"
        if audit.outcome[item] == "optimal"
        else "What the beam kept, and what it pruned"
    )
    if audit.outcome[item] == "search error":
        paths[best] = audit.optimum.hypotheses(item)[0].tokens
        rank = f", at rank {audit.lost_rank[item]}" if audit.lost_rank[item] else ""
        title = f"{best[0].upper()}{best[1:]} left the beam at step {audit.lost_step[item]}{rank}"
    upto = (
        audit.optimum.token_log_prob[item, 0].cumsum().tolist()
        if audit.optimum.lengths[item].any()
        else []
    )
    # The trace is of that item alone.
    lost, names = int(audit.lost_step[item]), audit.optimum.names
    return draw_tree(trace, 0, paths, title=title, lost=lost, upto=upto, until=until, names=names)


def draw_comparison(comparison: Comparison, item: int) -> go.Figure:
    """The log-probability of each answer as it grows; searches with the same answer share a line."""
    figure = new_figure("Each answer, token by token", "tokens", "log-probability so far / nats")
    finders: dict[tuple[int, ...], list[str]] = {}
    lines = {}
    for name, search in zip(comparison.names, comparison.searches, strict=True):
        for best in search.hypotheses(item)[:1]:
            finders.setdefault(best.tokens, []).append(name)
            upto = search.token_log_prob[item, 0, : len(best.tokens)].cumsum()
            lines[best.tokens] = (["start", *best.words], [0.0, *upto.tolist()])
    for tokens, (words, upto) in lines.items():
        figure.add_scatter(
            x=np.arange(len(upto)),
            y=upto,
            name=plain(" = ".join(finders[tokens])),
            text=[plain(word) for word in words],
            mode="lines+markers",
            hovertemplate="%{text} %{y:.2f}",
        )
    return figure.update_xaxes(dtick=1 if max(map(len, lines), default=0) < 20 else None)


def draw_complexity(complexity: Complexity) -> go.Figure:
    """Comparisons against the bound of sorting and the bound of selecting."""
    figure = new_figure(
        "What selection costs", "comparisons that the bound allows", "comparisons made"
    )
    bounds = {
        "T k M log M (sorting)": complexity.sorting,
        "T (k M + k² log k) (selecting)": complexity.selecting,
    }
    for name, bound in bounds.items():
        figure.add_scatter(x=bound, y=complexity.comparisons, name=name, mode="markers")
    ends = [float(complexity.comparisons.min()), float(complexity.sorting.max())]
    figure.add_scatter(
        x=ends, y=ends, name="equal", mode="lines", line={"color": NEUTRAL, "dash": "dash"}
    )
    return figure.update_xaxes(type="log").update_yaxes(type="log")


def draw_search_errors(errors: SearchErrors) -> go.Figure:
    """Error rate by width: the band from proved to possible, and the limits of the interval."""
    (proved, possible), intervals = errors.rates(), errors.intervals()
    figure = bands(
        errors.widths,
        {"from proved to possible errors": (100 * proved, 100 * proved, 100 * possible)},
        title="Search errors by beam width",
        x_label="beam width",
        y_label="search errors / % of prompts",
        log_x=len(errors.widths) > 1,
    )
    for limit in ("low", "high"):
        figure.add_scatter(
            x=errors.widths,
            y=[100 * getattr(interval, limit) for interval in intervals],
            name=f"{intervals[0].level:.0%} interval over prompts",
            mode="lines",
            line={"color": NEUTRAL, "dash": "dot", "width": 1},
            legendgroup="interval",
            showlegend=limit == "low",
            hovertemplate=f"{limit} %{{y:.3g}}",
        )
    return figure.update_yaxes(rangemode="tozero")


def draw_tree(
    trace: Trace,
    item: int,
    paths: Mapping[str, Sequence[int]],
    *,
    title: str,
    lost: int = 0,
    upto: Sequence[float] = (),
    until: int | None = None,
    names: Mapping[int, str] | None = None,
) -> go.Figure:
    """A trace as a tree, with some token sequences picked out; drawn up to step ``until``, if it is given.

    A wide trace shows the best candidates of each step and says how many more there were; a long one shows the steps
    around ``until``, around ``lost``, or the last, and says how many lie before and after. The last path may leave the
    trace: after step ``lost`` it is drawn with the log-probabilities ``upto`` that it would have had, and with the
    ``names`` of tokens that the search may never have considered.
    """
    names = {**(names or {}), **trace.names}
    nodes = np.flatnonzero(trace.item == item)
    steps = int(trace.step[nodes].max(initial=0))
    looked_at = until if until is not None else lost or steps + STEPS
    first = max(1, min(looked_at - STEPS // 2, steps - STEPS + 1))
    longest = max(steps, *map(len, paths.values()))  # the last path may be longer than the trace
    window = range(first, min(longest, first + STEPS - 1) + 1)
    nodes = nodes[np.isin(trace.step[nodes], window)]
    node_of = {trace.tokens(int(node)): int(node) for node in nodes}
    prefixes = {
        name: [tuple(path[:t]) for t in window if t <= len(path)] for name, path in paths.items()
    }
    wanted = {node_of[prefix] for path in prefixes.values() for prefix in path if prefix in node_of}
    shown = _choose(trace, nodes, wanted, max(2, BOXES // max(len(window), 1)))
    before = f"{first - 1} steps before" if first > 1 else ""
    boxes: list[tuple[tuple[int, ...], str, str, bool]] = [
        ((), "…" if before else "start", before, False)
    ]
    place: dict[tuple[int, ...], int] = {}
    for node in shown:
        tokens, is_pruned = trace.tokens(node), bool(trace.fate[node] == Fate.PRUNED)
        note = f"{decimals(trace.log_prob[node], '.2f')}" + (
            f", rank {trace.rank[node]}" if is_pruned else ""
        )
        place[tokens] = len(boxes)
        boxes.append((tokens[:-1], names.get(tokens[-1], str(tokens[-1])), note, is_pruned))
    last = list(prefixes.values())[-1]
    for prefix in last:
        if prefix not in place:
            note = f"{decimals(upto[len(prefix) - 1], '.2f')}" if len(prefix) <= len(upto) else ""
            place[prefix] = len(boxes)
            boxes.append((prefix[:-1], names.get(prefix[-1], str(prefix[-1])), note, True))
    end = min(
        lost, len(list(paths.values())[-1])
    )  # a complete sequence can lose its place later than it ends
    mark = "lost here" if end == lost else f"lost at step {lost}"
    is_marked = end in window and (until is None or until >= lost)
    above, labels, notes, faint = zip(*boxes, strict=True)
    more = {t: int((trace.step[nodes] == t).sum() - (trace.step[shown] == t).sum()) for t in window}
    columns = [
        "",
        *(f"step {t}" + (f" ({count} more)" if count else "") for t, count in more.items()),
    ]
    if window and window[-1] < longest:
        columns[-1] += f", {longest - window[-1]} steps after"
    return tree(
        np.array([-1, *(place.get(prefix, 0) for prefix in above[1:])]),
        labels,
        [note.replace("-", "−") for note in notes],
        title=title,
        faint=faint,
        paths={name: [0, *(place[prefix] for prefix in path)] for name, path in prefixes.items()},
        marks={place[last[end - first]]: mark} if is_marked else {},
        columns=columns,
        hidden=[False, *(until is not None and len(prefix) > until for prefix in place)],
    )


def _choose(trace: Trace, nodes: np.ndarray, wanted: set[int], per_step: int) -> list[int]:
    """The nodes to draw: those wanted and each step's best, if their parents are drawn; in the order of the trace."""
    shown: list[int] = []
    for t in np.unique(trace.step[nodes]):
        level = nodes[trace.step[nodes] == t]
        level = level[np.argsort(trace.rank[level], kind="stable")]
        if shown:  # else it is the first step that is drawn
            level = level[np.isin(trace.parent[level], shown)]
        shown += [
            node for place, node in enumerate(level.tolist()) if place < per_step or node in wanted
        ]
    return shown
