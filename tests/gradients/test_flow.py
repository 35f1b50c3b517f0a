import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence

from leadline import InputError, gradients, recurrent
from leadline.gradients.soundings._flow_verdict import describe_flow
from leadline.gradients.tracing import _sweep as sweep
from leadline.gradients.tracing._sweep import Rows, adjoint_sweep
from leadline.recurrent._arithmetic import IN_NUMPY, IN_TORCH
from leadline.recurrent._rnn import Nonlinearity
from leadline.sounding import Protocol


def model_of(nonlinearity: Nonlinearity = "tanh", layers=1, seed=0, hidden=5, inputs=2, outputs=3):
    network = recurrent.RNN(inputs, hidden, layers, nonlinearity, seed=seed)
    return recurrent.Regression(network, outputs, seed=seed + 1).double()


def data_of(batch=3, time=7, inputs=2, outputs=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(batch, time, n, generator=generator, dtype=torch.float64)
        for n in (inputs, outputs)
    )


def unrolled(model, x):
    """Run the same network with a separate tensor for every hidden state; this is the oracle."""
    sigma = {"tanh": torch.tanh, "relu": torch.relu, "identity": lambda a: a}
    below, states, inputs = x.unbind(1), [], []
    for layer in model.network.layers:
        below = [
            step.clone().requires_grad_() if not step.requires_grad else step.clone()
            for step in below
        ]
        inputs.append(below)
        h, above = x.new_zeros(len(x), model.network.hidden_size), []
        for step in below:
            h = sigma[layer.cell.name](h @ layer.W_h.T + step @ layer.W_x.T + layer.b)
            above.append(h)
        states.append(above)
        below = above
    return torch.stack(below, 1) @ model.W_f.T + model.b_f, states, inputs


REDUCTIONS = {
    "mean": recurrent.mse,
    "sum": lambda predictions, y: (predictions - y).square().sum(),
    "last_only": partial(recurrent.mse, last_only=True),
    "per_step": partial(recurrent.mse, per_step=True),
    "per_sample": lambda predictions, y: (predictions - y).square().mean(2),
}
"""Reductions to a scalar, or to terms of shape (T,) or (B, T)."""


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu", "identity"])
def test_flow_equals_automatic_differentiation(nonlinearity, layers, reduction):
    model, (x, y) = model_of(nonlinearity, layers), data_of()
    with gradients.trace(model) as tape:
        loss = REDUCTIONS[reduction](model(x)[0], y)
    flow = tape.gradient_flow(loss)

    predictions, states, inputs = unrolled(model, x)
    oracle = REDUCTIONS[reduction](predictions, y)
    np.testing.assert_allclose(loss.detach(), oracle.detach(), rtol=1e-12)

    def arriving(of, by):
        return torch.stack(
            torch.autograd.grad(of, by, retain_graph=True, materialize_grads=True), 1
        ).numpy()

    for layer, h, below in zip(flow.layers, states, inputs, strict=True):
        total, to_input = (np.linalg.norm(arriving(oracle.sum(), by), axis=-1) for by in (h, below))
        np.testing.assert_allclose(layer.total, total, rtol=1e-9, atol=1e-300)
        np.testing.assert_allclose(np.exp(layer.log_input), to_input, rtol=1e-9, atol=1e-300)
        np.testing.assert_allclose(
            layer.hidden_norm, torch.stack(h, 1).detach().norm(dim=-1), rtol=1e-12
        )
    if loss.dim():
        terms = oracle if oracle.dim() == 1 else oracle.sum(0)
        for layer, h in zip(tape.influence(loss).layers, states, strict=True):
            rows = [np.linalg.norm(arriving(term, h), axis=(0, 2)) for term in terms]
            np.testing.assert_allclose(layer.norms, rows, rtol=1e-9, atol=1e-300)


