"""Student's t intervals over seeds.

The replicate is the seed. Each seed draws its own weights, splits and label subsets. The arms of a
comparison share them, so that differences are paired. Values within a seed are averaged first, and
the interval is Student's t over the seeds.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Num
from scipy.special import nctdtrinc, stdtrit

from leadline import checks
from leadline.sounding import Interval
from leadline.statistics._checks import (
    UNBOUNDED,
    Bounds,
    check_bounds,
    check_level,
    means_per_seed,
    standard_error,
)
from leadline.storage import record

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
    level = check_level(level)
    lowest, highest = check_bounds(bounds)
    means = means_per_seed(differences, "differences", (lowest, highest))
    mean = min(max(float(means.mean()), lowest), highest)
    if len(means) < FEWEST_REPLICATES:
        return Interval(mean, math.nan, math.nan, level)
    half = float(stdtrit(len(means) - 1, 0.5 + level / 2)) * standard_error(means)
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
    level = check_level(level)
    power = checks.number(power, "power", above=0, below=1)
    means = means_per_seed(differences, "differences")
    if len(means) < FEWEST_REPLICATES:
        return math.inf
    freedom = len(means) - 1
    critical = stdtrit(freedom, 0.5 + level / 2)
    return float(nctdtrinc(freedom, 1 - power, critical)) * standard_error(means)


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
    level = 1 - (1 - check_level(level)) / comparisons
    return Effect(
        label=label,
        interval=paired_interval(differences, bounds=bounds),
        simultaneous=paired_interval(differences, level, bounds),
        detectable=smallest_detectable_effect(differences, level),
        replicates=len(checks.array(differences, "differences")),
        unit=unit,
    )
