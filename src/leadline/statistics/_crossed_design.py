"""The crossed design of a study: cells (seed, row), their products, and parts of the variance."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix

from leadline import checks
from leadline.errors import InputError
from leadline.statistics._row_values import Cells, Splits

Masks = Bool[np.ndarray, "seeds subsets rows"]

GROUP_EFFECTS = 0.35
"""Weight of groups in the shared part, on a logarithmic scale from rows (0) to groups (1).

Chosen on design settings; see docs/evidence.md.
"""


@dataclass(frozen=True, eq=False)
class Units:
    """The things that are sampled: rows, or groups of rows."""

    num: int
    """Number of rows, or of groups."""
    members: csr_matrix | None
    """Matrix of shape (rows, groups) that is 1 where a row belongs to a group, or ``None``."""
    row_leverage: Float[np.ndarray, " rows"] | None
    """Correction of each row's deviation for its share in the mean of its class."""
    group_leverage: Float[np.ndarray, " groups"] | None
    """Correction of each group's deviation for its share in the mean."""
    class_of_row: Int[np.ndarray, " rows"] | None
    """Index of each row's class, or ``None``."""
    class_sizes: dict[Any, int]
    """Number of rows of each class; empty without classes."""

    @property
    def are_groups(self) -> bool:
        """True if the units are groups of rows."""
        return self.members is not None

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return sums over the rows of each unit, along the last axis."""
        if self.members is None:
            return values
        flat = values.reshape(-1, values.shape[-1])
        return (flat @ self.members).reshape(*values.shape[:-1], self.num)


@dataclass(frozen=True, eq=False)
class Design:
    """Values of a crossed design, and what follows from them.

    A cell is a pair of a seed and a unit that the seed tests. Deviations are averages over label
    subsets, minus the estimate.
    """

    values: Cells
    """Row values, NaN in rows that are not tested."""
    tested_rows: Splits
    """True where the seed tests the row."""
    masks: Masks
    """True where the row is in the training set."""
    units: Units
    """The things that are sampled."""

    @property
    def num_seeds(self) -> int:
        """Number of seeds."""
        return self.values.shape[0]

    @property
    def num_subsets(self) -> int:
        """Number of label subsets of each seed."""
        return self.values.shape[1]

    @cached_property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Seed and row of each tested row, ordered by seed."""
        seeds, rows = np.nonzero(self.tested_rows)
        return seeds, rows

    @cached_property
    def tested_values(self) -> Float[np.ndarray, "subsets places"]:
        """The values of the tested rows."""
        return self.values.swapaxes(0, 1)[:, self.tested_rows]

    @cached_property
    def split_means(self) -> Float[np.ndarray, "seeds subsets"]:
        """The score of each training set."""
        num_rows = self.tested_rows.sum(axis=1)
        starts = np.cumsum(num_rows) - num_rows
        sums = np.add.reduceat(self.tested_values, starts, axis=1)
        return (sums / num_rows).T

    @property
    def estimate(self) -> float:
        """The mean score over seeds."""
        return float(self.split_means.mean())

    @cached_property
    def tested(self) -> Bool[np.ndarray, "seeds units"]:
        """True where the seed tests the unit."""
        if not self.units.are_groups:
            return self.tested_rows
        return self.units.sums(self.tested_rows.astype(np.float64)) > 0

    @cached_property
    def deviations(self) -> Float[np.ndarray, "seeds units"]:
        """Deviations of the cells from the estimate, with leverage; 0 where nothing is tested."""
        by_row = self.tested_values.mean(axis=0) - self.estimate
        if self.units.row_leverage is not None:
            by_row = by_row * self.units.row_leverage[self.places[1]]
        by_unit = self._per_unit(by_row)
        if self.units.group_leverage is not None:
            by_unit = by_unit * self.units.group_leverage
        return by_unit

    @cached_property
    def products(self) -> tuple[float, float, float, float]:
        """Mean products of two cells: same unit only, same seed only, neither, the same cell."""
        squares = float((self.deviations**2).sum())
        units = float((self.deviations.sum(axis=0) ** 2).sum())
        seeds = float((self.deviations.sum(axis=1) ** 2).sum())
        everything = float(self.deviations.sum() ** 2)
        unit_pairs, seed_pairs, cells = self._pairs
        other_pairs = cells**2 - unit_pairs - seed_pairs - cells
        return (
            (units - squares) / unit_pairs,
            (seeds - squares) / seed_pairs,
            (everything - units - seeds + squares) / other_pairs,
            squares / cells,
        )

    @property
    def parts(self) -> tuple[float, float, float]:
        """Variance of the estimate from units, from seeds, and from everything else."""
        same_unit, same_seed, neither, same_cell = self.products
        unit_pairs, seed_pairs, cells = self._pairs
        from_units = max(same_unit - neither, 0.0) * (unit_pairs + cells) / cells**2
        from_seeds = max(same_seed - neither, 0.0) * (seed_pairs + cells) / cells**2
        rest = max(same_cell - same_unit - same_seed + neither, 0.0) / cells
        return from_units, from_seeds, rest

    @property
    def noise_of_rows(self) -> float:
        """Variance of the part of the units, from the spread of the units' own sums."""
        own = self.deviations.sum(axis=0) ** 2 - (self.deviations**2).sum(axis=0)
        unit_pairs, _, cells = self._pairs
        scale = (unit_pairs + cells) / cells**2 / unit_pairs
        return float(self.units.num * own.var(ddof=1)) * scale**2

    @cached_property
    def subset_variance(self) -> float:
        """Mean over seeds of the variance between label subsets, without noise of the test units.

        The noise is the interaction of subsets and units, divided by the number of test units.
        """
        between = self.split_means.var(axis=1, ddof=1)
        residuals = self.tested_values - self.tested_values.mean(axis=0)
        of_seed = self.split_means - self.split_means.mean(axis=1, keepdims=True)
        residuals -= of_seed.T[:, self.places[0]]
        squares = np.zeros(self.num_seeds)
        for subset in residuals:
            squares += (self._per_unit(subset) ** 2).sum(axis=1)
        num_tested = self.tested.sum(axis=1)
        noise = squares / ((self.num_subsets - 1) * (num_tested - 1)) / num_tested
        return max(float((between - noise).mean()), 0.0)

    @cached_property
    def shared_part(self) -> float:
        """Variance of the estimate from the units that training sets of different seeds share.

        Let p and q be the overlaps of two training sets of one seed and of different seeds, as
        shares of their size. If labels act one by one, the shared part is ``v q / (1 - p)``, where
        v is the variance between subsets of a seed. If they act in pairs, as in the error of a
        probe near its optimum, it is ``v q² / (1 - p²)``. The data do not show which case holds;
        :func:`_shared_ratio` lies between them.

        If the classes are known, the class with the largest ratio counts: balanced subsets contain
        most rows of a rare class, so the seed's other subsets hardly show that class's effect.

        In a table of groups, the effects of labels are partly those of their rows and partly those
        of their groups, of which there are fewer. The ratio is a geometric mean of both cases.
        """
        sizes = np.count_nonzero(self.masks, axis=2)
        weights = self.masks * (1 / sizes)[..., None]
        ratio = 0.0
        for rows in self._rows_by_class:
            overlaps = self._overlaps(weights[..., rows])
            if overlaps[0] > 0:
                ratio = max(ratio, _shared_ratio(*overlaps))
        if self.units.are_groups:
            of_groups = _shared_ratio(*self._overlaps(self.units.sums(weights)))
            ratio *= max(of_groups / ratio, 1.0) ** GROUP_EFFECTS
        return self.subset_variance * ratio

    @property
    def shared_labels(self) -> float:
        """Mean share of its rows that a label subset shares with another subset of its seed.

        If the classes are known, it is the share of the class with the largest one.
        """
        counts = np.count_nonzero(self.masks, axis=1)
        shares = []
        for rows in self._rows_by_class:
            of_class = counts[:, rows]
            pairs = (of_class * (of_class - 1)).sum() / (self.num_subsets - 1)
            shares.append(float(pairs / max(of_class.sum(), 1)))
        return max(shares)

    @property
    def _rows_by_class(self) -> list[slice | np.ndarray]:
        """Rows of each class; all rows together if the classes are not known."""
        classes = self.units.class_of_row
        if classes is None:
            return [slice(None)]
        return [np.flatnonzero(classes == label) for label in range(classes.max() + 1)]

    def _overlaps(
        self, weights: Float[np.ndarray, "seeds subsets units"]
    ) -> tuple[float, float, float]:
        """Return the mean overlap of a training set with itself, its seed's others, other seeds.

        The overlap of two training sets is the sum over units of the products of their shares.
        """
        of_seeds = weights.sum(axis=1)
        own = float(np.einsum("sui,sui->", weights, weights))
        within = float(np.einsum("si,si->", of_seeds, of_seeds))
        total = float((of_seeds.sum(axis=0) ** 2).sum())
        seeds = self.num_seeds
        subsets = self.num_subsets
        return (
            own / (seeds * subsets),
            (within - own) / (seeds * subsets * (subsets - 1)),
            (total - within) / (seeds * (seeds - 1) * subsets**2),
        )

    @cached_property
    def _pairs(self) -> tuple[int, int, int]:
        """Number of ordered pairs of cells of one unit, of one seed, and number of cells."""
        of_units = self.tested.sum(axis=0)
        of_seeds = self.tested.sum(axis=1)
        cells = int(of_units.sum())
        return int((of_units**2).sum()) - cells, int((of_seeds**2).sum()) - cells, cells

    def _per_unit(self, by_place: Float[np.ndarray, " places"]) -> np.ndarray:
        """Return values per unit, (seeds, units), whose mean over units is the mean over rows."""
        by_row = np.zeros(self.tested_rows.shape)
        by_row[self.tested_rows] = by_place
        if not self.units.are_groups:
            return by_row
        units_per_row = self.tested.sum(axis=1) / self.tested_rows.sum(axis=1)
        return self.units.sums(by_row) * units_per_row[:, None]