def test_the_flow_of_a_linear_network_equals_the_closed_form():
    """Compare with the closed form.

    dL_k/dh_t = (W_h^T)^(k-t) dL_k/dh_k, with dL_k/dh_k = 2/numel W_f^T (y_k - target_k). The flow
    is the sum over k.
    """
    model, (x, y) = model_of("identity"), data_of()
    with gradients.trace(model) as tape:
        predictions = model(x)[0]
        terms = recurrent.mse(predictions, y, per_step=True)
        at_end = recurrent.mse(predictions, y, last_only=True)
    with torch.no_grad():
        W_h, at_k = model.network.layers[0].W_h, 2 / y.numel() * (predictions - y) @ model.W_f
        by_distance = torch.stack([torch.linalg.matrix_power(W_h, n) for n in range(7)])
        distance = torch.arange(7)[:, None] - torch.arange(7)
        # The axes are sample, term k and timestep t; no term reaches a later timestep.
        rows = torch.einsum("bki,ktij->bktj", at_k, by_distance[distance.clamp(min=0)])
        rows = torch.where((distance >= 0)[None, :, :, None], rows, 0)
    (layer,) = tape.gradient_flow(terms).layers
    np.testing.assert_allclose(layer.total, rows.sum(1).norm(dim=-1), rtol=1e-12)
    (layer,) = tape.gradient_flow(at_end).layers
    np.testing.assert_allclose(layer.total, 7 * rows[:, -1].norm(dim=-1), rtol=1e-12)
    (layer,) = tape.influence(terms, per_sample=True).layers
    np.testing.assert_allclose(layer.norms, rows.norm(dim=(0, 3)), rtol=1e-12)
    assert layer.log_norms_per_sample is not None
    np.testing.assert_allclose(np.exp(layer.log_norms_per_sample), rows.norm(dim=-1), rtol=1e-6)


def test_direct_and_recurrent_parts_add_up():
    model, (x, y) = model_of(), data_of()
    with gradients.trace(model) as tape:
        predictions, states = model(x)
        loss = recurrent.mse(predictions, y)
    (layer,) = tape.gradient_flow(loss).layers
    error = 2 * (predictions - y) / y.numel()
    np.testing.assert_allclose(layer.direct, (error @ model.W_f).detach().norm(dim=-1), rtol=1e-12)
    assert (layer.recurrent[:, -1] == 0).all(), "nothing comes from beyond the last step"
    assert (layer.total <= layer.direct + layer.recurrent + 1e-15).all()
    assert states.shape == (3, 7, 5)


def test_an_orthogonal_network_scales_the_gradient_by_rho_at_every_step():
    model, (x, y) = model_of("identity", hidden=6), data_of(time=40)
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    with torch.no_grad():
        model.network.layers[0].W_h.copy_(torch.from_numpy(0.7 * rotation))
    with gradients.trace(model) as tape:
        loss = recurrent.mse(model(x)[0], y, last_only=True)
    (layer,) = tape.gradient_flow(loss).layers
    expected = np.log(0.7) * np.arange(39, -1, -1)
    np.testing.assert_allclose(
        layer.log_total - layer.log_total[:, -1:], np.tile(expected, (3, 1)), atol=1e-9
    )
    np.testing.assert_allclose(layer.slope(), np.log(0.7), rtol=1e-9)


def test_a_gradient_below_the_range_of_floats_has_a_finite_logarithm():
    model = recurrent.Regression(recurrent.RNN(1, 4, nonlinearity="identity", seed=0), seed=0)
    with torch.no_grad():
        model.network.layers[0].W_h.copy_(0.1 * torch.eye(4))
    x, y = recurrent.running_average(1, 2000, seed=0)
    with gradients.trace(model) as tape:
        loss = recurrent.mse(model(x)[0], y, last_only=True)
    flow = tape.gradient_flow(loss)
    (layer,) = flow.layers
    assert layer.log_total[0, 0] - layer.log_total[0, -1] == pytest.approx(
        1999 * np.log(0.1), rel=1e-6
    )
    assert layer.total[0, 0] == 0
    assert "shrinks 10-fold per step back" in str(flow)


def traces(flow) -> list[Any]:
    return list(flow.figure().select_traces())


