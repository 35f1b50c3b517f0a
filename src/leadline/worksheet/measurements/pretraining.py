"""The autoencoders that the measurements of section 1 share: one for each kind and seed, all pretrained at once."""

from collections.abc import Mapping, Sequence

from leadline.autoencoders import Autoencoder, Corruption, Pretrained, pretrain_many
from leadline.data import Dataset, Roles
from leadline.worksheet.setting import Setting


def pretrained_on_own_rows(
    kinds: Mapping[str, Corruption],
    dataset: Dataset,
    roles: Sequence[Roles],
    setting: Setting,
    hidden_sizes: Sequence[int],
) -> dict[str, list[Pretrained]]:
    """One autoencoder for each kind and seed, pretrained on that seed's own rows; all of them at once."""
    named = [(kind, i) for kind in kinds for i in range(len(roles))]
    results = pretrain_many(
        [
            Autoencoder(dataset.X.shape[1], hidden_sizes, corruption=kinds[kind], seed=setting.seeds[i])
            for kind, i in named
        ],
        [dataset.X[roles[i].pretrain_train] for _, i in named],
        validation=[dataset.X[roles[i].pretrain_validation] for _, i in named],
        seeds=[setting.seeds[i] for _, i in named],
        epochs=setting.pick(quick=100, full=200),
    )
    found: dict[str, list[Pretrained]] = {kind: [] for kind in kinds}
    for (kind, _), result in zip(named, results, strict=True):
        found[kind].append(result)
    return found


def spread(dataset: Dataset) -> float:
    """The scale of the noise: 1 for features between 0 and 1, as of images; else their standard deviation over 0.38.

    The digits have a standard deviation of 0.38 over all their pixels.
    """
    low, high = float(dataset.X.min()), float(dataset.X.max())
    return 1.0 if low >= 0 and high <= 1 else float(dataset.X.std()) / 0.38
