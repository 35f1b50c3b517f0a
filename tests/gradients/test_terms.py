import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from leadline import InputError, gradients, recurrent

OURS = {
    "tanh": lambda layers: recurrent.RNN(2, 5, layers, seed=0),
    "relu": lambda layers: recurrent.RNN(2, 5, layers, "relu", seed=0),
    "lstm": lambda layers: recurrent.LSTM(2, 5, layers, seed=0),
    "gru": lambda layers: recurrent.GRU(2, 5, layers, seed=0),
}
NAMES = {"W_x": "weight_ih", "W_h": "weight_hh", "b_x": "bias_ih", "b_h": "bias_hh"}


def data(batch=3, time=7, inputs=2, outputs=1):
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(batch, time, n, generator=generator, dtype=torch.float64)
        for n in (inputs, outputs)
    )


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def close(found, expected):
    np.testing.assert_allclose(
        found, expected.numpy(), rtol=1e-9, atol=1e-9 * float(expected.abs().max())
    )


@pytest.mark.parametrize("last_only", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", OURS)
def test_terms_sum_to_the_gradient_of_automatic_differentiation(kind, layers, last_only):
    model, (x, y) = recurrent.Regression(OURS[kind](layers), seed=1).double(), data()
    with gradients.trace(model) as tape:
        loss = recurrent.mse(model(x)[0], y, last_only=last_only)
    terms = tape.weight_terms(loss)
    loss.backward()
    assert len(terms.layers) == layers
    for layer, module in zip(terms.layers, model.network.layers, strict=True):
        assert set(layer.gradients) == {"W_x", "W_h", "b"}
        for name, gradient in layer.gradients.items():
            close(gradient, module.get_parameter(name).grad)


@pytest.mark.parametrize("kind", OURS)
def test_each_term_is_the_gradient_of_the_weights_of_its_timestep(kind):
    """The oracle has a copy of the layer with separate weights for each timestep."""
    model, (x, y) = recurrent.Regression(OURS[kind](1), seed=1).double(), data()
    with gradients.trace(model) as tape:
        loss = recurrent.mse(model(x)[0], y)
    (terms,) = tape.weight_terms(loss).layers

    copies = [copy.deepcopy(model.network.layers[0]) for _ in range(x.shape[1])]
    state, states = copies[0].start(x), []
    for t, layer in enumerate(copies):
        state = layer.step(x[:, t] @ layer.W_x.T + layer.b, state)
        states.append(state[0])
    untied = recurrent.mse(torch.stack(states, 1) @ model.W_f.T + model.b_f, y)
    for name, log_norms in terms.log_norms.items():
        by_step = torch.autograd.grad(
            untied, [layer.get_parameter(name) for layer in copies], retain_graph=True
        )
        np.testing.assert_allclose(
            np.exp(log_norms), [float(g.norm()) for g in by_step], rtol=1e-9, atol=1e-300
        )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("make", [nn.RNN, nn.LSTM, nn.GRU])
def test_terms_of_bidirectional_and_packed_torch_layers_sum_to_the_gradient(make, bias):
    network = seeded(
        lambda: make(2, 4, 2, bidirectional=True, batch_first=True, bias=bias).double()
    )
    (x, _), lengths = data(batch=3, time=6), [4, 6, 2]
    with gradients.trace(network) as tape:
        output = network(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))[
            0
        ]
        loss = pad_packed_sequence(output, batch_first=True)[0].square().sum()
    terms = tape.weight_terms(loss)
    loss.backward()
    assert [(layer.index, layer.direction) for layer in terms.layers] == [
        (i, d) for i in (0, 1) for d in ("forward", "reverse")
    ]
    for layer in terms.layers:
        assert set(layer.gradients) == ({"W_x", "W_h", "b_x", "b_h"} if bias else {"W_x", "W_h"})
        for name, gradient in layer.gradients.items():
            suffix = "_reverse" if layer.direction == "reverse" else ""
            close(gradient, getattr(network, f"{NAMES[name]}_l{layer.index}{suffix}").grad)


def test_terms_of_the_reverse_direction_are_in_the_order_of_time():
    network, (x, _) = (
        seeded(lambda: nn.RNN(2, 4, bidirectional=True, batch_first=True).double()),
        data(),
    )
    with gradients.trace(network) as tape:
        loss = network(x)[0][:, 2, 4:].square().sum()
    forward, reverse = tape.weight_terms(loss).layers
    assert (forward.log_norms["W_h"] == -np.inf).all()
    assert np.isfinite(reverse.log_norms["W_x"]).tolist() == [False] * 2 + [True] * 5
    # The reverse direction starts from zero at the last timestep.
    assert np.isfinite(reverse.log_norms["W_h"]).tolist() == [False] * 2 + [True] * 4 + [False]


def test_terms_below_the_range_of_floats_have_finite_logarithms():
    model = recurrent.Regression(
        recurrent.RNN(1, 3, nonlinearity="identity", seed=0), seed=0
    ).double()
    with torch.no_grad():
        model.network.layers[0].W_h.copy_(0.01 * torch.eye(3, dtype=torch.float64))
    x, y = (values.double() for values in recurrent.running_average(1, 400, seed=0))
    with gradients.trace(model) as tape:
        loss = recurrent.mse(model(x)[0], y, last_only=True)
    (layer,) = tape.weight_terms(loss).layers
    per_step = np.diff(layer.log_norms["b"])
    np.testing.assert_allclose(per_step, -np.log(0.01), rtol=1e-9)
    assert layer.log_norms["b"][0] < -1800


def test_loops_and_projections_have_no_terms_and_are_refused():
    loop, x = seeded(lambda: nn.RNNCell(2, 3)), torch.zeros(1, 2)
    with gradients.trace(loop) as tape:
        loss = loop(x, loop(x)).sum()
    with pytest.raises(InputError, match="a loop written by hand"):
        tape.weight_terms(loss)
    projected = seeded(lambda: nn.LSTM(2, 4, proj_size=3).double())
    with gradients.trace(projected) as tape:
        loss = projected(torch.zeros(3, 1, 2, dtype=torch.float64))[0].sum()
    with pytest.raises(InputError, match="proj_size"):
        tape.weight_terms(loss)


def test_terms_have_a_table_a_figure_and_can_be_saved(tmp_path):
    model, (x, y) = recurrent.Regression(OURS["tanh"](2), seed=1).double(), data()
    with gradients.trace(model) as tape:
        terms = tape.weight_terms(recurrent.mse(model(x)[0], y))
    assert "span" in str(terms)
    assert len(terms.table()) == 2 * 3 * 7
    assert len(terms.figure().to_dict()["data"]) >= 2
    terms.save(tmp_path)
    loaded = gradients.WeightTerms.load(tmp_path)
    assert loaded.table().equals(terms.table())
    np.testing.assert_array_equal(
        loaded.layers[0].gradients["W_h"], terms.layers[0].gradients["W_h"]
    )
