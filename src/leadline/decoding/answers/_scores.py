"""Scores that rank complete hypotheses by log-probability and length.

The length includes the end token and excludes the prompt. Each score can bound everything that
grows from a prefix; early stops and certificates depend on this bound.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from leadline import checks
from leadline.errors import InputError
from leadline.storage import record

LARGEST_ALPHA = 50.0
"""Largest absolute alpha: ``length ** alpha`` is finite for every length."""


LOG_PROBS = np.array([-1e5, -1e3, -100.0, -30.0, -10.0, -3.0, -1.0, -0.3, -0.1, -0.01, -1e-4, 0.0])
"""Log-probabilities at which :func:`why_unbounded` tests the bound of a score, in rising order."""


class Score(ABC):
    """Base class of scores.

    A score rises with the log-probability and, at a fixed log-probability, is monotone in the
    length. Subclasses are frozen dataclasses that define :meth:`__call__`. A subclass without a
    bound sets ``bounded = False``; searches then run to ``max_length`` and certify nothing.
    Searches also test the bound of a subclass at every length, and certify nothing if it fails.
    """

    bounded: bool = True
    """False for a subclass without a bound."""

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, float):
                checks.number(value, f"{type(self).__name__}({name}=...)")

    @abstractmethod
    def __call__(self, log_prob: Any, length: Any) -> Any:
        """Return the score of a hypothesis.

        Args:
            log_prob: natural logarithm of its probability, at most 0: a number, array or tensor.
            length: number of new tokens, at least 1.
        """

    def bound(self, log_prob: Any, shortest: int, longest: int) -> Any:
        """Return the best score of all sequences with at most the given log-probability.

        Formula: ``max(score(log_prob, shortest), score(log_prob, longest))``. It holds because more
        tokens never raise the log-probability, and because the score is monotone in the length.

        Args:
            log_prob: natural logarithm of the probability, at most 0: a number, array or tensor.
            shortest: smallest length of the sequences, at least 1.
            longest: largest length of the sequences.

        Raises:
            InputError: the score cannot be computed from these values.

        >>> LengthNormalized(1.0).bound(-2.0, 1, 4)
        -0.5
        """
        try:
            is_rising = self(-1.0, longest) >= self(-1.0, shortest)
            return self(log_prob, longest if is_rising else shortest)
        except (TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
            arguments = ", ".join(map(checks.shown, (log_prob, shortest, longest)))
            raise InputError(
                "bound() needs log-probabilities and two lengths: whole numbers of at least 1",
                got=f"bound({arguments})",
                cause=str(error).partition("\n")[0] or type(error).__name__,
            ) from error


def why_unbounded(score: Score, longest: int) -> str:
    """Return the reason why a score has no valid bound; an empty text if its bound holds.

    An invalid bound would stop searches early and certify wrong answers. Scores of classes that are
    not Leadline's are therefore evaluated at all lengths, for log-probabilities of every size.

    Args:
        score: the score.
        longest: largest length.

    Raises:
        InputError: the score cannot be computed from arrays.

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
            scores = [score(LOG_PROBS, length) + 0 * LOG_PROBS for length in lengths]
            values = np.array(scores, dtype=float)
            limits = [score.bound(LOG_PROBS, length, longest) for length in lengths]
            bounds = np.array(limits, dtype=float)
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(
            "a Score must turn an array of log-probabilities and a length into an array of scores",
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
        first = int(fails.any(axis=1).argmax()) + 1
        return f"the bound of {name} does not hold from length {first} on"
    return ""


@record("decoding.SumLogProb")
@dataclass(frozen=True)
class SumLogProb(Score):
    """The log-probability itself; the most likely sequence is the best.

    >>> SumLogProb()(-1.5, 3)
    -1.5
    """

    def __call__(self, log_prob: Any, length: Any) -> Any:
        """Return the score of a hypothesis, see :meth:`Score.__call__`."""
        return log_prob


@record("decoding.LengthNormalized")
@dataclass(frozen=True)
class LengthNormalized(Score):
    """Log-probability divided by a power of the length: ``log_prob / length ** alpha``.

    With alpha = 0 the score is the log-probability, with alpha = 1 it is the mean per token.

    >>> LengthNormalized(1.0)(-3.0, 2)
    -1.5
    """

    alpha: float = 1.0
    """Exponent of the length."""

    def __post_init__(self):
        object.__setattr__(self, "alpha", _exponent(self.alpha, "LengthNormalized"))

    def __call__(self, log_prob: Any, length: Any) -> Any:
        """Return the score of a hypothesis, see :meth:`Score.__call__`."""
        return log_prob / length**self.alpha


@record("decoding.GNMT")
@dataclass(frozen=True)
class GNMT(Score):
    """Length penalty of GNMT: ``log_prob / ((5 + length) / 6) ** alpha``.

    >>> GNMT(1.0)(-3.0, 7)
    -1.5

    Reference: Wu et al., *Google's neural machine translation system*, 2016.
    """

    alpha: float = 0.6
    """Exponent of the length penalty."""

    def __post_init__(self):
        object.__setattr__(self, "alpha", _exponent(self.alpha, "GNMT"))

    def __call__(self, log_prob: Any, length: Any) -> Any:
        """Return the score of a hypothesis, see :meth:`Score.__call__`."""
        return log_prob / ((5 + length) / 6) ** self.alpha


@record("decoding.WordReward")
@dataclass(frozen=True)
class WordReward(Score):
    """Log-probability with a reward of r nats for each token: ``log_prob + r * length``.

    >>> WordReward(0.5)(-3.0, 2)
    -2.0

    Reference: He et al., *Improved neural machine translation with SMT features*, 2016.
    """

    r: float = 0.0
    """Reward of a token, nats."""

    def __post_init__(self):
        object.__setattr__(self, "r", _number(self.r, "WordReward", "r"))

    def __call__(self, log_prob: Any, length: Any) -> Any:
        """Return the score of a hypothesis, see :meth:`Score.__call__`."""
        return log_prob + self.r * length


_PROVED = (SumLogProb, LengthNormalized, GNMT, WordReward)
"""Classes whose bound is known to hold. Subclasses may change the score, so they are tested."""


def _exponent(value: Any, kind: str) -> float:
    return _number(value, kind, "alpha", limit=LARGEST_ALPHA)


def _number(value: Any, kind: str, name: str, limit: float | None = None) -> float:
    try:
        return checks.number(value, name, least=None if limit is None else -limit, most=limit)
    except InputError as error:
        raise InputError(error.rule, got=f"{kind}({name}={checks.shown(value)})") from None
