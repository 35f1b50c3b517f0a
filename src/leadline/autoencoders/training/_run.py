"""The state of a run, and its form in a checkpoint, which is checked before training resumes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from leadline.autoencoders._tensors import check_like_memory
from leadline.autoencoders.training._pretrained import ENDINGS, Ending

CURVES = ("training_error", "clean_error", "own_error")
"""The curves that a checkpoint holds."""


@dataclass(eq=False)
class Run:
    """The state of a run: its curves, its best weights, and its ending."""

    training_error: list[float] = field(default_factory=list)
    clean_error: list[float] = field(default_factory=list)
    own_error: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    """The weights of the best epoch, in the order of the model."""
    best_epoch: int = 0
    ending: Ending | None = None
    """``None`` while the model is trained."""
    stack_size: int = 0
    """Number of models that are trained together; 0 before training."""

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.training_error)

    def tensors(self, memory: Mapping[str, Tensor], generator: Tensor) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint.

        Args:
            memory: The state of the engine.
            generator: The state of the random generator of training.
        """
        tensors = {f"memory/{name}": tensor for name, tensor in memory.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for name in CURVES:
            tensors[f"curves/{name}"] = torch.tensor(getattr(self, name), dtype=torch.float64)
        tensors["generator"] = generator
        return tensors

    def facts(self) -> dict[str, Any]:
        """Return the plain values of a checkpoint."""
        return {
            "best_epoch": self.best_epoch,
            "ending": self.ending,
            # Leadline 0.1 called the size of the stack "company".
            "company": self.stack_size,
            "threads": torch.get_num_threads(),
        }


@dataclass(frozen=True, eq=False)
class SavedRun:
    """The content of a checkpoint: a run that was interrupted or has ended."""

    run: Run
    memory: dict[str, Tensor]
    """The state of the engine; see :class:`~leadline.autoencoders.training._engine.Engine`."""
    generator: Tensor
    """The state of the random generator of training."""


def read_run(
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    has_validation: bool,
) -> SavedRun:
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
    run = Run(
        training_error=training,
        clean_error=clean,
        own_error=own,
        # A file does not keep the order of its tensors.
        best={name: parts["best"][name] for name in state},
        best_epoch=best_epoch,
        ending=cast("Ending | None", ending),
        stack_size=stack_size,
    )
    return SavedRun(run, parts["memory"], generator)


def _curve(tensor: Tensor) -> list[float]:
    if tensor.ndim != 1 or tensor.dtype != torch.float64:
        raise ValueError("a curve is no list of numbers")
    return tensor.tolist()
