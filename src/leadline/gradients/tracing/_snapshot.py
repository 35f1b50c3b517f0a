"""Versions and sums of recorded tensors, which reveal later in-place changes."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from leadline.torch_internals import in_place_changes


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Tensors by name, with their versions at the time of recording.

    >>> import torch
    >>> h_n = torch.zeros(2)
    >>> snapshot = Snapshot.of([("h_n", h_n)])
    >>> _ = h_n[0].add_(1)  # a view shares the version of its base
    >>> snapshot.changed()
    ['h_n']
    """

    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    versions: tuple[int, ...]
    had_gradient: tuple[bool, ...]

    @classmethod
    def of(cls, named: Iterable[tuple[str, Tensor]]) -> "Snapshot":
        """Return a snapshot of the current tensors."""
        names = []
        tensors = []
        for name, tensor in named:
            names.append(name)
            tensors.append(tensor)
        versions = tuple(in_place_changes(tensor) for tensor in tensors)
        had_gradient = tuple(tensor.requires_grad for tensor in tensors)
        return cls(tuple(names), tuple(tensors), versions, had_gradient)

    def changed(self) -> list[str]:
        """Return the names of tensors that were changed or detached in place after the snapshot."""
        changed_names = []
        recorded = zip(self.names, self.tensors, self.versions, self.had_gradient, strict=True)
        for name, tensor, version, had_gradient in recorded:
            was_detached = had_gradient and not tensor.requires_grad
            if was_detached or in_place_changes(tensor) != version:
                changed_names.append(name)
        return changed_names


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of a model's parameters, which reveal changes that autograd does not count.

    Autograd counts neither changes through ``.data`` nor the steps of an optimiser with
    ``fused=True``.

    >>> from leadline import recurrent
    >>> network = recurrent.RNN(1, 2, seed=0)
    >>> sums = Sums.of(network)
    >>> _ = network.layers[0].b.data.add_(1)
    >>> [name for name, _ in sums.changed()]
    ['layers.0.b']
    """

    recorded: tuple[tuple[str, nn.Parameter, Tensor, int], ...]
    """Names, parameters, their sums and their versions."""

    @classmethod
    def of(cls, model: nn.Module) -> "Sums":
        """Return the sums of the trainable parameters."""
        return cls(
            tuple(
                (name, parameter, _sum(parameter), in_place_changes(parameter))
                for name, parameter in model.named_parameters()
                if type(parameter) is nn.Parameter
                and parameter.requires_grad
                and not parameter.is_meta
            )
        )

    def changed(self) -> list[tuple[str, nn.Parameter]]:
        """Return the parameters that changed uncounted, if dtype and device are the same."""
        changed = []
        for name, parameter, before, version in self.recorded:
            if in_place_changes(parameter) != version:
                continue
            after = _sum(parameter)
            has_moved = after.dtype != before.dtype or after.device != before.device
            if not has_moved and not torch.equal(after.nan_to_num(), before.nan_to_num()):
                changed.append((name, parameter))
        return changed


def _sum(parameter: Tensor) -> Tensor:
    return parameter.detach().sum()
