"""The settings of one pretraining run."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from leadline import checks
from leadline.autoencoders.models._patches import check_size
from leadline.storage import record

Schedule = Literal["cosine", "constant"]
"""The course of the learning rate over the epochs."""

WARM_UP = 0.05
"""Share of the epochs in which the learning rate of the cosine schedule rises."""


@record("autoencoders.PretrainingSettings")
@dataclass(frozen=True)
class PretrainingSettings:
    """The settings of one pretraining run, checked when they are created.

    Args:
        learning_rate: Highest learning rate of Adam, > 0.
        epochs: Maximum number of passes over the rows, at least 1.
        batch_size: Rows per step, at least 1. The last batch of an epoch may be smaller.
        schedule: ``"cosine"`` or ``"constant"``.
        patience: Epochs without improvement after which training stops, at least 1.
        centre: True to train in coordinates that are centred on the mean of the training rows.
        shuffle: True to visit the rows in a new random order in each epoch.
        seed: Seed of the split, the permutations and the corruption.

    >>> settings = PretrainingSettings(1e-3, epochs=20)
    >>> [round(settings.learning_rate_at(epoch), 6) for epoch in (0, 1, 10, 19)]
    [0.0005, 0.001, 0.000541, 7e-06]
    """

    learning_rate: float
    epochs: int = 200
    batch_size: int = 150
    schedule: Schedule = "cosine"
    patience: int = 40
    centre: bool = True
    shuffle: bool = True
    seed: int = 0

    def __post_init__(self):
        checked = {
            "learning_rate": checks.number(self.learning_rate, "learning_rate", above=0),
            "epochs": check_size(self.epochs, "epochs"),
            "batch_size": check_size(self.batch_size, "batch_size"),
            "schedule": checks.choice(self.schedule, "schedule", ("cosine", "constant")),
            "patience": check_size(self.patience, "patience"),
            "centre": checks.flag(self.centre, "centre"),
            "shuffle": checks.flag(self.shuffle, "shuffle"),
            "seed": checks.seed(self.seed),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def learning_rate_at(self, epoch: int) -> float:
        """Return the learning rate in an epoch, counted from 0."""
        if self.schedule == "constant":
            return self.learning_rate
        rising = WARM_UP * self.epochs
        if epoch < rising:
            return self.learning_rate * (epoch + 1) / (rising + 1)
        angle = math.pi * (epoch - rising) / (self.epochs - rising)
        return self.learning_rate * (1 + math.cos(angle)) / 2

    def record(self) -> dict[str, Any]:
        """Return the settings by name, as protocols and checkpoints record them."""
        return asdict(self)
