"""Checks of models and losses, and the search for layers whose hooks were skipped."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from leadline import checks
from leadline.errors import InputError
from leadline.torch_internals import node_number


def checked_loss(loss: Any, name: str) -> Tensor:
    """Return the loss, if it is a dense tensor of real numbers.

    Raises:
        InputError: it is something else; the message says how to get the loss from it.
    """
    is_tensor = isinstance(loss, Tensor)
    if (
        is_tensor
        and loss.is_floating_point()
        and loss.layout is torch.strided
        and not loss.is_meta
        and loss.numel()
    ):
        return loss
    cause, cure = _instead(loss)
    raise InputError(
        f"{name} must be a tensor of real numbers, computed from the recorded forward pass",
        got=f"{name} = {checks.shown(loss)}",
        cause=cause,
        cure=cure,
    )


def _instead(loss: Any) -> tuple[str | None, str | None]:
    """Return the likely cause, and the way to get a loss from the value."""
    if isinstance(getattr(loss, "loss", None), Tensor):
        return "an output that holds the loss", "pass output.loss"
    if isinstance(loss, Mapping):
        keys = [key for key, value in loss.items() if isinstance(value, Tensor)]
        return "a dictionary", f"pass one of its tensors: loss[{keys[0]!r}]" if keys else None
    if isinstance(loss, (tuple, list)):
        return f"several values in a {type(loss).__name__}", "pass one of them, or their sum"
    if isinstance(loss, (int, float)) and not isinstance(loss, bool):
        return "loss.item(), which has no graph", "pass the loss itself"
    if isinstance(loss, Tensor) and not loss.numel():
        return "a loss without terms", None
    if isinstance(loss, Tensor) and loss.is_complex():
        return "a complex loss", "pass a real loss, such as loss.abs()"
    if isinstance(loss, Tensor) and not loss.is_floating_point():
        return "classes or counts, which have no gradient", "pass the loss of the logits"
    return None, None


def checked_model(model: Any, function: str) -> nn.Module:
    """Return the model, if it is a torch module; ``function`` is the caller, for messages."""
    if isinstance(model, nn.Module):
        return model
    inner = [
        name
        for name in ("module_", "module", "model")
        if isinstance(getattr(model, name, None), nn.Module)
    ]
    are_modules = (
        isinstance(model, (list, tuple))
        and bool(model)
        and all(isinstance(m, nn.Module) for m in model)
    )
    if isinstance(model, type) and issubclass(model, nn.Module):
        cure = f"pass an instance: {model.__name__}(...)"
    elif are_modules:
        cure = "pass one module that holds them: nn.ModuleList([encoder, decoder])"
    else:
        cure = f"pass the module that it holds: {inner[0]}" if inner else None
    raise InputError(
        f"{function} needs a torch module",
        got=f"model = {checks.shown(model)}",
        cause="several modules" if are_modules else None,
        cure=cure,
    )


def sequence_number() -> int:
    """Return the number of the next operation of this thread in autograd; 0 in inference mode."""
    with torch.enable_grad():
        probe = torch.zeros((), requires_grad=True, device="cpu") * 1
    return 0 if probe.grad_fn is None else node_number(probe.grad_fn)


def was_computed_between(
    loss: Tensor, modules: Iterable[nn.Module], first: int, last: int
) -> str | None:
    """Return the type of a module whose weights were used between two operations, or ``None``."""
    kinds = {
        id(parameter): type(module).__name__
        for module in modules
        for parameter in module.parameters()
    }
    seen: set[Any] = set()
    to_visit = [loss.grad_fn]
    while to_visit:
        node = to_visit.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for other, _ in node.next_functions:
            variable = getattr(other, "variable", None)
            if variable is not None and id(variable) in kinds and first < node_number(node) < last:
                return kinds[id(variable)]
            to_visit.append(other)
    return None