def _shared_ratio(own: float, within: float, between: float) -> float:
    """Return the shared part as a multiple of the variance between subsets of a seed.

    The form was chosen on design settings; see docs/evidence.md.
    """
    return between / own / ((1 - within / own) * (1 + within / own) ** 2)


def training_masks(trained: Any, shape: tuple[int, ...], name: str) -> Masks:
    """Return the mask of each training set; refuse other shapes, other dtypes and empty sets."""
    masks = checks.array(trained, name, wanted="an array of booleans")
    if masks.dtype.kind != "b" or masks.shape != shape:
        raise InputError(
            f"{name} must be booleans of the shape of the values, (seeds, subsets, rows)",
            got=f"{name} of shape {masks.shape}, dtype {masks.dtype}; values of shape {shape}",
            cure=f"set {name}[seed, subset, rows] = True for the rows of each label subset",
        )
    sizes = np.count_nonzero(masks, axis=2)
    if sizes.min() == 0:
        seed, subset = (int(i) for i in np.argwhere(sizes == 0)[0])
        raise InputError(
            "every training set needs rows", got=f"{name}[{seed}, {subset}] contains no True"
        )
    return masks


def units_of_rows(groups: Any, classes: Any, num_rows: int) -> Units:
    """Return the sampled units of a table: its groups, or its rows."""
    row_leverage = None
    class_of_row = None
    class_sizes: dict[Any, int] = {}
    if classes is not None:
        class_of_row, names = _indices(classes, "classes", num_rows)
        sizes = np.bincount(class_of_row)
        class_sizes = dict(zip(names, sizes.tolist(), strict=True))
        row_leverage = (sizes / np.maximum(sizes - 1, 1))[class_of_row]
    if groups is None:
        return Units(num_rows, None, row_leverage, None, class_of_row, class_sizes)
    index, names = _indices(groups, "groups", num_rows)
    ones = np.ones(num_rows)
    members = csr_matrix((ones, (np.arange(num_rows), index)), shape=(num_rows, len(names)))
    share = np.bincount(index) / num_rows
    if class_of_row is not None:
        # A group may be a large part of a class, and the mean of each class is estimated.
        counts = np.zeros((len(names), len(class_sizes)))
        np.add.at(counts, (index, class_of_row), 1)
        share = (counts / counts.sum(axis=0)).max(axis=1)
    # A group that has all rows is refused later.
    group_leverage = 1 / np.maximum(1 - share, 1 / num_rows)
    return Units(len(names), members, row_leverage, group_leverage, class_of_row, class_sizes)


def _indices(values: Any, name: str, num_rows: int) -> tuple[np.ndarray, list[Any]]:
    """Return a number for each row, equal for equal values, and the values in that order."""
    array = checks.array(values, name, wanted="a list with one entry for each row")
    if array.shape != (num_rows,):
        raise InputError(
            f"{name} must have one entry for each row",
            got=f"{name} of shape {array.shape} for {num_rows} rows",
        )
    listed = array.tolist()
    is_missing = [value is None or value != value for value in listed]
    if any(is_missing):
        raise InputError(
            f"{name} must not be missing",
            got=f"{name}[{is_missing.index(True)}] = {listed[is_missing.index(True)]}",
            cure="give each row that belongs to no group a group of its own",
        )
    numbers: dict[Any, int] = {}
    try:
        index = np.array([numbers.setdefault(value, len(numbers)) for value in listed])
    except TypeError:
        raise InputError(
            f"{name} must be numbers or texts", got=f"{name} of dtype {array.dtype}"
        ) from None
    return index, list(numbers)
