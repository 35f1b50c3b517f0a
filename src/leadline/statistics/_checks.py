"""Checks of levels, bounds and values, which all intervals share."""

import math
from typing import Any

import numpy as np

from leadline import checks
from leadline.errors import InputError

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


def check_level(level: float) -> float:
    """Return a level of coverage in (0, 1)."""
    return checks.number(level, "level", above=0, below=1, cure="95 % is level=0.95")


def check_bounds(bounds: Bounds) -> Bounds:
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


def finite_numbers(values: Any, name: str) -> np.ndarray:
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


def means_per_seed(differences: Any, name: str, bounds: Bounds = UNBOUNDED) -> np.ndarray:
    """Return the mean of each seed; refuse values that are not finite or exceed the bounds."""
    values = finite_numbers(differences, name)
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


def standard_error(means: np.ndarray) -> float:
    """Return the standard error of the mean."""
    return float(means.std(ddof=1)) / math.sqrt(len(means))
