"""The function :func:`audit`: exact search, comparison, and the explanation of a loss."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline import checks
from leadline.checks import items, shown
from leadline.decoding.answers._decoded import Decoded, Hypothesis
from leadline.decoding.answers._earlier_answer import audited_answer, is_within
from leadline.decoding.answers._rescoring import (
    ROUNDING_OF_SCORES,
    is_close,
    margin,
    token_log_probs,
)
from leadline.decoding.answers._settings import SearchSettings
from leadline.decoding.answers._trace import Trace
from leadline.decoding.judging._audit import Blame, Finding, SearchAudit
from leadline.decoding.judging._lost_step import where_lost, width_for
from leadline.decoding.problem._arguments import count
from leadline.decoding.problem._model import Model
from leadline.decoding.problem._problem import Problem, Step, check_start
from leadline.decoding.problem._state import select
from leadline.decoding.search.beam._beam_settings import BeamSettings
from leadline.decoding.search.beam._run import BeamSearch
from leadline.decoding.search.exact._exact import ExactSearch
from leadline.decoding.search.exact._exact_settings import ExactSettings
from leadline.errors import InputError
from leadline.sounding import Protocol


def audit(
    step: Step,
    state: Any,
    start: Tensor,
    decoded: Decoded,
    *,
    max_calls: int | None = None,
    max_width: int = 64,
    tolerance: float = ROUNDING_OF_SCORES,
    reference: Sequence[Sequence[int]] | None = None,
) -> SearchAudit:
    """Find the best sequence by exact search, and explain where an earlier search lost it.

    Args:
        step: the step function that was searched.
        state: its state after the prompts, B rows.
        start: the last token of each prompt, shape (B,), int64.
        decoded: the answer to audit. The step, the rank and the width of a loss are found for beam
            search and greedy search.
        max_calls: the largest number of calls of exact search for each item, at least 1. The
            explanation of its loss may take as many calls again. A number that needs more calls
            is 0, which means unknown. ``None`` for no limit.
        max_width: the largest width to try, at least 1.
        tolerance: relative difference of scores that counts as a tie, at least 0. A difference
            within the measured noise is a tie, too.
        reference: per item, the tokens that should have been returned, including the end token. An
            item is blamed on the search if its reference scores more than its answer, and on the
            model otherwise.

    Returns:
        Per item: whether the answer is optimal, and if not, the step, the rank and the width.

    Raises:
        InputError: ``decoded`` is a sample or belongs to another problem; a reference is not a
            complete sequence; or as :func:`exact_search`.

    >>> from leadline import decoding
    >>> rows = {(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}}
    >>> table = decoding.Table(rows)
    >>> answer = decoding.greedy(*table.problem(), max_length=2)
    >>> result = decoding.audit(*table.problem(), answer)
    >>> result.outcome, result.lost_step.tolist(), result.width.tolist()
    (('search error',), [1], [2])
    """
    decoded = _check_decoded(step, decoded)
    check_start(start)
    max_calls = checks.optional_whole_number(max_calls, "max_calls", least=1)
    max_width = count(max_width, "max_width")
    tolerance = checks.number(tolerance, "tolerance", least=0)
    settings = decoded.settings
    references = None if reference is None else _check_reference(reference, settings, len(start))
    exact = ExactSettings(
        max_length=settings.max_length,
        eos=settings.eos,
        normalize=settings.normalize,
        score=settings.score_or_default,
        max_calls=max_calls,
    )
    whole_problem = Problem(step, state, start)
    optimum = ExactSearch(whole_problem, exact, audited_answer(decoded)).run()
    judge = _Judge(whole_problem, decoded, optimum, tolerance)
    is_recognised = is_within(whole_problem, decoded, max_calls)
    outcome: list[Finding] = []
    losses: list[_Loss] = []
    for item in range(len(start)):
        # A run is a search of the item, which takes at most max_length calls.
        num_runs = np.inf if max_calls is None else max_calls // settings.max_length
        finding = judge.finding(item, may_run=num_runs > 0) if is_recognised else "unresolved"
        num_runs -= judge.num_runs[item]
        outcome.append(finding)
        is_traced = finding == "search error" or len(start) == 1
        if not is_traced or num_runs < 1:
            losses.append(_Loss())
            continue
        row = torch.tensor([item], device=start.device)
        problem = Problem(step, select(state, row), start[row])
        target = None
        if finding == "search error":
            target = optimum.hypotheses(item)[0].tokens
        losses.append(_explain(problem, settings, target, num_runs, max_width))
    protocol = {
        **settings.as_mapping(),
        "max_calls": max_calls,
        "max_width": max_width,
        "tolerance": tolerance,
    }
    return SearchAudit(
        protocol=Protocol(protocol),
        decoded=decoded,
        optimum=optimum,
        outcome=tuple(outcome),
        lost_step=np.array([loss.step for loss in losses], dtype=np.int64),
        lost_rank=np.array([loss.rank for loss in losses], dtype=np.int64),
        width=np.array([loss.width for loss in losses], dtype=np.int64),
        blame=() if references is None else judge.blame(references),
        traces=tuple(loss.trace for loss in losses),
        noise=tuple(judge.noise),
        tolerance=tolerance,
        is_tied=tuple(judge.is_tied),
    )


@dataclass(frozen=True)
class _Loss:
    """The explanation of one item; 0 and ``None`` mean unknown."""

    trace: Trace | None = None
    step: int = 0
    rank: int = 0
    width: int = 0


def _explain(
    problem: Problem,
    settings: SearchSettings,
    target: tuple[int, ...] | None,
    num_runs: float,
    max_width: int,
) -> _Loss:
    """Repeat a beam search with a trace, and find where it lost ``target``.

    Args:
        problem: the problem of one item.
        settings: the settings of the audited search.
        target: the tokens that were lost; ``None`` if none were.
        num_runs: the number of searches that the budget allows, at least 1.
        max_width: the largest width to try.
    """
    beam = settings.as_beam()
    if not isinstance(beam, BeamSettings):
        return _Loss()
    traced = BeamSearch(problem, beam, is_traced=True).run()
    if target is None or traced.trace is None:
        return _Loss(traced.trace)
    step, rank = where_lost(problem, traced.trace, beam, target, may_run=num_runs > 1)
    widths = [width for width in range(1, max_width + 1) if width != beam.width]
    most_tried = int(max(0, min(num_runs - 2, max_width)))
    width = width_for(problem, target, widths[:most_tried], beam)
    return _Loss(traced.trace, step, rank, width)


def _check_decoded(step: Any, decoded: Any) -> Decoded:
    """Return the answer; refuse samples, foreign results, and arguments in another order."""
    rule = "audit() needs a problem and the result of a search: audit(*problem, decoded)"
    cure = "decoded = decoding.beam_search(*problem, ...)"
    if isinstance(step, Decoded):
        raise InputError(rule, got="the result of a search as the step function", cure=cure)
    if not isinstance(decoded, Decoded):
        is_generated = hasattr(decoded, "sequences")
        raise InputError(
            rule,
            got=f"decoded = {shown(decoded)}",
            cause="the output of generate() is not the result of a search"
            if is_generated
            else None,
            cure=cure,
        )
    if decoded.settings.is_sampling:
        raise InputError(
            "audit() needs the result of a search; sample() draws at random",
            got=f"an answer by {decoded.settings.name}",
            cure="exact_search(..., at_least=sample) returns the best sequence",
        )
    return decoded


def _check_reference(reference: Any, settings: SearchSettings, batch: int) -> list[tuple[int, ...]]:
    """Return the references as tuples; refuse sequences that are not complete."""
    sequences = items(reference, "reference", of="sequences, one for each item")
    if len(sequences) != batch:
        raise InputError(
            "reference must hold one sequence of one token or more for each item",
            got=f"{len(sequences)} sequences for {batch} items",
        )
    references = []
    for item, sequence in enumerate(sequences):
        tokens = checks.whole_numbers(sequence, f"reference[{item}]", least=0)
        references.append(tokens)
        ends = [
            length
            for length, token in enumerate(tokens, 1)
            if token in settings.eos or length == settings.max_length
        ]
        if ends[:1] != [len(tokens)]:
            raise InputError(
                f"reference[{item}] must be complete: only its last token is an end token, "
                f"or token number {settings.max_length} (max_length)",
                got=f"{list(tokens)} for item {item}, end tokens {list(settings.eos)}",
                cause="it goes on after its end" if ends else "the end token was left out",
            )
    return references


@dataclass
class _Judge:
    """Comparison of the answers with the optima.

    Sequences are compared by their tokens first, then by their scores. Close scores are compared
    again in one batch, because scores of different batches differ by rounding.
    """

    problem: Problem
    decoded: Decoded
    optimum: Decoded
    tolerance: float
    noise: list[float] = field(init=False)
    """Per item: the measured noise of the scores."""
    is_tied: list[bool] = field(init=False)
    """Per item: True if answer and optimum tie."""
    num_runs: list[int] = field(init=False)
    """Per item: the number of passes over the model that the comparison took."""

    def __post_init__(self):
        batch = len(self.problem.start)
        self.settings = self.decoded.settings
        self.score = self.settings.score_or_default
        self.noise = [0.0] * batch
        self.is_tied = [False] * batch
        self.num_runs = [0] * batch

    def finding(self, item: int, may_run: bool) -> Finding:
        """Compare the answer to one item with the optimum.

        Args:
            item: index of the prompt.
            may_run: True if the budget allows a pass over the model.
        """
        answer = self.decoded.hypotheses(item, 1)
        best = self.optimum.hypotheses(item, 1)
        is_proved = self.optimum.certificate.outcome[item] in ("OPTIMAL", "NO_SEQUENCE")
        if best and not answer:
            return "search error"
        if best and best[0].tokens != answer[0].tokens and best[0].score > answer[0].score:
            is_measured = may_run or not is_close(best[0].score, answer[0].score)
            if self._is_ahead(item, best[0], answer[0], may_run):
                return "search error" if is_measured else "unresolved"
            self.is_tied[item] = True
        return "optimal" if is_proved else "unresolved"

    def _is_ahead(self, item: int, best: Hypothesis, answer: Hypothesis, may_run: bool) -> bool:
        """True if ``best`` scores more than ``answer`` by more than noise and tolerance."""
        lead = best.score - answer.score
        noise = 0.0
        if may_run and is_close(best.score, answer.score):
            better = (best.tokens, best.score)
            other = (answer.tokens, answer.score)
            lead, noise = margin(self._model(), item, better, other, self.score)
            self.num_runs[item] = 1
            self.noise[item] = noise
        return lead > max(noise, self.tolerance * (1 + abs(answer.score)))

    def blame(self, references: Sequence[tuple[int, ...]]) -> tuple[Blame, ...]:
        """Blame the search for each reference that scores more than the answer, else the model."""
        model = self._model()
        return tuple(self._blame(model, item, tokens) for item, tokens in enumerate(references))

    def _blame(self, model: Model, item: int, tokens: tuple[int, ...]) -> Blame:
        answer = self.decoded.hypotheses(item, 1)
        if answer and answer[0].tokens == tokens:
            return "none"
        sequences = [tokens, *(hypothesis.tokens for hypothesis in answer)]
        log_probs = token_log_probs(model, [item] * len(sequences), sequences, what="reference")
        scores = [float(self.score(log_prob.sum(), len(log_prob))) for log_prob in log_probs]
        if not answer:
            return "search"
        noise = max(abs(scores[1] - answer[0].score), self.tolerance * (1 + abs(scores[1])))
        return "search" if scores[0] - scores[1] > noise else "model"

    def _model(self) -> Model:
        return Model(self.problem, self.settings.normalize)
