"""The step and the rank of a loss in beam search, and the width that avoids it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from leadline.decoding.answers._trace import Fate, Node, Trace
from leadline.decoding.problem._model import Model
from leadline.decoding.problem._problem import Problem
from leadline.decoding.problem._reader import Reader
from leadline.decoding.problem._state import select
from leadline.decoding.search.beam._beam_settings import BeamSettings
from leadline.decoding.search.beam._run import BeamSearch


def where_lost(
    problem: Problem,
    trace: Trace,
    settings: BeamSettings,
    target: tuple[int, ...],
    may_run: bool,
) -> tuple[int, int]:
    """Return the step and the rank at which ``target`` was first missing from the beam.

    Args:
        problem: the problem of one item.
        trace: the trace of its beam search.
        settings: the settings of that search.
        target: the tokens that were lost.
        may_run: True if the model may be called for a rank that the trace does not contain.

    Returns:
        The step and the rank; 0 if unknown.
    """
    completed: list[_Completed] = []
    for t in range(1, int(trace.step.max(initial=0)) + 1):
        nodes = trace.candidates(t)
        keys = np.array([settings.score(node.log_prob, t) for node in nodes])
        ranks = [
            place + int((keys > hypothesis.key).sum())
            for place, hypothesis in enumerate(completed, 1)
        ]
        if t <= len(target):
            node = next((node for node in nodes if node.tokens == target[:t]), None)
            if node is None or node.fate is Fate.PRUNED:
                # The trace contains the best candidates of each hypothesis only. A rank beyond
                # their number may be too good.
                if node is not None and node.rank <= settings.width + len(settings.eos) + 1:
                    return t, node.rank
                if not may_run:
                    return t, 0
                return t, _rank(problem, trace.beam(t - 1), target[:t], settings, completed)
        for rank, hypothesis in zip(ranks, completed, strict=True):
            if hypothesis.tokens == target and rank > settings.width:
                return t, rank
        if settings.eos_mode == "in_beam":
            ranked = zip(ranks, completed, strict=True)
            completed = [hypothesis for rank, hypothesis in ranked if rank <= settings.width]
            for key, node in zip(keys, nodes, strict=True):
                if node.fate is Fate.FINISHED:
                    completed.append(_Completed(key, node.tokens))
            completed.sort(key=lambda hypothesis: -hypothesis.key)
    return 0, 0


class _Completed(NamedTuple):
    """A complete hypothesis that keeps its place in the beam (``eos_mode="in_beam"``)."""

    key: float
    """Its score."""
    tokens: tuple[int, ...]


def _rank(
    problem: Problem,
    beam: Sequence[Node],
    prefix: tuple[int, ...],
    settings: BeamSettings,
    completed: Sequence[_Completed],
) -> int:
    """Return the rank of a candidate by the model's scores; 0 if its parent is not in the beam."""
    parents = [(node.tokens, node.log_prob) for node in beam if node.fate is Fate.KEPT]
    if len(prefix) == 1:
        parents = [((), 0.0)]
    prefixes = [tokens for tokens, _ in parents]
    if prefix[:-1] not in prefixes:
        return 0
    model = Model(problem, settings.normalize)
    scores, state = model(model.start, model.state)
    state = select(state, model.start.new_zeros(len(parents)))
    for tokens in zip(*prefixes, strict=True):
        scores, state = model(model.start.new_tensor(tokens), state)
    log_prob_of_parents = np.array([[log_prob] for _, log_prob in parents])
    total = Reader(model.are_logits).all(scores).cpu().numpy() + log_prob_of_parents
    row = prefixes.index(prefix[:-1])
    token = prefix[-1]
    total_of_target = total[row, token]
    # Ties go to the better parent, then to the lower token.
    num_ahead = (total > total_of_target).sum()
    num_ahead += (total[:row] == total_of_target).sum()
    num_ahead += (total[row, :token] == total_of_target).sum()
    key_of_target = settings.score(float(total_of_target), len(prefix))
    num_completed = sum(hypothesis.key >= key_of_target for hypothesis in completed)
    return 1 + int(num_ahead) + num_completed


def width_for(
    problem: Problem, target: Sequence[int], widths: Sequence[int], settings: BeamSettings
) -> int:
    """Return the smallest of some widths whose beam search returns ``target``; 0 if there is none.

    A wider beam may lose what a narrower beam returns, so that every width is tried.
    """
    for width in widths:
        best = BeamSearch(problem, replace(settings, width=width)).run().hypotheses()
        if best and best[0].tokens == tuple(target):
            return width
    return 0
