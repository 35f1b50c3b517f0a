"""Tensors as they were when they were recorded: a later change in place is noticed."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor


def version(tensor: Tensor) -> int:
    """The number of changes in place that autograd has counted; inference tensors have no counter."""
    return 0 if tensor.is_inference() else tensor._version


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Tensors by name, with their versions at the time of recording.

    >>> import torch
    >>> h_n = torch.zeros(2)
    >>> seen = Snapshot.of([("h_n", h_n)])
    >>> _ = h_n[0].add_(1)  # a view shares the version of its base
    >>> seen.changed()
    ['h_n']
    """

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    versions: tuple[int, ...]
    had_gradient: tuple[bool, ...]

    @classmethod
    def of(cls, named: Iterable[tuple[str, Tensor]]) -> "Snapshot":
        """The tensors as they are now."""
        names, tensors = [], []
        for name, tensor in named:
            names.append(name)
            tensors.append(tensor)
        versions = tuple(version(tensor) for tensor in tensors)
        had_gradient = tuple(tensor.requires_grad for tensor in tensors)
        return cls(tuple(names), tuple(tensors), versions, had_gradient)

    def changed(self) -> list[str]:
        """The names of the tensors that were changed or detached in place since."""
        found = []
        each = zip(self.names, self.tensors, self.versions, self.had_gradient, strict=True)
        for name, tensor, seen, had_gradient in each:
            was_detached = had_gradient and not tensor.requires_grad
            if was_detached or version(tensor) != seen:
                found.append(name)
        return found
