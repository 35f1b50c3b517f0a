"""Checks of arguments. Each check returns the plain value that the caller should use from then on.

A check accepts what NumPy, torch and pandas users pass for a plain value (``numpy.int64(3)``, a tensor with one
element) and returns Python's own ``int``, ``float``, ``bool``, ``str``, ``tuple`` or a NumPy array. Everything else is
refused with an :class:`~leadline.errors.InputError` that names the argument and its value.
"""

import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from leadline.errors import InputError, nearest

if TYPE_CHECKING:
    import torch

Kind = TypeVar("Kind")

_SHORT = (
    str,
    bytes,
    Integral,
    Real,
    complex,
    list,
    tuple,
    dict,
    set,
    frozenset,
    range,
    type(None),
    np.generic,
    os.PathLike,
)
"""Kinds whose ``repr`` says what the value is."""

LARGEST_SEED = 2**63 - 1
"""The largest seed that both NumPy and torch accept."""


def whole_number(
    value: Any, name: str, *, least: int | None = None, most: int | None = None, cure: str | None = None
) -> int:
    """A whole number between ``least`` and ``most``, both included.

    Booleans, fractions and text are refused.

    >>> whole_number(np.int64(3), "width", least=1)
    3
    >>> whole_number(0, "width", least=1)
    Traceback (most recent call last):
    leadline.errors.InputError: width must be a whole number of at least 1
      got:   width = 0
    """
    plain = _as_int(value)
    too_small = plain is not None and least is not None and plain < least
    too_large = plain is not None and most is not None and plain > most
    if plain is None or too_small or too_large:
        rule = f"{name} must be a whole number{_range(least, most)}"
        raise InputError(rule, got=f"{name} = {shown(value)}", cure=cure)
    return plain


def optional_whole_number(
    value: Any, name: str, *, least: int | None = None, most: int | None = None, cure: str | None = None
) -> int | None:
    """``None``, or a whole number between ``least`` and ``most``."""
    if value is None:
        return None
    return whole_number(value, name, least=least, most=most, cure=cure)


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
    """A finite real number; ``least`` and ``most`` are included in its range, ``above`` and ``below`` are not.

    >>> number("0.1", "lr", above=0)
    Traceback (most recent call last):
    leadline.errors.InputError: lr must be a finite number above 0
      got:   lr = '0.1'
    """
    plain = _as_float(value)
    is_allowed = (
        plain is not None
        and math.isfinite(plain)
        and (least is None or plain >= least)
        and (most is None or plain <= most)
        and (above is None or plain > above)
        and (below is None or plain < below)
    )
    if plain is None or not is_allowed:
        limits = [
            f"above {above:g}" if above is not None else "",
            f"at least {least:g}" if least is not None else "",
            f"below {below:g}" if below is not None else "",
            f"at most {most:g}" if most is not None else "",
        ]
        limit = " and ".join(text for text in limits if text)
        rule = f"{name} must be a finite number {limit}".rstrip()
        raise InputError(rule, got=f"{name} = {shown(value)}", cure=cure)
    return plain


def seed(value: Any, name: str = "seed") -> int:
    """A seed: a whole number from 0 to 2^63 - 1.

    >>> seed(-1)
    Traceback (most recent call last):
    leadline.errors.InputError: seed must be a whole number from 0 to 9223372036854775807
      got:   seed = -1
    """
    return whole_number(value, name, least=0, most=LARGEST_SEED)


def optional_seed(value: Any, name: str = "seed") -> int | None:
    """``None``, or a seed."""
    return None if value is None else seed(value, name)


def seeds(value: Any, name: str = "seeds", *, least: int = 1) -> tuple[int, ...]:
    """At least ``least`` different seeds, as a tuple; text, sets and a single number are refused.

    >>> seeds(range(3))
    (0, 1, 2)
    """
    plain = tuple(seed(item, f"{name}[{i}]") for i, item in enumerate(items(value, name, least=least)))
    repeated = [item for item in plain if plain.count(item) > 1]
    if repeated:
        raise InputError(f"{name} must differ from one another", got=f"{name} contains {repeated[0]} more than once")
    return plain


def flag(value: Any, name: str) -> bool:
    """``True`` or ``False``; numbers and text are refused.

    >>> flag(np.True_, "exact")
    True
    """
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} must be True or False", got=f"{name} = {shown(value)}")
    return bool(value)


