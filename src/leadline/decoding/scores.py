"""How complete hypotheses are compared: by log-probability alone, or with a say for their length.

Length counts the end token and never the prompt. Each score knows the best that a prefix can still become, which is
what makes an early stop admissible and a certificate valid.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from leadline.errors import InputError

LARGEST = 50.0
"""Size of alpha at most: ``length ** alpha`` is a finite number for every length."""


class Score(ABC):
    """A score that grows with the log-probability and, at a fixed log-probability, is monotone in the length.

    Subclasses are frozen dataclasses with :meth:`__call__`. One whose bound does not hold sets ``bounded`` to false:
    searches then run to ``max_length`` and certify nothing.
    """

    bounded: bool = True

    def __post_init__(self):
        for name, value in vars(self).items():
            limit = LARGEST if name == "alpha" else math.inf
            if isinstance(value, float) and not (abs(value) <= limit and math.isfinite(value)):
                raise InputError(
                    f"{name} is a finite number"
                    + (f" between {-LARGEST:g} and {LARGEST:g}" if name == "alpha" else ""),
                    got=f"{type(self).__name__}({name}={value})",
                )

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
        return self(log_prob, longest if self(-1.0, longest) >= self(-1.0, shortest) else shortest)


@dataclass(frozen=True)
class SumLogProb(Score):
    """The log-probability itself: the most likely sequence wins.

    >>> SumLogProb()(-1.5, 3)
    -1.5
    """

    def __call__(self, log_prob: Any, length: Any) -> Any:
        """See :meth:`Score.__call__`."""
        return log_prob


@dataclass(frozen=True)
class LengthNormalized(Score):
    """``log_prob / length ** alpha``: alpha 0 is no normalisation, alpha 1 the mean per token.

    >>> LengthNormalized(1.0)(-3.0, 2)
    -1.5
    """

    alpha: float = 1.0

    def __call__(self, log_prob: Any, length: Any) -> Any:
        """See :meth:`Score.__call__`."""
        return log_prob / length**self.alpha


@dataclass(frozen=True)
class GNMT(Score):
    """``log_prob / ((5 + length) / 6) ** alpha``.

    >>> GNMT(1.0)(-3.0, 7)
    -1.5

    Reference: Wu et al., *Google's neural machine translation system*, 2016.
    """

    alpha: float = 0.6

    def __call__(self, log_prob: Any, length: Any) -> Any:
        """See :meth:`Score.__call__`."""
        return log_prob / ((5 + length) / 6) ** self.alpha


@dataclass(frozen=True)
class WordReward(Score):
    """``log_prob + r * length``: each token is worth ``r`` nats.

    >>> WordReward(0.5)(-3.0, 2)
    -2.0

    Reference: He et al., *Improved neural machine translation with SMT features*, 2016.
    """

    r: float = 0.0

    def __call__(self, log_prob: Any, length: Any) -> Any:
        """See :meth:`Score.__call__`."""
        return log_prob + self.r * length
