"""Simulated studies with a known truth: fresh tables, several seeds, subsets and probes.

A study draws a table, splits it once per seed, draws label subsets from each pool, fits two probes
on each subset, one per representation, and returns the row values of the gain. Batches of studies
are computed together; ridge probes of all training sets come from one matrix product.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from leadline.statistics import row_values

ROWS_PER_BATCH = 6000
NEWTON_STEPS = 7
NEIGHBOURS = 5

NEW = 0.3
"""Share of the codes that is new for each seed."""

TEST, POOL = 0.25, 0.6
"""Shares of the rows (or groups) that a seed tests, and from which it draws labels."""


@dataclass(frozen=True)
class Cell:
    """Settings of simulated studies."""

    rows: int = 240
    labels: float = 40
    """Number of labels; a number up to 1 is a share of the pool."""
    classes: int = 2
    largest: float | None = None
    """Share of the largest class; by default all classes are equally frequent."""
    measure: Literal["accuracy", "balanced accuracy", "AUC", "R²"] = "accuracy"
    second: Literal["sensor", "random features", "new codes", "linear code", "twin"] = "sensor"
    """The second representation: codes of another sensor of the same rows, fixed or partly new for
    each seed; random features of the first one; codes that are linear in the first one; or another
    sensor with the same features, so that the true gain is zero."""
    probe: Literal["ridge", "logistic", "neighbours"] = "ridge"
    draws: Literal["proportional", "balanced"] = "proportional"
    """Label subsets have the class shares of the pool, or equally many rows of each class."""
    seeds: int = 12
    subsets: int = 3
    features: int = 20
    codes: int = 8
    separation: float = 2.0
    penalty: float = 10.0
    own: float = 0.5
    """Share of the second sensor's noise that is its own."""
    tails: float | None = None
    """Degrees of freedom of heavy-tailed noise; by default the noise is normal."""
    groups: Literal["uniform", "lognormal", "equal"] | None = None
    num_groups: int = 60
    group_share: float = 0.5
    """Share of the noise that the rows of a group have in common."""
    has_group_classes: bool = True
    """True if all rows of a group have one class."""
    is_permuted: bool = False
    """True if the labels are permuted, so that nothing can be learned."""
    population: int = 1
    """Seed of the population: class means, coefficients and codes."""

    @property
    def is_pool(self) -> bool:
        """True if each seed trains on its whole pool; a run at half the pool goes with it."""
        return self.labels == 1


@dataclass(frozen=True)
class Study:
    """One simulated study, in the form that ``crossed_interval`` accepts."""

    values: np.ndarray
    trained: np.ndarray
    groups: np.ndarray | None
    classes: np.ndarray | None
    half: tuple[np.ndarray, np.ndarray] | None

    def keywords(self) -> dict[str, Any]:
        """Return the keyword arguments of ``crossed_interval``."""
        return {"groups": self.groups, "classes": self.classes, "half": self.half}


@dataclass(frozen=True)
class Tables:
    """A batch of tables. Tables of groups have empty rows at their ends."""

    x: np.ndarray
    y: np.ndarray
    group: np.ndarray
    is_row: np.ndarray
    unit_class: np.ndarray
    """Class by which splits are stratified, of each row, or of each group."""

    @property
    def row_class(self) -> np.ndarray:
        """Class of each row by which label subsets are stratified; 0 for quantities."""
        return self.y if self.y.dtype.kind == "i" else np.zeros(self.y.shape, np.int64)


@dataclass(frozen=True)
class Population:
    """The source of the tables."""

    means: np.ndarray
    coefficients: np.ndarray
    codes: np.ndarray
    shares: np.ndarray

    @classmethod
    def of(cls, cell: Cell) -> "Population":
        """Return the population of a cell."""
        draw = np.random.default_rng([7, cell.population])
        means = draw.standard_normal((cell.classes, cell.features))
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        if cell.classes == 2:
            means[1] = -means[0]
            means /= 2
        means *= cell.separation
        coefficients = draw.standard_normal(cell.features)
        coefficients *= cell.separation / np.linalg.norm(coefficients)
        codes = draw.standard_normal((cell.features, cell.codes)) / np.sqrt(cell.features)
        # One code carries the signal, so that few labels suffice.
        signal = coefficients if cell.measure == "R²" else means[0]
        codes[:, 0] = signal / np.linalg.norm(signal)
        shares = np.full(cell.classes, 1 / cell.classes)
        if cell.largest is not None:
            shares[:] = (1 - cell.largest) / (cell.classes - 1)
            shares[0] = cell.largest
        return cls(means, coefficients, codes, shares)


