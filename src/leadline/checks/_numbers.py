"""Checks of numbers, seeds and flags."""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

from leadline.checks._objects import items
from leadline.checks._shown import shown
from leadline.errors import InputError

Number = TypeVar("Number", int, float)

LARGEST_SEED = 2**63 - 1
"""The largest seed that both NumPy and torch accept."""


def whole_number(
    value: Any,
    name: str,
    *,
    least: int | None = None,
    most: int | None = None,
    cure: str | None = None,
) -> int:
    """Return ``value`` as an ``int`` between ``least`` and ``most``, both included.

    Booleans, fractions and text raise an error.

    >>> whole_number(np.int64(3), "width", least=1)
    3
    >>> whole_number(0, "width", least=1)
    Traceback (most recent call last):
    leadline.errors.InputError: width must be a whole number of at least 1
      got:   width = 0
    """
    plain = _as_int(value)
    if plain is None or not _is_between(plain, least, most):
        rule = f"{name} must be a whole number{_range(least, most)}"
        quoted = _from_text(value, int)
        if quoted is not None and _is_between(quoted, least, most):
            cure = f"{name} = {quoted}, without quotes"
        raise InputError(rule, got=f"{name} = {shown(value)}", cure=cure)
    return plain


def optional_whole_number(
    value: Any,
    name: str,
    *,
    least: int | None = None,
    most: int | None = None,
    cure: str | None = None,
) -> int | None:
    """Return ``None``, or ``value`` as an ``int`` between ``least`` and ``most``."""
    if value is None:
        return None
    return whole_number(value, name, least=least, most=most, cure=cure)


def whole_numbers(
    value: Any, name: str, *, least: int | None = None, most: int | None = None, at_least: int = 1
) -> tuple[int, ...]:
    """Return a tuple of whole numbers, each between ``least`` and ``most``.

    Args:
        value: a list, tuple, range, array or series.
        name: name of the argument, for messages.
        least: smallest allowed number.
        most: largest allowed number.
        at_least: smallest allowed length of the list.
    """
    listed = items(value, name, least=at_least, of="whole numbers")
    return tuple(
        whole_number(item, f"{name}[{i}]", least=least, most=most) for i, item in enumerate(listed)
    )


def number(
    value: Any,
    name: str,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    cure: str | None = None,
) -> float:
    """Return ``value`` as a finite ``float`` within the given limits.

    The limits ``least`` and ``most`` are allowed values; ``above`` and ``below`` are not.

    >>> number("0.1", "lr", above=0)
    Traceback (most recent call last):
    leadline.errors.InputError: lr must be a finite number above 0
      got:   lr = '0.1'
      cure:  lr = 0.1, without quotes
    """

    def is_allowed(candidate: float) -> bool:
        return (
            math.isfinite(candidate)
            and _is_between(candidate, least, most)
            and (above is None or candidate > above)
            and (below is None or candidate < below)
        )

    plain = _as_float(value)
    if plain is None or not is_allowed(plain):
        limits = [
            f"above {above:g}" if above is not None else "",
            f"at least {least:g}" if least is not None else "",
            f"below {below:g}" if below is not None else "",
            f"at most {most:g}" if most is not None else "",
        ]
        limit = " and ".join(text for text in limits if text)
        rule = f"{name} must be a finite number {limit}".rstrip()
        quoted = _from_text(value, float)
        if quoted is not None and is_allowed(quoted):
            cure = f"{name} = {value.strip()}, without quotes"
        raise InputError(rule, got=f"{name} = {shown(value)}", cure=cure)
    return plain


def seed(value: Any, name: str = "seed") -> int:
    """Return ``value`` as a seed: a whole number from 0 to 2^63 - 1.

    >>> seed(-1)
    Traceback (most recent call last):
    leadline.errors.InputError: seed must be a whole number from 0 to 9223372036854775807
      got:   seed = -1
    """
    return whole_number(value, name, least=0, most=LARGEST_SEED)


def optional_seed(value: Any, name: str = "seed") -> int | None:
    """Return ``None``, or ``value`` as a seed."""
    return None if value is None else seed(value, name)


def seeds(value: Any, name: str = "seeds", *, least: int = 1) -> tuple[int, ...]:
    """Return a tuple of at least ``least`` different seeds.

    Text, sets and single numbers raise an error.

    >>> seeds(range(3))
    (0, 1, 2)
    """
    plain = tuple(
        seed(item, f"{name}[{i}]") for i, item in enumerate(items(value, name, least=least))
    )
    repeated = [item for item in plain if plain.count(item) > 1]
    if repeated:
        raise InputError(
            f"{name} must differ from one another",
            got=f"{name} contains {repeated[0]} more than once",
        )
    return plain


def flag(value: Any, name: str) -> bool:
    """Return ``value`` as a ``bool``. Numbers and text raise an error.

    >>> flag(np.True_, "exact")
    True
    """
    if not isinstance(value, (bool, np.bool_)):
        is_quoted = isinstance(value, str) and value in ("True", "False")
        cure = f"{name} = {value}, without quotes" if is_quoted else None
        raise InputError(f"{name} must be True or False", got=f"{name} = {shown(value)}", cure=cure)
    return bool(value)


def _as_int(value: Any) -> int | None:
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, np.ndarray) or type(value).__module__.partition(".")[0] == "torch":
        if getattr(value, "shape", None) != ():
            return None
        try:
            inner = value.item()
        except (RuntimeError, NotImplementedError, ValueError):
            return None
        return inner if isinstance(inner, int) and not isinstance(inner, bool) else None
    return None


def _as_float(value: Any) -> float | None:
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, (Real, np.number)) and not isinstance(value, np.complexfloating):
        try:
            return float(value)
        except (OverflowError, TypeError, ValueError):
            return None
    if isinstance(value, np.ndarray) or type(value).__module__.partition(".")[0] == "torch":
        if getattr(value, "shape", None) != ():
            return None
        try:
            inner = value.item()
        except (RuntimeError, NotImplementedError, ValueError):
            return None
        return (
            float(inner)
            if isinstance(inner, (int, float)) and not isinstance(inner, bool)
            else None
        )
    return None


def _from_text(value: Any, convert: Callable[[str], Number]) -> Number | None:
    """Return the number that a text spells, or ``None``."""
    if not isinstance(value, str) or not value.isascii() or "_" in value:
        return None
    try:
        return convert(value)
    except ValueError:
        return None


def _is_between(value: float, least: float | None, most: float | None) -> bool:
    """True if a number lies between two limits, both included."""
    return (least is None or value >= least) and (most is None or value <= most)


def _range(least: int | None, most: int | None) -> str:
    if least is not None and most is not None:
        return f" from {least} to {most}"
    if least is not None:
        return f" of at least {least}"
    if most is not None:
        return f" of at most {most}"
    return ""
