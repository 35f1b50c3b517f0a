"""A digest of everything that a step function reads besides its arguments: weights, arrays, settings, global names.

A certificate is used again only where this digest is what it was, since a change of any of these is another problem.
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
"""Values that are looked at; a step function that holds more has no digest."""

WHOLE = 1024
"""Elements of a tensor that are all read."""

SAMPLE = 64
"""Elements that are read of a larger tensor, about. Torch counts its changes, but for those made through ``.data``."""

_IN_NUMPY = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.bool}
)
"""Types that NumPy has, too."""

LIBRARIES = frozenset({"torch", "transformers", "peft", "leadline", "numpy"})
"""Packages whose modules keep what changes in their weights and buffers."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, torch.dtype, torch.device)

_BY_NAME = (type, ModuleType, BuiltinFunctionType, CodeType)
"""Kinds of which the name is enough: what they are does not change."""


def digest_of(owners: Iterable[Any]) -> str:
    """Digest of what objects hold; empty, if they hold too much.

    >>> weights = np.zeros(3)
    >>> before = digest_of([lambda tokens, state: weights])
    >>> weights[0] = 1.0
    >>> before == digest_of([lambda tokens, state: weights])
    False
    """
    parts: list[bytes] = []
    seen: dict[
        int, Any
    ] = {}  # keeps what is made on the way alive, so that no number is given twice
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
    """The numbers of an array; of a large tensor, some of them and the count of its changes."""
    if isinstance(value, np.ndarray):
        return (
            b""
            if value.dtype == object
            else f"{value.dtype}{value.shape}".encode() + value.tobytes()
        )
    name = f"{id(value)}.{in_place_changes(value)}{value.dtype}{tuple(value.shape)}".encode()
    if value.layout is not torch.strided or value.is_quantized or value.is_meta:
        return name
    plain = value.detach()
    if plain.numel() > WHOLE and not plain.is_contiguous():
        return name
    if plain.is_cpu and plain.dtype in _IN_NUMPY and not plain.is_neg():
        numbers = plain.numpy().reshape(-1)  # NumPy reads a sample in a fifth of torch's time
        return (
            name
            + (numbers[:: numbers.size // SAMPLE] if numbers.size > WHOLE else numbers).tobytes()
        )
    if plain.numel() > WHOLE:
        plain = plain.view(-1)[:: plain.numel() // SAMPLE]
    plain = plain.resolve_conj().resolve_neg()
    plain = plain.double() if plain.is_floating_point() else plain
    return name + plain.cpu().numpy().tobytes()


def _inside(value: Any) -> Iterator[Any]:
    """The values that an object holds."""
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
    """Weights, buffers and inner modules; of a module that is no library's, its attributes too."""
    yield module.training
    yield from parts_of(module)
    if not _is_of_library(type(module)):
        yield from (one for name, one in vars(module).items() if not name.startswith("_"))
        yield from _calls(type(module))


def _is_of_library(kind: type) -> bool:
    """True for classes whose functions read nothing that changes."""
    return kind.__module__.partition(".")[0] in LIBRARIES


def _slots(kind: type) -> Iterator[str]:
    for one in kind.__mro__:
        slots = vars(one).get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots


def _calls(kind: type) -> Iterator[Callable[..., Any]]:
    """The functions by which objects of a class are called."""
    if not _is_of_library(kind):
        yield from (vars(kind)[name] for name in ("__call__", "forward") if name in vars(kind))


def _of_function(function: FunctionType) -> Iterator[Any]:
    """Captured variables, defaults, attributes and the global names that are read; functions of the same module too."""
    yield from (cell.cell_contents for cell in function.__closure__ or () if is_filled(cell))
    yield function.__defaults__
    yield function.__kwdefaults__
    yield from vars(function).items()
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        if not isinstance(value, FunctionType) or value.__module__ == function.__module__:
            yield value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def is_filled(cell: Any) -> bool:
    """True if a captured variable has a value."""
    try:
        cell.cell_contents  # noqa: B018  reading an empty cell is an error
    except ValueError:
        return False
    return True
