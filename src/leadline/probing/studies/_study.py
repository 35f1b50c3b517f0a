"""The measurement of label efficiency over representations, seeds, label counts and subsets."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline import checks
from leadline.data import Roles, fingerprint, label_subsets
from leadline.errors import InputError, context
from leadline.probing.encoding._rank_me import rank_me
from leadline.probing.encoding._scaling import Scaling
from leadline.probing.encoding._sources import Inputs, Source, as_source, encode_rows
from leadline.probing.probes._linear import Criterion, LogisticSettings
from leadline.probing.studies._label_efficiency import LabelEfficiency
from leadline.probing.studies._roles import check_roles
from leadline.probing.studies._settings import LabelEfficiencySettings, is_all
from leadline.probing.studies._study_probes import LinearMaps
from leadline.sounding import Protocol

DEFAULTS = LabelEfficiencySettings
"""The settings whose defaults are the defaults of :func:`label_efficiency`."""


def label_efficiency(
    encoders: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    roles: Sequence[Roles],
    labels: Sequence[int | Literal["all"]] = DEFAULTS.labels,
    num_subsets: int = DEFAULTS.num_subsets,
    seeds: Sequence[int] | None = None,
    probe: Literal["logistic", "ridge"] = DEFAULTS.probe,
    strengths: float | Sequence[float] | None = None,
    criterion: Criterion = DEFAULTS.criterion,
    baselines: Sequence[str] = DEFAULTS.baselines,
    transductive: bool = DEFAULTS.transductive,
) -> LabelEfficiency:
    """Probe frozen representations at several label counts, over seeds and label subsets.

    For each seed, every representation is scaled by its pretraining rows (see :class:`Scaling`).
    Label subsets are drawn from the probe pool; they are stratified, nested and shared by all
    representations. A multinomial logistic regression is fitted to each subset, with a strength
    chosen from its labels, and its accuracy is measured on the test rows.

    With ``probe="ridge"``, ``y`` is a quantity, the probe is a ridge regression, and the score is
    R². Label subsets are then stratified by whether the quantity exceeds its mean. The tokens of an
    encoder that returns shape (n, tokens, d) are concatenated.

    The baselines are ``"raw"`` inputs, ``"pca"``, fitted to the pretraining rows with as many
    components as the first encoder has features, but at most half of the features of X, and
    ``"untrained"``, if an encoder can be rebuilt with random weights.

    Args:
        encoders: name -> ``"raw"``, a number of principal components, a callable, a module, an
            object with ``encode``, a fitted scikit-learn transformer, or a list with one of these
            for each seed.
        X: rows of shape (n, d), or images of shape (n, channels, height, width), which modules and
            functions receive in this shape.
        y: class indices, or quantities with ``probe="ridge"``, of shape (n,).
        roles: one :class:`~leadline.data.Roles` for each seed, at least two; for a quantity
            ``split_roles(n, seed=...)``.
        labels: label counts; ``"all"`` is the whole probe pool.
        num_subsets: number of label subsets for each count and seed.
        seeds: seeds of the label subsets and the untrained weights; by default 0, 1, 2, ... Two
            seeds give no intervals.
        probe: ``"logistic"`` for classes, ``"ridge"`` for a quantity.
        strengths: values of C to choose from; by default those of :func:`linear_probe` or
            :func:`ridge_probe`.
        criterion: criterion for C, as in :func:`linear_probe`; a ridge regression always uses its
            leave-one-out error.
        baselines: baselines to probe; ``"raw"`` is required.
        transductive: allow encoders that were pretrained on rows that are probed or tested here.

    Returns:
        Scores of all representations, seeds, label counts and subsets.

    Raises:
        InputError: an encoder was pretrained on rows that are probed or tested, or an argument is
            invalid. Encoders of the wrong shape, and more principal components than rows or
            features, are refused before any probe is fitted.

    >>> from leadline import data
    >>> digits = data.digits()
    >>> roles = [data.split_roles(digits.y, seed=seed) for seed in range(2)]
    >>> study = label_efficiency(
    ...     {"pca": 16}, digits.X, digits.y, roles=roles, labels=[10], num_subsets=2
    ... )
    >>> study.names, study.accuracy.shape
    (('pca', 'raw'), (2, 2, 1, 2))
    """
    settings = LabelEfficiencySettings(
        labels, num_subsets, probe, strengths, criterion, baselines, transductive
    )
    encoders = checks.mapping(encoders, "encoders")
    for name in encoders:
        checks.text(name, "names of encoders", least=1)
    inputs = Inputs.of(X)
    X = inputs.flat
    kind = settings.study_probe
    target = kind.check_target(y, len(X))
    roles = check_roles(roles, "roles", len(X))
    seeds = tuple(range(len(roles))) if seeds is None else checks.seeds(seeds)
    if len(roles) < 2 or len(seeds) != len(roles):
        raise InputError(
            "label_efficiency() needs roles for at least two seeds, and as many seeds as roles",
            got=f"{len(roles)} roles and {len(seeds)} seeds",
            cure="roles=[split_roles(y, seed=seed) for seed in range(12)]",
        )
    kind.check_roles(target, roles)
    given = {name: one_per_seed(name, encoder, len(roles)) for name, encoder in encoders.items()}
    given |= _baselines(given, settings, X.shape[1], roles, seeds)
    sources: dict[str, list[Source]] = {}
    for name, per_seed in given.items():
        with context(f"in the representation {name!r}"):
            sources[name] = [as_source(value) for value in per_seed]
            for source, role in zip(sources[name], roles, strict=True):
                source.check(inputs, len(role.pretrain_train), name)
    if not settings.transductive:
        _refuse_seen_rows(sources, inputs, roles, seeds)
    pool = min(len(role.probe_pool) for role in roles)
    counts: list[Any] = [pool if is_all(count) else count for count in settings.labels]
    strata = kind.strata(target)
    subsets = [
        label_subsets(strata, role.probe_pool, counts, num=settings.num_subsets, seed=seed)
        for role, seed in zip(roles, seeds, strict=True)
    ]
    budgets = subsets[0].budgets
    orders = [subset.order for subset in subsets]
    study = _Study(inputs, torch.tensor(target), roles, orders, budgets, settings)
    measurements = []
    for name, per_seed in sources.items():
        with context(f"in the representation {name!r}"):
            measurements.append(study.measure(name, per_seed))
    numbers = np.stack([measured.numbers for measured in measurements], axis=1)
    accuracy, validation_accuracy, chosen = numbers
    role_marks = [np.array([int(role.fingerprint, 16)], np.uint64) for role in roles]
    return LabelEfficiency(
        protocol=Protocol(
            settings=settings.as_protocol(budgets),
            seeds=tuple(seeds),
            fingerprints={
                "data": fingerprint(X, target),
                "roles": fingerprint(*role_marks),
            },
        ),
        names=tuple(sources),
        sizes=tuple(measured.size for measured in measurements),
        budgets=np.array(budgets),
        accuracy=accuracy,
        validation_accuracy=validation_accuracy,
        strengths=chosen,
        rank_me=np.array([measured.rank_me for measured in measurements]),
        measure=kind.measure,
        majority=kind.majority(target, roles),
    )


class _Measured(NamedTuple):
    """The measurements of one representation."""

    size: int
    """Number of features."""
    numbers: Float[np.ndarray, "3 seeds budgets subsets"]
    """Test score, validation score and strength."""
    rank_me: list[float]
    """RankMe of the pretraining rows for each seed."""


@dataclass(frozen=True, eq=False)
class _Study:
    """Everything that the representations of a study share."""

    inputs: Inputs
    y: Tensor
    roles: Sequence[Roles]
    orders: list[np.ndarray]
    """The order of labelled rows, (subsets, rows), for each seed."""
    budgets: tuple[int, ...]
    settings: LabelEfficiencySettings

    def measure(self, name: str, per_seed: list[Source]) -> _Measured:
        """Measure one representation at all seeds, label counts and subsets.

        Seeds that share an encoder and pretraining rows share their features, which are computed
        once.
        """
        known: dict[tuple[Hashable, bytes], tuple[Tensor, float]] = {}
        keys = []
        for role, source in zip(self.roles, per_seed, strict=True):
            rows = role.pretrain_train
            key = (source.key, rows.tobytes())
            keys.append(key)
            if key not in known:
                X = source.read(self.inputs)
                encode = source.fit(X[rows])
                codes = encode_rows(encode, X[rows], name)
                scaled = Scaling.fit(codes)(encode_rows(encode, X, name))
                known[key] = torch.from_numpy(scaled.astype(np.float32)), rank_me(codes)
        features = [known[key][0] for key in keys]
        numbers = np.stack([self._at(features, budget) for budget in self.budgets], axis=2)
        return _Measured(features[0].shape[1], numbers, [known[key][1] for key in keys])

    def _at(self, features: list[Tensor], budget: int) -> Float[np.ndarray, "3 seeds subsets"]:
        """Measure all seeds and subsets at one label count.

        All problems are solved together. Subsets that equal the whole pool are solved once.
        """
        num_subsets = len(self.orders[0])
        is_whole_pool = all(len(role.probe_pool) == budget for role in self.roles)
        distinct = 1 if is_whole_pool else num_subsets
        rows = [torch.from_numpy(order[:distinct, :budget]) for order in self.orders]
        Z = torch.cat([Z[index] for Z, index in zip(features, rows, strict=True)])
        y = torch.cat([self.y[index] for index in rows])
        strengths: Any = self.settings.strengths
        logistic = LogisticSettings(strengths, self.settings.criterion)
        maps = self.settings.study_probe.fit(Z, y, logistic)
        shape = (len(features), distinct)
        test = self._scores(features, maps, "test", shape)
        validation = self._scores(features, maps, "probe_validation", shape)
        results = np.array([test, validation, maps.strengths.double().numpy().reshape(shape)])
        return np.broadcast_to(results, (3, shape[0], num_subsets))

    def _scores(
        self, features: list[Tensor], maps: LinearMaps, part: str, shape: tuple[int, int]
    ) -> list[np.ndarray]:
        """Return the scores of each seed's subsets on the rows of one role."""
        scores = []
        by_seed = zip(
            features,
            self.roles,
            maps.W.unflatten(0, shape),
            maps.b.unflatten(0, shape),
            strict=True,
        )
        for Z, role, W, b in by_seed:
            rows = getattr(role, part)
            outputs = torch.matmul(Z[rows], W.mT) + b.unsqueeze(1)
            scores.append(self.settings.study_probe.score(outputs, self.y[rows]).numpy())
        return scores


