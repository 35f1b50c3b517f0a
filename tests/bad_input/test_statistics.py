"""Bad input to the statistics."""

import numpy as np
import pytest

from leadline import statistics
from leadline.statistics import (
    Effect,
    effect,
    kendall_tau,
    paired_interval,
    smallest_detectable_effect,
    zero_crossing,
)
from tests.bad_input.harness import Room, call

VALUES = np.array([0.1, 0.2, 0.4])

CALLS = {
    "effect": lambda: call(effect, VALUES, "gain", "points", comparisons=2, bounds=(-1, 1)),
    "kendall_tau": lambda: call(kendall_tau, VALUES, VALUES[::-1], among=np.ones((3, 3), bool)),
    "paired_interval": lambda: call(paired_interval, VALUES, 0.95, (0.0, 1.0)),
    "smallest_detectable_effect": lambda: call(smallest_detectable_effect, VALUES, 0.95, 0.8),
    "zero_crossing": lambda: call(
        zero_crossing, np.array([0.0, 1.0]), np.array([[-1, 1], [-2, 1], [-1, 2]]), 0.95
    ),
}

ROOM = Room(statistics, CALLS, results=frozenset({Effect.__name__}))


def test_every_public_name_has_a_good_call():
    assert ROOM.without_a_call() == []


@pytest.mark.parametrize("name", CALLS)
def test_a_good_call_succeeds_with_numbers_of_any_type(name):
    ROOM.check_good(name)


@pytest.mark.parametrize(("name", "parameter"), ROOM.cases())
def test_bad_values_are_refused_with_an_input_error(name, parameter):
    ROOM.check_bad(name, parameter)
