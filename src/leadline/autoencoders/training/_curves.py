"""The training curves of several autoencoders, during training or after it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from leadline import checks
from leadline.autoencoders.training._checkpoint import Epoch
from leadline.errors import InputError
from leadline.figures import Drawing, bands, mean_and_range
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

    from leadline.autoencoders.training._pretrained import Pretrained


@record("autoencoders.TrainingCurves")
@dataclass(frozen=True, eq=False)
class TrainingCurves(Sounding):
    """Errors of several models by epoch: squared errors, summed over features, averaged over rows.

    Epoch 0 is before training. Missing errors are NaN: the training error before the first epoch,
    errors after early stopping, and validation errors without validation rows.
    """

    training: Float[np.ndarray, "models epochs"]
    """The minimised error, averaged over each epoch while the weights changed."""
    clean: Float[np.ndarray, "models epochs"]
    """The error on clean validation rows."""
    own: Float[np.ndarray, "models epochs"]
    """The error on validation rows with a fixed corruption; it decides early stopping."""
    epochs: int
    """Maximum number of epochs."""

    @classmethod
    def from_epochs(cls, epochs: Iterable[Epoch]) -> "TrainingCurves":
        """Return the curves of a training that may still be running.

        Args:
            epochs: The arguments of the progress callback so far, in any order:
                ``epochs = []``, ``pretrain(..., progress=epochs.append)``.

        Raises:
            InputError: There is no epoch, or an item is no :class:`Epoch`.

        >>> epochs = [Epoch(0, 0, 5, None, 9.0, 9.5), Epoch(0, 1, 5, 8.0, 7.0, 7.5)]
        >>> print(TrainingCurves.from_epochs(epochs))
        epoch 1 of 5, 1 model: lowest clean validation error 7, 9 at the start
        """
        is_iterable = isinstance(epochs, Iterable) and not isinstance(epochs, (str, bytes, Mapping))
        items = list(epochs) if is_iterable else list(checks.items(epochs, "epochs", of="Epochs"))
        if not items:
            raise InputError(
                "epochs must hold at least one Epoch",
                got="no Epoch",
                cause="training has not begun",
            )
        for i, epoch in enumerate(items):
            checks.instance(
                epoch, f"epochs[{i}]", Epoch, wanted="an Epoch, as the progress callback gets it"
            )
        num_models = max(epoch.model for epoch in items) + 1
        num_epochs = max(epoch.epoch for epoch in items) + 1
        training = np.full((num_models, num_epochs), np.nan)
        clean = training.copy()
        own = training.copy()
        for epoch in items:
            place = epoch.model, epoch.epoch
            training[place] = _number(epoch.training_error)
            clean[place] = _number(epoch.clean_error)
            own[place] = _number(epoch.own_error)
        max_epochs = max(epoch.epochs for epoch in items)
        return cls(Protocol({"epochs": max_epochs}), training, clean, own, max_epochs)

    @classmethod
    def from_pretrained(cls, population: "Sequence[Pretrained]") -> "TrainingCurves":
        """Return the curves of models that are trained.

        Args:
            population: At least one result of :func:`~leadline.autoencoders.pretrain`.

        Raises:
            InputError: The population is empty, or an item is no such result.

        >>> from leadline.autoencoders import Autoencoder, pretrain
        >>> pretrained = pretrain(Autoencoder(2, (1,), seed=0), np.eye(2).repeat(10, 0), epochs=3)
        >>> TrainingCurves.from_pretrained([pretrained]).training.shape
        (1, 4)
        """
        from leadline.autoencoders.training._pretrained import Pretrained

        population = checks.items(population, "population", least=1, of="results of pretraining")
        for i, pretrained in enumerate(population):
            checks.instance(
                pretrained, f"population[{i}]", Pretrained, wanted="the result of pretrain()"
            )
        return cls.from_epochs(
            epoch
            for model, pretrained in enumerate(population)
            for epoch in _epochs_of(model, pretrained)
        )

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs of the model with the most."""
        return self.training.shape[1] - 1

    @property
    def verdict(self) -> Verdict:
        """The lowest error so far, and the error before training."""
        name = "training"
        errors = self.training
        if np.isfinite(self.clean).any():
            name = "clean validation"
            errors = self.clean
        models = "1 model" if len(errors) == 1 else f"{len(errors)} models"
        state = f"epoch {self.epochs_done} of {self.epochs}, {models}"
        is_known = np.isfinite(errors).any(axis=0)
        if not is_known.any():
            return Verdict(state)
        first = errors[:, is_known.argmax()].mean()
        lowest = np.nanmin(errors, axis=1).mean()
        return Verdict(f"{state}: lowest {name} error {lowest:.4g}, {first:.4g} at the start")

    def table(self) -> "pd.DataFrame":
        """Return one row per model and epoch, with the three errors."""
        import pandas as pd

        models, epochs = self.training.shape
        table = {
            "model": np.repeat(np.arange(models), epochs),
            "epoch": np.tile(np.arange(epochs), models),
        }
        errors = {
            "training": self.training,
            "clean validation": self.clean,
            "own validation": self.own,
        }
        return pd.DataFrame(table | {name: error.ravel() for name, error in errors.items()})

    def drawing(self) -> Drawing:
        """Return the mean error by epoch, in a band from the smallest to the largest error."""
        curves = {"training": self.training, "validation, clean": self.clean}
        if not np.array_equal(self.clean, self.own, equal_nan=True):
            curves["validation, corrupted"] = self.own
        drawing = bands(
            np.arange(self.training.shape[1]),
            {
                name: mean_and_range(errors)
                for name, errors in curves.items()
                if np.isfinite(errors).any()
            },
            title=f"Pretraining: mean and range of {len(self.training)}",
            x_label="epoch",
            y_label="squared error per row",
            baselines=["training"],
            yaxis_type="log",
            xaxis_range=[0, self.epochs],
        )
        for trace in drawing["data"]:
            trace["mode"] = "lines"
        return drawing


def _number(error: float | None) -> float:
    return np.nan if error is None else error


def _epochs_of(model: int, pretrained: "Pretrained") -> Iterator[Epoch]:
    """Yield the epochs of a trained model."""
    num_epochs = len(pretrained.training_error)
    settings = pretrained.settings
    for epoch in range(num_epochs + 1):
        yield Epoch(
            model=model,
            epoch=epoch,
            epochs=num_epochs if settings is None else settings.epochs,
            training_error=float(pretrained.training_error[epoch - 1]) if epoch else None,
            clean_error=_at(pretrained.clean_error, epoch),
            own_error=_at(pretrained.own_error, epoch),
        )


def _at(curve: np.ndarray, epoch: int) -> float | None:
    return float(curve[epoch]) if curve.size else None
