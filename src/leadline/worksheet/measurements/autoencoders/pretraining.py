"""How the measurements of section 1 pretrain: one autoencoder for each kind and seed, all seeds at once."""

from collections.abc import Mapping, Sequence

import numpy as np

from leadline.autoencoders import Autoencoder, Corruption, Pretrained, pretrain_many
from leadline.data import Dataset, Roles
from leadline.worksheet._setting import Setting


def epochs_at_most(setting: Setting) -> int:
    """Passes over the rows where a measurement does not ask for another number."""
    return setting.pick(quick=60, full=200)


def pretrained_on_own_rows(
    kinds: Mapping[str, Corruption],
    dataset: Dataset,
    roles: Sequence[Roles],
    setting: Setting,
    hidden_sizes: Sequence[int],
    epochs: int | None = None,
) -> dict[str, list[Pretrained]]:
    """One autoencoder for each kind and seed, pretrained on that seed's own rows."""
    rows = [(dataset.X[role.pretrain_train], dataset.X[role.pretrain_validation]) for role in roles]
    return {kind: pretrained_on(rows, kinds[kind], setting, hidden_sizes, epochs) for kind in kinds}


def pretrained_on(
    rows: Sequence[tuple[np.ndarray, np.ndarray]],
    corruption: Corruption,
    setting: Setting,
    hidden_sizes: Sequence[int],
    epochs: int | None = None,
) -> list[Pretrained]:
    """One autoencoder for each seed, all of them at once.

    Args:
        rows: for each seed those that train and those that stop the training.
        corruption: what they are trained with.
        setting: budget and seeds.
        hidden_sizes: of the encoders.
        epochs: at most; by default :func:`epochs_at_most`.
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
    """The scale of the noise: 1 for features between 0 and 1, as of images; else their standard deviation over 0.38.

    The digits have a standard deviation of 0.38 over all their pixels.
    """
    low, high = float(dataset.X.min()), float(dataset.X.max())
    return 1.0 if low >= 0 and high <= 1 else float(dataset.X.std()) / 0.38


def label_count(dataset: Dataset, roles: Sequence[Roles], *, per_class: int) -> int:
    """So many labels per class, or as many as every probe pool holds."""
    return min(per_class * dataset.num_classes, *(len(role.probe_pool) for role in roles))


def layers(dataset: Dataset, hidden_sizes: Sequence[int]) -> str:
    """Features and widths of an encoder, as protocols tell them: ``64-256-16``."""
    return "-".join(map(str, (dataset.X.shape[1], *hidden_sizes)))
