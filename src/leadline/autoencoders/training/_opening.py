"""Opens the rows of models; rows that several models share are opened once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders._rows import Rows, check_targets, split
from leadline.autoencoders.models._architecture import (
    BuiltModule,
    TrainableArchitecture,
    number_type,
)
from leadline.autoencoders.models._custom import CustomArchitecture


@dataclass(frozen=True, eq=False)
class RunRows:
    """The rows of one run."""

    training: Rows
    validation: Rows | None = None
    targets: Rows | None = None
    """The rows to reconstruct; ``None`` for the training rows themselves."""

    @property
    def fingerprints(self) -> list[np.ndarray]:
        """The fingerprints of training rows, validation rows and targets."""
        parts = (self.training, self.validation, self.targets)
        return [rows.fingerprints for rows in parts if rows is not None]


def architecture_of(model: nn.Module) -> TrainableArchitecture:
    """Return the architecture of a model; a :class:`CustomArchitecture` for a user's own module."""
    if isinstance(model, BuiltModule):
        return model.architecture
    return CustomArchitecture(type(model).__name__)


class Opener:
    """Opens the rows of models; rows that several models share are opened once.

    Args:
        device: The device to train on; by default that of the model.
    """

    def __init__(self, device: torch.device | None):
        self.device = device
        self.opened: dict[Any, Rows] = {}

    def run_rows(
        self, model: nn.Module, X: Any, targets: Any, validation: Any, seed: int
    ) -> RunRows:
        """Return all rows of a run.

        Args:
            model: The model to train.
            X: The rows, of which the validation rows are a part if ``validation`` is a share.
            targets: The rows to reconstruct; ``None`` for the training rows themselves.
            validation: A share of the rows, separate rows, or ``None``.
            seed: Draws the validation rows.

        Raises:
            InputError: The model cannot take the rows, or the rows do not match.
        """
        rows = self(model, X, "X")
        target_rows = None if targets is None else self(model, targets, "targets", rows.form)
        if target_rows is not None:
            check_targets(rows, target_rows, validation)
        held_out = None
        if isinstance(validation, float):
            rows, held_out = split(rows, validation, seed)
        elif validation is not None:
            held_out = self(model, validation, "validation", rows.form)
        return RunRows(rows, held_out, target_rows)

    def __call__(self, model: nn.Module, X: Any, name: str, form: RowForm | None = None) -> Rows:
        """Return rows that the model can take.

        Args:
            model: The model to train.
            X: The rows.
            name: The argument's name in messages.
            form: The form of the training rows; ``None`` if these are the training rows.

        Raises:
            InputError: The model cannot take the rows.
        """
        device = self.device or next(model.parameters()).device
        dtype = number_type(model)
        architecture = architecture_of(model)
        key = (id(X), name, dtype, device, architecture, form)
        if key not in self.opened:
            self.opened[key] = architecture.open_rows(X, name, dtype, device, form)
        rows = self.opened[key]
        architecture.check_rows(model, rows, name)
        return rows
