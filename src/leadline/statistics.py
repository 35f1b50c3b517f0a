"""Statistics of verdicts: intervals over seeds, rank agreement and curve crossings.

The replicate is the seed. Each seed draws its own weights, splits and label subsets. The arms of a
comparison share them, so that differences are paired. Values within a seed are averaged first, and
the interval is Student's t over the seeds.
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

TOTAL_ERROR_RATE = 0.05
"""Largest probability that any of the intervals that decide outcomes together misses its value."""

SIMULTANEOUS_LEVEL = 0.9975
"""Default level of an interval that decides an outcome.

Twenty such intervals, as on the worksheet, together cover with at least 95 % (Bonferroni).
"""

FEWEST_REPLICATES = 3
"""Smallest number of replicates for an interval.

Student's t interval over two replicates is about nine times as wide as over three.
"""

Bounds = tuple[float, float]
"""Smallest and largest possible value of a quantity; no interval exceeds them."""

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
    """A paired difference, or another quantity with one value per seed, and its intervals."""

    label: str
    """Name of the number, such as ``"denoising minus raw, 10 labels"``."""
    interval: Interval
    """The 95 % interval."""
    simultaneous: Interval
    """The interval that decides outcomes; see ``level`` of :func:`effect`."""
    detectable: float
    """Smallest true effect whose interval excludes zero with probability 0.8; infinite if there is
    no interval."""
    replicates: int
    """Number of seeds."""
    unit: str = ""
    """Unit of the number, in words."""

    def __str__(self) -> str:
        number = f"{self.label}: {self.interval} {self.unit}".rstrip()
        return number if self.interval.is_known else f"{number} ({no_interval(self.replicates)})"


def no_interval(replicates: int) -> str:
    """Return the text of a verdict with too few seeds for an interval.

    >>> no_interval(2)
    'no interval: 2 seeds'
    """
    return f"no interval: {replicates} seed{'s' * (replicates != 1)}"


def interval_columns(name: str, interval: Interval) -> dict[str, float]:
    """Return the three columns of a table that show an interval.

    >>> interval_columns("gain", Interval(2.0, 1.0, 3.0))
    {'gain': 2.0, 'gain low': 1.0, 'gain high': 3.0}
    """
    return {
        name: interval.estimate,
        f"{name} low": interval.low,
        f"{name} high": interval.high,
    }


def over_seeds(seeds: int) -> str:
    """Return the number of seeds as the end of a clause; too few seeds give no interval.

    >>> over_seeds(12), over_seeds(2)
    ('over 12 seeds', '(no interval: 2 seeds)')
    """
    return f"over {seeds} seeds" if seeds >= FEWEST_REPLICATES else f"({no_interval(seeds)})"


def paired_interval(
    differences: Num[np.ndarray, "*seeds"], level: float = 0.95, bounds: Bounds = UNBOUNDED
) -> Interval:
    """Return Student's t interval of the mean difference over seeds.

    Formula: ``m ± t(1 - (1 - level)/2; n - 1) s / sqrt(n)`` with mean m and standard deviation s of
    the n per-seed means, cut off at ``bounds``. Two seeds give the mean without an interval
    (``low`` and ``high`` are NaN).

    Args:
        differences: shape ``(seeds, ...)``; axes after the first (label subsets, folds) are
            averaged within a seed.
        level: probability of coverage, in (0, 1).
        bounds: smallest and largest possible value, such as (0, 100) for accuracies in percent.

    Raises:
        InputError: there are fewer than two seeds, a value is not finite or exceeds the bounds (the
            message names its index), or the level is outside (0, 1).

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
    """Return the true effect whose interval excludes zero with probability ``power``.

    The mean divided by its standard error follows a noncentral t distribution. The effect is the
    noncentrality at which this ratio exceeds the critical value with the given probability, times
    the standard error. It is infinite for two seeds, which give no interval.

    Args:
        differences: differences with the observed spread, as in :func:`paired_interval`.
        level: level of the interval, in (0, 1).
        power: probability of excluding zero, in (0, 1).

    Raises:
        InputError: the arguments are invalid, as in :func:`paired_interval`.

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
    level: float = SIMULTANEOUS_LEVEL,
) -> Effect:
    """Return both intervals of a per-seed difference, and the smallest detectable effect.

    Args:
        differences: shape ``(seeds, ...)``, as in :func:`paired_interval`.
        label: name of the difference, in words.
        unit: unit of the difference, in words.
        comparisons: number of effects that share one verdict as alternatives; the simultaneous
            interval is wider for more of them.
        bounds: smallest and largest possible value, as in :func:`paired_interval`.
        level: level of the simultaneous interval of a single effect, in (0, 1); ``comparisons``
            effects divide the rest, ``1 - level``. By default 99.75 %.

    Raises:
        InputError: the arguments are invalid, as in :func:`paired_interval`.

    >>> print(effect(np.array([1.0, 2.0, 3.0]), "b minus a", "points"))
    b minus a: 2.0 [-0.5, 4.5] points
    >>> print(effect(np.array([1.0, 2.0]), "b minus a", "points"))
    b minus a: 1.5 points (no interval: 2 seeds)
    """
    label = checks.text(label, "label")
    unit = checks.text(unit, "unit")
    comparisons = checks.whole_number(comparisons, "comparisons", least=1, most=10**6)
    level = 1 - (1 - _level(level)) / comparisons
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
    """Return Kendall's tau-b along the last axis: the agreement of two orders, in [-1, 1].

    Formula: ``(concordant - discordant) / sqrt((pairs - ties in x)(pairs - ties in y))``, or NaN if
    one side is constant.

    Args:
        x: shape (..., n), n at least 2. Leading axes are batches, such as seeds.
        y: shape (..., n), the same shape as ``x``.
        among: symmetric mask of the pairs that count, shape (n, n), such as the pairs within a
            group; by default all pairs.

    Returns:
        One tau for each batch, which :func:`paired_interval` accepts.

    Raises:
        InputError: the shapes do not match, or a value is not finite.

    >>> float(kendall_tau(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])).round(3))
    0.667

    Reference: Kendall, *The treatment of ties in ranking problems*, 1945.
    """
    x_values = _finite(x, "x")
    y_values = _finite(y, "y")
    if x_values.shape != y_values.shape or x_values.ndim == 0 or x_values.shape[-1] < 2:
        raise InputError(
            "kendall_tau() needs x and y of one shape (..., n) with n of at least 2",
            got=f"x of shape {x_values.shape} and y of shape {y_values.shape}",
            cause="only one of them was filtered",
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
    """Return the x at which the mean of rising curves crosses zero, with Fieller's interval.

    Curves are straight between their points. The interval spans every x at which Student's t
    interval of the mean over seeds contains zero: ``m(x)² <= t² s(x)² / n``, a quadratic inequality
    between two points that is solved exactly. Every seed counts, whether or not its own curve
    crosses zero. At the true crossing, zero is excluded with probability ``1 - level``, for any
    number of points, so that the interval covers it with at least ``level``.

    If the interval at the first point contains zero, the crossing may lie before it, and ``low`` is
    ``-inf``; if the interval at the last point contains zero, ``high`` is ``inf``. If the mean is
    negative at all points, the estimate is ``inf``; if it is positive at all points, the estimate
    is ``-inf``. Two seeds give the estimate without an interval (``low`` and ``high`` are NaN).

    Args:
        x: shape (points,), ascending.
        curves: shape (seeds, points, ...); axes after the second (label subsets) are averaged
            within a seed.
        level: probability of coverage, in (0, 1).

    Raises:
        InputError: there are fewer than two seeds, a value is not finite, x does not ascend, or the
            level is outside (0, 1).

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
    is_ascending = x.ndim == 1 and len(x) > 0 and bool((np.diff(x) > 0).all())
    if not is_ascending or rows.ndim < 2 or rows.shape[1] != len(x):
        raise InputError(
            "zero_crossing() needs ascending x of shape (points,) and curves of shape "
            "(seeds, points, ...)",
            got=f"x of shape {x.shape} and curves of shape {rows.shape}",
        )
    values = np.stack([_per_seed(rows[:, i], "curves") for i in range(len(x))], axis=1)
    mean = values.mean(axis=0)
    seeds = len(values)
    if seeds < FEWEST_REPLICATES:
        return Interval(_first_zero(x, mean), math.nan, math.nan, level)
    critical = stdtrit(seeds - 1, 0.5 + level / 2)
    # Squared half-widths of the intervals on the diagonal; zero is inside if mean² is not larger.
    error = critical**2 / seeds * np.atleast_2d(np.cov(values.T))
    contains_zero = mean**2 <= error.diagonal()
    ends = [*x[contains_zero]]
    for i in range(len(x) - 1):
        # Between two points, mean² - error is a quadratic polynomial in the share of the way.
        rise = mean[i + 1] - mean[i]
        slope = error[i, i + 1] - error[i, i]
        curvature = error[i, i] + error[i + 1, i + 1] - 2 * error[i, i + 1]
        polynomial = [
            rise**2 - curvature,
            2 * (mean[i] * rise - slope),
            mean[i] ** 2 - error[i, i],
        ]
        roots = np.roots(polynomial)
        shares = roots.real[(roots.imag == 0) & (roots.real >= 0) & (roots.real <= 1)]
        ends.extend(x[i] + shares * (x[i + 1] - x[i]))
    estimate = _first_zero(x, mean)
    if math.isfinite(estimate):
        ends.append(estimate)
    low = min(ends, default=x[-1])
    high = max(ends, default=x[0])
    if contains_zero[0] or estimate == -math.inf:
        low = -math.inf
    if contains_zero[-1] or estimate == math.inf:
        high = math.inf
    return Interval(float(estimate), float(low), float(high), level)


