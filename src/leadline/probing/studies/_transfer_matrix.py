"""Transfer: what a representation that was learned on some data is worth on other data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32

from leadline import checks
from leadline.data import Dataset, Roles
from leadline.errors import InputError, context
from leadline.figures import Drawing, matrix
from leadline.probing.probes._representation import Inputs, as_encode, is_count, seen_by
from leadline.probing.studies._label_efficiency import BASELINES, seeds_in_words
from leadline.probing.studies._roles import check_roles
from leadline.probing.studies._study import label_efficiency, one_per_seed, refuse_other_shapes
from leadline.sounding import Interval, Protocol, Sounding, Verdict, decimals
from leadline.statistics import PERCENT, POINTS, Effect, effect, paired_interval
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

Adapter = Callable[[Dataset], Any]
"""From rows of a target to rows of the form that a source takes, row by row."""


@record("probing.TransferMatrix")
@dataclass(frozen=True, eq=False)
class TransferMatrix(Sounding):
    """Test accuracies of probes: source encoders in rows, target data in columns; the last rows are controls."""

    sources: tuple[str, ...]
    """Encoders, then the controls: ``"raw"``, ``"pca"`` and, where an encoder can be rebuilt, ``"untrained"``."""
    targets: tuple[str, ...]
    labels: tuple[int, ...]
    """Label count on each target."""
    accuracy: Float[np.ndarray, "sources targets seeds subsets"]
    """On the test role, in [0, 1]. In a column all share roles and label subsets, so that differences are paired."""
    majority: Float[np.ndarray, "targets seeds"]
    """Share of the most frequent class in each test role: the accuracy of always predicting it."""

    def interval(self, source: str, target: str) -> Interval:
        """Mean accuracy over seeds, in percent, with its 95 % interval."""
        return paired_interval(100 * self._at(source, target), bounds=PERCENT)

    def gain(self, source: str, target: str, over: str = "raw") -> Effect:
        """Paired difference of two sources on one target, in points of accuracy.

        Raises:
            InputError: a source or a target that was not measured.
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
        """The best transfer, and how many of them help."""
        encoders = [name for name in self.sources if name not in BASELINES] or list(self.sources)
        pairs = [(source, target) for source in encoders for target in self.targets]
        pairs = [(source, target) for source, target in pairs if source != target] or pairs
        gains = {pair: self.gain(*pair).interval for pair in pairs}
        best = max(gains, key=lambda pair: gains[pair].estimate)
        at = self.targets.index(best[1])
        raw = decimals(self.interval("raw", best[1]).estimate, ".1f")
        largest = decimals(100 * self.majority[at].mean(), ".1f")
        told = [
            f"{best[0]} on {best[1]}: {gains[best]:+.1f} points over raw inputs with {self.labels[at]} labels, "
            f"the best of {len(pairs)} (raw inputs reach {raw} %, always predicting the largest class {largest} %)"
        ]
        seeds = self.accuracy.shape[2]
        over = (
            f"95 % intervals over {seeds} seeds" if gains[best].is_known else seeds_in_words(seeds)
        )
        for control in ("raw", "untrained"):
            if control in self.sources and gains[best].is_known:
                intervals = [self.gain(*pair, over=control).interval for pair in pairs]
                above, below = (
                    sum(getattr(i, side)(0) is True for i in intervals)
                    for side in ("above", "below")
                )
                told.append(f"over {control} {above} of {len(pairs)} gain and {below} lose")
        return Verdict(f"{'; '.join(told)} ({over})")

    def table(self) -> "pd.DataFrame":
        """One row per source and target.

        Columns: ``accuracy`` (percent), ``gain`` over raw inputs and ``gain over untrained`` (points), each with its
        95 % interval, and ``largest class``: its share of the target's test rows (percent).
        """
        import pandas as pd

        rows = []
        for j, target in enumerate(self.targets):
            for source in self.sources:
                found = {
                    "accuracy": self.interval(source, target),
                    "gain": self.gain(source, target).interval,
                }
                if "untrained" in self.sources:
                    found["gain over untrained"] = self.gain(
                        source, target, over="untrained"
                    ).interval
                row: dict[str, Any] = {"source": source, "target": target, "labels": self.labels[j]}
                for what, interval in found.items():
                    row |= {
                        what: interval.estimate,
                        f"{what} low": interval.low,
                        f"{what} high": interval.high,
                    }
                rows.append({**row, "largest class": 100 * self.majority[j].mean()})
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
            title="What a representation is worth on other data",
            x_label="probed on",
            y_label="pretrained on",
            scale_label="points over raw inputs",
        )

    def _at(self, source: str, target: str) -> Float[np.ndarray, "seeds subsets"]:
        for name, known, what in (
            (source, self.sources, "source"),
            (target, self.targets, "target"),
        ):
            if not isinstance(name, str) or name not in known:
                raise InputError(
                    f"no such {what}", got=checks.shown(name), cure=f"use one of {', '.join(known)}"
                )
        return self.accuracy[self.sources.index(source), self.targets.index(target)]


