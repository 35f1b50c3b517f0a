"""What a run of the representation room does, in a process of its own: pretrain, then probe."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from leadline import autoencoders, probing
from leadline.explore.rooms._representation_settings import (
    SUBSETS,
    Settings,
    corruption,
    material_at,
)
from leadline.explore.server._jobs import Progress, Write
from leadline.probing import LabelEfficiency

WORK = "leadline.explore.rooms._representation_run:pretrain_and_probe"
"""Where the work is, for the job's process."""

PRETRAINED, EFFICIENCY, ENCODER = "pretrained", "efficiency", "encoder.safetensors"
"""What it leaves."""


def pretrain_and_probe(given: Mapping[str, Any], folder: Path, write: Write) -> None:
    """Train one autoencoder for each seed, telling every epoch; where there are labels, probe their encoders.

    Args:
        given: ``settings``, the ``path`` of an upload, and as many ``threads`` as the server has, for the same bits.
        folder: where the first seed's autoencoder, its encoder and the label efficiency are left.
        write: told each epoch, and when probing begins.
    """
    torch.set_num_threads(given["threads"])
    s = Settings(**given["settings"])
    m = material_at(s.data, s.rows, s.seeds, given["path"])
    corrupt = corruption(s, m.image_size, m.channels)
    models = [
        autoencoders.Autoencoder(
            m.X.shape[1], (s.hidden, s.bottleneck), corruption=corrupt, seed=seed
        )
        for seed in range(s.seeds)
    ]
    trained = autoencoders.pretrain_many(
        models,
        [m.X[role.pretrain_train] for role in m.roles],
        validation=[m.X[role.pretrain_validation] for role in m.roles],
        seeds=range(s.seeds),
        epochs=s.epochs,
        progress=lambda epoch: write(asdict(epoch)),
    )
    trained[0].save(folder / PRETRAINED)
    trained[0].encoder.save(folder / ENCODER)
    if m.y is not None:
        write({"probing": True})
        encoders = {s.kind: [pretrained.encoder for pretrained in trained]}
        efficiency = probing.label_efficiency(
            encoders, m.X, m.y, roles=m.roles, labels=m.labels, num_subsets=SUBSETS
        )
        efficiency.save(folder / EFFICIENCY)


def epochs_of(run: Progress) -> list[autoencoders.Epoch]:
    """The epochs that a run has told of."""
    return [autoencoders.Epoch(**line) for line in run.metrics if "epoch" in line]


def is_probing(run: Progress) -> bool:
    """Whether training is over."""
    return any("probing" in line for line in run.metrics)


def pretrained_of(run: Progress) -> autoencoders.Pretrained:
    """The first seed's autoencoder, of a run that is done."""
    return autoencoders.Pretrained.load(run.folder / PRETRAINED)


def efficiency_of(run: Progress) -> LabelEfficiency | None:
    """What a run that is done found, or ``None`` where there were no labels."""
    return (
        LabelEfficiency.load(run.folder / EFFICIENCY)
        if (run.folder / EFFICIENCY).exists()
        else None
    )
