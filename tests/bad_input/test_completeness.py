"""Every public package has a generated test of bad input."""

from importlib import import_module
from inspect import isroutine

import pytest
import torch

import leadline
from tests.bad_input.harness import Room

ROOMS = [name for name in leadline.__all__ if type(getattr(leadline, name)).__name__ == "module"]


@pytest.mark.parametrize("name", ROOMS)
def test_every_public_package_is_tested(name):
    with torch.random.fork_rng():  # Importing the tests of autoencoders draws random numbers.
        tested = import_module(f"tests.bad_input.test_{'worksheet' if name == 'report' else name}")
    rooms = [value for value in vars(tested).values() if isinstance(value, Room)]
    assert name in {room.module.__name__.removeprefix("leadline.") for room in rooms}


def test_functions_of_the_package_itself_are_those_of_a_tested_one():
    functions = [name for name in leadline.__all__ if isroutine(getattr(leadline, name))]
    assert functions == ["represent"]
    assert leadline.represent is leadline.representation.represent