def transfer_matrix(
    sources: Mapping[str, Any],
    targets: Mapping[str, Dataset],
    *,
    roles: Mapping[str, Sequence[Roles]],
    labels_per_class: int | Literal["all"] = 1,
    num_subsets: int = 10,
    seeds: Sequence[int] | None = None,
    adapters: Mapping[str, Adapter] | None = None,
    transductive: bool = False,
) -> TransferMatrix:
    """Probe encoders that were pretrained on some data on other data, beside raw inputs and an untrained encoder.

    Each column is a study of :func:`label_efficiency` at one label count. A source of a target's name is one that was
    pretrained on that target's own rows.

    Args:
        sources: name -> an encoder, or a list with one for each seed; anything that :func:`label_efficiency` takes.
        targets: name -> labelled data.
        roles: target -> one :class:`~leadline.data.Roles` for each seed, as its own encoders were pretrained by.
        labels_per_class: label count, in rows per class of the target; ``"all"`` is the whole probe pool.
        num_subsets: label subsets of each target and seed.
        seeds: draw the label subsets and the untrained weights; by default 0, 1, 2, ...
        adapters: source -> a function from a :class:`~leadline.data.Dataset` to rows of the form that the source takes,
            where targets are of another: ``lambda target: resized(target, (8, 8))``. The source sees what it returns on
            all targets; raw inputs and PCA see the targets as they are.
        transductive: allow encoders that were pretrained on rows that are probed or tested here.

    Raises:
        InputError: rows of a width that a source does not take and no adapter for it, rows that an encoder has seen, or
            anything that does not fit; before any probe is fitted.

    >>> from leadline import autoencoders, data
    >>> digits = data.digits()
    >>> roles = {"digits": [data.split_roles(digits.y, seed=seed) for seed in range(2)]}
    >>> letters = [autoencoders.Autoencoder(64, (16,), seed=seed) for seed in range(2)]
    >>> found = transfer_matrix({"letters": letters}, {"digits": digits}, roles=roles, num_subsets=2)
    >>> found.sources, found.labels, found.accuracy.shape
    (('letters', 'raw', 'pca'), (10,), (3, 1, 2, 2))

    Reference: Zhai et al., *A large-scale study of representation learning with the visual task adaptation benchmark*,
    2019.
    """
    sources = checks.mapping(sources, "sources")
    targets = checks.mapping(targets, "targets")
    roles = checks.mapping(roles, "roles")
    adapters = {} if adapters is None else checks.mapping(adapters, "adapters")
    if not sources or not targets or not set(targets) <= set(roles):
        lacking = [name for name in targets if name not in roles]
        raise InputError(
            "a transfer needs a source, a target, and roles for every target",
            got=f"{len(sources)} sources, {len(targets)} targets"
            + (f", no roles for {lacking[0]!r}" if lacking else ""),
            cure='roles={"digits": [split_roles(digits.y, seed=seed) for seed in range(12)]}',
        )
    roles = {target: check_roles(roles[target], f"roles[{target!r}]") for target in targets}
    for target, dataset in targets.items():
        checks.instance(
            dataset, f"targets[{target!r}]", Dataset, cure="leadline.data.Dataset(X, y, name)"
        )
    for name, adapter in adapters.items():
        if name not in sources:
            raise InputError(
                "adapters name sources", got=f"{name!r} in adapters", cure=f"one of {list(sources)}"
            )
        checks.function(adapter, f"adapters[{name!r}]")
    columns = {}
    for target, dataset in targets.items():
        columns[target] = {
            name: [
                _adapted(one, adapters[name], dataset) if name in adapters else one
                for one in per_seed
            ]
            for name, per_seed in (
                (n, one_per_seed(n, given, len(roles[target]))) for n, given in sources.items()
            )
        }
        for name, per_seed in columns[target].items():
            with context(
                f"from {name!r} to {target!r}; adapters={{{name!r}: …}} brings rows into another form"
            ):
                refuse_other_shapes(per_seed, Inputs.of(dataset.X), name)
    studies = []
    for target, dataset in targets.items():
        with context(f"on the target {target!r}"):
            studies.append(
                label_efficiency(
                    columns[target],
                    dataset.X,
                    dataset.labels,
                    roles=roles[target],
                    labels=[
                        "all"
                        if isinstance(labels_per_class, str) and labels_per_class == "all"
                        else _count(labels_per_class, dataset)
                    ],
                    num_subsets=num_subsets,
                    seeds=seeds,
                    transductive=transductive,
                )
            )
    first = studies[0].protocol
    return TransferMatrix(
        protocol=Protocol(
            settings={
                "labels_per_class": labels_per_class,
                "num_subsets": num_subsets,
                "adapters": sorted(adapters),
            },
            seeds=first.seeds,
            fingerprints={
                f"{what} of {target}": mark
                for target, study in zip(targets, studies, strict=True)
                for what, mark in study.protocol.fingerprints.items()
            },
        ),
        sources=studies[0].names,
        targets=tuple(targets),
        labels=tuple(int(study.budgets[0]) for study in studies),
        accuracy=np.stack([study.accuracy[:, :, 0] for study in studies], axis=1),
        majority=np.stack([study.majority for study in studies]),
    )


