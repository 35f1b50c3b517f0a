"""The statistics of a verdict: intervals over seeds, not p-values over points.

The replicate is the seed. Each seed draws its own weights, splits and label subsets; the arms that are compared share
them, so that the differences are paired. What varies inside a seed is averaged first, and the interval is Student's t
over the seeds.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Num
from scipy.special import nctdtrinc, stdtrit

from leadline import checks
from leadline.errors import InputError
from leadline.sounding import Interval
from leadline.storage import record

__all__ = [
    "Effect",
    "effect",
    "kendall_tau",
    "paired_interval",
    "smallest_detectable_effect",
    "zero_crossing",
]

REGISTERED_STATEMENTS = 20
"""How many verdicts the worksheet may give. A constant, so that asking for fewer does not loosen any of them."""

SIMULTANEOUS_LEVEL = 1 - 0.05 / REGISTERED_STATEMENTS
"""Level of each interval such that all twenty cover together with at least 95 % (Bonferroni)."""

FEWEST_REPLICATES = 3
"""Replicates from which on an interval is reported. Student's t over two is about nine times as wide as over three."""

Bounds = tuple[float, float]
"""Smallest and largest value that a quantity can take. No interval reaches beyond them."""

UNBOUNDED: Bounds = (-math.inf, math.inf)
AT_LEAST_ZERO: Bounds = (0.0, math.inf)
"""Errors and ratios."""
SHARE: Bounds = (0.0, 1.0)
"""Shares of a whole."""
PERCENT: Bounds = (0.0, 100.0)
"""Accuracies in percent."""
POINTS: Bounds = (-100.0, 100.0)
"""Differences of accuracies in points."""


@record("statistics.Effect")
@dataclass(frozen=True)
class Effect:
    """A paired difference, or any quantity with one value per seed, with its intervals."""

    label: str
    """The name of the number in words: ``"denoising minus raw, 10 labels"``."""
    interval: Interval
    """The plain 95 % interval."""
    simultaneous: Interval
    """The interval that outcomes are decided by; see :data:`SIMULTANEOUS_LEVEL`."""
    detectable: float
    """The smallest true effect that would have excluded zero with probability 0.8; infinite without an interval."""
    replicates: int
    unit: str = ""

    def __str__(self) -> str:
        number = f"{self.label}: {self.interval} {self.unit}".rstrip()
        return number if self.interval.is_known else f"{number} ({no_interval(self.replicates)})"


def no_interval(replicates: int) -> str:
    """The words that stand in a verdict where there are too few seeds for an interval.

    >>> no_interval(2)
    'no interval: 2 seeds'
    """
    return f"no interval: {replicates} seed{'s' * (replicates != 1)}"


def paired_interval(
    differences: Num[np.ndarray, "*seeds"], level: float = 0.95, bounds: Bounds = UNBOUNDED
) -> Interval:
    """Student's t interval of the mean difference over seeds.

    Formula: ``m ± t(1 - (1 - level)/2; n - 1) s / sqrt(n)``, m and s being mean and standard deviation of the n
    per-seed means, cut off at ``bounds``. Two seeds give the mean without an interval (``low`` and ``high`` are NaN).

    Args:
        differences: shape ``(seeds, ...)``; axes after the first (label subsets, folds) are averaged within a seed.
        level: probability of covering, in (0, 1).
        bounds: smallest and largest possible value, such as (0, 100) for accuracies in percent.

    Raises:
        InputError: fewer than two seeds, a value that is not finite or beyond the bounds (its index is named), or a
            level outside (0, 1).

    >>> print(f"{paired_interval(np.array([1.0, 2.0, 3.0])):.3f}")
    2.000 [-0.484, 4.484]
    >>> print(f"{paired_interval(np.array([90.0, 99.0, 100.0]), bounds=(0, 100)):.1f}")
    96.3 [82.7, 100.0]
    >>> print(f"{paired_interval(np.array([1.0, 2.0])):.1f}")
    1.5

    Reference: Student, *The probable error of a mean*, 1908.
    """
    level = _level(level)
    lowest, highest = _bounds(bounds)
    means = _per_seed(differences, "differences", (lowest, highest))
    mean = min(max(float(means.mean()), lowest), highest)
    if len(means) < FEWEST_REPLICATES:
        return Interval(mean, math.nan, math.nan, level)
    half = float(stdtrit(len(means) - 1, 0.5 + level / 2)) * _standard_error(means)
    return Interval(mean, max(mean - half, lowest), min(mean + half, highest), level)


