"""Was the answer the most likely sequence? If not: where was it lost, and which width would have kept it?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from leadline import checks
from leadline.checks import items, shown
from leadline.decoding.judging._earlier_answer import audited, is_within
from leadline.decoding.judging._lost_step import where_lost, width_for
from leadline.decoding.judging._rescoring import SAME, is_close, margin, token_log_probs
from leadline.decoding.models._problem import Model, Problem, Step, check_start, select
from leadline.decoding.search._beam import BeamSearch
from leadline.decoding.search._decoded import Decoded, Hypothesis, as_clause, item_of
from leadline.decoding.search._exact import ExactSearch, ExactSettings
from leadline.decoding.search._scores import SumLogProb
from leadline.decoding.search._settings import SearchSettings, count
from leadline.decoding.search._trace import Trace
from leadline.decoding.search._tree_drawing import tree_drawing
from leadline.errors import InputError
from leadline.figures import Drawing
from leadline.sounding import Protocol, Sounding, Verdict, decimals
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

Finding = Literal["optimal", "search error", "unresolved"]
Blame = Literal["none", "search", "model"]

SAID = 4
"""Hypotheses of a beam that a verdict spells out."""


@record("decoding.SearchAudit")
@dataclass(frozen=True, eq=False)
class SearchAudit(Sounding):
    """Whether each answer of a search was the best there is, and what became of the best where it was not."""

    decoded: Decoded
    """What was audited."""
    optimum: Decoded
    """What exact search found, with its certificate."""
    outcome: tuple[Finding, ...]
    """Per item; ``unresolved`` where the budget ran out before either was shown."""
    lost_step: np.ndarray
    """Shape (B,). The step after which the optimum's prefix was no longer in the beam; 0 where none was lost. With
    ``eos_mode="in_beam"`` it may come after the optimum's end: complete hypotheses can lose their places."""
    lost_rank: np.ndarray
    """Shape (B,). Its rank among that step's candidates; 0 where unknown."""
    width: np.ndarray
    """Shape (B,). The smallest width whose beam search returns the optimum; 0 where unknown."""
    blame: tuple[Blame, ...]
    """Per item, where a reference was given: ``none`` (it was returned), ``search`` or ``model``."""
    traces: tuple[Trace | None, ...]
    """The audited search of each item with an error, run again with its trace."""
    noise: tuple[float, ...] = ()
    """Per item: how far the scores of answer and optimum moved when both were scored again side by side; 0 where they
    were not, as they are the same sequence or far apart."""
    tolerance: float = SAME
    """Relative difference of two scores that counts as a tie."""
    is_tied: tuple[bool, ...] = ()
    """Per item: answer and optimum are different sequences whose scores differ by no more than the noise."""

    def praise(self, item: int = 0) -> str:
        """What is known of the sequence that exact search found: it is the most likely, or the best by another score;
        or a better one than the answer, where the budget ran out before more was proved."""
        item = item_of(item, len(self.outcome))
        if self.optimum.certificate.outcome[item] == "GAP":
            return "a better"
        return (
            "the most likely"
            if self.optimum.settings.score_or_default == SumLogProb()
            else "the best"
        )

    def _is_proved(self) -> bool:
        return self.optimum.certificate.outcome[0] in ("OPTIMAL", "NO_SEQUENCE")

    def _open(self) -> str:
        gap = self.optimum.certificate.gap[0]
        search = self.decoded.settings.name
        same = self.is_tied[:1] == (True,) or _first_tokens(self.decoded) == _first_tokens(
            self.optimum
        )
        if not same or not np.isfinite(gap):
            return f"the budget ran out before the answer of {search} was compared with any bound"
        return f"the budget ran out: the answer of {search} is at most {gap:.3g} nats from the best"

    @property
    def verdict(self) -> Verdict:
        """The finding for one prompt, or the counts for many."""
        finding = self._finding()
        return Verdict(
            finding.sentence
            + as_clause(tuple(dict.fromkeys((*self.decoded.notes, *self.optimum.notes))))
        )

    def _finding(self) -> Verdict:
        search, B = self.decoded.settings.name, len(self.outcome)
        if B > 1:
            counts = ", ".join(
                f"{self.outcome.count(name)} {name}"
                for name in ("optimal", "search error", "unresolved")
            )
            return Verdict(f"{search} on {B} prompts: {counts}")
        answer, optimum = _say(self.decoded), _say(self.optimum)
        if self.optimum.certificate.outcome[0] == "NO_SEQUENCE":
            return Verdict(
                f"{search} was right to return nothing: no sequence has a probability above zero"
            )
        if self.is_tied and self.is_tied[0]:
            return Verdict(f"{search} returned “{answer}”, {self._tie(optimum)}")
        if self.outcome[0] == "optimal":
            return Verdict(f"{search} returned {self.praise()} sequence, “{answer}”")
        if self.outcome[0] == "unresolved":
            return Verdict(self._open())
        where = f", lost at step {self.lost_step[0]}" if self.lost_step[0] else ""
        where += f" at rank {self.lost_rank[0]}" if self.lost_rank[0] else ""
        keeps = f"; width {self.width[0]} keeps it" if self.width[0] else ""
        praise = self.praise() + (" one" if self.praise() == "a better" else "")
        returned = f"“{answer}”" if self.decoded.hypotheses() else "nothing"
        return Verdict(f"{search} returned {returned}; {praise} is “{optimum}”{where}{keeps}")

    def _tie(self, optimum: str) -> str:
        """What is said of an answer that is not the optimum, and as good up to the noise or the given tolerance."""
        score = self.decoded.hypotheses()[0].score
        lead = self.optimum.hypotheses()[0].score - score
        tolerance = self.tolerance
        allowed = max(self.noise[0], tolerance * (1 + abs(score)))
        rest = "no sequence is known to be better" if self._is_proved() else self._open()
        if tolerance <= SAME or self.noise[0] >= lead:
            return f"which ties with “{optimum}” within the noise of {allowed:.1g}; {rest}"
        rest = "no sequence is better by more" if self._is_proved() else self._open()
        return (
            f"which is {lead:.3g} behind “{optimum}”, within the tolerance of {allowed:.3g}; {rest}"
        )

    def table(self) -> "pd.DataFrame":
        """One row per prompt; scores in nats (or in the units of the score)."""
        import pandas as pd

        answer, answer_score = _best(self.decoded)
        optimum, optimum_score = _best(self.optimum)
        return pd.DataFrame(
            {
                "item": range(len(self.outcome)),
                "outcome": self.outcome,
                "answer": answer,
                "answer_score": answer_score,
                "optimum": optimum,
                "optimum_score": optimum_score,
                "lost_step": self.lost_step,
                "lost_rank": self.lost_rank,
                "width": self.width,
                "noise": self.noise or 0.0,
            }
        )

    def at(self, step: int, item: int = 0) -> "Walk":
        """The search of one item as it stood after a step; 0 is its start.

        Raises:
            InputError: there is no such step, or that item's search was not run again with its trace.
        """
        item = item_of(item, len(self.outcome))
        trace = self.traces[item]
        if trace is None:
            raise InputError(
                "a walk needs the trace of its search",
                got=f"item {item} was not searched again",
                cause="it had no search error among several items, or the budget of calls is smaller than one search",
                cure="audit the item alone, or with more max_calls",
            )
        steps = int(trace.step.max(initial=0))
        step = checks.whole_number(step, "step")
        if not 0 <= step <= steps:
            raise InputError(f"this search has steps 0 to {steps}", got=f"step = {step}")
        return Walk(self.protocol, self, step, item)

    def drawing(self, item: int = 0, until: int | None = None) -> Drawing:
        """Return the search tree of one item, with the optimum and the step that lost it.

        Args:
            item: number of the prompt, from 0.
            until: last step to draw; all steps, if left out.
        """
        item = item_of(item, len(self.outcome))
        trace = self.traces[item]
        if trace is None:
            return self.decoded.drawing(item)
        answer = self.decoded.hypotheses(item)
        paths = {"the search's answer": answer[0].tokens if answer else ()}
        best = f"{self.praise(item)} sequence"
        lost_step = int(self.lost_step[item])
        title = "What the beam kept, and what it pruned"
        if self.outcome[item] == "optimal":
            title = f"The answer is {best}"
        elif self.outcome[item] == "search error":
            paths[best] = self.optimum.hypotheses(item)[0].tokens
            rank = f", at rank {self.lost_rank[item]}" if self.lost_rank[item] else ""
            title = f"{best[0].upper()}{best[1:]} left the beam at step {lost_step}{rank}"
        sums: list[float] = []
        if self.optimum.lengths[item].any():
            sums = self.optimum.token_log_prob[item, 0].cumsum().tolist()
        # Each trace contains its own item alone, as item 0.
        return tree_drawing(
            trace,
            0,
            paths,
            title=title,
            lost=lost_step,
            log_probs=sums,
            until=until,
            names=self.optimum.names,
        )


