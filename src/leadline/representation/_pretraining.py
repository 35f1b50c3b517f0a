"""Pretraining of all kinds and seeds of a study, with progress and checkpoints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from leadline import checks
from leadline.autoencoders import Epoch, Pretrained, pretrain_many
from leadline.errors import InputError
from leadline.representation._views import View

RATE = 2e10
"""Approximate operations per second of training on one core of 2024."""

OPERATIONS_PER_WEIGHT = 6
"""Operations that training spends on each weight for every row."""

STAGES = ("population", "refit")
"""Subfolders of ``checkpoint`` for the training of all seeds, and for the final training of the
chosen kind on all rows."""

Stage = Literal["pretraining", "probing", "refitting"]


@dataclass(frozen=True)
class Progress:
    """The progress of a study."""

    stage: Stage
    done: int
    total: int
    seconds: float | None = None
    """Estimated duration of pretraining, reported once before it begins."""


Report = Callable[[Progress], object]
"""A function that receives the progress of a study."""


def check_progress(progress: Any) -> Report:
    """Return the function that receives the progress, or one that ignores it for ``None``."""
    if progress is None:
        return lambda _: None
    if isinstance(progress, type):
        raise InputError(
            "progress must be a function, not a class", got=f"progress = {checks.shown(progress)}"
        )
    return checks.function(progress, "progress")


def pretrain_kinds(
    view: View,
    kinds: Sequence[str],
    seeds: Sequence[int],
    folder: Path | None,
    report: Report,
    stage: Stage,
) -> dict[str, list[Pretrained]]:
    """Pretrain an autoencoder of each kind and seed as one population.

    All kinds of a seed are trained on the same rows.
    """
    rows = [view.shown(seed) for seed in seeds]
    models = [view.model(kind, seed) for kind in kinds for seed in seeds]
    settings = view.settings
    total = settings.epochs * len(models)
    num_weights = sum(weight.numel() for weight in models[0].parameters())
    operations = OPERATIONS_PER_WEIGHT * num_weights * len(rows[0]) * total
    report(Progress(stage, 0, total, operations / RATE))
    done: dict[int, int] = {}

    def report_epoch(epoch: Epoch) -> None:
        done[epoch.model] = epoch.epoch
        report(Progress(stage, sum(done.values()), total))

    population = pretrain_many(
        models,
        rows * len(kinds),
        seeds=list(seeds) * len(kinds),
        validation=0.1,
        checkpoint=folder,
        progress=report_epoch,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        patience=settings.patience,
        centre=settings.centre,
    )
    report(Progress(stage, total, total))
    n = len(seeds)
    return {kind: population[k * n : (k + 1) * n] for k, kind in enumerate(kinds)}


def initial_weights(model: nn.Module) -> dict[str, np.ndarray]:
    """Return the weights of an untrained model as arrays."""
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}
