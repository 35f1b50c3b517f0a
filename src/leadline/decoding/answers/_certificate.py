"""Certificates: bounds on everything that a search did not return."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from leadline.checks import ShortRepr
from leadline.storage import record

Proof = Literal["OPTIMAL", "GAP", "NO_SEQUENCE", "NOT_APPLICABLE"]


@record("decoding.Certificate")
@dataclass(frozen=True, eq=False)
class Certificate(ShortRepr):
    """A bound on every hypothesis that a search pruned or left open.

    Log-probabilities only fall as a hypothesis grows. A hypothesis that was pruned at
    log-probability s can therefore never score more than ``score.bound(s, ...)``, which is s itself
    for :class:`~leadline.decoding.SumLogProb`. An answer that reaches the largest of these bounds
    is the best of all. The certificate needs no call of the model.
    """

    outcome: tuple[Proof, ...]
    """One outcome for each item.

    ``OPTIMAL``: the answer is proved to be the best. ``GAP``: a discarded hypothesis may be better.
    ``NO_SEQUENCE``: no sequence has a probability above zero. ``NOT_APPLICABLE``: no bound holds.
    """
    upper_bound: np.ndarray
    """Bound on the score of everything that was discarded or left open, shape (B,)."""
    gap: np.ndarray
    """Largest difference between the optimum's score and the answer's, shape (B,); 0 if proved."""
    step: tuple[int, ...]
    """For each item, the step that discarded the best discarded hypothesis; 0 for none."""
    proved: tuple[int, ...]
    """For each item, the number n of returned hypotheses that are proved to be the best n."""
    reason: str = ""
    """The reason for ``NOT_APPLICABLE``."""
    returned: tuple[int, ...] = ()
    """For each item, the number of returned hypotheses."""

    def __str__(self) -> str:
        num_items = len(self.outcome)
        unknown = self.outcome.count("NOT_APPLICABLE")
        if unknown == num_items:
            return f"no certificate: {self.reason}"
        optimal = self.outcome.count("OPTIMAL")
        empty = self.outcome.count("NO_SEQUENCE")
        if num_items == 1:
            if empty:
                return "proved that there is no sequence"
            if optimal:
                return f"proved optimal{self._entries()}"
            return f"a better answer is not excluded (gap {self.gap[0]:.3g} nats)"
        text = f"{optimal} of {num_items} answers proved optimal{self._entries()}"
        if empty:
            text += f"; {empty} prompts have no sequence"
        if unknown:
            text += f"; no certificate for {unknown}: {self.reason}"
        return text

    def _entries(self) -> str:
        """Return the part of an n-best list that is proved, as text; empty for single answers."""
        returned = sum(self.returned)
        proved = sum(self.proved)
        if max(self.returned, default=0) < 2:
            return ""
        if proved == returned:
            return f" with all {returned} hypotheses"
        return f", {proved} of {returned} hypotheses proved"


def certify(
    scores: Float[np.ndarray, "B R"],
    discarded: Float[np.ndarray, "B steps"],
    reason: str = "",
    unknown: Bool[np.ndarray, " B"] | None = None,
) -> Certificate:
    """Make a certificate from the returned scores and the bounds on what each step discarded.

    Args:
        scores: scores of the returned hypotheses, best first; ``-inf`` for no hypothesis.
        discarded: upper bounds on the scores of everything that each step discarded. The last
            column is the bound on what was left open. ``-inf`` for nothing.
        reason: the reason why no bound holds; empty if the bounds hold.
        unknown: True for items whose bound does not hold; all items by default, if there is a
            reason.

    >>> str(certify(np.array([[-1.0]]), np.array([[-2.0, -1.25]])))
    'proved optimal'
    >>> certify(np.array([[-1.85]]), np.array([[-1.45, -1.93]])).gap.round(2).tolist()
    [0.4]
    """
    exists = scores > -np.inf
    best = scores[:, 0] if scores.shape[1] else np.full(len(scores), -np.inf)
    is_unknown = np.full(len(best), bool(reason)) if unknown is None else unknown
    upper = np.where(is_unknown, np.inf, discarded.max(axis=1))
    has_bound = (upper > -np.inf) & ~is_unknown
    with np.errstate(invalid="ignore"):
        gap = np.where(best >= upper, 0.0, upper - best)
    outcome = np.where(best < upper, "GAP", np.where(best > -np.inf, "OPTIMAL", "NO_SEQUENCE"))
    outcome = np.where(is_unknown, "NOT_APPLICABLE", outcome)
    step = np.where(has_bound, discarded.argmax(axis=1) + 1, 0)
    proved = ((scores >= upper[:, None]) & exists).sum(axis=1)
    return Certificate(
        outcome=tuple(outcome.tolist()),
        upper_bound=upper,
        gap=gap,
        step=tuple(step.tolist()),
        proved=tuple(proved.tolist()),
        reason=reason,
        returned=tuple(exists.sum(axis=1).tolist()),
    )
