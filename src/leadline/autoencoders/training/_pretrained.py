"""The result of pretraining: weights, training curves and the encoder."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, UInt64
from torch import nn

from leadline import checks
from leadline.autoencoders._corruption import Corruption
from leadline.autoencoders._encoder import Encoder
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders.models._architecture import TrainableArchitecture
from leadline.autoencoders.models._custom import ModuleEncoder
from leadline.autoencoders.training._settings import PretrainingSettings
from leadline.figures import COLOURS, NEUTRAL, Drawing, extended, line, new_drawing, rule
from leadline.sounding import Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

Ending = Literal["stopped early", "budget", "diverged"]
"""The reason why training ended: no improvement on validation rows, all epochs used, or an error
that grew too large."""

ENDINGS: tuple[Ending, ...] = ("stopped early", "budget", "diverged")
"""All endings."""

HARDLY = 0.02
"""Training whose error fell by less than this share counts as hardly begun."""

MANY_EPOCHS = 20
"""Curves of fewer epochs have a marker at each epoch."""

_REASONS = {
    "stopped early": "the error had stopped falling",
    "budget": "all epochs were used; more may lower it",
    "slow": "the error has hardly fallen: raise the learning rate or the epochs",
    "diverged": "training diverged: lower the learning rate",
}


@record("autoencoders.Pretrained")
@dataclass(frozen=True, eq=False)
class Pretrained(Sounding):
    """A pretrained autoencoder: its weights and its training curves.

    Errors are squared errors summed over features and averaged over rows. ``e`` is the number of
    epochs. ``v`` is e + 1, or 0 without validation rows.
    """

    architecture: TrainableArchitecture
    """The sizes of the model."""
    corruption: Corruption
    """The corruption in training."""
    weights: Mapping[str, np.ndarray]
    """The weights of the best epoch, by their names in the model."""
    rows_seen: UInt64[np.ndarray, " n"]
    """Fingerprints of all rows that training and early stopping used."""
    training_error: Float[np.ndarray, " e"]
    """The minimised error, averaged over each epoch while the weights changed."""
    clean_error: Float[np.ndarray, " v"]
    """The error on clean validation rows: before training, and after each epoch."""
    own_error: Float[np.ndarray, " v"]
    """The error on validation rows with a fixed corruption; it decides early stopping."""
    best_epoch: int
    """The epoch of the weights; 0 is before training."""
    ending: Ending
    """The reason why training ended."""
    notes: tuple[str, ...] = ()
    """Changes of the rows, such as the division of pixels by 255."""
    form: RowForm | None = None
    """The columns and the scale of the rows, which the encoder keeps."""
    settings: PretrainingSettings | None = None
    """The settings of the run; ``None`` in files of Leadline 0.1."""
    custom: nn.Module | None = field(init=False, repr=False, default=None)
    """The user's own module with the best weights. It is ``None`` for Leadline's models, and in
    results that were loaded from a file."""
    own_module: InitVar[nn.Module | None] = None

    def __post_init__(self, own_module: nn.Module | None):
        if own_module is not None:
            checks.instance(own_module, "own_module", nn.Module)
        # The user may train the module further, so the result holds a copy.
        object.__setattr__(self, "custom", deepcopy(own_module))

    @property
    def model(self) -> Any:
        """The autoencoder with the best weights, as a separate module.

        Raises:
            InputError: The result was loaded from a file and the module is the user's own.
        """
        if self.custom is not None:
            return deepcopy(self.custom)
        model = self.architecture.autoencoder(self.corruption)
        dtype = torch.from_numpy(next(iter(self.weights.values()))).dtype
        model = model.to(dtype)
        model.load_state_dict(
            {name: torch.from_numpy(array) for name, array in self.weights.items()}
        )
        return model

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder; a :class:`ModuleEncoder` for a user's own module.

        Raises:
            InputError: The result was loaded from a file and the module is the user's own.
        """
        if self.custom is not None:
            # Both encoders share encode(), has_seen() and to_onnx().
            return cast(Encoder, ModuleEncoder(self.custom, self.rows_seen))
        if not self.architecture.can_be_built:
            self.architecture.autoencoder(self.corruption)
        return Encoder.of(cast(Any, self.architecture), self.weights, self.rows_seen, self.form)

    @property
    def verdict(self) -> Verdict:
        """The error of the best weights, and the reason why training ended."""
        trained = len(self.training_error)
        notes = "".join(f"; {note}" for note in self.notes)
        if self.clean_error.size == 0:
            reason = f"; {_REASONS['diverged']}" if self.ending == "diverged" else ""
            return Verdict(
                f"training error {self.training_error[-1]:.4g} after {trained} epochs, "
                f"without validation{reason}{notes}"
            )
        before = self.clean_error[0]
        best = self.clean_error[self.best_epoch]
        own_before = self.own_error[0]
        own_best = self.own_error[self.best_epoch]
        is_slow = self.ending == "budget" and own_best > (1 - HARDLY) * own_before
        reason = _REASONS["slow" if is_slow else self.ending]
        return Verdict(
            f"clean validation error {best:.4g} ({before:.4g} at the start) "
            f"at epoch {self.best_epoch} of {trained}; {reason}{notes}"
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per epoch: ``training``, ``clean validation``, ``own validation``."""
        import pandas as pd

        epochs = np.arange(len(self.training_error) + 1)
        table = pd.DataFrame({"epoch": epochs, "training": np.r_[np.nan, self.training_error]})
        if self.clean_error.size:
            table["clean validation"] = self.clean_error
            table["own validation"] = self.own_error
        return table

    def drawing(self) -> Drawing:
        """Return the training curves, with a mark at the epoch whose weights are kept."""
        epochs = np.arange(len(self.training_error) + 1)
        mode = "lines+markers" if len(epochs) < MANY_EPOCHS else "lines"
        curves = {"validation, clean": self.clean_error}
        if not np.array_equal(self.clean_error, self.own_error):
            curves["validation, corrupted"] = self.own_error
        traces = [line(epochs[1:], self.training_error, name="training", colour=NEUTRAL, mode=mode)]
        for (name, error), colour in zip(curves.items(), COLOURS, strict=False):
            if error.size:
                traces.append(line(epochs, error, name=name, colour=colour, mode=mode))
        drawing = new_drawing("Pretraining", "epoch", "squared error per row", yaxis_type="log")
        kept = rule(x=self.best_epoch, colour=NEUTRAL, dash="dot", note={"text": "kept"})
        return extended(drawing, traces, hovermode="x unified", **kept)
