"""What a search can say about everything that it did not look at."""

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
    """A bound on every hypothesis that was discarded or left open; it costs no call of the model.

    Log-probabilities only fall as a hypothesis grows. So whatever was pruned at log-probability ``s`` can never come
    back with more than ``s`` (or, for a score with a say for the length, with more than ``score.bound(s, ...)``), and
    an answer that reaches the largest such bound is the best of all.
    """

    outcome: tuple[Proof, ...]
    """Per item: ``OPTIMAL`` (proved), ``GAP`` (something discarded may be better), ``NO_SEQUENCE`` (proved that there
    is none with a probability above zero), or ``NOT_APPLICABLE``."""
    upper_bound: np.ndarray
    """Shape (B,), in the units of the score: nothing that was discarded or left open scores more."""
    gap: np.ndarray
    """Shape (B,), nats: how much better than the answer the optimum may be at most; 0 where it is proved."""
    step: tuple[int, ...]
    """Per item: the step at which the best discarded hypothesis was discarded (0: none was)."""
    proved: tuple[int, ...]
    """Per item: how many of the returned hypotheses are proved to be the best so many."""
    reason: str = ""
    """Why it does not apply, where it does not."""
    returned: tuple[int, ...] = ()
    """Per item: how many hypotheses were returned."""

    def __str__(self) -> str:
        unknown = self.outcome.count("NOT_APPLICABLE")
        if unknown == len(self.outcome):
            return f"no certificate: {self.reason}"
        optimal, none = self.outcome.count("OPTIMAL"), self.outcome.count("NO_SEQUENCE")
        if len(self.outcome) == 1:
            if none:
                return "proved that there is no sequence"
            return f"proved optimal{self._entries()}" if optimal else self._gap()
        without = f"; {none} prompts have no sequence" if none else ""
        without += f"; no certificate for {unknown}: {self.reason}" if unknown else ""
        return f"{optimal} of {len(self.outcome)} answers proved optimal{self._entries()}{without}"

    def _gap(self) -> str:
        return f"a better answer is not excluded (gap {self.gap[0]:.3g} nats)"

    def _entries(self) -> str:
        """The part of an n-best list that is proved: the best answer alone does not speak for the others."""
        returned, proved = sum(self.returned), sum(self.proved)
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
    """The certificate of a search from its answers and the bounds on what each step discarded.

    Args:
        scores: of the returned hypotheses, best first; ``-inf`` where there is none.
        discarded: an upper bound on the score of anything that was discarded at each step, the last column being what
            was left open; ``-inf`` for nothing.
        reason: why no bound holds, if none does.
        unknown: the items for which none holds; all, if left out.

    >>> str(certify(np.array([[-1.0]]), np.array([[-2.0, -1.25]])))
    'proved optimal'
    >>> certify(np.array([[-1.85]]), np.array([[-1.45, -1.93]])).gap.round(2).tolist()
    [0.4]
    """
    returned = (scores > -np.inf).sum(axis=1)
    best = scores[:, 0] if scores.shape[1] else np.full(len(scores), -np.inf)
    is_unknown = np.full(len(best), bool(reason)) if unknown is None else unknown
    upper = np.where(is_unknown, np.inf, discarded.max(axis=1))
    is_bounded = (upper > -np.inf) & ~is_unknown
    with np.errstate(invalid="ignore"):
        gap = np.where(best >= upper, 0.0, upper - best)
    outcomes = np.where(best < upper, "GAP", np.where(best > -np.inf, "OPTIMAL", "NO_SEQUENCE"))
    proved = ((scores >= upper[:, None]) & (scores > -np.inf)).sum(axis=1)
    return Certificate(
        outcome=tuple(np.where(is_unknown, "NOT_APPLICABLE", outcomes).tolist()),
        upper_bound=upper,
        gap=gap,
        step=tuple(np.where(is_bounded, discarded.argmax(axis=1) + 1, 0).tolist()),
        proved=tuple(proved.tolist()),
        reason=reason,
        returned=tuple(returned.tolist()),
    )
