"""The state of a run as its checkpoint holds it, checked before training goes on from it."""

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
    """A run that was interrupted, or is done."""

    memory: dict[str, Tensor]
    """The state of the engine; see :class:`~leadline.autoencoders.training._member.Engine`."""
    best: dict[str, Tensor]
    """The best weights so far, in the order of the model."""
    generator: Tensor
    training_error: list[float]
    clean_error: list[float]
    own_error: list[float]
    best_epoch: int
    ending: Ending | None
    company: int


def read_run(
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    has_validation: bool,
) -> Run:
    """Part the tensors and facts of a checkpoint, and check that they are those of a run.

    Args:
        tensors: by their names in the file, ``part/name``.
        facts: plain values.
        state: the parameters and buffers of the model, which the best weights must be like.
        has_validation: tells how long the curves must be.

    Raises:
        ValueError: something is missing, or of another type, shape or length.
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
    company = facts.get("company")
    ending = facts.get("ending")
    if type(best_epoch) is not int or not 0 <= best_epoch <= epochs:
        raise ValueError(f"best_epoch = {best_epoch!r} of {epochs} epochs")
    if type(company) is not int or company < 0:
        raise ValueError(f"company = {company!r}")
    if ending is not None and ending not in ENDINGS:
        raise ValueError(f"ending = {ending!r}")
    best = {name: parts["best"][name] for name in state}  # a file forgets their order
    memory = parts["memory"]
    return Run(
        memory,
        best,
        generator,
        training,
        clean,
        own,
        best_epoch,
        cast("Ending | None", ending),
        company,
    )


def _curve(tensor: Tensor) -> list[float]:
    if tensor.ndim != 1 or tensor.dtype != torch.float64:
        raise ValueError("a curve is no list of numbers")
    return tensor.tolist()