def studies(cell: Cell, num: int, seed: int) -> Iterator[Study]:
    """Yield independent studies of a cell, each of a fresh table."""
    population = Population.of(cell)
    rows = cell.rows if cell.groups is None else 25 * cell.num_groups
    size = max(1, ROWS_PER_BATCH // rows)
    for first in range(0, num, size):
        draw = np.random.default_rng([seed, cell.population, first])
        yield from _batch(cell, population, min(size, num - first), draw)


def _batch(
    cell: Cell, population: Population, num: int, draw: np.random.Generator
) -> Iterator[Study]:
    tables = _tables(cell, population, num, draw)
    tested, pool = _splits(cell, tables, draw)
    first, second = _representations(cell, population, tables, draw)
    subsets = 1 if cell.is_pool else cell.subsets
    trained = _label_subsets(cell, tables, pool, subsets, cell.labels, draw)
    scores = [_probe(cell, x, tables.y, trained) for x in (first, second)]
    halves, half_scores = None, []
    if cell.is_pool:
        halves = _label_subsets(cell, tables, pool, cell.subsets, 0.5, draw)
        half_scores = [_probe(cell, x, tables.y, halves) for x in (first, second)]
    for i in range(num):
        rows = tables.is_row[i]
        y = tables.y[i, rows]
        tests = tested[i][:, rows]
        half = None
        if halves is not None:
            values = _values(cell, y, tests, [score[i][..., rows, :] for score in half_scores])
            half = (values, halves[i][..., rows])
        is_weighted = cell.measure in ("balanced accuracy", "AUC")
        yield Study(
            values=_values(cell, y, tests, [score[i][..., rows, :] for score in scores]),
            trained=trained[i][..., rows],
            groups=tables.group[i, rows] if cell.groups else None,
            classes=y if is_weighted else None,
            half=half,
        )


def _values(cell: Cell, y: np.ndarray, tests: np.ndarray, scores: list[np.ndarray]) -> np.ndarray:
    """Return the row values of the second probe's gain over the first."""
    predictions = []
    for score in scores:
        given = score[..., 0]
        if cell.measure in ("accuracy", "balanced accuracy"):
            is_binary = score.shape[-1] == 1
            given = (score[..., 0] > 0) if is_binary else score.argmax(axis=-1)
        predictions.append(np.where(tests[:, None], given, np.nan))
    return row_values(y, predictions[1], predictions[0], measure=cell.measure)


def _tables(cell: Cell, population: Population, num: int, draw: np.random.Generator) -> Tables:
    """Return fresh tables; tables with fewer than 6 rows of a class are drawn again."""
    if cell.groups is not None:
        return _grouped_tables(cell, population, num, draw)
    shape = (num, cell.rows)
    y = draw.choice(cell.classes, size=shape, p=population.shares)
    while True:
        counts = (y[..., None] == np.arange(cell.classes)).sum(axis=1)
        is_rare = counts.min(axis=1) < 6
        if not is_rare.any():
            break
        y[is_rare] = draw.choice(cell.classes, (is_rare.sum(), cell.rows), p=population.shares)
    noise = _noise(cell, (*shape, cell.features), draw)
    group = np.zeros(shape, np.int64)
    is_row = np.ones(shape, bool)
    if cell.measure == "R²":
        quantity = noise @ population.coefficients + draw.standard_normal(shape)
        return Tables(noise, quantity, group, is_row, np.zeros(shape, np.int64))
    x = noise + population.means[y]
    if cell.is_permuted:
        y = draw.permuted(y, axis=1)
    return Tables(x, y, group, is_row, y)


def _grouped_tables(
    cell: Cell, population: Population, num: int, draw: np.random.Generator
) -> Tables:
    """Return tables whose rows belong to groups of 1 to 50 rows."""
    shape = (num, cell.num_groups)
    sizes = np.full(shape, 10)
    if cell.groups == "uniform":
        sizes = draw.integers(1, 51, shape)
    if cell.groups == "lognormal":
        sizes = np.clip(np.exp(draw.normal(1.5, 1.0, shape)).round(), 1, 50).astype(np.int64)
    ends = sizes.cumsum(axis=1)
    rows = np.arange(ends.max())
    group = (rows[:, None] >= ends[:, None]).sum(axis=2)
    is_row = group < cell.num_groups
    group = np.minimum(group, cell.num_groups - 1)
    own = _noise(cell, (*group.shape, cell.features), draw)
    common = draw.standard_normal((*shape, cell.features))
    common = np.take_along_axis(common, group[..., None], axis=1)
    noise = np.sqrt(1 - cell.group_share) * own + np.sqrt(cell.group_share) * common
    if cell.measure == "R²":
        error = draw.standard_normal(group.shape)
        error += np.take_along_axis(draw.standard_normal(shape), group, axis=1)
        quantity = noise @ population.coefficients + error / np.sqrt(2)
        return Tables(noise, quantity, group, is_row, np.zeros(shape, np.int64))
    if cell.has_group_classes:
        unit_class = draw.choice(cell.classes, shape, p=population.shares)
        y = np.take_along_axis(unit_class, group, axis=1)
    else:
        unit_class = np.zeros(shape, np.int64)
        y = draw.choice(cell.classes, group.shape, p=population.shares)
    return Tables(noise + population.means[y], y, group, is_row, unit_class)


def _noise(cell: Cell, shape: tuple[int, ...], draw: np.random.Generator) -> np.ndarray:
    """Return noise of variance 1."""
    if cell.tails is None:
        return draw.standard_normal(shape)
    return draw.standard_t(cell.tails, shape) * np.sqrt((cell.tails - 2) / cell.tails)


def _representations(
    cell: Cell, population: Population, tables: Tables, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return both representations, shape (studies, seeds or 1, rows, features)."""
    x = tables.x[:, None]
    if cell.second == "linear code":
        return x, x @ population.codes
    if cell.second == "random features":
        fixed = np.random.default_rng([8, cell.population])
        directions = fixed.standard_normal((cell.features, cell.codes))
        return x, np.tanh(x @ directions / np.sqrt(cell.features))
    codes = population.codes
    if cell.second == "new codes":
        new = draw.standard_normal((len(tables.x), cell.seeds, *codes.shape))
        new /= np.sqrt(cell.features)
        codes = np.sqrt(1 - NEW) * codes + np.sqrt(NEW) * new
    signal = 0.0
    first = x
    if cell.measure == "R²":
        # Both sensors measure the features with noise.
        first = x + np.sqrt(cell.own) * draw.standard_normal(x.shape)
        other = x + np.sqrt(cell.own) * draw.standard_normal(x.shape)
    else:
        signal = population.means[tables.y][:, None]
        shared = np.sqrt(1 - cell.own) * (x - signal)
        other = signal + shared + np.sqrt(cell.own) * draw.standard_normal(x.shape)
        if cell.second == "twin":
            # Without its own sensor's noise, the first one would not be exchangeable.
            first = signal + shared + np.sqrt(cell.own) * draw.standard_normal(x.shape)
    return first, other if cell.second == "twin" else other @ codes


def _ranks_within(classes: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rank of each entry within its class, by keys in [0, 1), and the class sizes.

    Entries of class -1 are left out: their rank is larger than any size.
    """
    num_classes = classes.max() + 1
    classes = np.broadcast_to(classes, keys.shape)
    order = np.argsort(np.where(classes < 0, num_classes, classes) + keys, axis=-1)
    places = np.empty(order.shape, np.int64)
    np.put_along_axis(places, order, np.broadcast_to(np.arange(keys.shape[-1]), order.shape), -1)
    ranks = np.full(keys.shape, keys.shape[-1])
    sizes = np.ones(keys.shape, np.int64)
    start = np.zeros(keys.shape[:-1], np.int64)
    for label in range(num_classes):
        is_member = classes == label
        count = is_member.sum(axis=-1)
        ranks = np.where(is_member, places - start[..., None], ranks)
        sizes = np.where(is_member, count[..., None], sizes)
        start = start + count
    return ranks, sizes


def _splits(cell: Cell, tables: Tables, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks of test rows and of the pool, shape (studies, seeds, rows)."""
    classes = tables.unit_class[:, None]
    keys = 0.999 * draw.random((len(classes), cell.seeds, classes.shape[-1]))
    ranks, sizes = _ranks_within(classes, keys)
    num_tested = np.maximum(np.round(TEST * sizes), 1)
    num_pool = np.round(POOL * sizes)
    tested = ranks < num_tested
    pool = (ranks >= num_tested) & (ranks < num_tested + num_pool)
    if cell.groups is None:
        return tested, pool
    group = np.broadcast_to(tables.group[:, None], (*tested.shape[:2], tables.group.shape[1]))
    is_row = tables.is_row[:, None]
    return (
        np.take_along_axis(tested, group, axis=2) & is_row,
        np.take_along_axis(pool, group, axis=2) & is_row,
    )


def _label_subsets(
    cell: Cell,
    tables: Tables,
    pool: np.ndarray,
    subsets: int,
    labels: float,
    draw: np.random.Generator,
) -> np.ndarray:
    """Return the masks of label subsets, shape (studies, seeds, subsets, rows).

    Proportional draws are those of ``data.label_subsets``.
    """
    smallest = int(pool.sum(axis=-1).min())
    num = round(labels * smallest) if labels <= 1 else int(labels)
    keys = 0.999 * draw.random((*pool.shape[:2], subsets, pool.shape[2]))
    classes = np.where(pool, tables.row_class[:, None], -1)[:, :, None]
    ranks, sizes = _ranks_within(classes, keys)
    if cell.draws == "balanced":
        due = ranks.astype(np.float64)
    else:
        due = np.where(ranks == 0, 0.0, (ranks + 0.5) / sizes)
    due = np.where(pool[:, :, None], due + 1e-9 * keys, np.inf)
    chosen = np.argpartition(due, num - 1, axis=-1)[..., :num]
    masks = np.zeros(keys.shape, bool)
    np.put_along_axis(masks, chosen, True, axis=-1)
    return masks


def _probe(cell: Cell, x: np.ndarray, y: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Return scores of all rows by probes on each training set.

    Shape (studies, seeds, subsets, rows, outputs); two classes and quantities have one output.
    """
    num, seeds, subsets, rows = trained.shape
    if x.shape[1] == 1:
        x = x[:, 0]
        masks = trained.reshape(num, seeds * subsets, rows)
        targets = _targets(cell, y)
    else:
        # Each seed has features of its own, so seeds take the place of studies.
        x = x.reshape(num * seeds, rows, -1)
        masks = trained.reshape(num * seeds, subsets, rows)
        targets = np.repeat(_targets(cell, y), seeds, axis=0)
    scores = _PROBES[cell.probe](x, targets, masks, cell.penalty)
    return scores.reshape(num, seeds, subsets, rows, -1)


def _targets(cell: Cell, y: np.ndarray) -> np.ndarray:
    if cell.measure == "R²":
        return y[..., None]
    if cell.classes == 2:
        return 2.0 * y[..., None] - 1
    return (y[..., None] == np.arange(cell.classes)).astype(np.float64)


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((*x.shape[:-1], 1))], axis=-1)


def _penalties(num: int, penalty: float) -> np.ndarray:
    """Return the penalty of each coefficient; the intercept has almost none."""
    return np.diag(np.append(np.full(num - 1, penalty), 1e-6))


def _ridge(x: np.ndarray, targets: np.ndarray, masks: np.ndarray, penalty: float) -> np.ndarray:
    """Return scores of ridge regressions; one matrix product sums the rows of all training sets."""
    x = _with_one(x)
    num, rows, size = x.shape
    squares = (x[..., :, None] * x[..., None, :]).reshape(num, rows, -1)
    products = (x[..., :, None] * targets[..., None, :]).reshape(num, rows, -1)
    sums = masks.astype(np.float64) @ np.concatenate([squares, products], axis=-1)
    gram = sums[..., : size * size].reshape(num, -1, size, size) + _penalties(size, penalty)
    moments = sums[..., size * size :].reshape(num, -1, size, targets.shape[-1])
    return x[:, None] @ np.linalg.solve(gram, moments)


def _logistic(x: np.ndarray, targets: np.ndarray, masks: np.ndarray, penalty: float) -> np.ndarray:
    """Return scores of logistic regressions of two classes, by Newton's method."""
    x = _with_one(x)
    num, rows, size = x.shape
    squares = (x[..., :, None] * x[..., None, :]).reshape(num, rows, -1)
    labels = (targets[:, None, :, 0] + 1) / 2
    used = masks.astype(np.float64)
    ridge = _penalties(size, penalty / 4)
    weights = np.zeros((num, masks.shape[1], size))
    for _ in range(NEWTON_STEPS):
        shares = 1 / (1 + np.exp(-np.clip(weights @ x.swapaxes(1, 2), -30, 30)))
        slope = (used * (labels - shares)) @ x - weights @ ridge
        curvature = ((used * shares * (1 - shares)) @ squares).reshape(num, -1, size, size)
        weights += np.linalg.solve(curvature + ridge, slope[..., None])[..., 0]
    return (weights @ x.swapaxes(1, 2))[..., None]


def _neighbours(
    x: np.ndarray, targets: np.ndarray, masks: np.ndarray, penalty: float
) -> np.ndarray:
    """Return votes of the nearest training rows."""
    lengths = (x**2).sum(axis=-1)
    distances = lengths[:, :, None] + lengths[:, None] - 2 * x @ x.swapaxes(1, 2)
    scores = np.empty((*masks.shape, targets.shape[-1]))
    for study, training_sets in enumerate(masks):
        for i, rows in enumerate(training_sets):
            near = np.argpartition(distances[study][:, rows], NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
            scores[study, i] = targets[study][rows][near].sum(axis=1)
    return scores


_PROBES = {"ridge": _ridge, "logistic": _logistic, "neighbours": _neighbours}