def smallest_detectable_effect(
    differences: Num[np.ndarray, "*seeds"], level: float = 0.95, power: float = 0.8
) -> float:
    """The true effect whose interval excludes zero with probability ``power``, at the spread that was seen.

    The mean over its standard error follows a noncentral t distribution; the effect is the noncentrality at which it
    passes the critical value with that probability, times the standard error. It is infinite for two seeds, which give
    no interval.

    Args:
        differences: as in :func:`paired_interval`.
        level: of the interval, in (0, 1).
        power: probability of excluding zero, in (0, 1).

    >>> round(smallest_detectable_effect(np.array([1.0, 2.0, 3.0])), 2)
    3.26

    Reference: Cohen, *Statistical power analysis for the behavioral sciences*, 1988.
    """
    level = _level(level)
    power = checks.number(power, "power", above=0, below=1)
    means = _per_seed(differences, "differences")
    if len(means) < FEWEST_REPLICATES:
        return math.inf
    freedom = len(means) - 1
    critical = stdtrit(freedom, 0.5 + level / 2)
    return float(nctdtrinc(freedom, 1 - power, critical)) * _standard_error(means)


def effect(
    differences: Num[np.ndarray, "*seeds"],
    label: str,
    unit: str = "",
    *,
    comparisons: int = 1,
    bounds: Bounds = UNBOUNDED,
) -> Effect:
    """Both intervals of a per-seed difference, and the smallest effect that the design would have detected.

    Args:
        differences: as in :func:`paired_interval`.
        label: the name of the difference, in words.
        unit: its unit, in words.
        comparisons: how many effects share one verdict as alternatives; the simultaneous interval widens for them.
        bounds: as in :func:`paired_interval`.

    >>> print(effect(np.array([1.0, 2.0, 3.0]), "b minus a", "points"))
    b minus a: 2.0 [-0.5, 4.5] points
    >>> print(effect(np.array([1.0, 2.0]), "b minus a", "points"))
    b minus a: 1.5 points (no interval: 2 seeds)
    """
    label = checks.text(label, "label")
    unit = checks.text(unit, "unit")
    comparisons = checks.whole_number(comparisons, "comparisons", least=1, most=10**6)
    level = 1 - (1 - SIMULTANEOUS_LEVEL) / comparisons
    return Effect(
        label=label,
        interval=paired_interval(differences, bounds=bounds),
        simultaneous=paired_interval(differences, level, bounds),
        detectable=smallest_detectable_effect(differences, level),
        replicates=len(checks.array(differences, "differences")),
        unit=unit,
    )


def kendall_tau(
    x: Num[np.ndarray, "... n"],
    y: Num[np.ndarray, "... n"],
    among: Bool[np.ndarray, "n n"] | None = None,
) -> Any:
    """Kendall's tau-b along the last axis: the agreement of two orders, in [-1, 1].

    Args:
        x: shape (..., n), n at least 2.
        y: shape (..., n), the same shape as ``x``.
        among: symmetric, shape (n, n): the pairs that count; all by default.

    Formula: ``(concordant - discordant) / sqrt((pairs - ties in x)(pairs - ties in y))``; NaN where one side is
    constant. Takes whole batches at once: one tau per seed goes straight into :func:`paired_interval`. With ``among``,
    symmetric, only the pairs for which it is true count: those of one group, or of two different ones.

    >>> float(kendall_tau(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])).round(3))
    0.667

    Reference: Kendall, *The treatment of ties in ranking problems*, 1945.
    """
    x_values = _finite(x, "x")
    y_values = _finite(y, "y")
    if x_values.shape != y_values.shape or x_values.ndim == 0 or x_values.shape[-1] < 2:
        raise InputError(
            "kendall_tau() compares two orders of the same two or more things: x and y have one shape (..., n)",
            got=f"x of shape {x_values.shape} and y of shape {y_values.shape}",
            cause="one of them was filtered and the other was not",
            cure="select the same entries from both",
        )
    i, j = np.nonzero(np.triu(_pairs(among, x_values.shape[-1]), k=1))
    dx = np.sign(x_values[..., i] - x_values[..., j])
    dy = np.sign(y_values[..., i] - y_values[..., j])
    with np.errstate(invalid="ignore"):
        return (dx * dy).sum(-1) / np.sqrt((dx != 0).sum(-1) * (dy != 0).sum(-1))


