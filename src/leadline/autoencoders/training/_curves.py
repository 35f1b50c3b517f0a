"""How far the training of some autoencoders has come: errors by epoch, also while it goes on."""

from collections.abc import Iterable, Mapping, Sequence
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
    """Errors of a population by epoch, 0 being the start: squared, summed over features, means over rows.

    NaN where there is no such error: before the first epoch, after an early stop, without validation rows.
    """

    training: Float[np.ndarray, "models epochs"]
    """What was minimised, averaged over each epoch while the weights moved."""
    clean: Float[np.ndarray, "models epochs"]
    """On clean validation rows."""
    own: Float[np.ndarray, "models epochs"]
    """What the models are trained for, on validation rows with a corruption drawn once."""
    epochs: int
    """Epochs at most."""

    @property
    def come(self) -> int:
        """Epochs that the model which has come furthest has behind it."""
        return self.training.shape[1] - 1

    @property
    def verdict(self) -> Verdict:
        """The least error on validation rows so far, and that of the start."""
        which, errors = (
            ("clean validation", self.clean)
            if np.isfinite(self.clean).any()
            else ("training", self.training)
        )
        many = len(errors)
        told = f"epoch {self.come} of {self.epochs}, {many} model{'s' * (many > 1)}"
        known = np.isfinite(errors).any(axis=0)
        if not known.any():
            return Verdict(told)
        first, least = errors[:, known.argmax()].mean(), np.nanmin(errors, axis=1).mean()
        return Verdict(f"{told}: {which} error {least:.4g} at its least, {first:.4g} at the start")

    def table(self) -> "pd.DataFrame":
        """One row per model and epoch: ``training``, ``clean validation``, ``own validation``."""
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


def training_curves(epochs: Iterable[Epoch]) -> TrainingCurves:
    """The curves so far of training that reports to ``progress``.

    Args:
        epochs: what the progress callback was told, in any order: ``told = []``, ``progress=told.append``.

    Raises:
        InputError: nothing was told yet.

    >>> told = [Epoch(0, 0, 5, None, 9.0, 9.5), Epoch(0, 1, 5, 8.0, 7.0, 7.5)]
    >>> print(training_curves(told))
    epoch 1 of 5, 1 model: clean validation error 7 at its least, 9 at the start
    """
    is_iterable = isinstance(epochs, Iterable) and not isinstance(epochs, (str, bytes, Mapping))
    told = list(epochs) if is_iterable else list(checks.items(epochs, "epochs", of="Epochs"))
    if not told:
        raise InputError(
            "curves need at least one epoch", got="none", cause="training has not begun"
        )
    for i, epoch in enumerate(told):
        checks.instance(
            epoch, f"epochs[{i}]", Epoch, wanted="an Epoch, as the progress callback gets it"
        )
    shape = (max(epoch.model for epoch in told) + 1, max(epoch.epoch for epoch in told) + 1)
    training, clean, own = (np.full(shape, np.nan) for _ in range(3))
    for epoch in told:
        at = epoch.model, epoch.epoch
        for errors, error in (
            (training, epoch.training_error),
            (clean, epoch.clean_error),
            (own, epoch.own_error),
        ):
            errors[at] = np.nan if error is None else error
    most = max(epoch.epochs for epoch in told)
    return TrainingCurves(Protocol({"epochs": most}), training, clean, own, most)


def finished_curves(population: "Sequence[Pretrained]") -> TrainingCurves:
    """The curves of a population that is trained.

    Args:
        population: at least one; what :func:`~leadline.autoencoders.pretrain_many` gave.

    Raises:
        InputError: an empty population.

    >>> from leadline.autoencoders import Autoencoder, pretrain
    >>> pretrained = pretrain(Autoencoder(2, (1,), seed=0), np.eye(2).repeat(10, 0), epochs=3)
    >>> finished_curves([pretrained]).training.shape
    (1, 4)
    """
    from leadline.autoencoders.training._pretrained import Pretrained

    population = checks.items(population, "population", least=1, of="results of pretraining")
    for i, one in enumerate(population):
        checks.instance(one, f"population[{i}]", Pretrained, wanted="the result of pretrain()")
    epochs = [
        Epoch(
            model,
            epoch,
            int(one.protocol.settings["epochs"]),
            float(one.training_error[epoch - 1]) if epoch else None,
            float(one.clean_error[epoch]) if one.clean_error.size else None,
            float(one.own_error[epoch]) if one.own_error.size else None,
        )
        for model, one in enumerate(population)
        for epoch in range(len(one.training_error) + 1)
    ]
    return training_curves(epochs)