@record("decoding.Walk")
@dataclass(frozen=True, eq=False)
class Walk(Sounding):
    """The search of one item as it stood after one of its steps."""

    audit: SearchAudit
    step: int
    """0: before the first."""
    item: int

    @property
    def trace(self) -> Trace:
        """Of the whole search, of this item alone."""
        trace = self.audit.traces[self.item]
        assert trace is not None  # at() has made sure
        return trace

    @property
    def steps(self) -> int:
        """Steps of the whole search."""
        return int(self.trace.step.max(initial=0))

    @property
    def verdict(self) -> Verdict:
        """What the beam holds, and what has become of the most likely sequence; at the end, the audit's verdict."""
        if self.step == 0:
            return Verdict(
                f"before the first of {self.steps} steps, the beam holds the start alone"
            )
        beam = self.trace.beam(self.step)
        held = ", ".join(
            f"“{' '.join(node.words)}” ({decimals(node.log_prob, '.2f')})" for node in beam[:SAID]
        )
        held += f" and {len(beam) - SAID} more" if len(beam) > SAID else ""
        pruned = len(self.trace.candidates(self.step)) - len(beam)
        said = f"after step {self.step} of {self.steps}, the beam holds {held or 'nothing'}; {pruned} pruned"
        return Verdict(said + self._loss())

    def _loss(self) -> str:
        if self.step == self.steps and len(self.audit.outcome) == 1:
            return f"; {self.audit.verdict}"
        lost = int(self.audit.lost_step[self.item])
        if not 0 < lost <= self.step:
            return ""
        best = f"{self.audit.praise(self.item)} sequence"
        if lost < self.step:
            return f"; {best} was lost at step {lost}"
        rank = int(self.audit.lost_rank[self.item])
        prefix = " ".join(self.audit.optimum.hypotheses(self.item)[0].words[:lost])
        return f"; {best}, which begins with “{prefix}”, is lost here" + (
            f" at rank {rank}" if rank else ""
        )

    def table(self) -> "pd.DataFrame":
        """One row per candidate that was considered so far; ``log_prob`` in nats."""
        table = self.trace.table()
        return table[table["step"] <= self.step].assign(item=self.item)

    def drawing(self) -> Drawing:
        """Return the search tree so far; each node stands where the whole tree has it."""
        return self.audit.drawing(self.item, self.step)


