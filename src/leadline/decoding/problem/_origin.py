"""The origin of an answer: a fingerprint of its problem, the step function and the prompts.

A certificate holds for the problem of its search alone. A later search uses it only if the problem
is known to be the same. If that is unknown, the answer is scored again
(:mod:`~leadline.decoding.answers._rescoring`).
"""

import hashlib
import secrets
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from leadline.decoding.problem._digest import digest_of, is_filled
from leadline.decoding.problem._state import Shared, leaves
from leadline.torch_internals import in_place_changes


class Origin(NamedTuple):
    """Marks of a problem; an empty mark is unknown."""

    model: str
    """Mark of the step function without its processors, valid within this process."""
    masks: str
    """Marks of the processors."""
    prompts: str
    """Digest of the start tokens and the state."""
    values: str
    """Digest of all other values that the step function and its processors read."""

    @property
    def is_known(self) -> bool:
        """True if equal origins mean the same problem."""
        return all(self)


NOWHERE = Origin("", "", "", "")
"""The origin of an answer that was read from a file."""


def origin(step: Any, state: Any, start: Tensor) -> Origin:
    """Return the origin of answers to a problem.

    The class of a step function may have ``behind(state)``. It returns an object that two step
    functions of one model share, such as the model itself, and the state of that object.
    """
    masks: list[Any] = []
    settings: list[Any] = []
    while hasattr(type(step), "behind"):
        masks += getattr(step, "processors", ())
        settings.append(getattr(step, "generation", None))
        step, state = step.behind(state)
    marks = [_mark(mask) for mask in masks]
    of_masks = "" if "" in marks else ",".join(marks) or "none"
    return Origin(_mark(step), of_masks, digest([start, state]), digest_of([step, masks, settings]))


def digest(state: Any) -> str:
    """Return the digest of a state; empty if it contains objects that cannot be read."""
    state_digest = hashlib.blake2b(digest_size=16)
    for path, leaf in leaves(state):
        values = leaf.value if isinstance(leaf, Shared) else leaf
        parts = values.contents() if hasattr(type(values), "contents") else [values]
        for part in parts:
            content = _content(part)
            if content is None:
                return ""
            state_digest.update(f"{path}:{len(content)}:".encode() + content)
    return state_digest.hexdigest()


def _content(part: Any) -> bytes | None:
    """Return the content of a leaf as bytes; ``None`` if it cannot be read."""
    if isinstance(part, Tensor):
        if part.layout is not torch.strided or part.is_quantized or part.is_meta:
            return None
        plain = part.detach().cpu().resolve_conj().resolve_neg()
        kind = f"{plain.dtype}{tuple(plain.shape)}".encode()
        has_numpy = (
            plain.dtype in (torch.float16, torch.float32, torch.float64)
            or not plain.is_floating_point()
        )
        if not has_numpy:
            plain = plain.view(_INTEGERS[plain.itemsize])
        return kind + plain.numpy().tobytes()
    if isinstance(part, (int, float, str, type(None))):
        return f"{type(part).__name__}:{part}".encode()
    return None


_INTEGERS = {1: torch.uint8, 2: torch.int16}
"""Integer types by size, to read the floating-point types that NumPy lacks."""

_NAMES: dict[int, tuple[Any, str]] = {}
"""Weak references and names by the ``id`` of an object. An entry is removed when its object
dies."""


def _mark(owner: Any) -> str:
    """Return a mark of an object that changes when its weights change.

    The mark is empty if the object cannot have a weak reference.
    """
    name = _name(owner)
    return f"{name}:{_weights(owner)}" if name else ""


def _weights(owner: Any) -> str:
    """Return a digest of the identities and versions of an object's parameters."""
    cells = getattr(owner, "__closure__", None) or ()
    inside = [cell.cell_contents for cell in cells if is_filled(cell)]
    holders = [owner, *inside, *getattr(owner, "__dict__", {}).values()]
    tensors: list[Tensor] = []
    for holder in holders:
        if isinstance(holder, nn.Module):
            tensors += holder.parameters()
        elif isinstance(holder, Tensor):
            tensors.append(holder)
    versions = [f"{id(tensor)}.{in_place_changes(tensor)}" for tensor in tensors]
    return hashlib.blake2b(",".join(versions).encode(), digest_size=8).hexdigest()


def _name(owner: Any) -> str:
    """Return a random name of an object, the same for its lifetime.

    The name is empty if the object cannot have a weak reference.
    """
    bound = getattr(owner, "__self__", None)
    if bound is not None and hasattr(owner, "__func__"):
        # Each access to a bound method creates a new object, so that the method's owner is named.
        mark = _mark(bound)
        return f"{mark}.{owner.__func__.__qualname__}" if mark else ""
    known = _NAMES.get(id(owner))
    if known is not None and known[0]() is owner:
        return known[1]
    number = id(owner)
    try:
        reference = weakref.ref(owner, lambda _: _NAMES.pop(number, None))
    except TypeError:
        return ""
    name = secrets.token_hex(8)
    _NAMES[number] = (reference, name)
    return name