def contracting(rate, time, dtype=torch.float32):
    """Return the flow of a linear network whose gradient changes ``rate``-fold per step back."""
    model = recurrent.Regression(recurrent.RNN(1, 4, nonlinearity="identity", seed=0), seed=0).to(
        dtype
    )
    with torch.no_grad():
        model.network.layers[0].W_h.copy_(rate * torch.eye(4))
    x, _ = recurrent.running_average(2, time, seed=0)
    with gradients.trace(model) as tape:
        loss = (torch.tensor([[1.0], [3.0]]) * model(x.to(dtype))[0][:, -1]).sum()
    return tape.gradient_flow(loss)


def test_a_gradient_has_a_finite_logarithm_after_five_thousand_contracting_steps():
    flow = contracting(0.1, 5000)
    (layer,) = flow.layers
    assert layer.log_total[:, 0] - layer.log_total[:, -1] == pytest.approx(
        4999 * np.log(0.1), rel=1e-6
    )
    assert np.isfinite(layer.log_total).all()
    assert layer.slope() == pytest.approx(np.log(0.1), rel=1e-6)
    t = int(layer.float32_underflow[0])
    assert layer.log_total[0, t - 1] < np.log(np.finfo(np.float32).tiny) <= layer.log_total[0, t]
    assert f"network[0]: float32 underflows at timestep {t}" in flow.notes
    names = [trace.name for trace in traces(flow)]
    assert any(f"float32 underflows at t = {t}" in name for name in names)
    assert (layer.float32_overflow == 0).all()


def test_the_underflow_marker_is_where_float32_loses_the_gradient():
    """A plain loop in float32 has normal numbers up to the marker, and then none, soon zeros."""
    flow = contracting(0.1, 100)
    (layer,) = flow.layers
    for b, t in enumerate(layer.float32_underflow):
        row = np.float32(layer.total[b, -1])
        read = [row]
        for _ in range(99):
            row = np.float32(0.1) * row
            read.append(row)
        lost = np.array(read[::-1]) < np.finfo(np.float32).tiny
        assert lost[: t - 1].all()
        assert not lost[t + 1 :].any(), "rounding may move the edge by one"
        assert read[-1] == 0


def test_a_gradient_above_the_range_of_float32_is_marked():
    flow = contracting(10.0, 60, torch.float64)
    (layer,) = flow.layers
    t = int(layer.float32_overflow[0])
    assert layer.log_total[0, t - 1] > np.log(np.finfo(np.float32).max) >= layer.log_total[0, t]
    assert any("float32 overflows" in note for note in flow.notes)
    assert (layer.float32_underflow == 0).all()


def test_a_reverse_layer_underflows_at_the_mirrored_timestep():
    flow = contracting(0.1, 100)
    (layer,) = flow.layers
    mirrored = dataclasses.replace(layer, direction="reverse", log_total=layer.log_total[:, ::-1])
    assert (mirrored.float32_underflow == 101 - layer.float32_underflow).all()


def test_an_exact_zero_does_not_count_as_underflow():
    model, (x, _) = model_of(layers=2), data_of()
    with gradients.trace(model) as tape:
        loss = model(x)[1][:, 2].sum()
    for layer in tape.gradient_flow(loss).layers:
        assert (layer.log_total[:, 3:] == -np.inf).all()
        assert (layer.float32_underflow == 0).all()


def test_layers_of_different_lengths_share_a_figure():
    model = torch.nn.ModuleList([recurrent.RNN(1, 3, seed=0), recurrent.GRU(3, 3, seed=1)])
    x, _ = recurrent.running_average(2, 9, seed=0)
    with gradients.trace(model) as tape:
        h = model[0](x)[0]
        loss = model[1](h[:, -4:])[0].sum()
    flow = tape.gradient_flow(loss)
    lines = [trace for trace in traces(flow) if trace.mode == "lines"]
    assert [len(line.x) for line in lines[:-1]] == [9, 9, 9, 4, 4, 4]
    keys = [trace.name for trace in traces(flow) if trace.hoverinfo == "skip"]
    assert keys == ["direct part", "exactly zero"], "the legend explains dashes and marks once"
    edges = {
        trace.y[0]
        for trace in traces(flow)
        if trace.marker.symbol == "triangle-down-open" and trace.y[0]
    }
    assert len(edges) == 1, "what is zero stands on the edge of the figure"
    assert len({line.line.color for line in lines[:-1]}) == 2


