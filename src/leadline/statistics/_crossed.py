"""Intervals over new rows, for studies whose seeds split one table in several ways.

A study tests several training sets (seeds times label subsets) on rows of one labelled table. Every
cell (seed, row) shares its row with other seeds and its training set with other rows, so the table
is a crossed design. The variance of the mean is estimated from products of two cells that share a
row, a seed, both, or neither.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Num, Shaped
from scipy.special import stdtrit

from leadline import checks
from leadline.errors import InputError
from leadline.sounding import Interval
from leadline.statistics._checks import UNBOUNDED, Bounds, check_bounds, check_level
from leadline.statistics._crossed_design import Design, training_masks, units_of_rows
from leadline.statistics._row_values import cells_of, tested_rows
from leadline.storage import record

FEWEST_SEEDS = 6
"""Smallest number of seeds; fewer seeds give intervals that are much too wide."""

FEWEST_UNITS = 12
"""Smallest number of rows, or of groups, in the table."""

FEWEST_OF_CLASS = 6
"""Smallest number of rows of a class."""

FEWEST_DISCORDANT = 10
"""With fewer discordant rows, nearly all misses of the interval are on one side."""

MOST_SHARED = 0.75
"""Largest share of their rows that two label subsets of a seed may have in common.

Subsets of a share f of the pool have the share f in common, on average.
"""

DEGREES: Bounds = (3.0, 15.0)
"""Limits of the degrees of freedom.

Chosen on design settings; see docs/evidence.md.
"""

DISCORDANT_FLOOR = 0.5
"""Number of discordant rows that the variance of plain accuracy contains at least.

Chosen on design settings; see docs/evidence.md.
"""

LEAN = 0.5
"""Share of the skewness of plain accuracy's values by which the variance follows the mean.

Chosen on design settings; see docs/evidence.md.
"""

MOST_LEAN = 0.6
"""Largest relative change of the variance over one standard error of the mean."""


@record("statistics.CrossedInterval")
@dataclass(frozen=True)
class CrossedInterval:
    """An interval that covers new rows, or new groups of rows, from the same source.

    >>> found = CrossedInterval(Interval(0.04, 0.01, 0.07), "rows", 12.0, 1e-4, 0, 0, 0, 240, 8)
    >>> print(found)
    0.040 [0.010, 0.070] (covers new rows)
    >>> found.caution
    'only 8 of 240 rows are discordant, so misses of the interval fall on one side'
    """

    interval: Interval
    """The estimate and its interval."""
    covers: Literal["rows", "groups"]
    """The population: new rows, or new groups of rows, from the same source."""
    freedom: float
    """Degrees of freedom of Student's t."""
    rows_part: float
    """Variance of the estimate from the choice of the test rows (or groups).

    For plain accuracy, it includes the half discordant row."""
    seeds_part: float
    """Variance from the seeds: splits, label subsets and weights."""
    rest_part: float
    """Variance from everything that is particular to a cell (seed, row)."""
    shared_part: float
    """Variance from the rows that the training sets of all seeds share."""
    num_units: int
    """Number of rows, or of groups, in the table."""
    discordant: int | None
    """Number of rows whose value ever differs from the most common value; ``None`` unless the
    values are those of plain accuracy."""

    @property
    def variance(self) -> float:
        """Estimated variance of the estimate over fresh tables."""
        return self.rows_part + self.seeds_part + self.rest_part + self.shared_part

    @property
    def caution(self) -> str | None:
        """A reason to trust the interval less, in words, or ``None``."""
        if not self.interval.is_known:
            return "there is no interval, because the values do not vary"
        if self.discordant is not None and self.discordant < FEWEST_DISCORDANT:
            return (
                f"only {self.discordant} of {self.num_units} {self.covers} are discordant, so "
                "misses of the interval fall on one side"
            )
        if self.covers == "rows" and self.num_units < 100:
            return (
                f"with {self.num_units} rows, 95 % intervals covered between 91 and 98 % of the "
                "simulated studies"
            )
        return None

    def __str__(self) -> str:
        return f"{self.interval} (covers new {self.covers})"


