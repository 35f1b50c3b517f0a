"""Examples that several tests of bad input share."""

import tempfile
from collections.abc import Callable
from typing import Any

from leadline import recurrent
from tests.bad_input.harness import Call, call

X, Y = recurrent.running_average(2, 4, seed=0)


def model() -> recurrent.Regression:
    return recurrent.Regression(recurrent.RNN(1, 3, seed=0), seed=0)


def of_soundings(**makers: Callable[[], Any]) -> dict[str, Callable[[], Call]]:
    """Good calls of save and load, which every sounding has."""
    found: dict[str, Callable[[], Call]] = {}
    for name, make in makers.items():

        def save(make=make) -> Call:
            return call(make().save, tempfile.mkdtemp())

        def load(make=make, name=name) -> Call:
            folder = tempfile.mkdtemp()
            sounding = make()
            sounding.save(folder)
            return call(type(sounding).load, folder)

        found |= {f"{name}.save": save, f"{name}.load": load}
    return found
