"""Transfer: probing encoders on data other than the data that they were pretrained on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from leadline import checks
from leadline.data import Dataset, Roles
from leadline.errors import InputError, context
from leadline.figures import Drawing, matrix
from leadline.probing.encoding._sources import Inputs, as_source, is_count
from leadline.probing.studies._label_efficiency import BASELINES
from leadline.probing.studies._roles import check_roles
from leadline.probing.studies._settings import TransferSettings
from leadline.probing.studies._study import label_efficiency, one_per_seed
from leadline.sounding import Interval, Protocol, Sounding, Verdict, decimals
from leadline.statistics import (
    PERCENT,
    POINTS,
    Effect,
    effect,
    interval_columns,
    over_seeds,
    paired_interval,
)
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

Adapter = Callable[[Dataset], Any]
"""A function from rows of a target to rows that a source accepts, row by row."""


@record("probing.TransferMatrix")
@dataclass(frozen=True, eq=False)
class TransferMatrix(Sounding):
    """Test accuracies of probes with source encoders in rows and target data in columns."""

    sources: tuple[str, ...]
    """The encoders, then the baselines ``"raw"``, ``"pca"`` and, if an encoder can be rebuilt,
    ``"untrained"``."""
    targets: tuple[str, ...]
    """The data that are probed."""
    labels: tuple[int, ...]
    """Label count of each target."""
    accuracy: Float[np.ndarray, "sources targets seeds subsets"]
    """Accuracy on the test rows, in [0, 1]. All sources of a target share roles and label subsets,
    so that differences are paired."""
    majority: Float[np.ndarray, "targets seeds"]
    """Share of the most frequent class in each test role: the accuracy of always predicting it."""

    def interval(self, source: str, target: str) -> Interval:
        """Return the mean accuracy over seeds in percent, with its 95 % interval.

        Raises:
            InputError: the source or the target was not measured.
        """
        return paired_interval(100 * self._at(source, target), bounds=PERCENT)

    def gain(self, source: str, target: str, over: str = "raw") -> Effect:
        """Return the paired difference of two sources on one target, in points of accuracy.

        Raises:
            InputError: a source or the target was not measured.
        """
        difference = 100 * (self._at(source, target) - self._at(over, target))
        labels = self.labels[self.targets.index(target)]
        return effect(
            difference,
            f"{source} minus {over} on {target}, {labels} labels",
            "points",
            bounds=POINTS,
        )

    @property
    def verdict(self) -> Verdict:
        """The largest gain of a transfer over raw inputs."""
        source, target = self._best
        gain = self.gain(source, target).interval
        labels = self.labels[self.targets.index(target)]
        count = len(self._transfers)
        return Verdict(
            f"{source} gains {gain:+.1f} points over raw inputs on {target} with {labels} labels "
            f"{over_seeds(self.accuracy.shape[2])}, the best of {count} transfers"
        )

    @property
    def findings(self) -> tuple[str, ...]:
        """Sentences about raw inputs, the largest class, and the number of gains and losses."""
        target = self._best[1]
        raw = decimals(self.interval("raw", target).estimate, ".1f")
        majority = self.majority[self.targets.index(target)].mean()
        sentences = [
            f"On {target}, raw inputs reach {raw} % and always predicting the largest class "
            f"reaches {decimals(100 * majority, '.1f')} %."
        ]
        count = len(self._transfers)
        for control in ("raw", "untrained"):
            if control not in self.sources:
                continue
            intervals = [self.gain(*pair, over=control).interval for pair in self._transfers]
            if intervals[0].is_known:
                gains = sum(interval.above(0) is True for interval in intervals)
                losses = sum(interval.below(0) is True for interval in intervals)
                sentences.append(
                    f"Over {control}, {gains} of {count} transfers gain and {losses} lose "
                    f"(95 % intervals {over_seeds(self.accuracy.shape[2])})."
                )
        return tuple(sentences)

    def table(self) -> "pd.DataFrame":
        """Return a table with one row per source and target.

        Columns: ``accuracy`` (percent), ``gain`` over raw inputs and ``gain over untrained``
        (points), each with its 95 % interval, and ``largest class``, the share of the largest class
        of the target's test rows (percent).
        """
        import pandas as pd

        rows = []
        for j, target in enumerate(self.targets):
            for source in self.sources:
                row: dict[str, Any] = {
                    "source": source,
                    "target": target,
                    "labels": self.labels[j],
                    **interval_columns("accuracy", self.interval(source, target)),
                    **interval_columns("gain", self.gain(source, target).interval),
                }
                if "untrained" in self.sources:
                    gain = self.gain(source, target, over="untrained").interval
                    row |= interval_columns("gain over untrained", gain)
                row["largest class"] = 100 * self.majority[j].mean()
                rows.append(row)
        return pd.DataFrame(rows)

    def drawing(self) -> Drawing:
        """Return the gain over raw inputs of each source on each target.

        Each cell contains the accuracy, and the gain with its 95 % interval.
        """
        gains = np.zeros((len(self.sources), len(self.targets)))
        texts = []
        for i, source in enumerate(self.sources):
            row = []
            for j, target in enumerate(self.targets):
                gain = self.gain(source, target).interval
                gains[i, j] = gain.estimate
                text = f"{decimals(self.interval(source, target).estimate, '.1f')} %"
                row.append(text if source == "raw" else f"{text}<br>{gain:+.1f}")
            texts.append(row)
        shares = 100 * self.majority.mean(axis=1)
        columns = [
            f"{name} ({labels} labels, largest class {decimals(share, '.1f')} %)"
            for name, labels, share in zip(self.targets, self.labels, shares, strict=True)
        ]
        return matrix(
            gains,
            texts,
            rows=self.sources,
            columns=columns,
            title="Accuracy on other data, and gain over raw inputs",
            x_label="probed on",
            y_label="pretrained on",
            scale_label="points over raw inputs",
        )

    @property
    def _transfers(self) -> list[tuple[str, str]]:
        """Pairs of an encoder and other data; all pairs if there are no others."""
        encoders = [name for name in self.sources if name not in BASELINES] or list(self.sources)
        pairs = [(source, target) for source in encoders for target in self.targets]
        return [(source, target) for source, target in pairs if source != target] or pairs

    @property
    def _best(self) -> tuple[str, str]:
        """The transfer with the largest gain over raw inputs."""
        return max(self._transfers, key=lambda pair: self.gain(*pair).interval.estimate)

    def _at(self, source: str, target: str) -> Float[np.ndarray, "seeds subsets"]:
        """Return the accuracies of one source on one target."""
        row = _index(source, self.sources, "source")
        column = _index(target, self.targets, "target")
        return self.accuracy[row, column]


def _index(name: Any, known: tuple[str, ...], kind: str) -> int:
    """Return the index of a name, or refuse a name that was not measured."""
    if not isinstance(name, str) or name not in known:
        raise InputError(
            f"the {kind} was not measured",
            got=checks.shown(name),
            cure=f"use one of {', '.join(known)}",
        )
    return known.index(name)


def transfer_matrix(
    sources: Mapping[str, Any],
    targets: Mapping[str, Dataset],
    *,
    roles: Mapping[str, Sequence[Roles]],
    labels_per_class: int | Literal["all"] = TransferSettings.labels_per_class,
    num_subsets: int = TransferSettings.num_subsets,
    seeds: Sequence[int] | None = None,
    adapters: Mapping[str, Adapter] | None = None,
    transductive: bool = TransferSettings.transductive,
) -> TransferMatrix:
    """Probe encoders on other data, and compare them with raw inputs and an untrained encoder.

    Each column is a study of :func:`label_efficiency` at one label count. A source with the name of
    a target is an encoder that was pretrained on the target's own rows.

    Args:
        sources: name -> an encoder, or a list with one for each seed, as in
            :func:`label_efficiency`.
        targets: name -> labelled data.
        roles: target -> one :class:`~leadline.data.Roles` for each seed, the roles by which its
            own encoders were pretrained.
        labels_per_class: label count, in rows per class of the target; ``"all"`` is the whole probe
            pool.
        num_subsets: number of label subsets for each target and seed.
        seeds: seeds of the label subsets and the untrained weights; by default 0, 1, 2, ...
        adapters: source -> a function from a :class:`~leadline.data.Dataset` to rows that the
            source accepts, if targets have another shape, such as
            ``lambda target: target.resized((8, 8))``. The source reads the function's result on all
            targets; raw inputs and PCA read the targets themselves.
        transductive: allow encoders that were pretrained on rows that are probed or tested here.

    Returns:
        Accuracies of all sources on all targets.

    Raises:
        InputError: a source does not accept the rows of a target and has no adapter, an encoder was
            pretrained on tested rows, or an argument is invalid. No probe is fitted before.

    >>> from leadline import autoencoders, data
    >>> digits = data.digits()
    >>> roles = {"digits": [data.split_roles(digits.y, seed=seed) for seed in range(2)]}
    >>> letters = [autoencoders.Autoencoder(64, (16,), seed=seed) for seed in range(2)]
    >>> result = transfer_matrix(
    ...     {"letters": letters}, {"digits": digits}, roles=roles, num_subsets=2
    ... )
    >>> result.sources, result.labels, result.accuracy.shape
    (('letters', 'raw', 'pca'), (10,), (3, 1, 2, 2))

    Reference: Zhai et al., *A large-scale study of representation learning with the visual task
    adaptation benchmark*, 2019.
    """
    settings = TransferSettings(labels_per_class, num_subsets, transductive)
    sources = checks.mapping(sources, "sources")
    targets = checks.mapping(targets, "targets")
    roles = checks.mapping(roles, "roles")
    if not sources or not targets or not set(targets) <= set(roles):
        missing = [name for name in targets if name not in roles]
        no_roles = f", no roles for {missing[0]!r}" if missing else ""
        raise InputError(
            "transfer_matrix() needs a source, a target, and roles for every target",
            got=f"{len(sources)} sources, {len(targets)} targets{no_roles}",
            cure='roles={"digits": [split_roles(digits.y, seed=seed) for seed in range(12)]}',
        )
    roles = {target: check_roles(roles[target], f"roles[{target!r}]") for target in targets}
    for target, dataset in targets.items():
        checks.instance(
            dataset, f"targets[{target!r}]", Dataset, cure="leadline.data.Dataset(X, y, name)"
        )
    adapters = _check_adapters(adapters, sources)
    columns = {
        target: _column(sources, adapters, target, dataset, roles[target])
        for target, dataset in targets.items()
    }
    studies = []
    for target, dataset in targets.items():
        with context(f"on the target {target!r}"):
            study = label_efficiency(
                columns[target],
                dataset.X,
                dataset.labels,
                roles=roles[target],
                labels=[settings.labels(len(np.unique(dataset.labels)))],
                num_subsets=settings.num_subsets,
                seeds=seeds,
                transductive=settings.transductive,
            )
            studies.append(study)
    fingerprints = {
        f"{part} of {target}": mark
        for target, study in zip(targets, studies, strict=True)
        for part, mark in study.protocol.fingerprints.items()
    }
    return TransferMatrix(
        protocol=Protocol(
            settings={**settings.as_protocol(), "adapters": sorted(adapters)},
            seeds=studies[0].protocol.seeds,
            fingerprints=fingerprints,
        ),
        sources=studies[0].names,
        targets=tuple(targets),
        labels=tuple(int(study.budgets[0]) for study in studies),
        accuracy=np.stack([study.accuracy[:, :, 0] for study in studies], axis=1),
        majority=np.stack([study.majority for study in studies]),
    )


def _check_adapters(adapters: Any, sources: Mapping[str, Any]) -> Mapping[str, Adapter]:
    """Return the adapters, each a function that belongs to a source."""
    if adapters is None:
        return {}
    listed = checks.mapping(adapters, "adapters")
    for name, adapter in listed.items():
        if name not in sources:
            raise InputError(
                "adapters must have the names of sources",
                got=f"{name!r} in adapters",
                cure=f"one of {list(sources)}",
            )
        checks.function(adapter, f"adapters[{name!r}]")
    return listed


def _column(
    sources: Mapping[str, Any],
    adapters: Mapping[str, Adapter],
    target: str,
    dataset: Dataset,
    roles: Sequence[Roles],
) -> dict[str, list[Any]]:
    """Return the adapted sources of one target for each seed; refuse rows of another shape."""
    column = {}
    for name, source in sources.items():
        per_seed = one_per_seed(name, source, len(roles))
        if name in adapters:
            per_seed = [_adapted(encoder, adapters[name], dataset) for encoder in per_seed]
        column[name] = per_seed
    inputs = Inputs.of(dataset.X)
    for name, per_seed in column.items():
        with context(f"in the source {name!r}"):
            adapted = [as_source(encoder) for encoder in per_seed]
        hint = f"adapters={{{name!r}: …}} brings rows into another form"
        with context(f"from {name!r} to {target!r}; {hint}"):
            for source, role in zip(adapted, roles, strict=True):
                source.check(inputs, len(role.pretrain_train), name)
    return column


@dataclass(frozen=True, eq=False)
class _Adapted:
    """An encoder that reads the rows of a target through an adapter."""

    encoder: Any
    adapter: Adapter
    target: Dataset

    def rows(self, X: np.ndarray) -> np.ndarray:
        """Return rows of the target as the encoder reads them."""
        return np.asarray(self.adapter(replace(self.target, X=X, y=None)))

    def encode(self, X: np.ndarray) -> np.ndarray:
        """Encode rows of the target."""
        rows = self.rows(X)
        return as_source(self.encoder).fit(rows)(rows)

    def has_seen(self, X: np.ndarray) -> np.ndarray:
        """Return the rows that the encoder was pretrained on."""
        return as_source(self.encoder).has_seen(self.rows(X))


class _Rebuildable(_Adapted):
    """An adapted encoder that can be rebuilt with random weights."""

    def untrained(self, seed: int) -> _Adapted:
        """Return the encoder with random weights, behind the same adapter."""
        return _Adapted(self.encoder.untrained(seed), self.adapter, self.target)

    @property
    def output_size(self) -> int:
        """Number of features."""
        return self.encoder.output_size


def _adapted(source: Any, adapter: Adapter, target: Dataset) -> _Adapted:
    """Return a source behind an adapter; it still knows its rows and can still be rebuilt."""
    if is_count(source):
        raise InputError(
            "adapters must belong to encoders; principal components accept rows of any form",
            got=f"{source} components with an adapter",
            cause="PCA is fitted to a target's own pretraining rows, which an adapter does not see",
            cure="leave it out of adapters, or pass scikit-learn's PCA, fitted to adapted rows",
        )
    kind = _Rebuildable if hasattr(source, "untrained") else _Adapted
    return kind(source, adapter, target)