def _baselines(
    sources: dict[str, list[Any]],
    settings: LabelEfficiencySettings,
    num_features: int,
    roles: Sequence[Roles],
    seeds: Sequence[int],
) -> dict[str, list[Any]]:
    """Return the requested baselines whose names are not taken, for each seed."""
    rebuildable = [per_seed for per_seed in sources.values() if hasattr(per_seed[0], "untrained")]
    encoders = rebuildable[0] if rebuildable else []
    sizes = [encoder.output_size for encoder in encoders if hasattr(encoder, "output_size")]
    most = min(num_features // 2, *(len(role.pretrain_train) for role in roles))
    num_components = max(1, min([most, *sizes]))
    baselines: dict[str, list[Any]] = {
        "raw": ["raw"] * len(seeds),
        "pca": [num_components] * len(seeds),
    }
    if rebuildable:
        baselines["untrained"] = [
            encoder.untrained(seed) for encoder, seed in zip(encoders, seeds, strict=True)
        ]
    return {
        name: per_seed
        for name, per_seed in baselines.items()
        if name in settings.baselines and name not in sources
    }


def one_per_seed(name: str, source: Any, num_seeds: int) -> list[Any]:
    """Return a source for each seed from a list of that length, or from one source for all."""
    if not isinstance(source, (list, tuple)):
        return [source] * num_seeds
    if len(source) != num_seeds:
        raise InputError(
            "a representation must be one source for all seeds, or a list with one for each seed",
            got=f"{name!r} lists {len(source)} for {num_seeds} seeds",
            cure="pretrain one encoder for each role, in their order",
        )
    return list(source)


def _refuse_seen_rows(
    sources: dict[str, list[Source]], inputs: Inputs, roles: Sequence[Roles], seeds: Sequence[int]
) -> None:
    """Refuse encoders that were pretrained on rows that are probed or tested."""
    for name, per_seed in sources.items():
        for source, role, seed in zip(per_seed, roles, seeds, strict=True):
            X = source.read(inputs)
            for part in ("probe_pool", "probe_validation", "test"):
                rows = getattr(role, part)
                is_seen = source.has_seen(X[rows])
                if is_seen.any():
                    row = int(rows[int(np.argmax(is_seen))])
                    raise InputError(
                        "an encoder must not be probed on rows that it was pretrained on",
                        got=f"{name!r} of seed {seed} has seen {int(is_seen.sum())} of "
                        f"{len(is_seen)} rows of {part}; the first is X[{row}]",
                        cause="encoders and roles in different orders, pretraining on all rows, or "
                        "rows that repeat",
                        cure="pretrain on X[roles.pretrain_train] only, or pass transductive=True",
                    )
