"""How label efficiency is measured: every representation, seed, label count and subset, solved together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline import checks
from leadline.data import Roles, check_labels, fingerprint, label_subsets
from leadline.errors import InputError, context
from leadline.probing.probes._linear import (
    STRENGTHS,
    Criterion,
    check_criterion,
    check_strengths,
    solve_probes,
)
from leadline.probing.probes._rank_me import rank_me
from leadline.probing.probes._representation import (
    Inputs,
    as_encode,
    encode_rows,
    is_count,
    majority_share,
    seen_by,
)
from leadline.probing.probes._ridge import RIDGE_STRENGTHS, check_quantities, solve_ridge
from leadline.probing.probes._scaling import Scaling
from leadline.probing.studies._label_efficiency import BASELINES, LabelEfficiency, Measure
from leadline.probing.studies._roles import check_roles, refuse_untestable
from leadline.sounding import Protocol

TOLERANCE = 1e-4
"""Largest entry of the gradient at which a logistic probe is solved."""


class Fits(NamedTuple):
    """Linear maps from scaled features to outputs, one for each problem of a batch."""

    W: Float[Tensor, "batch outputs d"]
    b: Float[Tensor, "batch outputs"]
    strengths: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Probe:
    """A kind of linear probe."""

    measure: Measure
    strengths: tuple[float, ...]
    """Values of C to choose from unless told otherwise."""
    fit: Callable[[Tensor, Tensor, tuple[float, ...], Criterion], Fits]
    """Scaled features (batch, rows, d), what is probed for (batch, rows), strengths, and how one of them is chosen."""
    score: Callable[[Tensor, Tensor], Tensor]
    """From outputs (batch, rows, outputs) and the truth (rows,) to one number for each problem."""


def _fit_classes(Z: Tensor, y: Tensor, strengths: tuple[float, ...], criterion: Criterion) -> Fits:
    solution = solve_probes(Z, y, int(y.max()) + 1, strengths, TOLERANCE, criterion)
    return Fits(
        solution.fits.coefficients.squeeze(1),
        solution.fits.intercepts.squeeze(1),
        solution.strengths,
    )


def _share_right(outputs: Tensor, y: Tensor) -> Tensor:
    return (outputs.argmax(2) == y).double().mean(1)


def _fit_quantity(Z: Tensor, y: Tensor, strengths: tuple[float, ...], criterion: Criterion) -> Fits:
    solved = [
        solve_ridge(
            rows[None].double().numpy(), quantity[None, :, None].numpy(), np.array(strengths)
        )[1:]
        for rows, quantity in zip(Z, y, strict=True)
    ]
    W, b, chosen = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*solved, strict=True))
    return Fits(W.to(Z.dtype), b.to(Z.dtype), chosen)


def _share_explained(outputs: Tensor, y: Tensor) -> Tensor:
    return 1 - ((outputs.squeeze(2).double() - y) ** 2).mean(1) / y.var(correction=0)


PROBES = {
    "logistic": Probe("accuracy", STRENGTHS, _fit_classes, _share_right),
    "ridge": Probe("R²", RIDGE_STRENGTHS, _fit_quantity, _share_explained),
}
"""For classes, and for quantities."""


def label_efficiency(
    encoders: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    roles: Sequence[Roles],
    labels: Sequence[int | Literal["all"]] = (10, 20, 50, 100, "all"),
    num_subsets: int = 10,
    seeds: Sequence[int] | None = None,
    probe: Literal["logistic", "ridge"] = "logistic",
    strengths: float | Sequence[float] | None = None,
    criterion: Criterion = "likelihood",
    baselines: Sequence[str] = BASELINES,
    transductive: bool = False,
) -> LabelEfficiency:
    """Probe frozen representations at several label counts, over seeds and label subsets.

    For each seed: every representation is scaled by its pretraining rows (see :class:`Scaling`), label subsets are
    drawn from the probe pool (stratified, nested, the same for all representations), a multinomial logistic regression
    is fitted to each, its strength chosen inside the labels, and its accuracy taken on the test role. With
    ``probe="ridge"``, ``y`` is a quantity, the probe a ridge regression and R² stands in place of the accuracy; label
    subsets are stratified by whether the quantity lies above its mean. An encoder may give tokens, of shape
    (n, tokens, d): they are probed side by side.

    The baselines stand beside: ``"raw"``, ``"pca"`` (fitted on the pretraining rows; as many components as the first
    encoder has features, but at most half of those of X, since all of them would be X again) and, where an encoder can
    be rebuilt with random weights, ``"untrained"``.

    Args:
        encoders: name -> ``"raw"``, a number of principal components, a callable, a module, an object with
            ``encode`` or a fitted scikit-learn transformer; or a list with one for each seed.
        X: rows of shape (n, d); or images, of shape (n, channels, height, width), which modules and functions of your
            own are given as they are.
        y: class indices of shape (n,), or quantities, of which there is one for each row.
        roles: one :class:`~leadline.data.Roles` for each seed, at least two; of a quantity, ``split_roles(n, seed=…)``.
        labels: label counts; ``"all"`` is the whole probe pool.
        num_subsets: label subsets of each count and seed.
        seeds: draw the label subsets and the untrained weights; by default 0, 1, 2, ... Two seeds give no intervals.
        probe: ``"logistic"`` for classes, ``"ridge"`` for a quantity.
        strengths: values of C to choose from; by default those of :func:`linear_probe` or :func:`ridge_probe`.
        criterion: of the choice among ``strengths`` inside the labels, as of :func:`linear_probe`; a ridge regression
            always takes its leave-one-out error.
        baselines: those that are probed; ``"raw"`` is one of them, since everything is held against it.
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
    encoders = checks.mapping(encoders, "encoders")
    for name in encoders:
        checks.text(name, "names of encoders", least=1)
    inputs = Inputs.of(X)
    X = inputs.flat
    kind = PROBES[checks.choice(probe, "probe", PROBES)]
    criterion = check_criterion(criterion)
    transductive = checks.flag(transductive, "transductive")
    num_subsets = checks.whole_number(num_subsets, "num_subsets", least=1, most=MOST_SUBSETS)
    baselines = tuple(
        checks.choice(name, "baselines", BASELINES) for name in checks.items(baselines, "baselines")
    )
    truth, strata = _truth(y, len(X), kind)
    strengths = check_strengths(kind.strengths if strengths is None else strengths)
    roles = check_roles(roles, "roles", len(X))
    seeds = tuple(range(len(roles))) if seeds is None else checks.seeds(seeds)
    if len(roles) < 2 or len(seeds) != len(roles):
        raise InputError(
            "a study needs roles for at least two seeds, and as many seeds as roles",
            got=f"{len(roles)} roles and {len(seeds)} seeds",
            cure="roles=[split_roles(y, seed=seed) for seed in range(12)]",
        )
    if "raw" not in baselines:
        raise InputError(
            "the baselines are 'raw' and, if wanted, 'pca' and 'untrained'",
            got=f"baselines = {baselines}",
            cure="leave the argument out for all three",
        )
    refuse_untestable(truth, roles, are_classes=is_of_classes(kind))
    given = {name: one_per_seed(name, source, len(roles)) for name, source in encoders.items()}
    most = min(X.shape[1] // 2, *(len(role.pretrain_train) for role in roles))
    sources = _with_baselines(given, seeds, most, baselines)
    for name, per_seed in sources.items():
        with context(f"in the representation {name!r}"):
            refuse_other_shapes(per_seed, inputs, name)
    if not transductive:
        _refuse_seen_rows(sources, inputs, roles, seeds)
    pool = min(len(role.probe_pool) for role in roles)
    listed: Any = (
        (labels,) if isinstance(labels, (str, int, np.integer)) else checks.items(labels, "labels")
    )
    counts = [pool if _is_all(one) else one for one in listed]
    subsets = [
        label_subsets(strata, role.probe_pool, counts, num=num_subsets, seed=seed)
        for role, seed in zip(roles, seeds, strict=True)
    ]
    orders, budgets = [subset.order for subset in subsets], subsets[0].budgets
    study = _Study(inputs, torch.tensor(truth), roles, orders, budgets, kind, strengths, criterion)
    measured = {}
    for name, per_seed in sources.items():
        with context(f"in the representation {name!r}"):
            measured[name] = study.measure(name, per_seed)
    sizes, numbers, ranks = zip(*measured.values(), strict=True)
    accuracy, validation_accuracy, chosen = np.stack(numbers, axis=1)
    return LabelEfficiency(
        protocol=Protocol(
            settings={
                "labels": list(budgets),
                "num_subsets": num_subsets,
                "probe": probe,
                "strengths": list(strengths),
                "criterion": criterion,
            },
            seeds=tuple(seeds),
            fingerprints={
                "data": fingerprint(X, truth),
                "roles": fingerprint(
                    *(np.array([int(role.fingerprint, 16)], np.uint64) for role in roles)
                ),
            },
        ),
        names=tuple(sources),
        sizes=sizes,
        budgets=np.array(budgets),
        accuracy=accuracy,
        validation_accuracy=validation_accuracy,
        strengths=chosen,
        rank_me=np.array(ranks),
        measure=kind.measure,
        majority=np.array([majority_share(truth[role.test]) for role in roles])
        if is_of_classes(kind)
        else None,
    )


MOST_SUBSETS = 10_000
"""Label subsets of each count and seed, at most; more are a slip of the pen."""


def is_of_classes(kind: Probe) -> bool:
    """True for a probe of classes, False for one of a quantity."""
    return kind.measure == "accuracy"


def _is_all(label: Any) -> bool:
    return isinstance(label, str) and label == "all"


def _truth(y: Any, n: int, kind: Probe) -> tuple[np.ndarray, np.ndarray]:
    """What is probed for, and the classes by which label subsets are stratified; classes are numbered from 0."""
    if is_of_classes(kind):
        labels = check_labels(checks.array(y, "y"), n)
        places = np.unique(labels, return_inverse=True)[1]
        return places, places
    quantities = check_quantities(y, n, "y")
    if quantities.shape[1] > 1:
        raise InputError(
            "label_efficiency() probes one quantity: y of shape (n,)",
            got=f"y with {quantities.shape[1]} columns",
            cure="make a study for each column, y[:, 0], or fit ridge_probe(), which takes several",
        )
    return quantities[:, 0], (quantities[:, 0] > quantities[:, 0].mean()).astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Study:
    """What all representations of a study share."""

    inputs: Inputs
    y: Tensor
    roles: Sequence[Roles]
    orders: list[np.ndarray]
    budgets: tuple[int, ...]
    probe: Probe
    strengths: tuple[float, ...]
    criterion: Criterion

    def measure(self, name: str, per_seed: list[Any]) -> tuple[int, np.ndarray, list[float]]:
        """Features, then test accuracy, validation accuracy and strength (3, seeds, budgets, subsets), and RankMe.

        Seeds that share an encoder and pretraining rows share their features, which are computed once.
        """
        known: dict[tuple[int, bytes], tuple[Tensor, float]] = {}
        keys = []
        for role, source in zip(self.roles, per_seed, strict=True):
            rows = role.pretrain_train
            key = (source if is_count(source) else id(source), rows.tobytes())
            keys.append(key)
            if key not in known:
                X = self.inputs.for_(source)
                encode = as_encode(source, X[rows])
                codes = encode_rows(encode, X[rows], name)
                scaled = Scaling.fit(codes)(encode_rows(encode, X, name))
                known[key] = torch.from_numpy(scaled.astype(np.float32)), rank_me(codes)
        features = [known[key][0] for key in keys]
        numbers = np.stack([self._at(features, budget) for budget in self.budgets], axis=2)
        return features[0].shape[1], numbers, [known[key][1] for key in keys]

    def _at(self, features: list[Tensor], budget: int) -> Float[np.ndarray, "3 seeds subsets"]:
        """All seeds and subsets at one budget, solved together; subsets that are the whole pool are solved once."""
        draws = len(self.orders[0])
        distinct = 1 if all(len(role.probe_pool) == budget for role in self.roles) else draws
        rows = [torch.from_numpy(order[:distinct, :budget]) for order in self.orders]
        Z = torch.cat([Z[index] for Z, index in zip(features, rows, strict=True)])
        y = torch.cat([self.y[index] for index in rows])
        fits = self.probe.fit(Z, y, self.strengths, self.criterion)
        shape = (len(features), distinct)
        maps = [
            (W, b)
            for W, b in zip(fits.W.unflatten(0, shape), fits.b.unflatten(0, shape), strict=True)
        ]
        measured = [
            [
                self._score(Z, getattr(role, part), *fit)
                for Z, role, fit in zip(features, self.roles, maps, strict=True)
            ]
            for part in ("test", "probe_validation")
        ]
        results = np.array([*measured, fits.strengths.double().numpy().reshape(shape)])
        return np.broadcast_to(results, (3, shape[0], draws))

    def _score(
        self, Z: Tensor, rows: np.ndarray, W: Tensor, b: Tensor
    ) -> Float[np.ndarray, " subsets"]:
        """What each probe is worth on some rows."""
        return self.probe.score(torch.matmul(Z[rows], W.mT) + b.unsqueeze(1), self.y[rows]).numpy()


def _with_baselines(
    sources: dict[str, list[Any]], seeds: Sequence[int], most: int, baselines: Sequence[str]
) -> dict[str, list[Any]]:
    """The representations with the baselines that are wanted at the end; PCA of at most so many components."""
    trained = [per_seed for per_seed in sources.values() if hasattr(per_seed[0], "untrained")]
    sizes = [
        encoder.output_size
        for encoder in (trained[0] if trained else [])
        if hasattr(encoder, "output_size")
    ]
    components = max(1, min([most, *sizes]))
    added: dict[str, list[Any]] = {"raw": ["raw"] * len(seeds), "pca": [components] * len(seeds)}
    if trained:
        added["untrained"] = [
            encoder.untrained(seed) for encoder, seed in zip(trained[0], seeds, strict=True)
        ]
    wanted = {
        name: per_seed
        for name, per_seed in added.items()
        if name in baselines and name not in sources
    }
    return {**sources, **wanted}


def one_per_seed(name: str, given: Any, count: int) -> list[Any]:
    """A representation for each seed: a list of as many as there are, or one for all."""
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
    sources: dict[str, list[Any]], inputs: Inputs, roles: Sequence[Roles], seeds: Sequence[int]
) -> None:
    for name, per_seed in sources.items():
        for encoder, role, seed in zip(per_seed, roles, seeds, strict=True):
            X = inputs.for_(encoder)
            for part in ("probe_pool", "probe_validation", "test"):
                seen = seen_by(encoder, X[getattr(role, part)])
                if seen.any():
                    row = int(getattr(role, part)[int(np.argmax(seen))])
                    raise InputError(
                        "an encoder is not probed on rows that it was pretrained on",
                        got=f"{name!r} of seed {seed} has seen {int(seen.sum())} of {len(seen)} rows of {part}; "
                        f"the first is X[{row}]",
                        cause="encoders and roles in different orders, pretraining on all rows, or rows that repeat",
                        cure="pretrain on X[roles.pretrain_train] only, or say transductive=True",
                    )


def refuse_other_shapes(per_seed: list[Any], inputs: Inputs, name: str) -> None:
    """Encoders of rows of another shape say so here, before anything is fitted."""
    for source in per_seed:
        if hasattr(source, "has_seen") or isinstance(source, torch.nn.Module):
            X = inputs.for_(source)[:1]
            encode_rows(as_encode(source, X), X, name)
