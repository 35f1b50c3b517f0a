"""The step and the rank at which a beam search lost a sequence, and the width that would have kept it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from leadline.decoding.models._problem import Model, Problem, select
from leadline.decoding.search._beam import BeamSearch, BeamSettings
from leadline.decoding.search._candidates import Reader
from leadline.decoding.search._trace import Fate, Node, Trace


def where_lost(
    problem: Problem,
    trace: Trace,
    settings: BeamSettings,
    target: tuple[int, ...],
    may_run: bool,
) -> tuple[int, int]:
    """Step and rank at which the target was first missing from the beam; a rank may need the model."""
    score, width = settings.score, settings.width
    held: list[
        tuple[float, tuple[int, ...]]
    ] = []  # complete hypotheses that keep their places ("in_beam"), best first
    for t in range(1, int(trace.step.max(initial=0)) + 1):
        nodes = trace.candidates(t)
        keys = np.array([score(node.log_prob, t) for node in nodes])
        places = [place + int((keys > key).sum()) + 1 for place, (key, _) in enumerate(held)]
        if t <= len(target):
            node = next((node for node in nodes if node.tokens == target[:t]), None)
            if node is None or node.fate is Fate.PRUNED:
                # Each hypothesis' best width + end tokens + 1 are known: ranks further behind may be too good.
                if node is not None and node.rank <= width + len(settings.eos) + 1:
                    return t, node.rank
                rank = (
                    _rank(problem, trace.beam(t - 1), target[:t], settings.normalize)
                    if may_run
                    else None
                )
                return t, 0 if rank is None else rank[0] + sum(
                    key >= score(rank[1], t) for key, _ in held
                )
        for place, (_, tokens) in zip(places, held, strict=True):
            if tokens == target and place > width:
                return t, place
        if settings.eos_mode == "in_beam":
            held = [one for place, one in zip(places, held, strict=True) if place <= width]
            held += [
                (key, n.tokens)
                for key, n in zip(keys, nodes, strict=True)
                if n.fate is Fate.FINISHED
            ]
            held.sort(key=lambda one: -one[0])
    return 0, 0


def _rank(
    problem: Problem, beam: Sequence[Node], prefix: tuple[int, ...], normalize: bool | None
) -> tuple[int, float] | None:
    """Rank and log-probability of a candidate by the model's scores for the whole beam; none without its parent."""
    parents = [(node.tokens, node.log_prob) for node in beam if node.fate is Fate.KEPT]
    if len(prefix) == 1:
        parents = [((), 0.0)]
    tokens_of = [tokens for tokens, _ in parents]
    if prefix[:-1] not in tokens_of:
        return None
    model = Model(problem, normalize)
    scores, state = model(model.start, model.state)
    state = select(state, model.start.new_zeros(len(parents)))
    for tokens in zip(*tokens_of, strict=True):
        scores, state = model(model.start.new_tensor(tokens), state)
    total = Reader(model.are_logits).all(scores).cpu().numpy() + np.array(
        [[upto] for _, upto in parents]
    )
    row, token = tokens_of.index(prefix[:-1]), prefix[-1]
    own = total[row, token]
    ahead = (total > own).sum() + (total[:row] == own).sum() + (total[row, :token] == own).sum()
    return 1 + int(ahead), float(own)


def width_for(
    problem: Problem, target: Sequence[int], widths: Sequence[int], settings: BeamSettings
) -> int:
    """The smallest width that returns the target. It is not monotone: a wider beam may lose what a narrow one kept."""
    for width in widths:
        found = BeamSearch(problem, replace(settings, width=width)).run().hypotheses()
        if found and found[0].tokens == tuple(target):
            return width
    return 0
