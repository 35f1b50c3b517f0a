"""Checks of arguments that models and searches share: lengths, counts, end tokens."""

from collections.abc import Iterable
from typing import Any

from leadline import checks
from leadline.errors import InputError

EndTokens = int | Iterable[int] | None
"""One end token, several, or none."""

LONGEST = 1_000_000
"""Largest ``max_length``, beam width and number of hypotheses: more does not fit into memory."""

LARGEST = 2**31 - 1
"""Largest token id."""


def length(value: Any, name: str = "max_length") -> int:
    """Return a number of new tokens, checked to lie between 1 and :data:`LONGEST`."""
    return checks.whole_number(value, name, least=1, most=LONGEST)


def count(value: Any, name: str) -> int:
    """Return a number of hypotheses, checked to lie between 1 and :data:`LONGEST`."""
    cure = "width=1 is greedy search" if name == "width" else None
    return checks.whole_number(value, name, least=1, most=LONGEST, cure=cure)


def normalization(value: Any) -> bool | None:
    """Return ``normalize``, checked to be ``True``, ``False`` or ``None``."""
    return None if value is None else checks.flag(value, "normalize")


def end_tokens(eos: Any) -> tuple[int, ...]:
    """Return end tokens as a sorted tuple without repeats.

    >>> end_tokens(None), end_tokens(3), end_tokens([5, 2])
    ((), (3,), (2, 5))
    """
    if eos is None:
        return ()
    if getattr(eos, "ndim", None) == 0 or isinstance(eos, (int, float)):
        return (checks.whole_number(eos, "eos", least=-LARGEST, most=LARGEST),)
    is_set = isinstance(eos, (set, frozenset))
    listed = sorted(eos, key=str) if is_set else eos  # checks.whole_numbers() refuses sets
    try:
        tokens = checks.whole_numbers(listed, "eos", least=-LARGEST, most=LARGEST, at_least=0)
    except InputError:
        raise InputError(
            "eos must be one end token or a list of end tokens: whole numbers",
            got=f"eos = {checks.shown(eos)}",
        ) from None
    return tuple(sorted(set(tokens)))


def check_end_tokens(eos: tuple[int, ...], M: int) -> None:
    """Refuse end tokens outside the vocabulary."""
    for token in eos:
        if not 0 <= token < M:
            raise InputError(
                "eos must belong to the vocabulary",
                got=f"eos = {token}, vocabulary of {M} tokens (0 to {M - 1})",
                cause="the end token of another tokenizer",
            )