def test_a_relu_network_of_spectral_radius_zero_doubles_its_gradient():
    """W_h = [[2, 2], [-2, -2]] is nilpotent.

    With this bias the second unit stays off, so the first unit reads only itself.
    """
    model = recurrent.Regression(recurrent.RNN(1, 2, nonlinearity="relu", seed=0), seed=0).double()
    layer = model.network.layers[0]
    with torch.no_grad():
        layer.W_h.copy_(torch.tensor([[2.0, 2.0], [-2.0, -2.0]]))
        layer.b.copy_(torch.tensor([-1.0, 0.0]))
        layer.W_x.copy_(torch.tensor([[1.0], [0.0]]))
    x = torch.zeros(1, 30, 1, dtype=torch.float64)
    # This input gives h_1 = (1, 0), which is a fixed point.
    x[0, 0] = 2.0
    with gradients.trace(model) as tape:
        _, states = model(x)
        loss = states[:, -1, 0].sum()
    flow = tape.gradient_flow(loss)
    assert (states[0] == torch.tensor([1.0, 0.0], dtype=torch.float64)).all()
    assert np.abs(np.linalg.eigvals(layer.W_h.detach().numpy())).max() < 1e-7
    assert np.diff(flow.layers[0].log_total[0, :-1]) == pytest.approx(-np.log(2))


def test_tracing_does_not_change_the_model():
    model, (x, y) = model_of(layers=2), data_of()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with gradients.trace(model) as tape:
        loss = recurrent.mse(model(x)[0], y)
    tape.gradient_flow(loss)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all((parameter.grad == 1).all() for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    loss.backward()


def test_a_layer_that_the_loss_does_not_reach_has_zero_gradient():
    model, (x, _) = model_of(layers=2), data_of()
    with gradients.trace(model) as tape:
        _, last = model.network(x)
    flow = tape.gradient_flow(last[0].sum())
    assert (flow.layers[1].total == 0).all()
    assert (flow.layers[1].log_total == -np.inf).all()
    assert (flow.layers[0].total > 0).all()
    assert any(flow.figure().select_traces())


@given(st.floats(-500, 500), st.floats(-500, 500), st.integers(0, 5))
def test_rows_add_as_vectors_do_at_any_scale(a, b, seed):
    u, v = torch.randn(
        2, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    ).unbind(0)
    total = Rows.of(u, a) + Rows.of(v, b)
    top = max(a, b)
    expected = u * np.exp(a - top) + v * np.exp(b - top)
    assert total.log.item() == pytest.approx(
        np.log(expected.norm().item()) + top, rel=1e-9, abs=1e-9
    )
    torch.testing.assert_close(total.unit, expected / expected.norm())


def test_saving_and_loading_keeps_the_flow(tmp_path):
    model, (x, y) = model_of(), data_of()
    with gradients.trace(model) as tape:
        loss = recurrent.mse(model(x)[0], y)
    flow = tape.gradient_flow(loss)
    flow.save(tmp_path)
    back = gradients.GradientFlow.load(tmp_path)
    assert str(back) == str(flow)
    assert (back.layers[0].total == flow.layers[0].total).all()
    assert back.table().equals(flow.table())
    assert len(back.table()) == 3 * 7


def test_models_and_losses_that_cannot_be_traced_are_refused():
    with pytest.raises(InputError, match="made of Identity"), gradients.trace(torch.nn.Identity()):
        pass
    model, (x, y) = model_of(), data_of()
    with gradients.trace(model) as empty:
        pass
    with pytest.raises(InputError, match="ran inside the block"):
        empty.gradient_flow(torch.zeros(()))
    with gradients.trace(model) as tape:
        model(x)
    with pytest.raises(InputError, match="depends on no recorded state"):
        tape.gradient_flow(recurrent.mse(model(x)[0], y))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"input_size": 0, "hidden_size": 3}, "input_size = 0"),
        ({"input_size": 2, "hidden_size": 3, "num_layers": 0}, "num_layers = 0"),
        ({"input_size": 2, "hidden_size": 3, "nonlinearity": "gelu"}, "nonlinearity = 'gelu'"),
    ],
)
def test_impossible_layers_are_refused(arguments, text):
    with pytest.raises(InputError, match=text):
        recurrent.RNN(**arguments, seed=0)


