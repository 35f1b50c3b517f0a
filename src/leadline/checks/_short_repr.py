"""A short ``repr`` for records that hold arrays."""

import dataclasses
from collections.abc import Mapping
from typing import Any

LONGEST = 300
"""Maximum number of characters in the ``repr`` of a record."""


class ShortRepr:
    """A base class of dataclasses whose ``repr`` shows shapes instead of arrays.

    The dataclass decorator writes a ``__repr__`` unless the class body has one. Each subclass
    therefore gets this ``__repr__`` before the decorator runs.

    >>> import numpy as np
    >>> @dataclasses.dataclass
    ... class Curve(ShortRepr):
    ...     name: str
    ...     values: np.ndarray
    >>> Curve("loss", np.zeros((2, 3)))
    Curve(name='loss', values=(2, 3) float64)
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in cls.__dict__:
            type.__setattr__(cls, "__repr__", cls.__mro__[1].__repr__)

    def __repr__(self) -> str:
        return cut(f"{type(self).__name__}({', '.join(fields_in_short(self))})")


def cut(text: str, longest: int = LONGEST) -> str:
    """Cut a text to at most ``longest`` characters.

    >>> cut("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= longest else text[: longest - 1] + "…"


def fields_in_short(record: Any, without: tuple[str, ...] = ()) -> list[str]:
    """Return ``name=value`` for each field of a dataclass, with shapes in place of arrays."""
    found = []
    for field in dataclasses.fields(record):
        if field.name not in without and field.repr:
            value = getattr(record, field.name, None)
            if value is not None:
                found.append(f"{field.name}={_in_short(value)}")
    return found


def _in_short(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        kind = str(getattr(value, "dtype", "")).removeprefix("torch.")
        return f"{tuple(shape)} {kind}".strip() if shape else repr(value)
    if isinstance(value, (str, int, float, bool)):
        return cut(repr(value), 40)
    if isinstance(value, Mapping):
        return f"{len(value)} of {_kind(value.values())}" if value else "{}"
    if isinstance(value, (tuple, list)):
        text = repr(value) if all(isinstance(item, (str, int, float)) for item in value) else ""
        if text and len(text) <= 40:
            return text
        return f"{len(value)} of {_kind(value)}" if len(value) else "()"
    return type(value).__name__


def _kind(values: Any) -> str:
    return type(next(iter(values))).__name__
