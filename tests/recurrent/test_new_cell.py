"""A new cell takes one class, and training and all measurements work with it.

The example is the update-gate network (Collins, Sohl-Dickstein & Sussillo, *Capacity and
trainability in recurrent neural networks*, 2017): ``h_t = g h_{t-1} + (1 - g) c`` with a gate g
and a candidate c.
"""

from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from leadline import gradients, recurrent
from leadline.recurrent._cell import Cell, KeepingGate, total
from leadline.recurrent._network import Network
from leadline.recurrent._population import Population


class UpdateGateSlopes(NamedTuple):
    """The elementwise derivatives of one step."""

    kept: Tensor
    to_g: Tensor
    to_c: Tensor


class UpdateGateCell(Cell):
    """``h_t = g h_{t-1} + (1 - g) c``."""

    names: ClassVar = ("update gate",)
    gate_names: ClassVar = ("g", "c")
    steepest_slopes: ClassVar = (0.25, 1.0)
    keeping_gate: ClassVar = KeepingGate(0, "the update gate")
    is_h_kept: ClassVar = True

    def activate(self, from_x, from_h, axis):
        g, c = total(from_x, from_h).chunk(2, axis)
        return g.sigmoid(), c.tanh()

    def advance(self, gates, before):
        g, c = gates
        return (g * before[0] + (1 - g) * c,)

    def slopes(self, gates, before, after):
        g, c = gates
        return UpdateGateSlopes(g, (before[0] - c) * g * (1 - g), (1 - g) * (1 - c * c))

    def pull_back(self, slopes, rows, da, out, on):
        kept, to_g, to_c = slopes
        on.multiply(rows[0], to_g, out=da[0])
        on.multiply(rows[0], to_c, out=da[1])
        on.multiply(rows[0], kept, out=out[0])

    def push_forward(self, slopes, tangents, du):
        kept, to_g, to_c = slopes
        return (du[0] * to_g + du[1] * to_c + tangents[0] * kept,)

    def passing(self, slopes):
        return slopes[0]


def model_of(seed: int = 0) -> recurrent.Regression:
    return recurrent.Regression(Network(UpdateGateCell(), 1, 5, 2, seed=seed), seed=seed).double()


def unrolled(model: recurrent.Regression, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the predictions and the top layer's states, written as a loop over timesteps."""
    states = [x.new_zeros(len(x), 5) for _ in model.network.layers]
    top, predictions = [], []
    for x_t in x.unbind(1):
        below = x_t
        for index, layer in enumerate(model.network.layers):
            a = below @ layer.W_x.T + states[index] @ layer.W_h.T + layer.b
            g, c = torch.sigmoid(a[:, :5]), torch.tanh(a[:, 5:])
            below = states[index] = g * states[index] + (1 - g) * c
        top.append(below)
        predictions.append(below @ model.W_f.T + model.b_f)
    return torch.stack(predictions, 1), top


def test_the_gradient_flow_of_a_new_cell_equals_autograd():
    model = model_of()
    x, y = (part.double() for part in recurrent.running_average(3, 8, seed=0))
    with gradients.trace(model) as tape:
        loss = recurrent.mse(model(x)[0], y)
    flow = tape.gradient_flow(loss)
    predictions, states = unrolled(model, x)
    expected = torch.autograd.grad(recurrent.mse(predictions, y), states)
    norms = torch.stack([gradient.norm(dim=1) for gradient in expected], 1).log()
    top = flow.layers[-1]
    np.testing.assert_allclose(top.log_total, norms.numpy(), rtol=1e-9)


def test_the_training_of_a_new_cell_has_the_gradient_of_autograd():
    models = [model_of(seed) for seed in range(2)]
    population = Population(models)
    x, y = (part.double() for part in recurrent.running_average(4, 6, seed=1))
    by_time = x.transpose(0, 1).unsqueeze(1).expand(-1, 2, -1, -1)
    loss = (population.predict(by_time) - y.transpose(0, 1).unsqueeze(1)).square().sum()
    names = list(population.parameters)
    gradients_of_all = torch.autograd.grad(loss, list(population.parameters.values()))
    for index, model in enumerate(models):
        loss = (unrolled(model, x)[0] - y).square().sum()
        expected = torch.autograd.grad(loss, [model.get_parameter(name) for name in names])
        for stacked, gradient in zip(gradients_of_all, expected, strict=True):
            by_model = stacked.unflatten(0, (-1, 2))[:, index]
            torch.testing.assert_close(by_model.flatten(0, 1), gradient, rtol=1e-9, atol=1e-12)


def test_influence_and_stability_name_the_gates_of_a_new_cell():
    model = model_of()
    x, y = (part.double() for part in recurrent.running_average(3, 40, seed=2))
    with gradients.trace(model) as tape:
        losses = recurrent.mse(model(x)[0], y, per_step=True)
    influence = tape.influence(losses)
    assert np.isfinite(np.diag(influence.layers[-1].log_norms)).all()
    stability = gradients.measure_stability(model.network, x)
    layer = stability.layers[0]
    assert layer.kind == "update gate"
    assert layer.gates == ("g", "c")
    expected = layer.singular_value * np.array([0.25, 1.0])
    np.testing.assert_array_equal(layer.gain_bound, expected)
    assert "the update gate" in layer.advice.get("gating", "the update gate")


def test_the_cure_by_gating_opens_the_gate_of_a_new_cell():
    model = model_of()
    x, y = (part.double() for part in recurrent.running_average(3, 30, seed=3))
    comparison = gradients.compare_cures(model, lambda copy: recurrent.mse(copy(x)[0], y))
    expected = model_of()
    with torch.no_grad():
        for layer in expected.network.layers:
            layer.b[:5] = 1.0
    with gradients.trace(expected) as tape:
        loss = recurrent.mse(expected(x)[0], y)
    flow = tape.gradient_flow(loss)
    (treated,) = (effect.flow for effect in comparison.after if effect.name == "gating")
    np.testing.assert_allclose(treated.layers[0].log_total, flow.layers[0].log_total)