def crossed_interval(
    values: Float[np.ndarray, "seeds subsets rows"],
    trained: Bool[np.ndarray, "seeds subsets rows"],
    *,
    groups: Shaped[np.ndarray, " rows"] | None = None,
    classes: Num[np.ndarray, " rows"] | None = None,
    half: tuple[Any, Any] | None = None,
    level: float = 0.95,
    comparisons: int = 1,
    factor: float = 1.0,
    bounds: Bounds = UNBOUNDED,
) -> CrossedInterval:
    """Return an interval of a mean score or gain that covers new rows from the same source.

    Several seeds split one labelled table, and each seed trains on several label subsets. Student's
    t over the seeds (:func:`paired_interval`) describes other splits of the same table. This
    interval also describes other tables.

    The variance of the estimate d has four parts. With E the deviations from d of the cells (seed,
    row), averaged over subsets, let a, b, o and g be the mean products of two cells with only the
    row in common, only the seed, neither, and both. With C cells, c_i tests of row i, and r_s test
    rows of seed s:

    - rows: ``max(a - o, 0) * sum(c_i²) / C²``;
    - seeds: ``max(b - o, 0) * sum(r_s²) / C²``;
    - rest: ``max(g - a - b + o, 0) / C``;
    - shared: ``v q / ((1 - p) (1 + p)²)``, where v is the variance between the label subsets of a
      seed, and p and q are the mean shares of rows that a training set shares with another subset
      of its seed, and with a subset of another seed. There is only one table, so the training sets
      of all seeds overlap. The variance between seeds does not show this part.

    The interval is ``d ± t sqrt(variance)``. The degrees of freedom follow from the noise of the
    parts (Satterthwaite) and lie between 3 and 15. For plain accuracy, the variance contains at
    least half a discordant row, and it follows the mean with half the slope that the skewness of
    the values implies, so the ends differ in their distance from d.

    Args:
        values: row values, shape (seeds, subsets, rows), with NaN in rows that the seed does not
            test; see :func:`row_values`.
        trained: True where a row is in the training set, the same shape.
        groups: group of each row, such as a patient, shape (rows,). The interval then covers new
            groups. No group may train and test in one seed.
        classes: class of each row, shape (rows,), for balanced accuracy and AUC; deviations of rare
            classes are corrected for their own mean.
        half: values and training masks of the same seeds at half the label count, for seeds that
            train on their whole pool. Only these label subsets can reveal the shared part then.
        level: probability of coverage, in (0, 1).
        comparisons: number of intervals, such as label counts, that cover together with ``level``
            (Šidák): each has the level ``level ** (1 / comparisons)``.
        factor: multiplier of the result, such as 100 for points.
        bounds: smallest and largest possible result, such as (-100, 100); the interval is cut off.

    Raises:
        InputError: there are fewer than 6 seeds, 2 label subsets, 12 rows or groups, or 6 rows of a
            class; the subsets of a seed share more than three quarters of their rows; a row trains
            and tests at once; or no row is tested by several seeds.

    >>> draw = np.random.default_rng(0)
    >>> order = draw.permuted(np.tile(np.arange(80), (8, 1)), axis=1)
    >>> tested = order < 20
    >>> trained = (order[:, None] >= 20) & (draw.random((8, 3, 80)) < 0.3)
    >>> gains = np.where(tested[:, None], draw.integers(-1, 2, 80), np.nan)
    >>> print(crossed_interval(np.repeat(gains, 3, axis=1), trained, factor=100))
    -6 [-31, 19] (covers new rows)

    References: Owen, *The pigeonhole bootstrap*, 2007. Satterthwaite, *An approximate distribution
    of estimates of variance components*, 1946.
    """
    level = check_level(level)
    comparisons = checks.whole_number(comparisons, "comparisons", least=1, most=10**6)
    factor = checks.number(factor, "factor", above=0, most=1e9)
    limits = check_bounds(bounds)
    cells = cells_of(values, "values")
    tested = tested_rows(cells, "values")
    masks = training_masks(trained, cells.shape, "trained")
    units = units_of_rows(groups, classes, cells.shape[2])
    design = Design(cells, tested, masks, units)
    source = design
    if half is not None:
        source = _half_design(half, design)
    _refuse_small_studies(design, source)
    estimate = _estimate(design, factor, limits)

    rows_part, seeds_part, rest_part = design.parts
    shared_part = source.shared_part
    counts = None if units.are_groups else _Counts.of(design)
    floor = 0.0 if counts is None else DISCORDANT_FLOOR / units.num**2
    variance = rows_part + seeds_part + rest_part + shared_part + floor
    noise = design.noise_of_rows
    noise += 2 * seeds_part**2 / (design.num_seeds - 1)
    noise += 2 * shared_part**2 / (source.num_seeds * (source.num_subsets - 1))
    freedom = DEGREES[1]
    if noise > 0:
        freedom = min(max(2 * variance**2 / noise, DEGREES[0]), DEGREES[1])
    slope = 0.0 if counts is None else LEAN * counts.slope
    each = level ** (1 / comparisons)
    low, high = _ends(design.estimate, variance, freedom, slope, each)
    interval = Interval(estimate, max(factor * low, limits[0]), min(factor * high, limits[1]), each)
    scale = factor**2
    return CrossedInterval(
        interval=interval,
        covers="groups" if units.are_groups else "rows",
        freedom=freedom,
        rows_part=scale * (rows_part + floor),
        seeds_part=scale * seeds_part,
        rest_part=scale * rest_part,
        shared_part=scale * shared_part,
        num_units=units.num,
        discordant=None if counts is None else counts.discordant,
    )


