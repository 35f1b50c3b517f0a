"""The state of a run in its checkpoint, checked before training resumes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from leadline.autoencoders._tensors import check_like_memory
from leadline.autoencoders.training._pretrained import ENDINGS, Ending

CURVES = ("training_error", "clean_error", "own_error")
"""The curves that a checkpoint holds."""


@dataclass(frozen=True)
class Run:
    """The state of a run that was interrupted or has ended."""

    memory: dict[str, Tensor]
    """The state of the engine; see :class:`~leadline.autoencoders.training._engine.Engine`."""
    best: dict[str, Tensor]
    """The best weights so far, in the order of the model."""
    generator: Tensor
    """The state of the random generator of training."""
    training_error: list[float]
    clean_error: list[float]
    own_error: list[float]
    best_epoch: int
    ending: Ending | None
    """``None`` if the run was interrupted."""
    stack_size: int
    """Number of models that were trained together."""


def read_run(
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    has_validation: bool,
) -> Run:
    """Return the run of a checkpoint after checking its parts.

    Args:
        tensors: The tensors of the file; their names are ``part/name``.
        facts: The plain values of the file.
        state: The parameters and buffers of the model.
        has_validation: True if the run has validation rows.

    Raises:
        ValueError: A part is missing, or has another type, shape or length.
    """
    parts: dict[str, dict[str, Tensor]] = {"memory": {}, "best": {}, "curves": {}}
    for name, tensor in tensors.items():
        part, _, inner = name.partition("/")
        if name != "generator":
            if part not in parts:
                raise ValueError(f"it holds {name!r}, which is no part of a run")
            parts[part][inner] = tensor
    check_like_memory(parts["best"], state)
    if sorted(parts["curves"]) != sorted(CURVES):
        raise ValueError("its curves are incomplete")
    training, clean, own = (_curve(parts["curves"][name]) for name in CURVES)
    epochs = len(training)
    validated = epochs + 1 if has_validation else 0
    if len(clean) != validated or len(own) != validated:
        raise ValueError("its curves differ in length")
    generator = tensors.get("generator")
    if generator is None or generator.dtype != torch.uint8 or generator.ndim != 1:
        raise ValueError("it has no state of a generator")
    best_epoch = facts.get("best_epoch")
    # The file keeps the name that Leadline 0.1 gave to the size of the stack.
    stack_size = facts.get("company")
    ending = facts.get("ending")
    if type(best_epoch) is not int or not 0 <= best_epoch <= epochs:
        raise ValueError(f"best_epoch = {best_epoch!r} of {epochs} epochs")
    if type(stack_size) is not int or stack_size < 0:
        raise ValueError(f"company = {stack_size!r}")
    if ending is not None and ending not in ENDINGS:
        raise ValueError(f"ending = {ending!r}")
    return Run(
        memory=parts["memory"],
        # A file does not keep the order of its tensors.
        best={name: parts["best"][name] for name in state},
        generator=generator,
        training_error=training,
        clean_error=clean,
        own_error=own,
        best_epoch=best_epoch,
        ending=cast("Ending | None", ending),
        stack_size=stack_size,
    )


def _curve(tensor: Tensor) -> list[float]:
    if tensor.ndim != 1 or tensor.dtype != torch.float64:
        raise ValueError("a curve is no list of numbers")
    return tensor.tolist()
