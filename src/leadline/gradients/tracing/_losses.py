"""Checks of models and losses, the gradients of a loss, and the search for skipped hooks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from leadline import checks
from leadline.errors import InputError
from leadline.torch_internals import AutogradFault, autograd_fault, leaf_of, node_number

QUERIES = "gradient_flow(), influence() and weight_terms()"
"""The queries of a tape, in messages that all of them raise."""


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
        and all(isinstance(part, nn.Module) for part in model)
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


def gradients_of(loss: Tensor, outputs: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the gradient of a scalar with respect to each tensor; ``None`` for zero.

    Raises:
        InputError: the graph of the loss is freed, or one of its tensors was changed in place.
    """
    trainable = [tensor for tensor in outputs if tensor.requires_grad]
    try:
        gradients = torch.autograd.grad(loss, trainable, retain_graph=True, allow_unused=True)
    except RuntimeError as error:
        match autograd_fault(error):
            case AutogradFault.FREED_GRAPH:
                raise InputError(
                    f"{QUERIES} need the graph of the loss",
                    got="a graph that a backward pass has freed",
                    cure="query the tape before loss.backward(), or use "
                    "loss.backward(retain_graph=True)",
                ) from error
            case AutogradFault.CHANGED_IN_PLACE:
                raise InputError(
                    f"{QUERIES} must run before weights or activations change",
                    got="a weight or an activation that was changed in place",
                    cause="a step of the optimiser, or an in-place operation on an activation",
                    cure="query the tape before the optimiser steps; use operations that return "
                    "new tensors",
                ) from error
            case None:
                raise
    remaining = iter(gradients)
    return [next(remaining) if tensor.requires_grad else None for tensor in outputs]


def foreign_loss(got: str) -> InputError:
    """Return the refusal of a loss that does not belong to the recorded forward pass."""
    return InputError(
        f"{QUERIES} need a loss from the recorded forward pass",
        got=got,
        cause="a loss from another forward pass, a detached loss, or a loss computed under no_grad",
        cure="compute the loss from the outputs that the model returned inside the block",
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
    visited: set[Any] = set()
    to_visit = [loss.grad_fn]
    while to_visit:
        node = to_visit.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        for next_node, _ in node.next_functions:
            leaf = leaf_of(next_node)
            if leaf is not None and id(leaf) in kinds and first < node_number(node) < last:
                return kinds[id(leaf)]
            to_visit.append(next_node)
    return None