@dataclass(frozen=True)
class _Counts:
    """Properties of row values that are -1, 0 or 1, those of plain accuracy."""

    discordant: int
    """Number of rows with a value that differs from the most common value."""
    slope: float
    """Relative change of the values' variance for a change of their mean by 1.

    Formula: ``m3 / m2²`` with the central moments of the values: over fresh samples, the estimated
    variance has the covariance ``m3 / n`` with the mean, whose variance is ``m2 / n``.
    """

    @classmethod
    def of(cls, design: Design) -> "_Counts | None":
        """Return the properties, or ``None`` if the values are of another kind."""
        values = design.tested_values
        is_above = values == 1
        is_below = values == -1
        is_zero = values == 0
        if not (is_above | is_below | is_zero).all():
            return None
        above = float(is_above.mean())
        below = float(is_below.mean())
        shares = {1.0: above, -1.0: below, 0.0: 1 - above - below}
        common = max(shares, key=lambda value: shares[value])
        is_discordant = (values != common).any(axis=0)
        tests = np.bincount(design.places[1][is_discordant])
        mean = above - below
        second = above + below - mean**2
        third = mean - 3 * mean * (above + below) + 2 * mean**3
        slope = third / second**2 if second > 0 else 0.0
        return cls(int(np.count_nonzero(tests)), slope)


def _ends(
    estimate: float, variance: float, freedom: float, slope: float, level: float
) -> tuple[float, float]:
    """Return the ends of the interval.

    An end x satisfies ``(x - estimate)² = t² variance (1 + slope (x - estimate))``: the variance
    follows the mean, as in Wilson's interval of a share.
    """
    if variance == 0:
        return math.nan, math.nan
    deviation = math.sqrt(variance)
    slope = min(max(slope * deviation, -MOST_LEAN), MOST_LEAN) / deviation
    squared = float(stdtrit(freedom, 0.5 + level / 2)) ** 2 * variance
    middle = squared * slope / 2
    half = math.sqrt(squared + middle**2)
    return estimate + middle - half, estimate + middle + half


def _half_design(half: Any, design: Design) -> Design:
    """Return the design of the same seeds at half the label count."""
    pair = checks.items(half, "half", least=2, of="arrays: values and training masks")
    if len(pair) != 2:
        raise InputError(
            "half must be the values and the training masks at half the label count",
            got=f"half with {len(pair)} items",
        )
    cells = cells_of(pair[0], "half[0]")
    masks = training_masks(pair[1], cells.shape, "half[1]")
    if cells.shape[::2] != design.values.shape[::2]:
        raise InputError(
            "half must have the seeds and the rows of the values",
            got=f"half[0] of shape {cells.shape}, values of shape {design.values.shape}",
        )
    tested = tested_rows(cells, "half[0]")
    if (tested != design.tested_rows).any():
        raise InputError("half must be tested on the same rows as the values")
    return Design(cells, tested, masks, design.units)


