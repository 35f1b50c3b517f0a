"""What a search can say about everything that it did not look at."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Proof = Literal["OPTIMAL", "GAP", "NO_SEQUENCE", "NOT_APPLICABLE"]


@dataclass(frozen=True, eq=False)
class Certificate:
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

    def __str__(self) -> str:
        if self.reason:
            return f"no certificate: {self.reason}"
        optimal, none = self.outcome.count("OPTIMAL"), self.outcome.count("NO_SEQUENCE")
        if len(self.outcome) == 1:
            if none:
                return "proved that there is no sequence"
            return "proved optimal" if optimal else f"a better answer is not excluded (gap {self.gap[0]:.3g} nats)"
        without = f"; {none} prompts have no sequence" if none else ""
        return f"{optimal} of {len(self.outcome)} answers proved optimal{without}"


def certify(scores: Float[np.ndarray, "B R"], discarded: Float[np.ndarray, "B steps"], reason: str = "") -> Certificate:
    """The certificate of a search from its answers and the bounds on what each step discarded.

    Args:
        scores: of the returned hypotheses, best first; ``-inf`` where there is none.
        discarded: an upper bound on the score of anything that was discarded at each step, the last column being what
            was left open; ``-inf`` for nothing.
        reason: why no bound holds, if none does.

    >>> str(certify(np.array([[-1.0]]), np.array([[-2.0, -1.25]])))
    'proved optimal'
    >>> certify(np.array([[-1.85]]), np.array([[-1.45, -1.93]])).gap.round(2).tolist()
    [0.4]
    """
    best = scores[:, 0] if scores.shape[1] else np.full(len(scores), -np.inf)
    upper = discarded.max(axis=1)
    step = np.where(upper > -np.inf, discarded.argmax(axis=1) + 1, 0)
    if reason:
        unknown = np.full(len(best), np.inf)
        return Certificate(
            ("NOT_APPLICABLE",) * len(best), unknown, unknown, (0,) * len(best), (0,) * len(best), reason
        )
    with np.errstate(invalid="ignore"):
        gap = np.where(best >= upper, 0.0, upper - best)
    return Certificate(
        outcome=tuple(
            "GAP" if low < high else "OPTIMAL" if low > -np.inf else "NO_SEQUENCE"
            for low, high in zip(best, upper, strict=True)
        ),
        upper_bound=upper,
        gap=gap,
        step=tuple(step.tolist()),
        proved=tuple(((scores >= upper[:, None]) & (scores > -np.inf)).sum(axis=1).tolist()),
    )
