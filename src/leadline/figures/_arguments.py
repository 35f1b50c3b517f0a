"""Checks of the arguments of drawing functions; each returns the plain value or refuses it."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from leadline import checks
from leadline.errors import InputError


def numbers(
    value: Any, name: str, *, ndim: int | None = None, length: int | None = None
) -> np.ndarray:
    """Return an array of numbers in a type that Plotly's script reads; NaN and infinity may occur.

    Args:
        value: any array-like.
        name: name of the argument, for errors.
        ndim: required number of axes.
        length: required length of the first axis.

    >>> numbers([1, 2], "x", ndim=1, length=3)
    Traceback (most recent call last):
    leadline.errors.InputError: x must have length 3
      got:   x of length 2
    """
    # Pages redraw many arrays in a second, so the common case skips the general check.
    is_plain = type(value) is np.ndarray and value.dtype == np.float64
    plain = value if is_plain else checks.array(value, name)
    if plain.dtype.kind not in "biuf":
        raise InputError(
            f"{name} must be an array of numbers", got=f"{name} = {checks.shown(value)}"
        )
    if ndim is not None and plain.ndim != ndim:
        rule = f"{name} must have {ndim} {'axis' if ndim == 1 else 'axes'}"
        raise InputError(rule, got=f"{name} of shape {plain.shape}")
    if length is not None and len(plain) != length:
        raise InputError(f"{name} must have length {length}", got=f"{name} of length {len(plain)}")
    if plain.dtype.kind == "b":
        return plain.astype(np.int64)
    is_other_precision = plain.dtype.kind == "f" and plain.dtype.itemsize not in (4, 8)
    if is_other_precision:
        return plain.astype(np.float64)
    return plain


LARGEST = 1e300
"""Largest size of a number in a drawing; the range between two larger ones would overflow."""


def heights(
    value: Any, name: str, *, ndim: int | None = 1, length: int | None = None, noun: str = "numbers"
) -> np.ndarray:
    """Return numbers to draw; refuse finite numbers beyond :data:`LARGEST`.

    NaN and infinity may occur.
    """
    plain = numbers(value, name, ndim=ndim, length=length)
    wrong = np.isfinite(plain) & (np.abs(plain) > LARGEST)
    if wrong.any():
        raise InputError(
            f"{name} must contain {noun} between -1e300 and 1e300, or infinities",
            got=f"{plain[wrong].flat[0]}",
        )
    return plain


def places(value: Any, name: str, *, log: bool = False) -> np.ndarray:
    """Return places on an axis: finite numbers, at least one; above 0 on a logarithmic axis."""
    plain = heights(value, name)
    if not len(plain):
        raise InputError(f"{name} must hold at least one place", got=f"{name} is empty")
    is_wrong = ~np.isfinite(plain)
    if log:
        is_wrong |= plain <= 0
    wrong = np.flatnonzero(is_wrong)
    if len(wrong):
        wanted = "finite numbers"
        if log:
            wanted += " above 0, since its axis is logarithmic"
        raise InputError(f"{name} must be {wanted}", got=f"{name}[{wrong[0]}] = {plain[wrong[0]]}")
    return plain


def texts(value: Any, name: str, *, length: int | None = None) -> list[str]:
    """Return a list of texts; refuse another number of them than ``length``."""
    listed = checks.items(value, name, of="texts")
    if length is not None and len(listed) != length:
        raise InputError(f"{name} must be {length} texts", got=f"{name} holds {len(listed)}")
    return [checks.text(text, f"{name}[{i}]") for i, text in enumerate(listed)]


def flags(value: Any, name: str, *, length: int) -> np.ndarray:
    """Return ``length`` flags; an empty sequence stands for ``False`` throughout."""
    listed = checks.items(value, name, of="True and False")
    if not listed:
        return np.zeros(length, dtype=bool)
    if len(listed) != length:
        raise InputError(f"{name} must have length {length}", got=f"{name} of length {len(listed)}")
    return np.array([checks.flag(flag, f"{name}[{i}]") for i, flag in enumerate(listed)])


def named(value: Any, name: str) -> dict[str, Any]:
    """Return a dictionary whose keys are texts."""
    plain = checks.mapping(value, name)
    for key in plain:
        checks.text(key, f"a key of {name}")
    return plain


def labels(**given: Any) -> None:
    """Refuse titles and labels that are not texts."""
    for name, text in given.items():
        checks.text(text, name)


def check_layout(layout: Mapping[str, Any]) -> None:
    """Refuse a property that Plotly's layout does not have.

    The values are checked by Plotly, when :func:`~leadline.figures.interactive` makes a figure.
    """
    for key in layout:
        name_without_number = key.rstrip("0123456789")  # xaxis2
        name_of_parent = key.partition("_")[0].rstrip("0123456789")  # xaxis2_range
        if not {key, name_without_number, name_of_parent} & _layout_names():
            raise InputError(
                "layout takes the properties of Plotly's layout",
                got=f"{key} = {checks.shown(layout[key])}",
            )


def expanded(layout: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layout with Plotly's short names written out.

    >>> expanded({"margin_t": 64, "margin_b": 8, "paper_bgcolor": "white"})
    {'margin': {'t': 64, 'b': 8}, 'paper_bgcolor': 'white'}
    """
    layout_parts: dict[str, Any] = {}
    for key, value in layout.items():
        if "_" not in key or key in _layout_names():
            inner = layout_parts.get(key)
            if isinstance(inner, dict) and isinstance(value, Mapping):
                layout_parts[key] = {**inner, **value}
            else:
                layout_parts[key] = value
            continue
        *outer, last = key.split("_")
        place = layout_parts
        for name in outer:
            above = place.get(name)
            place[name] = dict(above) if isinstance(above, Mapping) else {}
            place = place[name]
        place[last] = value
    return layout_parts


@cache
def _layout_names() -> frozenset[str]:
    import plotly.graph_objects as go

    return frozenset(go.Layout())
