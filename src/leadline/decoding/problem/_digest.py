"""A digest of everything that a step function reads besides its arguments.

It covers weights, arrays, settings and global names. A certificate is used again only if the digest
is the same, because any change is another problem.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from leadline.torch_internals import in_place_changes, parts_of

MOST = 20_000
"""Largest number of values to read; a step function that holds more has no digest."""

WHOLE = 1024
"""Largest number of elements of a tensor that are all read."""

SAMPLE = 64
"""Approximate number of elements that are read of a larger tensor. Torch counts its in-place
changes, except those made through ``.data``."""

_IN_NUMPY = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.bool}
)
"""Types that NumPy has, too; NumPy reads a sample in a fifth of torch's time."""

LIBRARIES = frozenset({"torch", "transformers", "peft", "leadline", "numpy"})
"""Packages whose modules keep all state in their weights and buffers."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, torch.dtype, torch.device)

_BY_NAME = (type, ModuleType, BuiltinFunctionType, CodeType)
"""Types whose objects do not change, so that the digest covers their name only."""


def digest_of(owners: Iterable[Any]) -> str:
    """Return the digest of all values that objects hold; empty if there are too many.

    >>> weights = np.zeros(3)
    >>> before = digest_of([lambda tokens, state: weights])
    >>> weights[0] = 1.0
    >>> before == digest_of([lambda tokens, state: weights])
    False
    """
    parts: list[bytes] = []
    # Keeps temporary objects alive, so that no two objects have the same id.
    seen: dict[int, Any] = {}
    waiting: list[Any] = [*owners]
    count = 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > MOST:
            return ""
        kind = type(value).__name__
        if isinstance(value, _PLAIN):
            parts.append(f"{kind}:{value!r};".encode())
        elif isinstance(value, _BY_NAME):
            parts.append(f"{kind}:{getattr(value, '__name__', '')};".encode())
        elif id(value) in seen:
            parts.append(f"{kind};".encode())
        else:
            seen[id(value)] = value
            is_array = isinstance(value, (Tensor, np.ndarray))
            parts.append(f"{kind}:".encode() + (_numbers(value) if is_array else b""))
            waiting += _inside(value)
    return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


def _numbers(value: Any) -> bytes:
    """Return the numbers of an array; for a large tensor, a sample and its count of changes."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return b""
        return f"{value.dtype}{value.shape}".encode() + value.tobytes()
    name = f"{id(value)}.{in_place_changes(value)}{value.dtype}{tuple(value.shape)}".encode()
    if value.layout is not torch.strided or value.is_quantized or value.is_meta:
        return name
    plain = value.detach()
    if plain.numel() > WHOLE and not plain.is_contiguous():
        return name
    if plain.is_cpu and plain.dtype in _IN_NUMPY and not plain.is_neg():
        numbers = plain.numpy().reshape(-1)
        if numbers.size > WHOLE:
            numbers = numbers[:: numbers.size // SAMPLE]
        return name + numbers.tobytes()
    if plain.numel() > WHOLE:
        plain = plain.view(-1)[:: plain.numel() // SAMPLE]
    plain = plain.resolve_conj().resolve_neg()
    if plain.is_floating_point():
        plain = plain.double()
    return name + plain.cpu().numpy().tobytes()


def _inside(value: Any) -> Iterator[Any]:
    """Yield the values that an object holds."""
    if isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, (set, frozenset)):
        yield from sorted(value, key=repr)
    elif isinstance(value, Mapping):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, np.ndarray):
        yield from value.ravel().tolist() if value.dtype == object else ()
    elif isinstance(value, MethodType):
        yield value.__self__
        yield value.__func__
    elif isinstance(value, functools.partial):
        yield value.func
        yield value.args
        yield value.keywords
    elif isinstance(value, FunctionType):
        yield from _of_function(value)
    elif isinstance(value, nn.Module):
        yield from _of_module(value)
    elif not isinstance(value, Tensor):
        yield from getattr(value, "__dict__", {}).items()
        yield from (getattr(value, name, None) for name in _slots(type(value)))
        yield from _calls(type(value))


def _of_module(module: nn.Module) -> Iterator[Any]:
    """Yield weights, buffers and submodules, and the attributes of modules outside libraries."""
    yield module.training
    yield from parts_of(module)
    if not _is_of_library(type(module)):
        yield from (value for name, value in vars(module).items() if not name.startswith("_"))
        yield from _calls(type(module))


def _is_of_library(kind: type) -> bool:
    """True for classes of a library, whose functions read no global state."""
    return kind.__module__.partition(".")[0] in LIBRARIES


def _slots(kind: type) -> Iterator[str]:
    """Yield the names in ``__slots__`` of a class and its parents."""
    for parent in kind.__mro__:
        slots = vars(parent).get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots


def _calls(kind: type) -> Iterator[Callable[..., Any]]:
    """Yield the functions that run when an object of a class is called."""
    if not _is_of_library(kind):
        yield from (vars(kind)[name] for name in ("__call__", "forward") if name in vars(kind))


def _of_function(function: FunctionType) -> Iterator[Any]:
    """Yield captured variables, defaults, attributes, and the global values that a function reads.

    Global functions count if they belong to the same module.
    """
    yield from (cell.cell_contents for cell in function.__closure__ or () if is_filled(cell))
    yield function.__defaults__
    yield function.__kwdefaults__
    yield from vars(function).items()
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if not isinstance(value, FunctionType) or value.__module__ == function.__module__:
            yield value


def _names(code: CodeType) -> Iterator[str]:
    """Yield the global names in a function's code, inner functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def is_filled(cell: Any) -> bool:
    """True if a captured variable has a value."""
    try:
        cell.cell_contents  # noqa: B018  reading an empty cell raises an error
    except ValueError:
        return False
    return True
