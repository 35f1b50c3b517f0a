"""Opens the rows of models; rows that several models share are opened once."""

from typing import Any

import torch
from torch import nn

from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders._rows import Rows
from leadline.autoencoders.models._architecture import (
    BuiltModule,
    TrainableArchitecture,
    number_type,
)
from leadline.autoencoders.models._custom import CustomArchitecture


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
