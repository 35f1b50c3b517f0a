"""Bad input to the statistics."""

import numpy as np
import pytest

from leadline import statistics
from leadline.statistics import (
    CrossedInterval,
    Effect,
    crossed_interval,
    effect,
    kendall_tau,
    paired_interval,
    row_values,
    smallest_detectable_effect,
    zero_crossing,
)
from tests.bad_input.harness import Room, call

VALUES = np.array([0.1, 0.2, 0.4])

PLACES = (np.arange(24) + np.arange(8)[:, None]) % 24
"""Place of each row in the split of each seed."""
TRAINED = np.stack([PLACES >= 16, (PLACES > 8) & (PLACES < 17)], axis=1)
TESTED = np.where(PLACES[:, None] < 8, np.arange(24) % 3 - 1.0, np.nan).repeat(2, axis=1)
CLASSES = np.arange(24) % 2

CALLS = {
    "crossed_interval": lambda: call(
        crossed_interval,
        TESTED,
        TRAINED,
        groups=np.arange(24),
        classes=CLASSES,
        half=(TESTED, TRAINED),
        level=0.9,
        comparisons=2,
        factor=100,
        bounds=(-100.0, 100.0),
    ),
    "row_values": lambda: call(row_values, CLASSES, TESTED, -TESTED, measure="AUC"),
    "effect": lambda: call(effect, VALUES, "gain", "points", comparisons=2, bounds=(-1, 1)),
    "kendall_tau": lambda: call(kendall_tau, VALUES, VALUES[::-1], among=np.ones((3, 3), bool)),
    "paired_interval": lambda: call(paired_interval, VALUES, 0.95, (0.0, 1.0)),
    "smallest_detectable_effect": lambda: call(smallest_detectable_effect, VALUES, 0.95, 0.8),
    "zero_crossing": lambda: call(
        zero_crossing, np.array([0.0, 1.0]), np.array([[-1, 1], [-2, 1], [-1, 2]]), 0.95
    ),
}

ROOM = Room(statistics, CALLS, results=frozenset({CrossedInterval.__name__, Effect.__name__}))


def test_every_public_name_has_a_good_call():
    assert ROOM.without_a_call() == []


@pytest.mark.parametrize("name", CALLS)
def test_a_good_call_succeeds_with_numbers_of_any_type(name):
    ROOM.check_good(name)


@pytest.mark.parametrize(("name", "parameter"), ROOM.cases())
def test_bad_values_are_refused_with_an_input_error(name, parameter):
    ROOM.check_bad(name, parameter)