def text(value: Any, name: str, *, least: int = 0) -> str:
    """Text of at least ``least`` characters."""
    if not isinstance(value, str) or len(value) < least:
        wanted = "text" if not least else f"text of at least {least} character{'s' * (least > 1)}"
        raise InputError(f"{name} must be {wanted}", got=f"{name} = {shown(value)}")
    return str(value)


def choice(value: Any, name: str, options: Iterable[str]) -> str:
    """One of the texts in ``options``; the refusal lists them, the most similar first.

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
    """The items of a list, tuple, range, array or series, as a tuple of at least ``least`` items.

    Text and mappings are refused because their items are rarely meant; sets are refused because they have no order.

    >>> items("12", "seeds")
    Traceback (most recent call last):
    leadline.errors.InputError: seeds must be a list of values
      got:   seeds = '12'
      cure:  write [...] around it
    """
    plain = _as_items(value)
    if plain is None or len(plain) < least:
        wanted = f"a list of {of}" if least < 2 else f"a list of at least {least} {of}"
        is_empty = plain is not None and not plain
        rule = f"{name} must be {wanted}" + (", not empty" if is_empty and least == 1 else "")
        is_single = isinstance(value, (str, bytes, int, float))
        raise InputError(rule, got=f"{name} = {shown(value)}", cure="write [...] around it" if is_single else None)
    return plain


def whole_numbers(
    value: Any, name: str, *, least: int | None = None, most: int | None = None, at_least: int = 1
) -> tuple[int, ...]:
    """``at_least`` or more whole numbers, each between ``least`` and ``most``, as a tuple."""
    listed = items(value, name, least=at_least, of="whole numbers")
    return tuple(whole_number(item, f"{name}[{i}]", least=least, most=most) for i, item in enumerate(listed))


def mapping(value: Any, name: str, *, least: int = 0) -> dict[Any, Any]:
    """A dictionary of at least ``least`` entries, as a plain ``dict``."""
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
    """``value`` itself, if it is a ``kind``; ``wanted`` says in words what it should be.

    >>> instance([1], "found", dict, wanted="the result of a search")
    Traceback (most recent call last):
    leadline.errors.InputError: found must be the result of a search
      got:   found = [1]
    """
    if not isinstance(value, kind):
        described = wanted or f"a {kind.__name__}"
        raise InputError(f"{name} must be {described}", got=f"{name} = {shown(value)}", cause=cause, cure=cure)
    return value


def function(value: Any, name: str, *, wanted: str | None = None, cure: str | None = None) -> Callable[..., Any]:
    """``value`` itself, if it can be called."""
    if not callable(value):
        raise InputError(f"{name} must be {wanted or 'a function'}", got=f"{name} = {shown(value)}", cure=cure)
    return value


def path(value: Any, name: str) -> Path:
    """A path, from text or any path object; whether a file is there is for the caller to check."""
    try:
        plain = os.fspath(value)
    except TypeError:
        plain = None
    if not isinstance(plain, str) or not plain or "\0" in plain:
        raise InputError(f"{name} must be a path to a file or folder", got=f"{name} = {shown(value)}")
    return Path(plain)


def device(value: Any, name: str = "device") -> "torch.device":
    """A device of torch that this machine has.

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
        raise InputError(wanted, got=f"{name} = 'meta'", cause="tensors on the meta device hold no numbers")
    return found


