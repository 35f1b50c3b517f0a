"""Checks of tensors and generators that modules and corruptions receive."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from leadline import checks
from leadline.errors import InputError


def check_generator(generator: Any, device: torch.device | None = None) -> torch.Generator | None:
    """Return ``None``, or a PyTorch generator on the device.

    Raises:
        InputError: ``generator`` is something else, or is on another device.
    """
    if generator is None:
        return None
    checks.instance(
        generator,
        "generator",
        torch.Generator,
        wanted="a torch.Generator",
        cure="torch.Generator().manual_seed(0)",
    )
    wanted = torch.device("cpu") if device is None else device
    if generator.device.type != wanted.type:
        raise InputError(
            "generator must be on the device of the numbers that it draws",
            got=f"generator on {generator.device}, numbers on {wanted}",
            cure=f"torch.Generator({str(wanted)!r})",
        )
    return generator


def needed_generator(generator: Any, device: torch.device) -> torch.Generator:
    """Return a PyTorch generator on the device; refuse ``None``."""
    checked = check_generator(generator, device)
    if checked is None:
        raise InputError("generator must be a torch.Generator", got="generator = None")
    return checked


def check_tensor(
    x: Any, name: str, *, features: int | None = None, ndim: int | None = None
) -> Tensor:
    """Return a dense tensor of floating-point numbers.

    Args:
        x: The tensor to check.
        name: The argument's name in messages.
        features: Required length of the last axis; ``None`` for any.
        ndim: Required number of axes; ``None`` for any.

    Raises:
        InputError: ``x`` is something else, or has another shape.
    """
    if not isinstance(x, Tensor):
        raise InputError(
            f"{name} must be a tensor",
            got=f"{name} = {checks.shown(x)}",
            cure=f"torch.from_numpy({name}) converts a NumPy array",
        )
    is_dense = (
        x.layout is torch.strided and not x.is_quantized and x.is_floating_point() and not x.is_meta
    )
    if not is_dense:
        place = " on the meta device" if x.is_meta else ""
        raise InputError(
            f"{name} must be a dense tensor of floating-point numbers",
            got=f"{name} = {checks.shown(x)}{place}",
        )
    has_features = features is None or (x.ndim > 0 and x.shape[-1] == features)
    if not has_features or (ndim is not None and x.ndim != ndim):
        wanted = "of shape (batch, features)" if ndim == 2 else "whose last axis holds the features"
        expected = "" if features is None else f"; the model takes {features} features"
        raise InputError(
            f"{name} must be a tensor {wanted}", got=f"{name} of shape {tuple(x.shape)}{expected}"
        )
    return x


def check_like(x: Tensor, name: str, parameter: Tensor) -> None:
    """Refuse a tensor with another type or device than a parameter; autocast converts types.

    Raises:
        InputError: The type or the device differs.
    """
    if x.device != parameter.device:
        raise InputError(
            f"{name} must be on the device of the model",
            got=f"{name} on {x.device}, the model on {parameter.device}",
            cure=f"{name}.to({str(parameter.device)!r})",
        )
    if x.dtype != parameter.dtype and not torch.is_autocast_enabled(x.device.type):
        raise InputError(
            f"{name} must have the number type of the model",
            got=f"{name} of {x.dtype}, the model of {parameter.dtype}",
            cure=f"{name}.to({parameter.dtype})",
        )


def check_like_memory(memory: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors whose names, shapes or types differ from the expected ones.

    Raises:
        ValueError: They differ.
    """
    if sorted(memory) != sorted(expected):
        raise ValueError(
            f"it has {len(memory)} tensors, a run has {len(expected)}, or their names differ"
        )
    for name, tensor in expected.items():
        if memory[name].shape != tensor.shape or memory[name].dtype != tensor.dtype:
            raise ValueError(
                f"{name!r} has the shape {tuple(memory[name].shape)} and type {memory[name].dtype}"
            )
