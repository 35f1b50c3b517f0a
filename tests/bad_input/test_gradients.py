"""Bad input to the instrument of gradients: every public name, every parameter, every bad value."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from leadline import gradients, recurrent
from leadline.gradients._metrics import append_metrics
from tests.bad_input.examples import X, Y, model, of_soundings
from tests.bad_input.harness import Call, Room, call


def tape() -> tuple[gradients.Tape, torch.Tensor]:
    network = model()
    with gradients.trace(network) as found:
        terms = recurrent.mse(network(X)[0], Y, per_step=True)
    return found, terms


def flow() -> gradients.GradientFlow:
    found, terms = tape()
    return found.gradient_flow(terms)


def influence() -> gradients.Influence:
    found, terms = tape()
    return found.influence(terms)


def loss_of(network: Any) -> torch.Tensor:
    return recurrent.mse(network(X)[0], Y)


def cures() -> gradients.CureComparison:
    return gradients.compare_cures(model(), loss_of, window=2, max_norm=1.0, seed=0)


def stability() -> gradients.Stability:
    return gradients.measure_stability(recurrent.RNN(1, 3, seed=0), X)


def monitor() -> gradients.GradientMonitor:
    return gradients.GradientMonitor(model(), every=10, write=lambda *_: None)


def metrics() -> Path:
    path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
    append_metrics(path, 0, {"lstm[0]/slope": -0.5})
    return path


CALLS: dict[str, Callable[[], Call]] = {
    "trace": lambda: call(gradients.trace, model()),
    "record": lambda: call(gradients.record, torch.zeros(2, 3), "state"),
    "Tape.gradient_flow": lambda: (lambda made: call(made[0].gradient_flow, made[1]))(tape()),
    "Tape.weight_terms": lambda: (lambda made: call(made[0].weight_terms, made[1]))(tape()),
    "Tape.influence": lambda: (
        lambda made: call(made[0].influence, made[1], per_sample=False, chunk=4)
    )(tape()),
    "LayerFlow.slope": lambda: call(flow().layers[0].slope, 0, 3),
    "LayerInfluence.lost_beyond": lambda: call(influence().layers[0].lost_beyond, 2),
    "LayerInfluence.window_for": lambda: call(influence().layers[0].window_for, 0.9),
    "LayerInfluence.timesteps_for": lambda: call(influence().layers[0].timesteps_for, 0.9),
    "Influence.drawing": lambda: call(influence().drawing, 0),
    "Stability.drawing": lambda: call(stability().drawing, 0),
    "CureComparison.drawing": lambda: call(cures().drawing, 0),
    "measure_stability": lambda: call(
        gradients.measure_stability,
        torch.nn.GRU(1, 3, batch_first=True),
        X,
        None,
        hx=torch.zeros(1, 2, 3),
        name="gru",
        num_exponents=2,
        transient=1,
        seed=0,
    ),
    "compare_cures": lambda: call(
        gradients.compare_cures, model(), loss_of, window=2, max_norm=1.0, seed=0
    ),
    "GradientMonitor": lambda: call(
        gradients.GradientMonitor, model(), 10, max_norm=1.0, num_samples=2, write=lambda *_: None
    ),
    "GradientMonitor.step": lambda: call(monitor().step, 3, scale=1.0),
    "read_metrics": lambda: call(gradients.read_metrics, metrics()),
    **of_soundings(
        GradientFlow=flow,
        Influence=influence,
        WeightTerms=lambda: weight_terms(),
        Stability=stability,
        CureComparison=cures,
    ),
}


def weight_terms() -> gradients.WeightTerms:
    found, terms = tape()
    return found.weight_terms(terms)


RESULTS = {
    "CureComparison",
    "GradientFlow",
    "Influence",
    "LayerFlow",
    "LayerInfluence",
    "LayerStability",
    "LayerTerms",
    "Stability",
    "Tape",
    "WeightTerms",
}

ROOM = Room(gradients, CALLS, results=frozenset(RESULTS))


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