def array(value: Any, name: str, *, wanted: str = "an array of numbers") -> np.ndarray:
    """A NumPy array from anything array-like: lists, NumPy, torch on any device, pandas.

    Masked cells of a NumPy masked array become missing: NaN among numbers, ``None`` otherwise. The dtype of the result
    is not checked, except that objects which are plain numbers are converted.

    Raises:
        InputError: ``value`` is sparse, quantised, on the meta device, ragged, complex, or not array-like.

    >>> array(np.ma.masked_array([1, 2], mask=[False, True]), "x")
    array([ 1., nan])
    """
    if isinstance(value, (list, tuple)) and any(isinstance(item, np.ma.MaskedArray) for item in value):
        value = _joined(value, name, wanted)
    if isinstance(value, np.ma.MaskedArray) and value.dtype.kind not in "cV":
        return _unmasked(value)
    if type(value).__module__.partition(".")[0] == "torch":
        value = _numbers_of_tensor(value, name, wanted)
    if type(value).__module__.startswith("scipy.sparse"):
        raise InputError(f"{name} must be dense", got=f"{name} = {shown(value)}", cure=f"use {name}.toarray()")
    try:
        with warnings.catch_warnings() if isinstance(value, (list, tuple)) else nullcontext():
            if isinstance(value, (list, tuple)):
                warnings.simplefilter("ignore")  # a masked cell in a list of lists becomes NaN, which is meant
            plain = np.asarray(value)
    except Exception as error:  # an object's own conversion may raise anything
        raise InputError(
            f"{name} must be {wanted}",
            got=f"{name} = {shown(value)}",
            cause=f"rows that differ in length, or objects that NumPy cannot convert ({error})",
            cure="make the rows equal in length",
        ) from None
    if plain.dtype.kind in "cV":
        raise InputError(f"{name} must be {wanted}", got=f"{name} of dtype {plain.dtype}")
    if plain.dtype == object and not isinstance(value, np.ndarray) and plain.ndim == 0:
        raise InputError(f"{name} must be {wanted}", got=f"{name} = {shown(value)}")
    return plain


def shown(value: Any) -> str:
    """A value as an error shows it: short, on one line, and never an error itself.

    >>> shown("x" * 100)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…"
    >>> shown(np.zeros((2, 3)))
    'an array of shape (2, 3), float64'
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None and not isinstance(value, (type, np.generic)):
        kind = "a tensor" if type(value).__module__.partition(".")[0] == "torch" else "an array"
        return f"{kind} of shape {tuple(shape)}, {str(dtype).removeprefix('torch.')}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if not isinstance(value, _SHORT):
        return f"a {type(value).__name__}"
    try:
        line = repr(value)
    except Exception:  # a value whose own repr fails must still be refused kindly
        return f"a {type(value).__name__}"
    line = " ".join(line.split())
    return line if len(line) <= 60 else line[:57] + "…"


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
        return float(inner) if isinstance(inner, (int, float)) and not isinstance(inner, bool) else None
    return None


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


def _range(least: int | None, most: int | None) -> str:
    if least is not None and most is not None:
        return f" from {least} to {most}"
    if least is not None:
        return f" of at least {least}"
    if most is not None:
        return f" of at most {most}"
    return ""


def _joined(value: Sequence[Any], name: str, wanted: str) -> np.ma.MaskedArray:
    """A list of masked arrays as one; ``numpy.asarray`` would drop their masks."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a masked cell becomes NaN, which is meant
            return np.ma.array(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be {wanted}", got=f"{name} = {shown(value)}", cause=str(error)) from None


def _unmasked(value: np.ma.MaskedArray) -> np.ndarray:
    if not np.ma.is_masked(value):
        return np.asarray(value)
    kind = value.dtype
    if kind.kind in "biu":
        kept = value.compressed()
        is_exact = not kept.size or (kept.max() <= _EXACT and kept.min() >= -_EXACT)
        kind = np.dtype(float if is_exact else object)
    elif kind.kind != "f":
        kind = np.dtype(object)
    filled = np.asarray(value.data).astype(kind)
    filled[np.ma.getmaskarray(value)] = np.nan if kind.kind == "f" else None
    return filled


_EXACT = 2**53
"""Whole numbers up to this size are exact as float64."""


def _numbers_of_tensor(value: Any, name: str, wanted: str) -> np.ndarray:
    import torch

    if not isinstance(value, torch.Tensor):
        raise InputError(f"{name} must be {wanted}", got=f"{name} = {shown(value)}")
    cure = None
    if value.is_meta:
        cure = "tensors on the meta device hold no numbers; create the tensor on 'cpu'"
    elif value.layout is not torch.strided:
        cure = f"use {name}.to_dense()"
    elif value.is_quantized:
        cure = f"use {name}.dequantize()"
    elif value.is_complex():
        cure = f"use {name}.real or {name}.abs()"
    if cure is not None:
        raise InputError(f"{name} must be a dense tensor of real numbers", got=f"{name} = {shown(value)}", cure=cure)
    value = value.detach().cpu()
    is_small_float = value.is_floating_point() and value.dtype not in (torch.float16, torch.float32, torch.float64)
    return (value.float() if is_small_float else value).resolve_neg().numpy()
