"""Checks of texts, lists, functions, paths and devices."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from leadline.checks._shown import shown
from leadline.errors import InputError, nearest

if TYPE_CHECKING:
    import torch

Kind = TypeVar("Kind")


def text(value: Any, name: str, *, least: int = 0) -> str:
    """Return ``value`` as a ``str`` of at least ``least`` characters."""
    if not isinstance(value, str) or len(value) < least:
        wanted = "text" if not least else f"text of at least {least} character{'s' * (least > 1)}"
        raise InputError(f"{name} must be {wanted}", got=f"{name} = {shown(value)}")
    return str(value)


def choice(value: Any, name: str, options: Iterable[str]) -> str:
    """Return ``value`` if it is in ``options``. The error lists the options, most similar first.

    >>> choice("reul", "nonlinearity", ("tanh", "relu"))
    Traceback (most recent call last):
    leadline.errors.InputError: nonlinearity must be 'relu' or 'tanh'
      got:   nonlinearity = 'reul'
    """
    known = list(options)
    if isinstance(value, str) and value in known:
        return str(value)
    ordered = nearest(value, known) if isinstance(value, str) else known
    *others, last = [repr(option) for option in ordered]
    rule = f"{name} must be {', '.join(others)} or {last}" if others else f"{name} must be {last}"
    raise InputError(rule, got=f"{name} = {shown(value)}")


def items(value: Any, name: str, *, least: int = 0, of: str = "values") -> tuple[Any, ...]:
    """Return the items of a list, tuple, range, array or series as a tuple.

    Text and mappings raise an error because they are rarely meant as lists, and sets because they
    have no order. The tuple must have at least ``least`` items.

    >>> items("12", "seeds")
    Traceback (most recent call last):
    leadline.errors.InputError: seeds must be a list of values
      got:   seeds = '12'
    """
    plain = _as_items(value)
    if plain is None or len(plain) < least:
        wanted = f"a list of {of}" if least < 2 else f"a list of at least {least} {of}"
        is_empty = plain is not None and not plain
        rule = f"{name} must be {wanted}" + (", not empty" if is_empty and least == 1 else "")
        is_single = isinstance(value, (int, float))
        raise InputError(
            rule,
            got=f"{name} = {shown(value)}",
            cure="write [...] around it" if is_single else None,
        )
    return plain


def mapping(value: Any, name: str, *, least: int = 0) -> dict[Any, Any]:
    """Return ``value`` as a plain ``dict`` of at least ``least`` entries."""
    if not isinstance(value, Mapping) or len(value) < least:
        rule = f"{name} must be a dictionary" + (", not empty" if least else "")
        raise InputError(rule, got=f"{name} = {shown(value)}")
    return dict(value)


def instance(
    value: Any,
    name: str,
    kind: type[Kind],
    *,
    wanted: str | None = None,
    cause: str | None = None,
    cure: str | None = None,
) -> Kind:
    """Return ``value`` if it is an instance of ``kind``. ``wanted`` describes it for the error.

    >>> instance([1], "found", dict, wanted="the result of a search")
    Traceback (most recent call last):
    leadline.errors.InputError: found must be the result of a search
      got:   found = [1]
    """
    if not isinstance(value, kind):
        described = wanted or f"a {kind.__name__}"
        raise InputError(
            f"{name} must be {described}", got=f"{name} = {shown(value)}", cause=cause, cure=cure
        )
    return value


def function(
    value: Any, name: str, *, wanted: str | None = None, cure: str | None = None
) -> Callable[..., Any]:
    """Return ``value`` if it is callable and not a class.

    A class is callable as well, but passing a class is nearly always a mistake.
    """
    if not callable(value) or isinstance(value, type):
        raise InputError(
            f"{name} must be {wanted or 'a function'}", got=f"{name} = {shown(value)}", cure=cure
        )
    return value


def path(value: Any, name: str) -> Path:
    """Return text or a path object as a ``Path``. The path need not exist."""
    try:
        plain = os.fspath(value)
    except TypeError:
        plain = None
    if not isinstance(plain, str) or not plain or "\0" in plain:
        raise InputError(
            f"{name} must be a path to a file or folder", got=f"{name} = {shown(value)}"
        )
    return Path(plain)


def device(value: Any, name: str = "device") -> "torch.device":
    """Return ``value`` as a torch device that this machine has.

    >>> device("cpu")
    device(type='cpu')
    """
    import torch

    wanted = f"{name} must be a device of torch that this machine has, such as 'cpu' or 'cuda:0'"
    if not isinstance(value, (str, torch.device)):
        raise InputError(wanted, got=f"{name} = {shown(value)}")
    try:
        found = torch.device(value)
        if found.type != "meta":
            torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(wanted, got=f"{name} = {shown(value)}", cause=reason) from None
    if found.type == "meta":
        raise InputError(
            wanted, got=f"{name} = 'meta'", cause="tensors on the meta device hold no numbers"
        )
    return found


def _as_items(value: Any) -> tuple[Any, ...] | None:
    if isinstance(value, (str, bytes, Mapping, set, frozenset)):
        return None
    if isinstance(value, Sequence):
        return tuple(value)
    if getattr(value, "ndim", None) == 1 and hasattr(value, "tolist"):
        try:
            return tuple(value.tolist())
        except (RuntimeError, NotImplementedError, TypeError):
            return None
    return None
