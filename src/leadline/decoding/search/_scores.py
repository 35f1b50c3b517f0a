"""How complete hypotheses are compared: by log-probability alone, or with a say for their length.

Length counts the end token and never the prompt. Each score knows the best that a prefix can still become, which is
what makes an early stop admissible and a certificate valid.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline import checks
from leadline.errors import InputError
from leadline.storage import record

LARGEST = 50.0
"""Size of alpha at most: ``length ** alpha`` is a finite number for every length."""


LOG_PROBS = np.array([-1e5, -1e3, -100.0, -30.0, -10.0, -3.0, -1.0, -0.3, -0.1, -0.01, -1e-4, 0.0])
"""Log-probabilities at which :func:`why_unbounded` tries the bound of a score, in rising order."""


class Score(ABC):
    """A score that grows with the log-probability and, at a fixed log-probability, is monotone in the length.

    Subclasses are frozen dataclasses with :meth:`__call__`. A subclass whose bound does not hold sets ``bounded`` to
    false: searches then run to ``max_length`` and certify nothing. A search also tries the bound at every length, and
    certifies nothing where it does not hold.
    """

    bounded: bool = True

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, float):
                checks.number(value, f"{type(self).__name__}({name}=...)")

    @abstractmethod
    def __call__(self, log_prob: Any, length: Any) -> Any:
        """The score of a hypothesis; arrays, tensors and numbers alike.

        Args:
            log_prob: natural logarithm of its probability, at most 0.
            length: number of new tokens, at least 1.
        """

    def bound(self, log_prob: Any, shortest: int, longest: int) -> Any:
        """The best score of anything with at most this log-probability whose length lies in the given range.

        Formula: ``max(score(log_prob, shortest), score(log_prob, longest))``, as more tokens never raise the
        log-probability and the score is monotone in the length.

        >>> LengthNormalized(1.0).bound(-2.0, 1, 4)
        -0.5
        """
        try:
            return self(
                log_prob, longest if self(-1.0, longest) >= self(-1.0, shortest) else shortest
            )
        except (TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
            raise InputError(
                "bound() takes log-probabilities, and the shortest and longest length: whole numbers of at least 1",
                got=f"bound({checks.shown(log_prob)}, {checks.shown(shortest)}, {checks.shown(longest)})",
                cause=str(error).partition("\n")[0] or type(error).__name__,
            ) from error


def why_unbounded(score: Score, longest: int) -> str:
    """The reason why nothing can be proved by a score; empty where its bound holds at every length.

    A bound that fails would stop searches early and certify wrong answers, so that the scores of other classes are
    evaluated at all lengths, for log-probabilities of every size.

    >>> why_unbounded(LengthNormalized(1.0), 20)
    ''
    """
    name = type(score).__name__
    if not score.bounded:
        return f"{name} has no bound"
    if type(score) in _PROVED:
        return ""
    lengths = range(1, longest + 1)
    try:
        with np.errstate(all="ignore"):
            values = np.array(
                [score(LOG_PROBS, length) + 0 * LOG_PROBS for length in lengths], dtype=float
            )
            bounds = np.array(
                [score.bound(LOG_PROBS, length, longest) for length in lengths], dtype=float
            )
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(
            "a Score turns an array of log-probabilities and a length into an array of scores",
            got=f"{name} raised {type(error).__name__}: {error}",
            cure="compute with NumPy: np.log(length) in place of math.log(log_prob)",
        ) from error
    if (np.diff(values, axis=1) < 0).any():
        return f"{name} falls where the log-probability rises"
    slack = 1e-12 * np.abs(values).max(axis=0)
    steps = np.diff(values, axis=0)
    is_monotone = (steps >= -slack).all(axis=0) | (steps <= slack).all(axis=0)
    if type(score).bound is Score.bound and not is_monotone.all():
        return f"{name} is not monotone in the length"
    best_later = np.maximum.accumulate(values[::-1])[::-1]
    fails = ~(bounds >= best_later - 1e-12 * np.abs(best_later))
    if fails.any():
        return f"the bound of {name} does not hold from length {int(fails.any(axis=1).argmax()) + 1} on"
    return ""


@record("decoding.SumLogProb")
@dataclass(frozen=True)
class SumLogProb(Score):
    """The log-probability itself: the most likely sequence wins.

    >>> SumLogProb()(-1.5, 3)
    -1.5
    """

    def __call__(self, log_prob: Any, length: Any) -> Any:
        """See :meth:`Score.__call__`."""
        return log_prob


@record("decoding.LengthNormalized")
@dataclass(frozen=True)
class LengthNormalized(Score):
    """``log_prob / length ** alpha``: alpha 0 is no normalisation, alpha 1 the mean per token.

    >>> LengthNormalized(1.0)(-3.0, 2)
    -1.5
    """

    alpha: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "alpha", _exponent(self.alpha, "LengthNormalized"))

    def __call__(self, log_prob: Any, length: Any) -> Any:
        """See :meth:`Score.__call__`."""
        return log_prob / length**self.alpha


@record("decoding.GNMT")
@dataclass(frozen=True)
class GNMT(Score):
    """``log_prob / ((5 + length) / 6) ** alpha``.

    >>> GNMT(1.0)(-3.0, 7)
    -1.5

    Reference: Wu et al., *Google's neural machine translation system*, 2016.
    """

    alpha: float = 0.6

    def __post_init__(self):
        object.__setattr__(self, "alpha", _exponent(self.alpha, "GNMT"))

    def __call__(self, log_prob: Any, length: Any) -> Any:
        """See :meth:`Score.__call__`."""
        return log_prob / ((5 + length) / 6) ** self.alpha


@record("decoding.WordReward")
@dataclass(frozen=True)
class WordReward(Score):
    """``log_prob + r * length``: each token is worth ``r`` nats.

    >>> WordReward(0.5)(-3.0, 2)
    -2.0

    Reference: He et al., *Improved neural machine translation with SMT features*, 2016.
    """

    r: float = 0.0

    def __post_init__(self):
        object.__setattr__(self, "r", _number(self.r, "WordReward", "r"))

    def __call__(self, log_prob: Any, length: Any) -> Any:
        """See :meth:`Score.__call__`."""
        return log_prob + self.r * length


_PROVED = (SumLogProb, LengthNormalized, GNMT, WordReward)
"""Classes whose bound is known to hold. A subclass may change the score, and is tried."""


def _exponent(value: Any, kind: str) -> float:
    return _number(value, kind, "alpha", limit=LARGEST)


def _number(value: Any, kind: str, name: str, limit: float | None = None) -> float:
    try:
        return checks.number(value, name, least=None if limit is None else -limit, most=limit)
    except InputError as error:
        raise InputError(error.rule, got=f"{kind}({name}={checks.shown(value)})") from None
