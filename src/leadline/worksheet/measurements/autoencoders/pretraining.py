"""Pretraining for section 1: one autoencoder per kind and seed, all seeds at the same time."""

from collections.abc import Mapping, Sequence

import numpy as np

from leadline.autoencoders import Autoencoder, Corruption, Pretrained, pretrain_many
from leadline.data import Dataset, Roles
from leadline.worksheet._setting import Setting


def epochs_at_most(setting: Setting) -> int:
    """Return the default maximal number of epochs."""
    return setting.pick(quick=60, full=200)


def pretrained_on_own_rows(
    kinds: Mapping[str, Corruption],
    dataset: Dataset,
    roles: Sequence[Roles],
    setting: Setting,
    hidden_sizes: Sequence[int],
    epochs: int | None = None,
) -> dict[str, list[Pretrained]]:
    """Pretrain one autoencoder for each kind and seed on that seed's own rows."""
    rows = [(dataset.X[role.pretrain_train], dataset.X[role.pretrain_validation]) for role in roles]
    return {kind: pretrained_on(rows, kinds[kind], setting, hidden_sizes, epochs) for kind in kinds}


def pretrained_on(
    rows: Sequence[tuple[np.ndarray, np.ndarray]],
    corruption: Corruption,
    setting: Setting,
    hidden_sizes: Sequence[int],
    epochs: int | None = None,
) -> list[Pretrained]:
    """Pretrain one autoencoder for each seed, all at the same time.

    Args:
        rows: training rows and early-stopping rows for each seed.
        corruption: corruption during training.
        setting: budget and seeds.
        hidden_sizes: hidden sizes of the encoders.
        epochs: maximal number of epochs; by default :func:`epochs_at_most`.
    """
    return pretrain_many(
        [
            Autoencoder(rows[0][0].shape[1], hidden_sizes, corruption=corruption, seed=seed)
            for seed in setting.seeds
        ],
        [train for train, _ in rows],
        validation=[held_out for _, held_out in rows],
        seeds=setting.seeds,
        epochs=epochs or epochs_at_most(setting),
    )


def spread(dataset: Dataset) -> float:
    """Return the scale of the noise: 1 for features in [0, 1], such as pixels.

    Otherwise it is the standard deviation divided by 0.38, which is the standard deviation of the
    digits over all pixels.
    """
    low = float(dataset.X.min())
    high = float(dataset.X.max())
    return 1.0 if low >= 0 and high <= 1 else float(dataset.X.std()) / 0.38


def label_count(dataset: Dataset, roles: Sequence[Roles], *, per_class: int) -> int:
    """Return the number of labels: ``per_class`` for each class, at most the smallest pool."""
    return min(per_class * dataset.num_classes, *(len(role.probe_pool) for role in roles))


def layers(dataset: Dataset, hidden_sizes: Sequence[int]) -> str:
    """Return the layer sizes of an encoder as text for a protocol: ``64-256-16``."""
    return "-".join(map(str, (dataset.X.shape[1], *hidden_sizes)))
