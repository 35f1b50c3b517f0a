"""Label efficiency: what a representation is worth downstream, label by label, against raw inputs and PCA."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from leadline.data import Roles, check_features, check_labels, fingerprint, label_subsets
from leadline.errors import InputError, context
from leadline.probing.linear import STRENGTHS, check_strengths, solve_probes
from leadline.probing.representation import as_encode, encode_rows
from leadline.probing.scaling import Scaling
from leadline.sounding import Interval, Protocol, Sounding, Verdict
from leadline.statistics import Effect, effect, paired_interval

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

BASELINES = ("raw", "pca", "untrained")
"""Names of the representations that every study holds, given or not."""

TOLERANCE = 1e-4
"""Largest entry of the gradient at which a probe is solved."""


@dataclass(frozen=True, eq=False)
class LabelEfficiency(Sounding):
    """Accuracies of linear probes on frozen representations: (encoders, seeds, budgets, subsets), in [0, 1]."""

    names: tuple[str, ...]
    """The representations, in the order of the first axis."""
    sizes: tuple[int, ...]
    """Features of each."""
    budgets: Int[np.ndarray, " budgets"]
    """Label counts, ascending."""
    accuracy: Float[np.ndarray, "encoders seeds budgets subsets"]
    """On the test role. All representations share the label subsets, so that differences are paired."""
    validation_accuracy: Float[np.ndarray, "encoders seeds budgets subsets"]
    """On the probe-validation role: only to choose between representations."""
    strengths: Float[np.ndarray, "encoders seeds budgets subsets"]
    """C of each probe, chosen inside its labels."""

    def interval(self, name: str, labels: int | None = None) -> Interval:
        """Mean accuracy over seeds, in percent, with its 95 % interval; at the fewest labels by default."""
        return paired_interval(100 * self._at(name, labels))

    def gain(self, name: str, over: str = "raw", labels: int | None = None) -> Effect:
        """Paired difference of two representations, in points of accuracy; at the fewest labels by default.

        Raises:
            InputError: a name or a budget that was not measured.
        """
        labels = int(self.budgets[0]) if labels is None else labels
        difference = 100 * (self._at(name, labels) - self._at(over, labels))
        return effect(difference, f"{name} minus {over}, {labels} labels", "points")

    def gain_shrinks(self, name: str, over: str = "raw") -> Effect:
        """How much larger the gain is at the fewest labels than at the most, in points of accuracy."""
        few, many = (int(self.budgets[i]) for i in (0, -1))
        gains = [100 * (self._at(name, labels) - self._at(over, labels)) for labels in (few, many)]
        label = f"gain of {name} over {over} at {few} labels minus the gain at {many}"
        return effect(gains[0] - gains[1], label, "points")

    def crossing(self, name: str, over: str = "raw") -> float | None:
        """Label count at which the mean curve of ``name`` meets that of ``over``, or ``None`` where it never does.

        Straight lines between budgets on a logarithmic axis; the first crossing counts.
        """
        difference = np.array([self._at(name, b).mean() - self._at(over, b).mean() for b in self.budgets.tolist()])
        turns = np.flatnonzero(np.sign(difference[1:]) * np.sign(difference[:-1]) < 0)
        if difference[0] == 0 or turns.size == 0:
            return float(self.budgets[0]) if difference[0] == 0 else None
        i = int(turns[0])
        share = difference[i] / (difference[i] - difference[i + 1])
        low, high = np.log(self.budgets[i]), np.log(self.budgets[i + 1])
        return float(np.exp(low + share * (high - low)))

    @property
    def chosen(self) -> str:
        """The representation that does best on the probe-validation role at the fewest labels, baselines aside."""
        others = [i for i, name in enumerate(self.names) if name not in BASELINES] or list(range(len(self.names)))
        means = self.validation_accuracy[:, :, 0].mean(axis=(1, 2))
        return self.names[max(others, key=lambda i: means[i])]

    @property
    def verdict(self) -> Verdict:
        """What the chosen representation gains over raw inputs, at the fewest and at the most labels."""
        name, (few, many) = self.chosen, (int(self.budgets[i]) for i in (0, -1))
        meets = self.crossing(name)
        return Verdict(
            f"{name} reaches {self.interval(name, few).estimate:.1f} % with {few} labels where raw inputs reach "
            f"{self.interval('raw', few).estimate:.1f} %: {self.gain(name, labels=few).interval:+.1f} points over "
            f"{self.accuracy.shape[1]} seeds; with {many} labels {self.gain(name, labels=many).interval:+.1f} points; "
            + ("the curves do not cross" if meets is None else f"the curves cross at {meets:.0f} labels")
        )

    def table(self) -> "pd.DataFrame":
        """One row per representation and label count.

        Columns: ``accuracy`` and its 95 % interval (percent), ``gain`` over raw inputs and its 95 % interval (points).
        """
        import pandas as pd

        rows = []
        for name, size in zip(self.names, self.sizes, strict=True):
            for labels in self.budgets.tolist():
                accuracy, gain = self.interval(name, labels), self.gain(name, labels=labels).interval
                rows.append((name, size, labels, *_numbers(accuracy), *_numbers(gain)))
        columns = ["representation", "features", "labels", "accuracy", "accuracy low", "accuracy high"]
        return pd.DataFrame(rows, columns=[*columns, "gain", "gain low", "gain high"])

    def figure(self) -> "go.Figure":
        """Accuracy by label count, with 95 % intervals over seeds."""
        from leadline.probing.figure import label_efficiency_curves

        return label_efficiency_curves(self)

    def _at(self, name: str, labels: int | None) -> Float[np.ndarray, "seeds subsets"]:
        labels = int(self.budgets[0]) if labels is None else labels
        if name not in self.names:
            raise InputError("no such representation", got=repr(name), cure=f"use one of {', '.join(self.names)}")
        if labels not in self.budgets:
            known = ", ".join(map(str, self.budgets.tolist()))
            raise InputError("the label count was not measured", got=f"labels = {labels}", cure=f"use one of {known}")
        return self.accuracy[self.names.index(name), :, self.budgets.tolist().index(labels)]


def label_efficiency(
    encoders: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    roles: Sequence[Roles],
    labels: Sequence[int | Literal["all"]] = (10, 20, 50, 100, "all"),
    num_subsets: int = 10,
    seeds: Sequence[int] | None = None,
    strengths: float | Sequence[float] = STRENGTHS,
    transductive: bool = False,
) -> LabelEfficiency:
    """Probe frozen representations at several label counts, over seeds and label subsets.

    For each seed: every representation is scaled by its pretraining rows (see :class:`Scaling`), label subsets are
    drawn from the probe pool (stratified, nested, the same for all representations), a multinomial logistic regression
    is fitted to each, its strength chosen inside the labels, and its accuracy taken on the test role.

    The baselines are always there: ``"raw"``, ``"pca"`` (fitted on the pretraining rows; as many components as the
    first encoder has features, but at most half of those of X, since all of them would be X again) and, where an
    encoder can be rebuilt with random weights, ``"untrained"``.

    Args:
        encoders: name -> ``"raw"``, a number of principal components, a callable, a module, an encoder with
            ``encode``; or a list with one for each seed.
        X: rows of shape (n, d).
        y: class indices of shape (n,).
        roles: one :class:`~leadline.data.Roles` for each seed, at least two.
        labels: label counts; ``"all"`` is the whole probe pool.
        num_subsets: label subsets of each count and seed.
        seeds: draw the label subsets and the untrained weights; by default 0, 1, 2, ...
        strengths: values of C to choose from; see :func:`linear_probe`.
        transductive: allow encoders that were pretrained on rows that are probed or tested here.

    Raises:
        InputError: an encoder has seen rows that it is probed on, or anything does not fit.

    >>> from leadline import data
    >>> digits = data.digits()
    >>> roles = [data.split_roles(digits.y, seed=seed) for seed in range(2)]
    >>> study = label_efficiency({"pca": 16}, digits.X, digits.y, roles=roles, labels=[10], num_subsets=2)
    >>> study.names, study.accuracy.shape
    (('pca', 'raw'), (2, 2, 1, 2))
    """
    X = check_features(X)
    y = check_labels(y, len(X))
    strengths = check_strengths(strengths)
    seeds = list(range(len(roles))) if seeds is None else [int(seed) for seed in seeds]
    if len(roles) < 2 or len(seeds) != len(roles):
        raise InputError(
            "a study needs roles for at least two seeds, and as many seeds as roles",
            got=f"{len(roles)} roles and {len(seeds)} seeds",
            cure="roles=[split_roles(y, seed=seed) for seed in range(12)]",
        )
    given = {name: _per_seed(name, source, len(roles)) for name, source in encoders.items()}
    sources = _with_baselines(given, seeds, X.shape[1])
    if not transductive:
        _refuse_seen_rows(sources, X, roles, seeds)
    pool = min(len(role.probe_pool) for role in roles)
    labels = [pool if label == "all" else label for label in labels]
    subsets = [
        label_subsets(y, role.probe_pool, labels, num=num_subsets, seed=seed)
        for role, seed in zip(roles, seeds, strict=True)
    ]
    study = _Study(X, torch.from_numpy(y), roles, [subset.order for subset in subsets], subsets[0].budgets, strengths)
    measured = {}
    for name, per_seed in sources.items():
        with context(f"in the representation {name!r}"):
            measured[name] = study.measure(name, per_seed)
    sizes, numbers = zip(*measured.values(), strict=True)
    accuracy, validation_accuracy, chosen = np.stack(numbers, axis=1)
    return LabelEfficiency(
        protocol=Protocol(
            settings={"labels": list(study.budgets), "num_subsets": num_subsets, "strengths": list(strengths)},
            seeds=tuple(seeds),
            fingerprints={
                "data": fingerprint(X, y),
                "roles": fingerprint(*(np.array([int(role.fingerprint, 16)], np.uint64) for role in roles)),
            },
        ),
        names=tuple(sources),
        sizes=sizes,
        budgets=np.array(study.budgets),
        accuracy=accuracy,
        validation_accuracy=validation_accuracy,
        strengths=chosen,
    )


@dataclass(frozen=True, eq=False)
class _Study:
    """What all representations of a study share."""

    X: np.ndarray
    y: torch.Tensor
    roles: Sequence[Roles]
    orders: list[np.ndarray]
    budgets: tuple[int, ...]
    strengths: tuple[float, ...]

    def measure(self, name: str, per_seed: list[Any]) -> tuple[int, np.ndarray]:
        """Number of features, and test accuracy, validation accuracy and strength: (3, seeds, budgets, subsets)."""
        features = []
        for role, source in zip(self.roles, per_seed, strict=True):
            pretraining = self.X[role.pretrain_train]
            encode = as_encode(source, pretraining)
            scaling = Scaling.fit(encode_rows(encode, pretraining, name))
            features.append(torch.from_numpy(scaling(encode_rows(encode, self.X, name))))
        return features[0].shape[1], np.stack([self._at(features, budget) for budget in self.budgets], axis=2)

    def _at(self, features: list[torch.Tensor], budget: int) -> Float[np.ndarray, "3 seeds subsets"]:
        """All seeds and subsets at one budget, solved together; subsets that are the whole pool are solved once."""
        draws = len(self.orders[0])
        distinct = 1 if all(len(role.probe_pool) == budget for role in self.roles) else draws
        rows = [torch.from_numpy(order[:distinct, :budget]) for order in self.orders]
        Z = torch.cat([Z[index] for Z, index in zip(features, rows, strict=True)])
        y = torch.cat([self.y[index] for index in rows])
        solution = solve_probes(Z, y, int(self.y.max()) + 1, self.strengths, TOLERANCE)
        shape = (len(features), distinct)
        W = solution.fits.coefficients.squeeze(1).unflatten(0, shape)
        b = solution.fits.intercepts.squeeze(1).unflatten(0, shape)
        measured = [
            [
                self._accuracy(Z, getattr(role, part), *fit)
                for Z, role, *fit in zip(features, self.roles, W, b, strict=True)
            ]
            for part in ("test", "probe_validation")
        ]
        results = np.array([*measured, solution.strengths.double().numpy().reshape(shape)])
        return np.broadcast_to(results, (3, shape[0], draws))

    def _accuracy(self, Z: torch.Tensor, rows: np.ndarray, W: torch.Tensor, b: torch.Tensor) -> np.ndarray:
        """Share of right answers of each probe, (subsets,)."""
        scores = torch.matmul(Z[rows], W.mT) + b.unsqueeze(1)
        return (scores.argmax(2) == self.y[rows]).double().mean(1).numpy()


def _with_baselines(sources: dict[str, list[Any]], seeds: Sequence[int], width: int) -> dict[str, list[Any]]:
    """The representations with those that every study holds added at the end."""
    trained = [per_seed for per_seed in sources.values() if hasattr(per_seed[0], "untrained")]
    components = max(1, min([width // 2, *(encoder.output_size for encoder in (trained[0] if trained else []))]))
    added: dict[str, list[Any]] = {"raw": ["raw"] * len(seeds), "pca": [components] * len(seeds)}
    if trained:
        added["untrained"] = [encoder.untrained(seed) for encoder, seed in zip(trained[0], seeds, strict=True)]
    return {**sources, **{name: per_seed for name, per_seed in added.items() if name not in sources}}


def _per_seed(name: str, given: Any, count: int) -> list[Any]:
    if not isinstance(given, (list, tuple)):
        return [given] * count
    if len(given) != count:
        raise InputError(
            "a representation is one for all seeds or a list with one for each",
            got=f"{name!r} lists {len(given)} for {count} seeds",
            cure="pretrain one encoder for each role, in their order",
        )
    return list(given)


def _refuse_seen_rows(
    sources: dict[str, list[Any]], X: np.ndarray, roles: Sequence[Roles], seeds: Sequence[int]
) -> None:
    for name, per_seed in sources.items():
        for encoder, role, seed in zip(per_seed, roles, seeds, strict=True):
            if not hasattr(encoder, "has_seen"):
                continue
            for part in ("probe_pool", "probe_validation", "test"):
                seen = encoder.has_seen(X[getattr(role, part)])
                if seen.any():
                    row = int(getattr(role, part)[int(np.argmax(seen))])
                    raise InputError(
                        "an encoder is not probed on rows that it was pretrained on",
                        got=f"{name!r} of seed {seed} has seen {int(seen.sum())} of {len(seen)} rows of {part}; "
                        f"the first is X[{row}]",
                        cause="encoders and roles in different orders, pretraining on all rows, or rows that repeat",
                        cure="pretrain on X[roles.pretrain_train] only, or say transductive=True",
                    )


def _numbers(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high
