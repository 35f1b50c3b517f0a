"""Bad input to leadline.recurrent: every public name, parameter and bad value."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from leadline import InputError, recurrent
from tests.bad_input.examples import X, Y, model, of_soundings
from tests.bad_input.harness import Call, Room, call


def training() -> recurrent.Training:
    return recurrent.train([model()], seeds=[0], time=3, num_steps=1)


def task(batch: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(batch, 3, 1, generator=generator)
    return x, x


CALLS: dict[str, Callable[[], Call]] = {
    "RNN": lambda: call(recurrent.RNN, 2, 3, 1, "tanh", seed=0),
    "LSTM": lambda: call(recurrent.LSTM, 2, 3, 1, seed=0),
    "GRU": lambda: call(recurrent.GRU, 2, 3, 1, seed=0),
    "RNN.forward": lambda: call(recurrent.RNN(1, 3, seed=0).forward, X, None),
    "RNN.zero_radius_that_explodes": lambda: call(recurrent.RNN.zero_radius_that_explodes, 4),
    "LSTM.forward": lambda: call(recurrent.LSTM(1, 3, seed=0).forward, X, None),
    "GRU.forward": lambda: call(recurrent.GRU(1, 3, seed=0).forward, X, None),
    "Regression": lambda: call(recurrent.Regression, recurrent.RNN(1, 3, seed=0), 1, seed=0),
    "Regression.forward": lambda: call(model().forward, X),
    "mse": lambda: call(recurrent.mse, Y, Y, False, False),
    "running_average": lambda: call(recurrent.running_average, 2, 3, seed=0),
    "train": lambda: call(
        recurrent.train,
        [model()],
        seeds=[0],
        time=3,
        last_only=False,
        num_steps=2,
        batch_size=2,
        learning_rate=0.01,
        evaluate_every=1,
        patience=1,
        draw=task,
        weights=np.full((3, 1), 0.3),
        progress=lambda line: None,
    ),
    **of_soundings(Training=training),
}

RESULTS = {
    "Training",
}

ROOM = Room(recurrent, CALLS, results=frozenset(RESULTS))


def test_every_public_name_has_a_good_call():
    assert ROOM.without_a_call() == []


@pytest.mark.parametrize("name", CALLS)
def test_a_good_call_succeeds_with_numbers_of_any_kind(name):
    with torch.random.fork_rng():
        ROOM.check_good(name)


@pytest.mark.parametrize(("name", "parameter"), ROOM.cases())
def test_bad_values_are_refused_kindly(name, parameter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        ROOM.check_bad(name, parameter)


def test_the_exploding_network_refuses_impossible_lengths():
    for time in (0, -1, 2.5, "a", 10**30, None):
        bad: Any = time
        with pytest.raises(InputError):
            recurrent.RNN.zero_radius_that_explodes(bad)
