"""Coverage and width of the crossed interval in simulated studies, with an oracle for the width."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from leadline.statistics import crossed_interval
from tests.reliability.simulated_studies import Cell, studies


@dataclass(frozen=True)
class Coverage:
    """The result of the simulated studies of a cell.

    The truth and the oracle of the width come from the estimates of other fresh tables: those of
    the second half of the studies for the first half, and the reverse.
    """

    studies: int
    covered: float
    """Share of intervals that contain the truth, in percent."""
    lowest: float
    """Lower end of the 99 % interval of the coverage (Clopper and Pearson), in percent."""
    highest: float
    """Upper end of that interval."""
    above: float
    """Share of studies whose truth lies above the interval, in percent."""
    width: float
    """Mean half-width divided by 1.96 standard deviations of the estimate over fresh tables."""
    excludes_zero: int
    """Number of intervals that exclude zero."""
    truth: float
    deviation: float
    """Standard deviation of the estimate over fresh tables."""

    def __str__(self) -> str:
        return (
            f"coverage {self.covered:.1f} % [{self.lowest:.1f}, {self.highest:.1f}] in "
            f"{self.studies} studies, truth above in {self.above:.1f} %, width {self.width:.2f}, "
            f"gain {self.truth:.4f}, deviation {self.deviation:.4f}"
        )


def coverage(cell: Cell, num: int, seed: int, level: float = 0.95) -> Coverage:
    """Return the coverage of ``crossed_interval`` in ``num`` studies of a cell."""
    found = []
    for study in studies(cell, num, seed):
        interval = crossed_interval(
            study.values, study.trained, level=level, **study.keywords()
        ).interval
        found.append((interval.estimate, interval.low, interval.high))
    estimates, low, high = np.array(found).T
    is_first = np.arange(num) < num // 2
    halves = (is_first, ~is_first)
    truth = np.where(is_first, *(estimates[half].mean() for half in reversed(halves)))
    deviation = np.where(is_first, *(estimates[half].std(ddof=1) for half in reversed(halves)))
    is_covered = (low <= truth) & (truth <= high)
    lowest, highest = share_interval(int(is_covered.sum()), num)
    return Coverage(
        studies=num,
        covered=100 * float(is_covered.mean()),
        lowest=100 * lowest,
        highest=100 * highest,
        above=100 * float((high < truth).mean()),
        width=float(((high - low) / 2 / 1.96 / deviation).mean()),
        excludes_zero=int(((low > 0) | (high < 0)).sum()),
        truth=float(estimates.mean()),
        deviation=float(estimates.std(ddof=1)),
    )


def share_interval(count: int, num: int, level: float = 0.99) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a share."""
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, num - count + 1))
    high = 1.0 if count == num else float(beta.ppf(1 - tail, count + 1, num - count))
    return low, high
