"""Audits: the result of :func:`audit`, and the audited search step by step."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from leadline import checks
from leadline.decoding.answers._decoded import Decoded, as_clause, item_of
from leadline.decoding.answers._rescoring import ROUNDING_OF_SCORES
from leadline.decoding.answers._scores import SumLogProb
from leadline.decoding.answers._trace import Trace
from leadline.decoding.answers._tree_drawing import tree_drawing
from leadline.errors import InputError
from leadline.figures import Drawing
from leadline.sounding import Sounding, Verdict, decimals
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

Finding = Literal["optimal", "search error", "unresolved"]
Blame = Literal["none", "search", "model"]

MOST_LISTED = 4
"""Hypotheses of a beam that a verdict lists."""


@record("decoding.SearchAudit")
@dataclass(frozen=True, eq=False)
class SearchAudit(Sounding):
    """The audit of answers to B prompts: are they optimal, and where was the optimum lost?"""

    decoded: Decoded
    """The audited answer."""
    optimum: Decoded
    """The result of exact search, with its certificate."""
    outcome: tuple[Finding, ...]
    """Per item: ``optimal``, ``search error``, or ``unresolved`` if the budget ran out."""
    lost_step: np.ndarray
    """Step after which the optimum's prefix was no longer in the beam, shape (B,); 0 if none was
    lost.

    With ``eos_mode="in_beam"`` the step may come after the end of the optimum, because a complete
    hypothesis can lose its place."""
    lost_rank: np.ndarray
    """Rank of that prefix among the candidates of the step, shape (B,); 0 if unknown."""
    width: np.ndarray
    """Smallest width whose beam search returns the optimum, shape (B,); 0 if unknown."""
    blame: tuple[Blame, ...]
    """Per item, if a reference was given: ``none`` (it was returned), ``search`` or ``model``."""
    traces: tuple[Trace | None, ...]
    """Per item: the trace of the audited search, which was run again; ``None`` if it was not."""
    noise: tuple[float, ...] = ()
    """Per item: the change of the scores of answer and optimum when both were scored again in one
    batch; 0 if they were not, because they are the same sequence or far apart."""
    tolerance: float = ROUNDING_OF_SCORES
    """Relative difference of two scores that counts as a tie."""
    is_tied: tuple[bool, ...] = ()
    """Per item: True if answer and optimum are different sequences with equal scores up to
    noise."""

    def describe_optimum(self, item: int = 0) -> str:
        """Return "the most likely", or "the best" by another score, or "a better" without a proof.

        Args:
            item: index of the prompt, from 0.
        """
        item = item_of(item, len(self.outcome))
        if self.optimum.certificate.outcome[item] == "GAP":
            return "a better"
        if self.optimum.settings.score_or_default == SumLogProb():
            return "the most likely"
        return "the best"

    def _is_proved(self) -> bool:
        return self.optimum.certificate.outcome[0] in ("OPTIMAL", "NO_SEQUENCE")

    def _unresolved(self) -> str:
        gap = self.optimum.certificate.gap[0]
        search = self.decoded.settings.name
        is_tied = self.is_tied[:1] == (True,)
        is_same = _first_tokens(self.decoded) == _first_tokens(self.optimum)
        if not (is_tied or is_same) or not np.isfinite(gap):
            return f"the budget ran out before any bound on the answer of {search} was found"
        return f"the budget ran out: the answer of {search} is at most {gap:.3g} nats from the best"

    @property
    def verdict(self) -> Verdict:
        """The finding for a single prompt; for many prompts, counts."""
        notes = tuple(dict.fromkeys((*self.decoded.notes, *self.optimum.notes)))
        return Verdict(self._finding() + as_clause(notes))

    def _finding(self) -> str:
        search = self.decoded.settings.name
        num_items = len(self.outcome)
        if num_items > 1:
            names = ("optimal", "search error", "unresolved")
            counts = ", ".join(f"{self.outcome.count(name)} {name}" for name in names)
            return f"{search} on {num_items} prompts: {counts}"
        answer = _first_text(self.decoded)
        optimum = _first_text(self.optimum)
        if self.optimum.certificate.outcome[0] == "NO_SEQUENCE":
            return f"{search} was right to return nothing: no sequence has a probability above zero"
        if self.is_tied and self.is_tied[0]:
            return f"{search} returned “{answer}”, {self._tie(optimum)}"
        if self.outcome[0] == "optimal":
            return f"{search} returned {self.describe_optimum()} sequence, “{answer}”"
        if self.outcome[0] == "unresolved":
            return self._unresolved()
        where = f", lost at step {self.lost_step[0]}" if self.lost_step[0] else ""
        where += f" at rank {self.lost_rank[0]}" if self.lost_rank[0] else ""
        keeps = f"; width {self.width[0]} keeps it" if self.width[0] else ""
        best = self.describe_optimum()
        if best == "a better":
            best = "a better one"
        returned = f"“{answer}”" if self.decoded.hypotheses() else "nothing"
        return f"{search} returned {returned}; {best} is “{optimum}”{where}{keeps}"

    def _tie(self, optimum: str) -> str:
        """Return the end of the verdict on an answer that ties with the optimum."""
        score = self.decoded.hypotheses()[0].score
        lead = self.optimum.hypotheses()[0].score - score
        allowed = max(self.noise[0], self.tolerance * (1 + abs(score)))
        is_proved = self._is_proved()
        if self.tolerance <= ROUNDING_OF_SCORES or self.noise[0] >= lead:
            conclusion = "no sequence is known to be better" if is_proved else self._unresolved()
            return f"which ties with “{optimum}” within the noise of {allowed:.1g}; {conclusion}"
        conclusion = "no sequence is better by more" if is_proved else self._unresolved()
        return (
            f"which is {lead:.3g} behind “{optimum}”, within the tolerance of {allowed:.3g}; "
            f"{conclusion}"
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per prompt, with scores in nats or in the units of another score."""
        import pandas as pd

        answers, answer_scores = _best(self.decoded)
        optima, optimum_scores = _best(self.optimum)
        return pd.DataFrame(
            {
                "item": range(len(self.outcome)),
                "outcome": self.outcome,
                "answer": answers,
                "answer_score": answer_scores,
                "optimum": optima,
                "optimum_score": optimum_scores,
                "lost_step": self.lost_step,
                "lost_rank": self.lost_rank,
                "width": self.width,
                "noise": self.noise or 0.0,
            }
        )

    def at(self, step: int, item: int = 0) -> "Walk":
        """Return the search of one item after a step.

        Args:
            step: number of the step; 0 is the start of the search.
            item: index of the prompt, from 0.

        Raises:
            InputError: there is no such step, or the item has no trace.
        """
        item = item_of(item, len(self.outcome))
        trace = self.traces[item]
        if trace is None:
            raise InputError(
                "at() needs the trace of the item's search",
                got=f"item {item} was not searched again",
                cause="with several items, only items with a search error have steps, "
                "or max_calls is smaller than the calls of one search",
                cure="audit the item alone, or with a larger max_calls",
            )
        steps = int(trace.step.max(initial=0))
        step = checks.whole_number(step, "step")
        if not 0 <= step <= steps:
            raise InputError(f"step must lie between 0 and {steps}", got=f"step = {step}")
        return Walk(self.protocol, self, step, item)

    def drawing(self, item: int = 0, until: int | None = None) -> Drawing:
        """Return the search tree of one item, with the optimum and the step that lost it.

        Args:
            item: number of the prompt, from 0.
            until: last step to draw; all steps, if left out.
        """
        item = item_of(item, len(self.outcome))
        until = checks.optional_whole_number(until, "until", least=0)
        trace = self.traces[item]
        if trace is None:
            return self.decoded.drawing(item)
        answer = self.decoded.hypotheses(item)
        paths = {"the search's answer": answer[0].tokens if answer else ()}
        best = f"{self.describe_optimum(item)} sequence"
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
    """The audit that contains the search."""
    step: int
    """Number of the step; 0 is the start of the search."""
    item: int
    """Index of the prompt, from 0."""

    @property
    def trace(self) -> Trace:
        """The trace of the whole search of this item."""
        trace = self.audit.traces[self.item]
        assert trace is not None  # SearchAudit.at() has checked it
        return trace

    @property
    def steps(self) -> int:
        """Number of steps of the whole search."""
        return int(self.trace.step.max(initial=0))

    @property
    def verdict(self) -> Verdict:
        """The content of the beam and, once the optimum is lost, the loss.

        The last step of the search of a single prompt ends with the verdict of the audit.
        """
        if self.step == 0:
            return Verdict(
                f"before the first of {self.steps} steps, the beam holds the start alone"
            )
        beam = self.trace.beam(self.step)
        listed = [
            f"“{' '.join(node.words)}” ({decimals(node.log_prob, '.2f')})"
            for node in beam[:MOST_LISTED]
        ]
        hypotheses = ", ".join(listed) or "nothing"
        if len(beam) > MOST_LISTED:
            hypotheses += f" and {len(beam) - MOST_LISTED} more"
        num_pruned = len(self.trace.candidates(self.step)) - len(beam)
        return Verdict(
            f"after step {self.step} of {self.steps}, the beam holds {hypotheses}; "
            f"{num_pruned} pruned{self._loss()}"
        )

    def _loss(self) -> str:
        """Return the part of the verdict on the optimum; empty while it is in the beam."""
        if self.step == self.steps and len(self.audit.outcome) == 1:
            return f"; {self.audit.verdict}"
        lost_step = int(self.audit.lost_step[self.item])
        if not 0 < lost_step <= self.step:
            return ""
        best = f"{self.audit.describe_optimum(self.item)} sequence"
        if lost_step < self.step:
            return f"; {best} was lost at step {lost_step}"
        lost_rank = int(self.audit.lost_rank[self.item])
        rank = f" at rank {lost_rank}" if lost_rank else ""
        prefix = " ".join(self.audit.optimum.hypotheses(self.item)[0].words[:lost_step])
        return f"; {best}, which begins with “{prefix}”, is lost here{rank}"

    def table(self) -> "pd.DataFrame":
        """Return one row per candidate up to this step, with ``log_prob`` in nats."""
        table = self.trace.table()
        return table[table["step"] <= self.step].assign(item=self.item)

    def drawing(self) -> Drawing:
        """Return the search tree so far; each node stands where the whole tree has it."""
        return self.audit.drawing(self.item, self.step)


def _best(decoded: Decoded) -> tuple[list[str], list[float]]:
    """Return the text and the score of the best hypothesis of each item; "" and -inf if none."""
    texts = []
    scores = []
    for item in range(len(decoded.lengths)):
        best = decoded.hypotheses(item, 1)
        texts.append(" ".join(best[0].words) if best else "")
        scores.append(best[0].score if best else -np.inf)
    return texts, scores


def _first_tokens(decoded: Decoded) -> tuple[int, ...]:
    """Return the tokens of the best hypothesis of the first item; empty if there is none."""
    best = decoded.hypotheses(0, 1)
    return best[0].tokens if best else ()


def _first_text(decoded: Decoded) -> str:
    """Return the text of the best hypothesis of the first item; empty if there is none."""
    best = decoded.hypotheses(0, 1)
    return " ".join(best[0].words) if best else ""