def zero_crossing(
    x: Num[np.ndarray, " points"],
    curves: Num[np.ndarray, "seeds points *rest"],
    level: float = 0.95,
) -> Interval:
    """Where the mean of curves rises through zero, with Fieller's interval over seeds.

    Curves are straight between their points. The interval spans each x at which Student's t interval of the mean does
    not exclude zero: ``m(x)² <= t² s(x)² / n``, a quadratic inequality between two points, solved exactly. Every seed
    counts, whether or not its own curve crosses. Where the crossing truly is, zero is excluded with probability
    ``1 - level`` only, however many points there are: it is covered with at least ``level``.

    Where the first point is not told from zero, the crossing may lie before it: ``low`` is ``-inf``. Where the last is
    not, ``high`` is ``inf``. Where the mean is negative all along the estimate is ``inf``, beyond the last point; where
    it is positive all along, ``-inf``. Two seeds give the estimate without an interval (``low`` and ``high`` are NaN).

    Args:
        x: shape (points,), ascending.
        curves: shape (seeds, points, ...); axes after the second (label subsets) are averaged within a seed.
        level: probability of covering, in (0, 1).

    Raises:
        InputError: fewer than two seeds, a value that is not finite, x that does not ascend, or a level outside (0, 1).

    >>> x, seeds = np.array([0.0, 1.0]), np.array([[-0.2], [0.0], [0.2]])
    >>> print(f"{zero_crossing(x, seeds + [-1.0, 1.0]):.2f}")
    0.50 [0.25, 0.75]
    >>> print(f"{zero_crossing(x, seeds + [-1.0, -0.2]):.2f}")
    inf [0.63, inf]

    Reference: Fieller, *Some problems in interval estimation*, 1954.
    """
    level = _level(level)
    x = _finite(x, "x")
    rows = _finite(curves, "curves")
    if (
        x.ndim != 1
        or not len(x)
        or rows.ndim < 2
        or rows.shape[1] != len(x)
        or (np.diff(x) <= 0).any()
    ):
        raise InputError(
            "zero_crossing() needs ascending x of shape (points,) and curves of shape (seeds, points, ...)",
            got=f"x of shape {x.shape} and curves of shape {rows.shape}",
        )
    values = np.stack([_per_seed(rows[:, i], "curves") for i in range(len(x))], axis=1)
    mean = values.mean(axis=0)
    seeds = len(values)
    if seeds < FEWEST_REPLICATES:
        return Interval(_first_zero(x, mean), math.nan, math.nan, level)
    error = stdtrit(seeds - 1, 0.5 + level / 2) ** 2 / seeds * np.atleast_2d(np.cov(values.T))
    undecided = mean**2 <= error.diagonal()
    places = [*x[undecided]]
    for i in range(len(x) - 1):
        step, turn = mean[i + 1] - mean[i], error[i, i + 1] - error[i, i]
        bend = error[i, i] + error[i + 1, i + 1] - 2 * error[i, i + 1]
        roots = np.roots([step**2 - bend, 2 * (mean[i] * step - turn), mean[i] ** 2 - error[i, i]])
        shares = roots.real[(roots.imag == 0) & (roots.real >= 0) & (roots.real <= 1)]
        places.extend(x[i] + shares * (x[i + 1] - x[i]))
    estimate = _first_zero(x, mean)
    places.extend([estimate] if math.isfinite(estimate) else [])
    low = -math.inf if undecided[0] or estimate == -math.inf else min(places, default=x[-1])
    high = math.inf if undecided[-1] or estimate == math.inf else max(places, default=x[0])
    return Interval(float(estimate), float(low), float(high), level)