def test_mse_refuses_to_broadcast():
    with pytest.raises(InputError, match="one shape"):
        recurrent.mse(torch.zeros(2, 3, 1), torch.zeros(2, 3, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 0.5, 1.0, 30.0, 1e12])
def test_a_sweep_in_blocks_equals_a_sweep_step_by_step(dtype, scale, monkeypatch):
    """The direct parts and Jacobians cover the whole range of scales; some are zero."""
    generator = torch.Generator().manual_seed(0)
    jacobian = scale * torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[
        0
    ].to(dtype)
    values = torch.randn(60, 2, 3, generator=generator, dtype=torch.float64).to(dtype)
    log = 400 * torch.randn(60, 2, generator=generator, dtype=torch.float64)
    log[torch.rand(60, 2, generator=generator) < 0.6] = -torch.inf
    values[log.isneginf()] = 0
    direct = Rows.of(values, torch.where(log.isneginf(), 0, log))

    def adjoint(on, like):
        def pull_back(t, rows, out):
            out[...] = rows @ on.array(jacobian) * (0 if t == 20 else 1)

        return pull_back

    together = adjoint_sweep(direct, adjoint)
    monkeypatch.setattr(sweep, "_sweep_block", lambda *_: None)
    alone = adjoint_sweep(direct, adjoint)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(together.total.log, alone.total.log, rtol=1e-6, atol=tolerance)
    torch.testing.assert_close(
        together.recurrent.log, alone.recurrent.log, rtol=1e-6, atol=tolerance
    )
    torch.testing.assert_close(together.total.unit, alone.total.unit, rtol=0, atol=tolerance)
    assert alone.recurrent.log[19].isneginf().all()


