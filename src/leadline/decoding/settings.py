"""The settings that all searches have in common, checked in the words that the caller used."""

from collections.abc import Sequence
from numbers import Integral
from operator import index
from typing import Any

from leadline.decoding.scores import Score
from leadline.errors import InputError

EndTokens = int | Sequence[int] | None
"""One end token, several, or none."""


def check_counts(**counts: int | None) -> None:
    """Refuse what is not a whole number or below 1, by name; ``None`` is no limit."""
    for name, value in counts.items():
        if value is None:
            continue
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise InputError(f"{name} is a whole number", got=f"{name} = {value!r}")
        if value < 1:
            raise InputError(
                f"{name} must be at least 1",
                got=f"{name} = {value}",
                cure="width=1 is greedy search" if name == "width" else "",
            )


def end_tokens(eos: EndTokens) -> tuple[int, ...]:
    """End tokens as a sorted tuple.

    >>> end_tokens(None), end_tokens(3), end_tokens([5, 2])
    ((), (3,), (2, 5))
    """
    if eos is None:
        return ()
    several: Any = eos
    try:
        try:
            return (index(several),)
        except TypeError:
            return tuple(sorted({index(token) for token in several}))
    except TypeError:
        raise InputError("eos is one end token or several: whole numbers", got=f"eos = {eos!r}") from None


def check_score(score: Any) -> None:
    """Refuse what is no score."""
    if not isinstance(score, Score):
        raise InputError(
            "score is SumLogProb(), LengthNormalized(alpha), GNMT(alpha), WordReward(r), or a Score of your own",
            got=f"score = {score!r}",
        )


def check_end_tokens(eos: tuple[int, ...], M: int) -> None:
    """Refuse end tokens that the vocabulary does not have."""
    for token in eos:
        if not 0 <= token < M:
            raise InputError(
                "end tokens belong to the vocabulary",
                got=f"eos = {token}, vocabulary of {M} tokens (0 to {M - 1})",
                cause="the end token of another tokenizer",
            )