def _level(level: float) -> float:
    return checks.number(level, "level", above=0, below=1, cure="95 % is level=0.95")


def _bounds(bounds: Bounds) -> Bounds:
    listed = checks.items(bounds, "bounds", least=2, of="numbers")
    ends = [
        end
        for end in listed
        if isinstance(end, (int, float, np.number)) and not isinstance(end, bool)
    ]
    if len(listed) != 2 or len(ends) != 2 or not ends[0] < ends[1]:
        raise InputError(
            "bounds must be the smallest and the largest possible value",
            got=f"bounds = {checks.shown(bounds)}",
        )
    return float(ends[0]), float(ends[1])


def _finite(values: Any, name: str) -> np.ndarray:
    """Real, finite numbers as float64."""
    array = checks.array(values, name)
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{name} must be an array of numbers", got=f"{name} of dtype {array.dtype}"
        )
    numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(numbers))[0])
        raise InputError(
            f"{name} must be finite",
            got=f"{name}[{', '.join(map(str, index))}] = {numbers[index]}",
            cause="a run diverged or was not measured",
            cure="leave the run out of both arms, and say so",
        )
    return numbers


def _pairs(among: Any, n: int) -> np.ndarray:
    """The pairs that count, as a symmetric matrix of booleans."""
    if among is None:
        return np.ones((n, n), bool)
    pairs = checks.array(among, "among")
    if pairs.shape != (n, n) or pairs.dtype.kind != "b" or (pairs != pairs.T).any():
        raise InputError(
            "among must be a symmetric matrix of booleans, a row and a column for each of the n things",
            got=f"among of shape {pairs.shape}, dtype {pairs.dtype}, for n = {n}",
        )
    return pairs


def _per_seed(differences: Any, name: str, bounds: Bounds = UNBOUNDED) -> np.ndarray:
    """The mean of each seed."""
    values = _finite(differences, name)
    if values.ndim == 0 or len(values) < 2 or 0 in values.shape:
        raise InputError(
            "an interval needs at least two seeds",
            got=f"{name} of shape {values.shape}",
            cause="a single run has no spread to measure",
            cure="run more seeds; the worksheet uses at least 12",
        )
    slack = 1e-9 * max([1.0, *(abs(end) for end in bounds if math.isfinite(end))])
    beyond = (values < bounds[0] - slack) | (values > bounds[1] + slack)
    if beyond.any():
        index = tuple(int(i) for i in np.argwhere(beyond)[0])
        raise InputError(
            f"{name} must lie within the bounds",
            got=f"{name}[{', '.join(map(str, index))}] = {values[index]}, bounds = {bounds}",
            cause="shares in place of percent, or the bounds of another quantity",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        means = values.reshape(len(values), -1).mean(axis=1)
        spread = means.std()
    if not np.isfinite(spread):
        raise InputError(
            f"{name} must be small enough to average", got=f"values up to {np.abs(values).max():g}"
        )
    return means


def _first_zero(x: np.ndarray, mean: np.ndarray) -> float:
    """The first zero of a curve; where it has none, infinite on the side where a rising curve would have it."""
    changes = np.flatnonzero(np.sign(mean[1:]) != np.sign(mean[:-1]))
    if changes.size == 0:
        return float(x[0]) if mean[0] == 0 else -math.copysign(math.inf, mean[0])
    i = changes[0]
    return float(x[i] + mean[i] / (mean[i] - mean[i + 1]) * (x[i + 1] - x[i]))


def _standard_error(means: np.ndarray) -> float:
    return float(means.std(ddof=1)) / math.sqrt(len(means))