@pytest.mark.parametrize(
    "make", [recurrent.RNN, recurrent.LSTM, recurrent.GRU, partial(torch.nn.LSTM, proj_size=2)]
)
def test_the_arithmetic_of_other_devices_gives_the_same_flow(make, monkeypatch):
    """A GPU uses the arithmetic of PyTorch; here it runs on the CPU and is compared with NumPy."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make(2, 4, 2).double()
    (x, _), flows = data_of(time=30), []
    with gradients.trace(network) as tape:
        loss = network(x)[0].square().mean()
    for arithmetic in (IN_NUMPY, IN_TORCH):
        monkeypatch.setattr(
            sweep, "arithmetic_for", lambda values, arithmetic=arithmetic: arithmetic
        )
        flows.append(tape.gradient_flow(loss))
    for one, other in zip(*(flow.layers for flow in flows), strict=True):
        for name in ("log_total", "log_direct", "log_recurrent", "log_input", "log_initial"):
            np.testing.assert_allclose(
                getattr(one, name), getattr(other, name), rtol=1e-9, err_msg=name
            )


def test_an_infinite_gradient_stays_infinite_at_earlier_timesteps():
    """The loss is infinite at the sixth timestep alone.

    Gradients up to this timestep are infinite, and later gradients do not change.
    """
    model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0)
    x, _ = recurrent.running_average(2, 12, seed=0)
    with gradients.trace(model) as tape:
        predictions, _ = model(x)
    plain, flow = (
        tape.gradient_flow(p)
        for p in (predictions.sum(), predictions.sum() + predictions[:, 5].sum() * 1e38 * 1e5)
    )
    assert (flow.layers[0].log_total[:, :6] == np.inf).all()
    np.testing.assert_allclose(
        flow.layers[0].log_total[:, 6:], plain.layers[0].log_total[:, 6:], rtol=1e-5
    )
    assert "infinite at 6 of 12 timesteps" in str(flow)
    assert flow.figure().to_dict()["data"]
    last = tape.gradient_flow(predictions[:, -1].sum() * 1e38 * 1e5).layers[0]
    assert (last.log_total == np.inf).all()


def test_an_infinite_term_gives_an_infinite_row_of_the_influence():
    model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0)
    x, _ = recurrent.running_average(2, 12, seed=0)
    with gradients.trace(model) as tape:
        terms = model(x)[0].mean((0, 2))
    layer = tape.influence(torch.where(torch.arange(12) == 8, terms * 1e38 * 1e5, terms)).layers[0]
    assert (layer.log_norms[8, :9] == np.inf).all()
    assert layer.log_norms[8, 9:].max() == -np.inf
    assert np.isfinite(layer.log_norms[11]).all()
    assert layer.lost_beyond(9) == 0
    assert layer.lost_beyond(1) == pytest.approx(8 / 9)
    assert layer.window_for() == 9


def test_the_verdict_reports_a_loss_that_reaches_one_timestep_only():
    model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0)
    x, _ = recurrent.running_average(2, 12, seed=0)
    with gradients.trace(model) as tape:
        _, h = model(x)
    assert "reaches 1 of 12 timesteps" in str(tape.gradient_flow(h[:, 0].sum()))


def test_padding_is_not_a_zero_and_a_gradient_from_both_ends_dips():
    """A bidirectional classifier reads packed sequences of different lengths.

    Only the last states of both directions enter the loss.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.LSTM(2, 4, 2, bidirectional=True, batch_first=True)
    x = torch.randn(3, 40, 2, generator=torch.Generator().manual_seed(0))
    packed = pack_padded_sequence(x, torch.tensor([40, 20, 12]), batch_first=True)
    with gradients.trace(model) as tape:
        loss = model(packed)[1][0][-2:].sum()
    layers = tape.gradient_flow(loss).layers
    below, below_reverse, forward, reverse = map(describe_flow, layers)
    assert "the gradient dips to 10^" in below
    assert "the gradient dips to 10^" in below_reverse
    assert "shrinks" in forward
    assert "(each sample's end)" in forward
    assert "shrinks" in reverse
    assert "(timestep 1)" in reverse


def test_a_flow_of_many_terms_advises_to_use_the_influence():
    model, (x, y) = model_of(hidden=4, seed=2), data_of(time=60)
    with gradients.trace(model) as tape:
        terms = recurrent.mse(model(x)[0], y, per_step=True)
    advice = "tape.influence() shows how far each term reaches"
    assert any(advice in note for note in tape.gradient_flow(terms).notes)
    assert not any(advice in note for note in tape.gradient_flow(terms[-1]).notes)


def test_timesteps_without_gradient_are_counted_from_the_far_end():
    layer = contracting(0.5, 9).layers[0]
    log = np.tile(np.arange(9.0), (2, 1))
    log[0, :3], log[1, :5] = -np.inf, -np.inf
    # The second sample has only seven timesteps.
    log[1, 7:] = np.nan
    for direction, values, first in (("forward", log, "first"), ("reverse", log[:, ::-1], "last")):
        flow = gradients.GradientFlow(
            Protocol(), (dataclasses.replace(layer, direction=direction, log_total=values),)
        )
        assert f"dies: the {first} 4 of 8 timesteps get none" in str(flow)


def test_the_effective_horizon_counts_norms_above_one_percent():
    """If the norm halves at each step, the seventh norm, 1/64, is the last above 1 %.

    Infinite and missing norms do not count.
    """
    model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0)
    x, y = recurrent.running_average(3, 12, seed=0)
    with gradients.trace(model) as tape:
        (layer,) = tape.gradient_flow(recurrent.mse(model(x)[0], y)).layers
    halved = np.log(0.5) * np.arange(11, -1, -1)
    log = np.stack(
        [
            halved,
            np.full(12, -np.inf),
            np.where(np.arange(12) > 9, [np.nan] * 11 + [np.inf], halved),
        ]
    )
    assert dataclasses.replace(layer, log_total=log).horizon.tolist() == [7, 0, 7]
