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

from leadline.errors import InputError
from leadline.sounding import Interval

REGISTERED_STATEMENTS = 20
"""How many verdicts the worksheet may give. A constant, so that asking for fewer does not loosen any of them."""

SIMULTANEOUS_LEVEL = 1 - 0.05 / REGISTERED_STATEMENTS
"""Level of each interval such that all twenty cover together with at least 95 % (Bonferroni)."""


@dataclass(frozen=True)
class Effect:
    """A paired difference (or any quantity with one value per seed) and what it allows one to say."""

    label: str
    """What the number is, in words: ``"denoising minus raw, 10 labels"``."""
    interval: Interval
    """The plain 95 % interval."""
    simultaneous: Interval
    """The interval that outcomes are decided by; see :data:`SIMULTANEOUS_LEVEL`."""
    detectable: float
    """The smallest true effect that would have excluded zero with probability 0.8."""
    replicates: int
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.label}: {self.interval} {self.unit}".rstrip()


def paired_interval(differences: Num[np.ndarray, "*seeds"], level: float = 0.95) -> Interval:
    """Student's t interval of the mean difference over seeds.

    Formula: ``m ± t(1 - (1 - level)/2; n - 1) s / sqrt(n)``, m and s being mean and standard deviation of the n
    per-seed means.

    Args:
        differences: shape ``(seeds, ...)``; axes after the first (label subsets, folds) are averaged within a seed.
        level: probability of covering, in (0, 1).

    Raises:
        InputError: fewer than two seeds, or a difference that is not finite (its index is named).

    >>> print(f"{paired_interval(np.array([1.0, 2.0, 3.0])):.3f}")
    2.000 [-0.484, 4.484]

    Reference: Student, *The probable error of a mean*, 1908.
    """
    means = _per_seed(differences)
    half = float(stdtrit(len(means) - 1, 0.5 + level / 2)) * _standard_error(means)
    return Interval(float(means.mean()), float(means.mean()) - half, float(means.mean()) + half, level)


def smallest_detectable_effect(
    differences: Num[np.ndarray, "*seeds"], level: float = 0.95, power: float = 0.8
) -> float:
    """The true effect whose interval excludes zero with probability ``power``, at the spread that was seen.

    The mean over its standard error follows a noncentral t distribution; the effect is the noncentrality at which it
    passes the critical value with that probability, times the standard error.

    >>> round(smallest_detectable_effect(np.array([1.0, 2.0, 3.0])), 2)
    3.26

    Reference: Cohen, *Statistical power analysis for the behavioral sciences*, 1988.
    """
    means = _per_seed(differences)
    freedom = len(means) - 1
    critical = stdtrit(freedom, 0.5 + level / 2)
    return float(nctdtrinc(freedom, 1 - power, critical)) * _standard_error(means)


def effect(differences: Num[np.ndarray, "*seeds"], label: str, unit: str = "", *, comparisons: int = 1) -> Effect:
    """Both intervals of a per-seed difference, and the smallest effect that the design would have detected.

    Args:
        differences: as in :func:`paired_interval`.
        label: what the difference is, in words.
        unit: its unit, in words.
        comparisons: how many effects share one verdict as alternatives; the simultaneous interval widens for them.

    >>> print(effect(np.array([1.0, 2.0, 3.0]), "b minus a", "points"))
    b minus a: 2.0 [-0.5, 4.5] points
    """
    level = 1 - (1 - SIMULTANEOUS_LEVEL) / comparisons
    return Effect(
        label=label,
        interval=paired_interval(differences),
        simultaneous=paired_interval(differences, level),
        detectable=smallest_detectable_effect(differences, level),
        replicates=len(np.asarray(differences)),
        unit=unit,
    )