def audit(
    step: Step,
    state: Any,
    start: Tensor,
    decoded: Decoded,
    *,
    max_calls: int | None = None,
    max_width: int = 64,
    tolerance: float = SAME,
    reference: Sequence[Sequence[int]] | None = None,
) -> SearchAudit:
    """Search exactly from the answer of an earlier search upward, and explain what that search missed.

    Args:
        step: the step function that was searched.
        state: its state at the end of the prompts.
        start: the last token of each prompt, shape (B,), int64.
        decoded: the answer to audit; its settings say how it was found. Step, rank and width are those of beam search
            and greedy search.
        max_calls: budget of calls for the exact search of each item, and again for the searches that are run to find
            where the optimum was lost and which width keeps it. What it does not reach is 0: unknown.
        max_width: widths that are tried when looking for one that returns the optimum.
        tolerance: relative difference of scores that counts as none, at least 0. The measured noise counts as none too.
        reference: per item, the tokens that should have been returned, end token included. Each is then charged to
            the search (it scores more than the answer) or to the model (it does not).

    Returns:
        Per item: is the answer the optimum; if not, the step, the rank and the width.

    Raises:
        InputError: the answer is a sample, or to other prompts; a reference is not a complete sequence; or as
            :func:`~leadline.decoding.search._exact.exact_search`.

    >>> from leadline import decoding
    >>> table = decoding.Table({(): {"a": -0.6, "b": -0.8}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": -0.1}})
    >>> print(decoding.audit(*table.problem(), decoding.greedy(*table.problem(), max_length=2)))
    greedy search returned “a a”; the most likely is “b a”, lost at step 1 at rank 2; width 2 keeps it
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
    whole = Problem(step, state, start)
    optimum = ExactSearch(whole, exact, audited(decoded)).run()
    judge = _Judge(whole, decoded, optimum, tolerance)
    is_recognised = is_within(whole, decoded, max_calls)
    found: list[Finding] = []
    lost = np.zeros((3, len(start)), dtype=np.int64)
    traces: list[Trace | None] = []
    for item in range(len(start)):
        runs = np.inf if max_calls is None else max_calls // settings.max_length
        found.append(judge.finding(item, may_run=runs > 0) if is_recognised else "unresolved")
        runs -= judge.runs[item]
        one = torch.tensor([item], device=start.device)
        problem = Problem(step, select(state, one), start[one])
        traces.append(None)
        beam = settings.as_beam()
        if beam is None or (found[item] != "search error" and len(start) > 1):
            continue
        if runs < 1:
            continue
        again = BeamSearch(problem, beam, is_traced=True).run()
        traces[-1] = again.trace
        if found[item] == "search error" and again.trace is not None:
            target = optimum.hypotheses(item)[0].tokens
            lost[:2, item] = where_lost(problem, again.trace, beam, target, may_run=runs > 1)
            widths = [w for w in range(1, max_width + 1) if w != beam.width]
            lost[2, item] = width_for(
                problem, target, widths[: int(max(0, min(runs - 2, max_width)))], beam
            )
    return SearchAudit(
        protocol=Protocol(
            {
                **settings.as_mapping(),
                "max_calls": max_calls,
                "max_width": max_width,
                "tolerance": tolerance,
            }
        ),
        decoded=decoded,
        optimum=optimum,
        outcome=tuple(found),
        lost_step=lost[0],
        lost_rank=lost[1],
        width=lost[2],
        blame=() if references is None else judge.blame(references),
        traces=tuple(traces),
        noise=tuple(judge.noise),
        tolerance=tolerance,
        is_tied=tuple(judge.is_tied),
    )


def _check_decoded(step: Any, decoded: Any) -> Decoded:
    """The answer of a search; arguments in another order are named."""
    is_swapped = isinstance(step, Decoded)
    if is_swapped or not isinstance(decoded, Decoded):
        raise InputError(
            "audit() needs a problem and the result of a search: audit(*problem, decoded)",
            got=f"decoded = {shown(decoded)}"
            if not is_swapped
            else "the result of a search as the step function",
            cause="the output of generate() is not the result of a search"
            if hasattr(decoded, "sequences")
            else None,
            cure="decoded = decoding.beam_search(*problem, ...)",
        )
    if decoded.settings.is_sampling:
        raise InputError(
            "an audit asks what a search has missed, and a sample is not searched for",
            got=f"an answer by {decoded.settings.name}",
            cure="exact_search(..., at_least=sample) tells the best sequence, if it is not among the sample",
        )
    return decoded


def _check_reference(reference: Any, settings: SearchSettings, batch: int) -> list[tuple[int, ...]]:
    sequences = items(reference, "reference", of="sequences, one for each item")
    if len(sequences) != batch:
        raise InputError(
            "a reference has one sequence of one token or more for each item",
            got=f"{len(sequences)} sequences for {batch} items",
        )
    found = []
    for item, sequence in enumerate(sequences):
        tokens = checks.whole_numbers(sequence, f"reference[{item}]", least=0)
        found.append(tokens)
        ends = [
            t
            for t, token in enumerate(tokens, 1)
            if token in settings.eos or t == settings.max_length
        ]
        if ends[:1] != [len(tokens)]:
            raise InputError(
                f"a reference is complete: its last token, and no other, is an end token or token number "
                f"{settings.max_length} (max_length)",
                got=f"{list(tokens)} for item {item}, end tokens {list(settings.eos)}",
                cause="the end token was left out" if not ends else "it goes on behind its end",
            )
    return found


class _Judge:
    """Compares sequences: by their tokens first, then by scores, and by scores of one batch where these are close."""

    def __init__(self, problem: Problem, decoded: Decoded, optimum: Decoded, tolerance: float):
        self.problem, self.decoded, self.optimum, self.tolerance = (
            problem,
            decoded,
            optimum,
            tolerance,
        )
        self.settings = decoded.settings
        self.score = self.settings.score_or_default
        batch = len(problem.start)
        self.noise = [0.0] * batch
        self.is_tied = [False] * batch
        self.runs = [0] * batch
        """Per item: passes over the model that were needed to compare."""

    def finding(self, item: int, may_run: bool) -> Finding:
        """Is the answer to one item the optimum?"""
        answer = self.decoded.hypotheses(item, 1)
        best = self.optimum.hypotheses(item, 1)
        is_proved = self.optimum.certificate.outcome[item] in ("OPTIMAL", "NO_SEQUENCE")
        if best and not answer:
            return "search error"
        if best and best[0].tokens != answer[0].tokens and best[0].score > answer[0].score:
            is_measured = not is_close(best[0].score, answer[0].score) or may_run
            ahead = self._ahead(item, best[0], answer[0], may_run)
            if ahead:
                return "search error" if is_measured else "unresolved"
            self.is_tied[item] = True
        return "optimal" if is_proved else "unresolved"

    def _ahead(self, item: int, best: Hypothesis, answer: Hypothesis, may_run: bool) -> bool:
        """True if one sequence scores more than the other by more than the noise."""
        lead, noise = best.score - answer.score, 0.0
        if may_run and is_close(best.score, answer.score):
            pair = ((best.tokens, best.score), (answer.tokens, answer.score))
            lead, noise = margin(self._model(), item, *pair, self.score)
            self.runs[item] = 1
            self.noise[item] = noise
        return lead > max(noise, self.tolerance * (1 + abs(answer.score)))

    def blame(self, references: Sequence[Sequence[int]]) -> tuple[Blame, ...]:
        """A reference that scores more than the answer was missed by the search; else the model prefers the answer."""
        found: list[Blame] = []
        model = self._model()
        for item, tokens in enumerate(references):
            answer = self.decoded.hypotheses(item, 1)
            if answer and answer[0].tokens == tuple(tokens):
                found.append("none")
                continue
            pair = [tokens, *(one.tokens for one in answer)]
            log_probs = token_log_probs(model, [item] * len(pair), pair, what="a reference")
            scores = [float(self.score(log_prob.sum(), len(log_prob))) for log_prob in log_probs]
            if not answer:
                found.append("search")
                continue
            noise = max(abs(scores[1] - answer[0].score), self.tolerance * (1 + abs(scores[1])))
            found.append("search" if scores[0] - scores[1] > noise else "model")
        return tuple(found)

    def _model(self) -> Model:
        return Model(self.problem, self.settings.normalize)


def _best(decoded: Decoded) -> tuple[list[str], list[float]]:
    first = [decoded.hypotheses(item)[:1] for item in range(len(decoded.lengths))]
    texts = [" ".join(found[0].words) if found else "" for found in first]
    return texts, [found[0].score if found else -np.inf for found in first]


def _first_tokens(decoded: Decoded) -> tuple[int, ...]:
    return next((hypothesis.tokens for hypothesis in decoded.hypotheses(0, 1)), ())


def _say(decoded: Decoded) -> str:
    found = decoded.hypotheses()
    return " ".join(found[0].words) if found else ""
