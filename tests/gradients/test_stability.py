"""Lyapunov spectra compared with closed forms, and the conclusions of the stability."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from leadline import InputError, gradients, recurrent
from leadline.gradients.soundings._lyapunov import lyapunov
from leadline.gradients.tracing._replay import Call, replay
from leadline.randomness import torch_generator
from leadline.recurrent import Nonlinearity, Record, Weights
from leadline.recurrent._lstm import LSTMSlopes
from leadline.recurrent._rnn import RNNCell, RNNSlopes

CELLS = {
    "tanh": lambda **more: nn.RNN(3, 4, batch_first=True, **more),
    "relu": lambda **more: nn.RNN(3, 4, nonlinearity="relu", batch_first=True, **more),
    "lstm": lambda **more: nn.LSTM(3, 4, batch_first=True, **more),
    "gru": lambda **more: nn.GRU(3, 4, batch_first=True, **more),
}


def built(cell, seed=0, **more) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CELLS[cell](**more).double()


def normal(*shape, seed=0):
    return torch.randn(
        *shape, generator=torch_generator(seed, "tests.stability"), dtype=torch.float64
    )


def driven(layer, x):
    """Return the record of the bottom layer of one pass."""
    with gradients.trace(layer) as tape, torch.no_grad():
        layer(x)
    (call,) = tape.calls
    assert isinstance(call, Call)
    return replay(call).layers[0][0].record


def product_of(matrices):
    """Return a record whose Jacobians are these matrices, shape (T, N, N)."""

    class Product(Record):
        def push_forward(self, t, tangents):
            return tangents @ matrices[t].T

    time, size = len(matrices), matrices.shape[1]
    h = torch.zeros(time, 1, size, dtype=torch.float64)
    weights = Weights(RNNCell("identity"), torch.zeros(size, 1).double(), torch.eye(size).double())
    return Product(weights, h, h, RNNSlopes(torch.ones_like(h)))


def network_of(W_h, nonlinearity: Nonlinearity = "tanh"):
    network = recurrent.RNN(1, len(W_h), nonlinearity=nonlinearity, seed=0).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.layers[0].W_h.copy_(torch.as_tensor(W_h))
    return network


def by_autograd(record, layer, x):
    """Return the Jacobians of the whole state by autograd, shape (T, B, S, S)."""
    cell = {nn.RNN: nn.RNNCell, nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell}[type(layer)]
    extra = {"nonlinearity": layer.nonlinearity} if isinstance(layer, nn.RNN) else {}
    one = nn.utils.skip_init(cell, layer.input_size, layer.hidden_size, **extra).double()
    one.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in layer.state_dict().items()}
    )
    hidden, found = layer.hidden_size, []
    for b in range(len(x)):
        state, own = torch.zeros(record.state_size, dtype=torch.float64), []
        for x_t in x[b]:

            def step(state, x_t=x_t):
                if isinstance(one, nn.LSTMCell):
                    return torch.cat(one(x_t, (state[:hidden], state[hidden:])))
                return one(x_t, state)

            own.append(torch.autograd.functional.jacobian(step, state))
            state = step(state).detach()
        found.append(torch.stack(own))
    return torch.stack(found, 1)


@pytest.mark.parametrize("cell", CELLS)
def test_push_forward_equals_automatic_differentiation(cell):
    layer, x = built(cell), normal(2, 5, 3)
    record = driven(layer, x)
    tangents = normal(2, 3, record.state_size, seed=1)
    for t, jacobian in enumerate(by_autograd(record, layer, x)):
        torch.testing.assert_close(
            record.push_forward(t, tangents), tangents @ jacobian.mT, rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("projected", [0, 2])
@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_push_forward_is_the_adjoint_of_pull_back(projected):
    record = driven(built("lstm", proj_size=projected), normal(2, 5, 3))
    rows, tangents = normal(1, 2, record.state_size), normal(2, 1, record.state_size, seed=1)
    for t in range(5):
        pushed, pulled = record.push_forward(t, tangents)[:, 0], record.pull_back(t, rows)[0]
        torch.testing.assert_close(
            (rows[0] * pushed).sum(1), (pulled * tangents[:, 0]).sum(1), rtol=1e-11, atol=0
        )


@pytest.mark.parametrize("cell", ["tanh", "lstm", "gru"])
@settings(max_examples=10)
@given(time=st.integers(1, 25), seed=st.integers(0, 100))
def test_the_spectrum_sums_to_the_mean_log_determinant(cell, time, seed):
    layer, x = built(cell, seed), normal(2, time, 3, seed=seed)
    record = driven(layer, x)
    eye = torch.eye(record.state_size, dtype=torch.float64).expand(2, -1, -1)
    jacobians = torch.stack([record.push_forward(t, eye).mT for t in range(time)])
    expected = torch.linalg.slogdet(jacobians).logabsdet.mean(0)
    (found,) = gradients.measure_stability(layer, x, transient=0).layers
    np.testing.assert_allclose(found.exponents.sum(1), expected, rtol=1e-8)


def test_the_spectrum_of_an_lstm_sums_to_the_formula_of_its_gates():
    layer, x = built("lstm"), normal(1, 12, 3)
    record = driven(layer, x)
    (found,) = gradients.measure_stability(layer, x, transient=0).layers
    W_ho = layer.weight_hh_l0.detach()[-4:]
    assert isinstance(record.slopes, LSTMSlopes)
    per_step = (record.slopes.forget.log() + record.slopes.to_o.abs().log()).sum(-1).mean(0)
    assert found.exponents.sum() == pytest.approx(
        float(torch.linalg.slogdet(W_ho).logabsdet + per_step), rel=1e-9
    )


def test_at_a_fixed_point_exponents_are_logarithms_of_eigenvalues():
    W_h = normal(5, 5)
    W_h *= 0.9 / torch.linalg.eigvals(W_h).abs().max()
    (found,) = gradients.measure_stability(
        network_of(W_h), torch.zeros(1, 4000, 1), transient=1000
    ).layers
    expected = np.sort(np.log(torch.linalg.eigvals(W_h).abs().numpy()))[::-1]
    np.testing.assert_allclose(found.spectrum, expected, atol=2e-3)
    assert found.spectrum[0] == pytest.approx(math.log(found.spectral_radius[0]), abs=2e-3)


@pytest.mark.parametrize("rho", [1e-30, 0.5, 1.0, 2.0, 1e30])
def test_all_exponents_of_an_orthogonal_network_are_ln_rho(rho):
    rotation = torch.linalg.qr(normal(6, 6))[0]
    (found,) = gradients.measure_stability(
        network_of(rho * rotation, "identity"), torch.zeros(2, 50, 1)
    ).layers
    np.testing.assert_allclose(found.exponents, math.log(rho), atol=1e-9)
    assert found.spectral_radius == pytest.approx(rho)
    assert found.gain_bound == pytest.approx(rho)
    assert found.regime == ("vanishes" if rho < 1 else "explodes" if rho > 1 else "stable")


def test_matrices_are_multiplied_in_the_order_of_time():
    cycle = torch.tensor(
        [[[1.0, 1], [0, 1]], [[1, 0], [1, 1]], [[2, 0], [0, 0.5]]], dtype=torch.float64
    )
    forward = np.log(np.abs(torch.linalg.eigvals(cycle[2] @ cycle[1] @ cycle[0]).numpy())).max() / 3
    backward = (
        np.log(np.abs(torch.linalg.eigvals(cycle[0] @ cycle[1] @ cycle[2]).numpy())).max() / 3
    )
    transposed = (
        np.log(np.abs(torch.linalg.eigvals(cycle[2].T @ cycle[1].T @ cycle[0].T).numpy())).max() / 3
    )
    found = lyapunov(product_of(cycle.repeat(1000, 1, 1)), 2, 300).exponents[0]
    assert found == pytest.approx([forward, -forward], abs=1e-9)
    assert abs(forward - transposed) > 0.1
    assert abs(backward - transposed) < 1e-9


@pytest.mark.parametrize("size", [2, 5])
def test_products_of_gaussian_matrices_have_newmans_exponents(size):
    matrices = normal(20_000, size, size) / math.sqrt(size)
    spectrum = lyapunov(product_of(matrices), size, 100)
    i = np.arange(1, size + 1)
    expected = (math.log(2 / size) + digamma((size - i + 1) / 2)) / 2
    assert np.all(np.abs(spectrum.exponents[0] - expected) < 5 * spectrum.error)
    assert np.all(spectrum.error < 0.03)


def test_the_estimated_error_is_the_typical_error():
    """Over many sequences, the typical error of the exponent is the estimated error."""
    expected = (math.log(2 / 2) + digamma(1)) / 2
    spectra = [
        lyapunov(product_of(normal(600, 2, 2, seed=seed) / math.sqrt(2)), 1, 20)
        for seed in range(40)
    ]
    misses = np.array(
        [(spectrum.exponents[0, 0] - expected) / spectrum.error[0] for spectrum in spectra]
    )
    assert 0.5 < np.sqrt(np.mean(misses**2)) < 1.6


# Mean-field theory describes infinite networks. Just beyond the edge of chaos, 400 units are too
# few: at g = 1.5 the exponents of eight networks range from 0.003 to 0.066 (mean 0.043 ± 0.009).
# The exponents of four networks with 800 units range from 0.061 to 0.069.
@pytest.mark.parametrize(("g", "units", "networks"), [(1.5, 800, 4), (2.0, 400, 3), (3.0, 400, 3)])
def test_random_tanh_networks_have_the_exponent_of_mean_field_theory(g, units, networks):
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(121)
    node_weights = node_weights / node_weights.sum()
    q = 1.0
    for _ in range(2000):
        q = g**2 * float(node_weights @ np.tanh(math.sqrt(q) * nodes) ** 2)
    expected = 0.5 * math.log(g**2 * float(node_weights @ np.cosh(math.sqrt(q) * nodes) ** -4.0))
    if g in (1.5, 2.0):
        assert expected == pytest.approx({1.5: 0.06522, 2.0: 0.15472}[g], abs=1e-5)
    found = []
    for seed in range(networks):
        network = network_of(g / math.sqrt(units) * normal(units, units, seed=seed))
        with torch.no_grad():
            network.layers[0].W_x.copy_(normal(units, 1, seed=seed + 100))
        x = torch.zeros(1, 700, 1, dtype=torch.float64)
        x[:, 0] = 1
        found.append(
            gradients.measure_stability(network, x, num_exponents=1, transient=200).layers[0]
        )
    assert np.mean([layer.spectrum[0] for layer in found]) == pytest.approx(expected, rel=0.06)
    assert all(layer.regime == "explodes" and layer.spectral_radius > 1 for layer in found)


def test_the_exponent_of_an_lstm_without_recurrent_weights_is_that_of_its_forget_gate():
    layer = built("lstm")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias_ih_l0[4:8] = 1
    sounding = gradients.measure_stability(layer, normal(2, 40, 3))
    (found,) = sounding.layers
    np.testing.assert_allclose(found.spectrum[:4], math.log(1 / (1 + math.exp(-1))), rtol=1e-12)
    assert (found.spectrum[4:] == -np.inf).all()
    assert not np.isnan(found.error).any()
    assert found.passing == pytest.approx(0.731059, abs=1e-6)
    assert "the gradient vanishes, shrinking 1.37-fold per step back" in str(sounding)
    assert "every 2.2 timesteps" in found.advice["gating"], "the half-life is ln 2 / 0.313"
    assert any(sounding.figure().select_traces())


def test_the_exponent_of_a_gru_without_recurrent_weights_is_that_of_its_update_gate():
    layer = built("gru")
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
        layer.weight_ih_l0.zero_()
        layer.bias_ih_l0[4:8], layer.bias_hh_l0[4:8] = 2, -1
    (found,) = gradients.measure_stability(layer, normal(1, 40, 3)).layers
    np.testing.assert_allclose(found.spectrum, math.log(1 / (1 + math.exp(-1))), rtol=1e-12)


def test_a_recurrence_that_dies_has_the_exponent_minus_infinity():
    sounding = gradients.measure_stability(network_of(torch.zeros(3, 3)), torch.zeros(1, 20, 1))
    assert (sounding.layers[0].spectrum == -np.inf).all()
    assert sounding.layers[0].regime == "vanishes"
    assert "one step loses it in 1 of 1 samples" in str(sounding)
    assert any(sounding.figure().select_traces())


def test_a_relu_network_of_spectral_radius_zero_is_reported_as_exploding():
    network, x = recurrent.RNN.zero_radius_that_explodes(time=30)
    with gradients.trace(network) as tape:
        loss = network(x)[0][:, -1, 0].sum()
    flow = tape.gradient_flow(loss)
    np.testing.assert_allclose(np.diff(flow.layers[0].log_total[0, :-1]), -math.log(2), rtol=1e-12)
    sounding = gradients.measure_stability(network, x, flow)
    (found,) = sounding.layers
    assert found.spectral_radius[0] == 0
    assert found.spectrum == pytest.approx([math.log(2), -np.inf])
    assert found.gain_bound == pytest.approx([4.0])
    assert found.regime == "explodes"
    assert "2-fold per step back" in str(sounding)
    assert any("the gradient need not vanish" in note for note in sounding.notes)
    assert list(found.advice) == ["initialisation", "truncation", "clipping"]
    assert "10^9.0-fold over 30 timesteps" in found.advice["clipping"]
    advice = "a smaller W_h, since a step makes the gradient 2 times as large; measure again"
    assert advice in found.advice["initialisation"]
    _, rates = sounding.drawing()["data"]
    marked = zip(rates["y"], rates["marker"]["symbol"], strict=True)
    at_edge = [row for row, symbol in marked if symbol == "triangle-left-open"]
    assert at_edge == ["spectral radius", "Lyapunov exponents"], (
        "minus infinity is marked, not dropped"
    )


def test_the_suggested_initialisation_keeps_a_linear_gradient_constant():
    W_h = normal(4, 4)
    x = torch.zeros(1, 3000, 1)
    (found,) = gradients.measure_stability(network_of(W_h, "identity"), x).layers
    (cured,) = gradients.measure_stability(
        network_of(W_h * math.exp(-found.spectrum[0]), "identity"), x
    ).layers
    assert abs(cured.spectrum[0]) < 1e-9


def test_the_advice_names_saturated_units_instead_of_small_weights():
    network = network_of(4 * torch.eye(3))
    with torch.no_grad():
        network.layers[0].b.fill_(1)
    sounding = gradients.measure_stability(network, torch.zeros(1, 60, 1))
    (found,) = sounding.layers
    assert found.regime == "vanishes"
    assert found.spectral_radius[0] == pytest.approx(4)
    assert any("the gradient need not explode" in note for note in sounding.notes)
    assert "units are saturated" in found.advice["initialisation"]


def test_no_exponent_exceeds_the_bound():
    for seed in range(5):
        layer, x = built("tanh", seed), normal(2, 30, 3, seed=seed)
        (found,) = gradients.measure_stability(layer, x, transient=0).layers
        assert (found.exponents[:, 0] <= math.log(found.gain_bound[0])).all()


def test_a_stable_network_needs_no_cure_and_a_short_one_is_undecided():
    (found,) = gradients.measure_stability(
        network_of(torch.eye(3), "identity"), torch.zeros(1, 50, 1)
    ).layers
    assert (found.regime, found.advice) == ("stable", {})
    sounding = gradients.measure_stability(built("tanh"), normal(1, 1, 3))
    assert sounding.layers[0].regime == "undecided"
    assert "try a longer sequence" in str(sounding)


@given(rate=st.floats(-2, 2), error=st.floats(0, 1), time=st.integers(1, 500))
def test_the_regime_follows_from_the_exponent_and_its_error(rate, error, time):
    (found,) = gradients.measure_stability(
        network_of(torch.eye(1), "identity"), torch.zeros(1, 5, 1)
    ).layers
    found = dataclasses.replace(
        found, exponents=np.array([[rate]]), error=np.array([error]), time=time
    )
    total = rate * time
    if found.regime == "vanishes":
        assert total < -math.log(10)
    elif found.regime == "explodes":
        assert total > math.log(10)
    elif found.regime == "stable":
        assert abs(total) <= math.log(10) * (1 + 1e-9)
    else:
        assert error > 0


@pytest.mark.parametrize("cell", ["tanh", "lstm", "gru"])
def test_the_slope_of_the_flow_tends_to_the_largest_exponent(cell):
    layer, x = built(cell), normal(3, 400, 3)
    with gradients.trace(layer) as tape:
        loss = layer(x)[0][:, -1].sum()
    (found,) = gradients.measure_stability(layer, x, tape.gradient_flow(loss), transient=0).layers
    assert found.measured_slope == pytest.approx(found.exponents[:, 0], rel=0.03)
    assert found.is_last_only


def test_every_layer_and_direction_has_its_own_result():
    layer, x = built("lstm", num_layers=2, bidirectional=True), normal(2, 20, 3)
    with gradients.trace(layer) as tape:
        loss = layer(x)[0].sum()
    sounding = gradients.measure_stability(layer, x, tape.gradient_flow(loss))
    assert [one.title for one in sounding.layers] == [
        "LSTM[0]",
        "LSTM[0] reverse",
        "LSTM[1]",
        "LSTM[1] reverse",
    ]
    assert sounding.layers[0].eigenvalues.shape == (4, 4)
    assert any("for a loss that enters at many timesteps" in note for note in sounding.notes)
    assert len(sounding.table()) == 4 * (4 + 4 + 8 + 1)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_a_projected_lstm_has_square_recurrences():
    layer = built("lstm", proj_size=2)
    (found,) = gradients.measure_stability(layer, normal(2, 20, 3)).layers
    assert found.state_size == 6
    W_hf = layer.weight_hh_l0.detach()[4:8]
    expected = torch.linalg.eigvals(layer.weight_hr_l0.detach() @ W_hf).abs().max()
    assert found.spectral_radius[1] == pytest.approx(float(expected))


def test_packed_samples_have_the_exponents_of_single_samples():
    layer, x = built("gru"), normal(3, 12, 3)
    lengths = [12, 5, 9]
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    (found,) = gradients.measure_stability(layer, packed, transient=0).layers
    for b, length in enumerate(lengths):
        (alone,) = gradients.measure_stability(layer, x[b : b + 1, :length], transient=0).layers
        assert found.exponents[b].sum() == pytest.approx(alone.exponents[0].sum(), rel=1e-9)


def test_a_sample_that_ends_before_the_transient_does_not_count():
    layer, x = built("gru"), normal(2, 12, 3)
    packed = pack_padded_sequence(x, torch.tensor([12, 2]), batch_first=True)
    (found,) = gradients.measure_stability(layer, packed, transient=4).layers
    (alone,) = gradients.measure_stability(layer, x[:1], transient=4).layers
    assert np.isnan(found.exponents[1]).all()
    np.testing.assert_allclose(found.spectrum.sum(), alone.spectrum.sum(), rtol=1e-9)
    assert np.isfinite(found.error).all()


def test_initial_states_are_used():
    with torch.random.fork_rng():
        layer: Any = nn.RNN(1, 2, nonlinearity="relu", batch_first=True).double()
    network, _ = recurrent.RNN.zero_radius_that_explodes(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_hh_l0.copy_(network.layers[0].W_h)
        layer.bias_hh_l0.copy_(network.layers[0].b)
    x, h_0 = torch.zeros(1, 20, 1).double(), torch.tensor([[[1.0, 0.0]]]).double()
    assert gradients.measure_stability(layer, x, hx=h_0).layers[0].spectrum[0] == pytest.approx(
        math.log(2)
    )
    assert gradients.measure_stability(layer, x).layers[0].spectrum[0] == -np.inf


def test_measuring_stability_does_not_change_the_layer():
    layer = built("lstm", num_layers=2, dropout=0.5)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    gradients.measure_stability(layer, normal(2, 10, 3))
    assert layer.training
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert all(parameter.grad is None for parameter in layer.parameters())
    assert not layer._forward_hooks


def test_the_stability_is_the_same_after_saving_and_loading(tmp_path):
    sounding = gradients.measure_stability(built("lstm"), normal(2, 20, 3))
    sounding.save(tmp_path)
    back = gradients.Stability.load(tmp_path)
    assert str(back) == str(sounding)
    assert back.table().equals(sounding.table())


def test_layers_and_settings_that_cannot_be_measured_are_refused():
    layer, x = built("tanh"), normal(2, 10, 3)
    with pytest.raises(InputError, match="pass the recurrent module inside the model"):
        gradients.measure_stability(nn.Sequential(layer), x)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="holds the layer's 3 inputs"):
        gradients.measure_stability(layer, x[..., :2])
    with pytest.raises(InputError, match="0 sequences"):
        gradients.measure_stability(layer, x[:0])
    with pytest.raises(InputError, match="num_exponents = 5, state of 4"):
        gradients.measure_stability(layer, x, num_exponents=5)
    with pytest.raises(InputError, match="transient = 10 of 10"):
        gradients.measure_stability(layer, x, transient=10)
    with pytest.raises(InputError, match="starts at zero"):
        gradients.measure_stability(recurrent.RNN(3, 4, seed=0), x, hx=torch.zeros(1, 2, 4))

    other = built("tanh", 1)
    with gradients.trace(nn.ModuleDict({"one": layer, "two": other})) as tape:
        loss = (layer(x)[0] + other(x)[0]).sum()
    flow = tape.gradient_flow(loss)
    with pytest.raises(InputError, match="several recurrent modules"):
        gradients.measure_stability(layer, x, flow)
    assert (
        gradients.measure_stability(layer, x, flow, name="one").layers[0].measured_slope is not None
    )
    with pytest.raises(InputError, match="the flow of another model"):
        gradients.measure_stability(layer, x, flow, name="three")


# Samples that die, and the order of exponents -----------------------------------------------------


def relu_with_dead_steps(samples: int, dead: int) -> tuple[recurrent.RNN, torch.Tensor]:
    """W_h = 1.05 I with positive inputs; in some samples one input switches all units off."""
    network = recurrent.RNN(1, 3, nonlinearity="relu", seed=0).double()
    (layer,) = network.layers
    with torch.no_grad():
        layer.W_h.copy_(1.05 * torch.eye(3, dtype=torch.float64))
        layer.W_x.fill_(1.0)
        layer.b.zero_()
    x = torch.ones(samples, 40, 1, dtype=torch.float64)
    x[:dead, 20] = -1e6
    return network, x


@pytest.mark.parametrize(("samples", "dead"), [(64, 1), (64, 31), (5, 2)])
def test_a_few_dead_samples_do_not_decide_the_verdict(samples, dead):
    network, x = relu_with_dead_steps(samples, dead)
    sounding = gradients.measure_stability(network, x)
    (found,) = sounding.layers
    assert found.num_dead == dead
    assert found.num_kept.tolist() == [samples - dead] * 3
    np.testing.assert_allclose(found.spectrum, [math.log(1.05)] * 3, rtol=1e-9)
    assert found.error[0] < 1e-9
    # The layer is stable, since 1.05^40 is below 10.
    assert found.regime == "stable"
    stable = f"the gradient is stable in {samples - dead} of {samples} samples"
    assert f"{stable} and is lost in {dead}" in str(sounding)
    assert "inf" not in str(sounding)
    table = sounding.table().query("quantity == 'Lyapunov exponents'")
    assert table.samples.tolist() == [samples - dead] * 3


@pytest.mark.parametrize(("samples", "dead"), [(5, 3), (4, 4)])
def test_many_dead_samples_decide_the_verdict(samples, dead):
    network, x = relu_with_dead_steps(samples, dead)
    sounding = gradients.measure_stability(network, x)
    (found,) = sounding.layers
    assert np.isneginf(found.spectrum).all()
    assert found.regime == "vanishes"
    others = f"in {dead} of {samples} samples one step loses the gradient; the others have"
    notes = " ".join(sounding.notes)
    assert (f"{others} exponent +0.049" in notes) == (dead < samples)
    assert "-inf" not in str(sounding)


def test_a_dead_sample_does_not_change_the_exponents_of_the_others():
    network, x = relu_with_dead_steps(6, 1)
    with torch.no_grad():
        network.layers[0].W_h[0, 1] = 0.3
    x[1:, ::3] = (
        torch.rand(5, 14, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 2.5
    )
    everyone, others = (gradients.measure_stability(network, part).layers[0] for part in (x, x[1:]))
    np.testing.assert_allclose(everyone.spectrum, others.spectrum, atol=1e-6)


@pytest.mark.parametrize("kind", ["tanh", "relu", "lstm"])
def test_exponents_are_sorted(kind):
    for seed in range(4):
        network = (
            recurrent.LSTM(2, 12, seed=seed)
            if kind == "lstm"
            else recurrent.RNN(2, 24, nonlinearity=kind, seed=seed)
        )
        x = torch.randn(3, 15, 2, generator=torch.Generator().manual_seed(seed))
        for batch in (x, x[:1]):
            (found,) = gradients.measure_stability(network, batch, transient=0).layers
            spectrum = np.where(np.isneginf(found.spectrum), -1e300, found.spectrum)
            assert (np.diff(spectrum) <= 0).all()
        np.testing.assert_array_equal(found.exponents[0], found.spectrum)


def test_sorting_does_not_change_the_sum_of_the_exponents():
    """The sum over a full spectrum is the mean of ln |det J_t| in any order."""
    network = recurrent.RNN(2, 6, seed=1).double()
    x = torch.randn(2, 25, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (found,) = gradients.measure_stability(network, x, transient=0).layers
    h = network(x)[0]
    W_h = network.layers[0].W_h
    log_det = torch.linalg.slogdet(W_h)[1] + (1 - h.square()).log().sum(-1).mean(1)
    np.testing.assert_allclose(found.exponents.sum(axis=1), log_det.detach(), rtol=1e-9)


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_the_advice_for_a_nonlinear_layer_names_no_factor(kind):
    """The slopes of a nonlinear layer change with its weights.

    Therefore the factor that cures a linear layer does not cure a nonlinear one.
    """
    network = recurrent.RNN(1, 16, nonlinearity=kind, seed=0).double()
    x = torch.randn(4, 60, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for factor in (1.0, 6.0):
        with torch.no_grad():
            network.layers[0].W_h.mul_(factor)
        (layer,) = gradients.measure_stability(network, x).layers
        advice = layer.advice["initialisation"]
        assert not advice.startswith("W_h")
        assert "measure again" in advice or "saturated" in advice


def test_the_axis_of_rates_does_not_magnify_rounding():
    network = recurrent.RNN(1, 16, nonlinearity="identity", seed=0).double()
    with torch.no_grad():
        torch.nn.init.orthogonal_(network.layers[0].W_h, generator=torch.Generator().manual_seed(0))
    x = torch.randn(8, 50, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low, high = gradients.measure_stability(network, x, seed=0).figure().layout.xaxis2.range
    assert high - low == pytest.approx(2 * math.log(10) / 50)
    assert low < 0 < high
