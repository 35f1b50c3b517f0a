"""The settings that all searches have in common, checked in the words that the caller used."""

from collections.abc import Iterable
from typing import Any

from leadline import checks
from leadline.decoding.search._scores import Score
from leadline.errors import InputError

EndTokens = int | Iterable[int] | None
"""One end token, several, or none."""

LONGEST = 1_000_000
"""Most new tokens, most places of a beam and most answers: what a machine can hold."""


LARGEST = 2**31 - 1
"""The largest number of a token."""


def length(value: Any, name: str = "max_length") -> int:
    """A number of new tokens: 1 to :data:`LONGEST`."""
    return checks.whole_number(value, name, least=1, most=LONGEST)


def count(value: Any, name: str) -> int:
    """A number of hypotheses: 1 to :data:`LONGEST`."""
    cure = "width=1 is greedy search" if name == "width" else None
    return checks.whole_number(value, name, least=1, most=LONGEST, cure=cure)


def normalization(value: Any) -> bool | None:
    """``normalize``: ``True``, ``False``, or ``None`` to follow the step function."""
    return None if value is None else checks.flag(value, "normalize")


def end_tokens(eos: Any) -> tuple[int, ...]:
    """End tokens as a sorted tuple.

    >>> end_tokens(None), end_tokens(3), end_tokens([5, 2])
    ((), (3,), (2, 5))
    """
    if eos is None:
        return ()
    if getattr(eos, "ndim", None) == 0 or isinstance(eos, (int, float)):
        return (checks.whole_number(eos, "eos", least=-LARGEST, most=LARGEST),)
    several = (
        sorted(eos, key=str) if isinstance(eos, (set, frozenset)) else eos
    )  # a set has no order, nor needs one
    rule = "eos must be one end token or a list of end tokens: whole numbers"
    try:
        return tuple(
            sorted(
                set(checks.whole_numbers(several, "eos", least=-LARGEST, most=LARGEST, at_least=0))
            )
        )
    except InputError:
        raise InputError(rule, got=f"eos = {checks.shown(eos)}") from None


def score_function(score: Any) -> Score:
    """The score that complete hypotheses are compared by."""
    if not isinstance(score, Score):
        raise InputError(
            "score is SumLogProb(), LengthNormalized(alpha), GNMT(alpha), WordReward(r), or a Score of your own",
            got=f"score = {checks.shown(score)}",
        )
    return score


def check_end_tokens(eos: tuple[int, ...], M: int) -> None:
    """Refuse end tokens that the vocabulary does not have."""
    for token in eos:
        if not 0 <= token < M:
            raise InputError(
                "end tokens belong to the vocabulary",
                got=f"eos = {token}, vocabulary of {M} tokens (0 to {M - 1})",
                cause="the end token of another tokenizer",
            )