def resized(dataset: Dataset, image_size: tuple[int, int]) -> Float32[np.ndarray, "n pixels"]:
    """Images of a data set at another size, as rows: an adapter for encoders of other images.

    Bilinear; each pixel is averaged over the area that it covers where images shrink.

    Raises:
        InputError: rows that are no images.

    >>> from leadline import data
    >>> resized(data.digits(), (4, 4)).shape
    (1797, 16)
    """
    dataset = checks.instance(
        dataset, "dataset", Dataset, cure="leadline.data.Dataset(X, image_size=(h, w))"
    )
    listed = checks.whole_numbers(image_size, "image_size", least=1, most=10_000, at_least=2)
    if len(listed) != 2:
        raise InputError(
            "image_size must be (height, width)", got=f"image_size = {checks.shown(image_size)}"
        )
    images = torch.from_numpy(dataset.images)
    small = torch.nn.functional.interpolate(
        images, listed, mode="bilinear", antialias=True, align_corners=False
    )
    return small.flatten(1).numpy()


def _count(labels_per_class: int, dataset: Dataset) -> int:
    return checks.whole_number(labels_per_class, "labels_per_class", least=1) * len(
        np.unique(dataset.labels)
    )


@dataclass(frozen=True, eq=False)
class _Adapted:
    """An encoder that is given the rows of a target in the form that it takes."""

    encoder: Any
    adapter: Adapter
    target: Dataset

    def rows(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.adapter(replace(self.target, X=X, y=None)))

    def encode(self, X: np.ndarray) -> np.ndarray:
        rows = self.rows(X)
        return as_encode(self.encoder, rows)(rows)

    def has_seen(self, X: np.ndarray) -> np.ndarray:
        return seen_by(self.encoder, self.rows(X))


class _Rebuilt(_Adapted):
    """One that can be rebuilt with other weights."""

    def untrained(self, seed: int) -> _Adapted:
        return _Adapted(self.encoder.untrained(seed), self.adapter, self.target)

    @property
    def output_size(self) -> int:
        return self.encoder.output_size


def _adapted(source: Any, adapter: Adapter, target: Dataset) -> Any:
    """What a source makes of adapted rows; one that remembers the rows it saw, or can be rebuilt, still can."""
    if is_count(source):
        raise InputError(
            "an adapter brings rows into the form that an encoder takes; principal components take any",
            got=f"{source} components with an adapter",
            cause="they are fitted on a target's own pretraining rows, which an adapter does not see",
            cure="leave it out of adapters, or fit scikit-learn's PCA on adapted rows and give that",
        )
    return (_Rebuilt if hasattr(source, "untrained") else _Adapted)(source, adapter, target)
