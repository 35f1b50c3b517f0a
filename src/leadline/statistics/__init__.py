"""Statistics of verdicts: intervals over seeds and over rows, rank agreement, curve crossings."""

from leadline.statistics._checks import AT_LEAST_ZERO as AT_LEAST_ZERO
from leadline.statistics._checks import PERCENT as PERCENT
from leadline.statistics._checks import POINTS as POINTS
from leadline.statistics._checks import SHARE as SHARE
from leadline.statistics._checks import UNBOUNDED as UNBOUNDED
from leadline.statistics._checks import Bounds as Bounds
from leadline.statistics._crossed import CrossedInterval as CrossedInterval
from leadline.statistics._crossed import crossed_interval as crossed_interval
from leadline.statistics._crossing import zero_crossing
from leadline.statistics._rank import kendall_tau as kendall_tau
from leadline.statistics._row_values import row_values as row_values
from leadline.statistics._student import FEWEST_REPLICATES as FEWEST_REPLICATES
from leadline.statistics._student import SIMULTANEOUS_LEVEL as SIMULTANEOUS_LEVEL
from leadline.statistics._student import TOTAL_ERROR_RATE as TOTAL_ERROR_RATE
from leadline.statistics._student import (
    Effect,
    effect,
    paired_interval,
    smallest_detectable_effect,
)
from leadline.statistics._student import interval_columns as interval_columns
from leadline.statistics._student import no_interval as no_interval
from leadline.statistics._student import over_seeds as over_seeds

__all__ = [
    "Effect",
    "effect",
    "paired_interval",
    "smallest_detectable_effect",
    "zero_crossing",
]