def kendall_tau(
    x: Num[np.ndarray, "... n"], y: Num[np.ndarray, "... n"], among: Bool[np.ndarray, "n n"] | None = None
) -> Any:
    """Kendall's tau-b along the last axis: the agreement of two orders, in [-1, 1].

    Formula: ``(concordant - discordant) / sqrt((pairs - ties in x)(pairs - ties in y))``; NaN where one side is
    constant. Takes whole batches at once: one tau per seed goes straight into :func:`paired_interval`. With ``among``,
    symmetric, only the pairs for which it is true count: those of one group, or of two different ones.

    >>> float(kendall_tau(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])).round(3))
    0.667

    Reference: Kendall, *The treatment of ties in ranking problems*, 1945.
    """
    n = np.shape(x)[-1]
    i, j = np.nonzero(np.triu(np.ones((n, n), bool) if among is None else among, k=1))
    dx, dy = (np.sign(v[..., i] - v[..., j]) for v in (np.asarray(x, float), np.asarray(y, float)))
    with np.errstate(invalid="ignore"):
        return (dx * dy).sum(-1) / np.sqrt((dx != 0).sum(-1) * (dy != 0).sum(-1))


def zero_crossing(
    x: Num[np.ndarray, " points"], curves: Num[np.ndarray, "seeds points *rest"], level: float = 0.95
) -> Interval:
    """Where the mean of curves rises through zero, with Fieller's interval over seeds.

    Curves are straight between their points. The interval spans each x at which Student's t interval of the mean does
    not exclude zero: ``m(x)² <= t² s(x)² / n``, a quadratic inequality between two points, solved exactly. Every seed
    counts, whether or not its own curve crosses. Where the crossing truly is, zero is excluded with probability
    ``1 - level`` only, however many points there are: it is covered with at least ``level``.

    Where the first point is not told from zero, the crossing may lie before it: ``low`` is ``-inf``. Where the last is
    not, ``high`` is ``inf``. Where the mean is negative all along the estimate is ``inf``, beyond the last point; where
    it is positive all along, ``-inf``.

    Args:
        x: shape (points,), ascending.
        curves: shape (seeds, points, ...); axes after the second (label subsets) are averaged within a seed.
        level: probability of covering, in (0, 1).

    Raises:
        InputError: fewer than two seeds, or a value that is not finite.

    >>> x, seeds = np.array([0.0, 1.0]), np.array([[-0.2], [0.0], [0.2]])
    >>> print(f"{zero_crossing(x, seeds + [-1.0, 1.0]):.2f}")
    0.50 [0.25, 0.75]
    >>> print(f"{zero_crossing(x, seeds + [-1.0, -0.2]):.2f}")
    inf [0.63, inf]

    Reference: Fieller, *Some problems in interval estimation*, 1954.
    """
    values = np.stack([_per_seed(point) for point in np.moveaxis(np.asarray(curves, float), 1, 0)], axis=1)
    mean, seeds = values.mean(axis=0), len(values)
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


def _per_seed(differences: np.ndarray) -> np.ndarray:
    values = np.asarray(differences, dtype=float)
    if values.ndim == 0 or len(values) < 2:
        raise InputError(
            "an interval needs at least two seeds",
            got=f"differences of shape {values.shape}",
            cause="a single run has no spread to measure",
            cure="run more seeds; the worksheet uses at least 12",
        )
    if not np.isfinite(values).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise InputError(
            "differences must be finite",
            got=f"differences[{', '.join(map(str, index))}] = {values[index]}",
            cause="a run diverged or was not measured",
            cure="leave the run out of both arms, and say so",
        )
    return values.reshape(len(values), -1).mean(axis=1)


def _first_zero(x: np.ndarray, mean: np.ndarray) -> float:
    """The first zero of a curve; where it has none, infinite on the side where a rising curve would have it."""
    changes = np.flatnonzero(np.sign(mean[1:]) != np.sign(mean[:-1]))
    if changes.size == 0:
        return float(x[0]) if mean[0] == 0 else -math.copysign(math.inf, mean[0])
    i = changes[0]
    return float(x[i] + mean[i] / (mean[i] - mean[i + 1]) * (x[i + 1] - x[i]))


def _standard_error(means: np.ndarray) -> float:
    return float(means.std(ddof=1)) / math.sqrt(len(means))