def _estimate(design: Design, factor: float, bounds: Bounds) -> float:
    """Return the estimate; refuse scores of splits that exceed the bounds."""
    means = factor * design.split_means
    # Rounding may move a score slightly out of its bounds.
    slack = 1e-9 * max([1.0, *(abs(end) for end in bounds if math.isfinite(end))])
    is_outside = (means < bounds[0] - slack) | (means > bounds[1] + slack)
    if is_outside.any():
        seed, subset = (int(i) for i in np.argwhere(is_outside)[0])
        raise InputError(
            "the score of every split must lie within the bounds",
            got=f"the mean of values[{seed}, {subset}], times factor, is {means[seed, subset]:g}; "
            f"bounds = {bounds}",
            cause="shares instead of percent, or the bounds of another quantity",
        )
    return min(max(factor * design.estimate, bounds[0]), bounds[1])


def _refuse_small_studies(design: Design, source: Design) -> None:
    """Refuse studies for which the interval was not shown to cover."""
    units = design.units
    name = "groups" if units.are_groups else "rows"
    if design.num_seeds < FEWEST_SEEDS:
        raise InputError(
            f"crossed_interval() needs at least {FEWEST_SEEDS} seeds",
            got=f"{design.num_seeds} seeds",
            cause="with fewer seeds the interval would be much too wide",
            cure="run more seeds, or use paired_interval(), which covers new splits of these rows",
        )
    if source.num_subsets < 2:
        raise InputError(
            "crossed_interval() needs at least 2 label subsets per seed",
            got=f"values of shape {design.values.shape}: (seeds, subsets, rows)",
            cause="only the spread over label subsets shows what all training sets share",
            cure="draw 3 label subsets per seed; if each seed trains on its whole pool, pass a "
            "run at half the label count as half=(values, trained)",
        )
    if units.num < FEWEST_UNITS:
        raise InputError(
            f"crossed_interval() needs at least {FEWEST_UNITS} {name}",
            got=f"{units.num} {name}",
        )
    for label, size in units.class_sizes.items():
        if size < FEWEST_OF_CLASS:
            raise InputError(
                f"crossed_interval() needs at least {FEWEST_OF_CLASS} rows of each class",
                got=f"class {checks.shown(label)} has {size}",
                cure="bring more rows of the class, or leave it out of the study",
            )
    for one in (design, source):
        _refuse_leaks(one, name)
    if source.shared_labels > MOST_SHARED:
        raise InputError(
            "label subsets of a seed must differ in more than a quarter of their rows",
            got=f"two subsets share {100 * source.shared_labels:.0f} % of their rows, on average",
            cause="the label count is close to the size of the pool",
            cure="use at most 0.7 of the pool, or pass a run at half the label count as "
            "half=(values, trained)",
        )
    if design.tested.sum(axis=1).min() < 2:
        raise InputError(
            f"every seed needs at least 2 {name} to test",
            got=f"seed {int(design.tested.sum(axis=1).argmin())} tests 1",
        )
    if design.tested.sum(axis=0).max() < 2:
        raise InputError(
            f"{name} must be tested by several seeds",
            got=f"each of the {name} is tested by one seed at most",
            cause="the seeds are the folds of one cross-validation",
            cure="draw an independent split for each seed",
        )


def _refuse_leaks(design: Design, name: str) -> None:
    """Refuse rows or groups that train and test in one seed."""
    trained_rows = np.asarray(design.masks.any(axis=1), np.float64)
    is_leak = (design.units.sums(trained_rows) > 0) & design.tested
    if is_leak.any():
        seed = int(is_leak.any(axis=1).argmax())
        raise InputError(
            f"the {name} that a seed tests must not be in its training sets",
            got=f"{int(is_leak[seed].sum())} {name} train and test in seed {seed}",
            cause="a score on training rows is too good",
            cure="split by groups: data.split_roles(y, seed=seed, groups=groups)",
        )
