"""The problem that an answer belongs to: which step function was searched, and from which prompts.

A certificate of an earlier search holds for the problem of that search alone. It is used again only where the problem
is known to be the same; where that is unknown, the answer is scored again (see :mod:`~leadline.decoding.judging._rescoring`).
"""

import hashlib
import secrets
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from leadline.decoding.judging._digest import digest_of, is_filled
from leadline.torch_internals import in_place_changes


class Origin(NamedTuple):
    """Marks of a problem; an empty mark is unknown."""

    model: str
    """Of the step function behind any processors; lives as long as the process."""
    masks: str
    """Of its processors."""
    prompts: str
    """Digest of the start tokens and the state."""
    held: str
    """Digest of what the step function and its processors read besides their arguments."""

    @property
    def is_known(self) -> bool:
        """True if equal origins mean the same problem."""
        return all(self)


NOWHERE = Origin("", "", "", "")
"""Of an answer that was read from a file."""


def origin(step: Any, state: Any, start: Tensor) -> Origin:
    """The origin of answers to a problem.

    The class of a step function may have ``behind(state)``, which returns the object that it stands for and that
    object's state: two step functions of one model are then the same.
    """
    masks: list[Any] = []
    settings: list[Any] = []
    while hasattr(type(step), "behind"):
        masks += getattr(step, "processors", ())
        settings.append(getattr(step, "generation", None))
        step, state = step.behind(state)
    marks = [_mark(one) for one in masks]
    of_masks = "" if "" in marks else ",".join(marks) or "none"
    return Origin(_mark(step), of_masks, digest([start, state]), digest_of([step, masks, settings]))


def digest(state: Any) -> str:
    """Digest of a state; empty, if it holds objects whose content cannot be read."""
    from leadline.decoding.models._problem import Shared, leaves

    found = hashlib.blake2b(digest_size=16)
    for path, leaf in leaves(state):
        held = leaf.value if isinstance(leaf, Shared) else leaf
        parts = held.contents() if hasattr(type(held), "contents") else [held]
        for part in parts:
            content = _content(part)
            if content is None:
                return ""
            found.update(f"{path}:{len(content)}:".encode() + content)
    return found.hexdigest()


def _content(part: Any) -> bytes | None:
    if isinstance(part, Tensor):
        if part.layout is not torch.strided or part.is_quantized or part.is_meta:
            return None
        plain = part.detach().cpu().resolve_conj().resolve_neg()
        kind = f"{plain.dtype}{tuple(plain.shape)}".encode()
        has_numpy = (
            plain.dtype in (torch.float16, torch.float32, torch.float64)
            or not plain.is_floating_point()
        )
        return kind + (plain if has_numpy else plain.view(_WORDS[plain.itemsize])).numpy().tobytes()
    if isinstance(part, (int, float, str, type(None))):
        return f"{type(part).__name__}:{part}".encode()
    return None


_WORDS = {1: torch.uint8, 2: torch.int16}
"""Whole numbers of the sizes of floating-point numbers that NumPy does not have."""

_MARKS: dict[int, tuple[Any, str]] = {}
"""By identity of a living object: a reference that removes the entry when the object dies, and its mark."""


def _mark(owner: Any) -> str:
    """A mark of an object, the same as long as it lives and its weights stay as they are; empty, if its life cannot be
    watched."""
    name = _name(owner)
    return f"{name}:{_weights(owner)}" if name else ""


def _weights(owner: Any) -> str:
    """Digest of the identities and versions of the parameters that an object holds; training changes them."""
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
    """A random name of an object, the same as long as it lives; empty, if its life cannot be watched."""
    bound = getattr(owner, "__self__", None)
    if bound is not None and hasattr(
        owner, "__func__"
    ):  # a bound method is made anew at each access
        mark = _mark(bound)
        return f"{mark}.{owner.__func__.__qualname__}" if mark else ""
    known = _MARKS.get(id(owner))
    if known is not None and known[0]() is owner:
        return known[1]
    number = id(owner)
    try:
        reference = weakref.ref(owner, lambda _: _MARKS.pop(number, None))
    except TypeError:
        return ""
    mark = secrets.token_hex(8)
    _MARKS[number] = (reference, mark)
    return mark
