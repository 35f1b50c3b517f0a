"""Texts of positive quantities whose intervals may be open at one side or at both."""

import math

from leadline.sounding import Interval, decimals


def positive_in_words(interval: Interval, spec: str) -> str:
    """Return a positive quantity as text, where at most one side of its interval is open.

    >>> positive_in_words(Interval(4.0, 3.0, 5.5), ".1f")
    '4.0 [3.0, 5.5]'
    >>> positive_in_words(Interval(math.inf, 30.0, math.inf), ".0f")
    '30 or more'
    >>> positive_in_words(Interval(4.0, 3.0, math.inf), ".1f")
    '4.0 (3.0 or more)'
    >>> positive_in_words(Interval(4.0, 0.0, 5.0), ".0f")
    '4 (5 or fewer)'
    """
    has_low = interval.low > 0
    has_high = interval.high < math.inf
    if not interval.is_known or (has_low and has_high):
        return f"{interval:{spec}}"
    if has_low:
        bound = f"{decimals(interval.low, spec)} or more"
    else:
        bound = f"{decimals(interval.high, spec)} or fewer"
    if 0 < interval.estimate < math.inf:
        return f"{decimals(interval.estimate, spec)} ({bound})"
    return bound


def is_uninformative(interval: Interval) -> bool:
    """True if an interval is open at both sides, or unknown with an estimate of 0 or infinity."""
    if not interval.is_known:
        return not 0 < interval.estimate < math.inf
    return interval.low <= 0 and interval.high == math.inf
