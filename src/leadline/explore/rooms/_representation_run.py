"""The run of the representation room: pretraining, then probing, in a separate process."""

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
"""The function that the process of the job runs."""

PRETRAINED = "pretrained"
EFFICIENCY = "efficiency"
ENCODER = "encoder.safetensors"
"""Names of the saved results in the folder of a run."""


def pretrain_and_probe(inputs: Mapping[str, Any], folder: Path, write: Write) -> None:
    """Train one autoencoder for each seed; if the rows have labels, probe the encoders.

    Args:
        inputs: the ``settings``, the ``path`` of an upload, and the number of ``threads`` of the
            server, so that results are equal bit for bit.
        folder: folder for the autoencoder and the encoder of the first seed, and for the label
            efficiency.
        write: function that is called with each epoch, and when probing begins.
    """
    torch.set_num_threads(inputs["threads"])
    s = Settings(**inputs["settings"])
    m = material_at(s.data, s.rows, s.seeds, inputs["path"])
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
    """Return the epochs that a run has written so far."""
    return [autoencoders.Epoch(**line) for line in run.metrics if "epoch" in line]


def is_probing(run: Progress) -> bool:
    """True if training is done and probing has begun."""
    return any("probing" in line for line in run.metrics)


def pretrained_of(run: Progress) -> autoencoders.Pretrained:
    """Return the autoencoder of the first seed of a finished run."""
    return autoencoders.Pretrained.load(run.folder / PRETRAINED)


def efficiency_of(run: Progress) -> LabelEfficiency | None:
    """Return the label efficiency of a finished run; ``None`` if the rows have no labels."""
    return (
        LabelEfficiency.load(run.folder / EFFICIENCY)
        if (run.folder / EFFICIENCY).exists()
        else None
    )