def _level(level: float) -> float:
    """Return a level of coverage in (0, 1)."""
    return checks.number(level, "level", above=0, below=1, cure="95 % is level=0.95")


def _bounds(bounds: Bounds) -> Bounds:
    """Return the smallest and the largest possible value; they may be infinite."""
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
    """Return finite real numbers as float64."""
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
            cure="leave the run out of both arms, and report it",
        )
    return numbers


def _pairs(among: Any, n: int) -> np.ndarray:
    """Return a symmetric mask of the pairs that count."""
    if among is None:
        return np.ones((n, n), bool)
    pairs = checks.array(among, "among")
    if pairs.shape != (n, n) or pairs.dtype.kind != "b" or (pairs != pairs.T).any():
        raise InputError(
            "among must be a symmetric matrix of booleans of shape (n, n)",
            got=f"among of shape {pairs.shape}, dtype {pairs.dtype}, for n = {n}",
        )
    return pairs


def _per_seed(differences: Any, name: str, bounds: Bounds = UNBOUNDED) -> np.ndarray:
    """Return the mean of each seed; refuse values that are not finite or exceed the bounds."""
    values = _finite(differences, name)
    if values.ndim == 0 or len(values) < 2 or 0 in values.shape:
        raise InputError(
            "an interval needs at least two seeds",
            got=f"{name} of shape {values.shape}",
            cause="a single run has no spread to measure",
            cure="run more seeds; the worksheet uses at least 12",
        )
    # Rounding may move a value slightly out of its bounds.
    slack = 1e-9 * max([1.0, *(abs(end) for end in bounds if math.isfinite(end))])
    is_outside = (values < bounds[0] - slack) | (values > bounds[1] + slack)
    if is_outside.any():
        index = tuple(int(i) for i in np.argwhere(is_outside)[0])
        raise InputError(
            f"{name} must lie within the bounds",
            got=f"{name}[{', '.join(map(str, index))}] = {values[index]}, bounds = {bounds}",
            cause="shares instead of percent, or the bounds of another quantity",
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
    """Return the first zero of a curve.

    Without a zero, the result is infinite, on the side where a rising curve would cross zero.
    """
    changes = np.flatnonzero(np.sign(mean[1:]) != np.sign(mean[:-1]))
    if changes.size == 0 and mean[0] == 0:
        return float(x[0])
    if changes.size == 0:
        return -math.copysign(math.inf, mean[0])
    i = changes[0]
    return float(x[i] + mean[i] / (mean[i] - mean[i + 1]) * (x[i + 1] - x[i]))


def _standard_error(means: np.ndarray) -> float:
    """Return the standard error of the mean."""
    return float(means.std(ddof=1)) / math.sqrt(len(means))
