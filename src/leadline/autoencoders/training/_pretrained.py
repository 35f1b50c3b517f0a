"""What pretraining gives: the weights that were kept, how the errors went, and the encoder."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, UInt64
from torch import nn

from leadline.autoencoders._corruption import Corruption
from leadline.autoencoders._encoder import Encoder
from leadline.autoencoders._row_form import RowForm
from leadline.autoencoders.models._custom import CustomArchitecture, ModuleEncoder
from leadline.autoencoders.models._dense import Architecture, Autoencoder
from leadline.autoencoders.models._transformer import MaskedPatchTransformer, PatchArchitecture
from leadline.errors import InputError
from leadline.figures import COLOURS, NEUTRAL, Drawing, extended, line, new_drawing, rule
from leadline.sounding import Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

Ending = Literal["stopped early", "budget", "diverged"]
"""How training ended: the validation error stopped falling, the epochs were used up, or the error blew up."""

ENDINGS: tuple[Ending, ...] = ("stopped early", "budget", "diverged")
"""All endings."""

HARDLY = 0.02
"""Training whose error fell by less than this share has hardly begun."""

MANY_EPOCHS = 20
"""Curves of fewer epochs have a marker at each epoch."""

_ENDINGS = {
    "stopped early": "it had stopped falling",
    "budget": "all epochs were used; more may lower it",
    "slow": "it has hardly fallen: raise the learning rate or the epochs",
    "diverged": "then the error blew up: lower the learning rate",
}


@record("autoencoders.Pretrained")
@dataclass(frozen=True, eq=False)
class Pretrained(Sounding):
    """A pretrained autoencoder: its weights and its training curves.

    Errors are means over rows of the squared error summed over features; ``e`` epochs were trained, and ``v`` is e + 1,
    or 0 without validation rows.
    """

    architecture: Architecture | PatchArchitecture | CustomArchitecture
    corruption: Corruption
    weights: Mapping[str, np.ndarray]
    """The weights of the best epoch, by their names in the model."""
    rows_seen: UInt64[np.ndarray, " n"]
    """Fingerprints of all rows that training or early stopping used."""
    training_error: Float[np.ndarray, " e"]
    """What was minimised, averaged over each epoch while the weights moved."""
    clean_error: Float[np.ndarray, " v"]
    """On clean validation rows, at the start (moved to the data, untrained) and after each epoch; or empty."""
    own_error: Float[np.ndarray, " v"]
    """What the model is trained for, on validation rows with a corruption drawn once; decides early stopping."""
    best_epoch: int
    """The epoch whose weights were kept; 0 is the start."""
    ending: Ending
    notes: tuple[str, ...] = ()
    """What was done to the rows, such as that pixels from 0 to 255 were divided by 255."""
    form: RowForm | None = None
    """The columns and the scale of the rows, which the encoder keeps."""
    custom: nn.Module | None = field(init=False, repr=False, default=None)
    """The user's own module with the weights that were kept; not saved, and ``None`` for Leadline's models."""

    @property
    def model(self) -> Autoencoder | MaskedPatchTransformer:
        """The autoencoder with the weights that were kept, as a module of its own. Of your own module, a copy."""
        if isinstance(self.architecture, CustomArchitecture):
            return cast(Autoencoder, deepcopy(self._custom(self.architecture)))
        first = next(iter(self.weights.values()))
        model = self.architecture.autoencoder(self.corruption).to(torch.from_numpy(first).dtype)
        model.load_state_dict(
            {name: torch.from_numpy(array) for name, array in self.weights.items()}
        )
        return model

    @property
    def encoder(self) -> Encoder:
        """The frozen encoder: what goes downstream. Of a module of your own, a :class:`ModuleEncoder`."""
        if isinstance(self.architecture, CustomArchitecture):
            # Typed as what nearly everybody gets; both encode, tell what they have seen, and are exported.
            return cast(Encoder, ModuleEncoder(self._custom(self.architecture), self.rows_seen))
        return Encoder.of(self.architecture, self.weights, self.rows_seen, self.form)

    def _custom(self, architecture: CustomArchitecture) -> nn.Module:
        if self.custom is None:
            raise InputError(
                "a module of your own is rebuilt by your own code",
                got=f"the saved weights of a {architecture.name}",
                cure="model.load_state_dict({name: torch.from_numpy(w) for name, w in pretrained.weights.items()}); "
                "autoencoders.ModuleEncoder(model, pretrained.rows_seen)",
            )
        return self.custom

    @property
    def verdict(self) -> Verdict:
        """The error of the weights that were kept, and how training ended."""
        trained, noted = len(self.training_error), "".join(f"; {note}" for note in self.notes)
        if self.clean_error.size == 0:
            blew_up = f"; {_ENDINGS['diverged']}" if self.ending == "diverged" else ""
            return Verdict(
                f"training error {self.training_error[-1]:.4g} after {trained} epochs, without validation"
                f"{blew_up}{noted}"
            )
        before, kept = self.clean_error[0], self.clean_error[self.best_epoch]
        own = self.own_error[[0, self.best_epoch]]
        is_slow = self.ending == "budget" and own[1] > (1 - HARDLY) * own[0]
        return Verdict(
            f"clean validation error {kept:.4g} ({before:.4g} at the start) "
            f"at epoch {self.best_epoch} of {trained}; {_ENDINGS['slow' if is_slow else self.ending]}{noted}"
        )

    def table(self) -> "pd.DataFrame":
        """One row per epoch: ``training``, ``clean validation``, ``own validation`` (squared error per row)."""
        import pandas as pd

        epochs = np.arange(len(self.training_error) + 1)
        table = pd.DataFrame({"epoch": epochs, "training": np.r_[np.nan, self.training_error]})
        if self.clean_error.size:
            table["clean validation"], table["own validation"] = self.clean_error, self.own_error
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
