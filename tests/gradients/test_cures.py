"""Every cure has the expected effect on the flow and changes nothing else."""

import copy
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from leadline import InputError, gradients, recurrent
from leadline.gradients.soundings._cure_comparison import CureEffect
from leadline.randomness import torch_generator
from leadline.sounding import Protocol

CELLS: dict[str, Any] = {
    "tanh": lambda: nn.RNN(2, 4, 2, batch_first=True),
    "relu": lambda: nn.RNN(2, 4, nonlinearity="relu", batch_first=True),
    "lstm": lambda: nn.LSTM(2, 4, batch_first=True),
    "gru": lambda: nn.GRU(2, 4, bidirectional=True, batch_first=True),
    "own tanh": lambda: recurrent.RNN(2, 4, seed=0),
    "own lstm": lambda: recurrent.LSTM(2, 4, seed=0),
    "own gru": lambda: recurrent.GRU(2, 4, 2, seed=0),
}


def built(cell) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CELLS[cell]().double()


def inputs(time=30):
    return torch.randn(
        3, time, 2, generator=torch_generator(0, "tests.remedies"), dtype=torch.float64
    )


def last(model):
    return model(inputs())[0][:, -1].sum()


def remedy(found, name):
    return next(remedy for remedy in found.after if remedy.name == name)


def slope_of(flow, layer=0):
    return float(np.median(flow.layers[layer].slope()))


@pytest.mark.parametrize("cell", CELLS)
def test_each_cure_is_measured_and_the_model_does_not_change(cell):
    model = built(cell)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = gradients.compare_cures(model, last, window=7)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model._forward_hooks
    assert [one.name for one in found.after] == [
        "initialisation",
        "gating",
        "truncation",
        "clipping",
    ]
    with gradients.trace(model) as tape:
        loss = last(model)
    for layer, expected in zip(found.before.layers, tape.gradient_flow(loss).layers, strict=True):
        assert (layer.log_total == expected.log_total).all()
    for one in found.after:
        assert [layer.index for layer in one.flow.layers] == [
            layer.index for layer in found.before.layers
        ]
    assert len(found.table()) == 5 * len(found.before.layers)
    assert any(found.figure().select_traces())
    assert "steadi" in str(found)


def test_identity_weights_keep_the_gradient_of_a_relu_layer_constant():
    model = built("relu")
    with torch.no_grad():
        model.weight_hh_l0.mul_(0.1)
        model.bias_ih_l0.fill_(2)
        model.bias_hh_l0.fill_(2)
    found = gradients.compare_cures(model, last)
    assert slope_of(found.before) < -1
    np.testing.assert_allclose(
        np.diff(remedy(found, "initialisation").flow.layers[0].log_total), 0, atol=1e-12
    )
    assert "RNN[0]: initialisation steadies the gradient most" in str(found)


def test_orthogonal_weights_keep_the_gradient_of_a_linear_layer_constant():
    network = recurrent.RNN(2, 6, nonlinearity="identity", seed=0).double()
    found = gradients.compare_cures(network, last)
    np.testing.assert_allclose(
        np.diff(remedy(found, "initialisation").flow.layers[0].log_total), 0, atol=1e-12
    )


def test_a_forget_bias_of_one_keeps_the_sigmoid_of_one_of_the_cell_gradient():
    model = built("lstm")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    found = gradients.compare_cures(model, lambda model: model(inputs())[1][1].sum())
    for flow, kept in ((found.before, 0.5), (remedy(found, "gating").flow, 1 / (1 + math.exp(-1)))):
        cells = flow.layers[0].log_cell_total
        assert cells is not None
        np.testing.assert_allclose(np.diff(cells, axis=1), -math.log(kept), rtol=1e-9)


def test_an_update_bias_of_one_keeps_the_sigmoid_of_one_of_the_state_gradient():
    network = recurrent.GRU(2, 4, seed=0).double()
    with torch.no_grad():
        network.layers[0].W_h.zero_()
        network.layers[0].W_x.zero_()
    flow = remedy(gradients.compare_cures(network, last), "gating").flow
    assert slope_of(flow) == pytest.approx(-math.log(1 + math.exp(-1)), rel=1e-9)


def test_a_layer_without_gates_is_replaced_by_a_gru_of_the_same_name():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.below = built("tanh")

        def forward(self, x):
            return self.below(x)[0].square()

    model = Model()
    found = gradients.compare_cures(model, lambda model: model(inputs())[:, -1].sum())
    assert isinstance(model.below, nn.RNN)
    assert [layer.title for layer in remedy(found, "gating").flow.layers] == [
        "below[0]",
        "below[1]",
    ]
    assert slope_of(remedy(found, "gating").flow) > slope_of(found.before)


@pytest.mark.parametrize("cell", ["tanh", "lstm", "own gru"])
@pytest.mark.parametrize("window", [1, 4, 7])
def test_truncation_equals_detaching_the_state_between_segments(cell, window):
    """Compare with calls of the module on one segment after another.

    The states are detached between the segments.
    """
    model, x = built(cell), inputs(20)
    found = remedy(
        gradients.compare_cures(model, lambda model: model(x)[0].square().sum(), window=window),
        "truncation",
    )
    expected = []
    if cell == "own gru":
        states: list[Any] = [None] * len(model.layers)
        for start in range(0, 20, window):
            below = x[:, start : start + window]
            outputs = []
            for i, layer in enumerate(model.layers):
                state = (
                    layer.start(below)
                    if states[i] is None
                    else tuple(s.detach() for s in states[i])
                )
                outputs = []
                for driven in (below @ layer.W_x.T + layer.b).unbind(1):
                    state = layer.step(driven, state)
                    outputs.append(state[0])
                states[i], below = state, torch.stack(outputs, 1)
            hidden = torch.stack(outputs, 1)
            expected += _norms(hidden.square().sum(), outputs)
    else:
        hx: Any = None
        for start in range(0, 20, window):
            outputs = []
            for t in range(start, min(start + window, 20)):
                _, hx = model(x[:, t : t + 1], hx if t > start else _detached(hx))
                outputs.append(hx[0] if isinstance(hx, tuple) else hx)
            loss = sum(state[-1].square().sum() for state in outputs)
            expected += _norms(loss, outputs, -1)
    np.testing.assert_allclose(
        np.exp(found.flow.layers[-1].log_total), np.stack(expected, 1), rtol=1e-9, atol=1e-300
    )


def _detached(hx):
    return (
        tuple(map(_detached, hx)) if isinstance(hx, tuple) else None if hx is None else hx.detach()
    )


def _norms(loss, states, layer=None):
    gradients = torch.autograd.grad(loss, states)
    return [(g if layer is None else g[layer]).norm(dim=-1).numpy() for g in gradients]


def test_truncation_cuts_each_direction_into_its_own_segments():
    flow = remedy(
        gradients.compare_cures(built("gru"), lambda model: model(inputs(20))[1].sum(), window=6),
        "truncation",
    ).flow
    ahead, reverse = flow.layers
    assert np.isfinite(ahead.log_total[0]).nonzero()[0].tolist() == [18, 19]
    assert np.isfinite(reverse.log_total[0]).nonzero()[0].tolist() == [0, 1]
    assert (ahead.log_initial == -np.inf).all()


def test_truncation_is_left_out_if_the_window_is_longer_than_the_sequence():
    found = gradients.compare_cures(built("tanh"), last, window=30)
    assert found.left_out == {"truncation": "no call of a layer is longer than 30 timesteps"}


def test_clipping_scales_every_timestep_by_the_same_factor():
    model = built("tanh")
    found = gradients.compare_cures(model, lambda model: 1e6 * last(model), max_norm=0.5)
    clipped = remedy(found, "clipping")
    copied = copy.deepcopy(model)
    (1e6 * last(copied)).backward()
    norm = float(nn.utils.clip_grad_norm_(copied.parameters(), 0.5))
    for layer, own in zip(found.before.layers, clipped.flow.layers, strict=True):
        np.testing.assert_allclose(own.log_total - layer.log_total, math.log(0.5 / norm), rtol=1e-5)
        assert (own.hidden_norm == layer.hidden_norm).all()
    assert f"norm falls from {norm:.3g} to 0.5" in clipped.treatment
    small = remedy(gradients.compare_cures(model, lambda model: 1e-9 * last(model)), "clipping")
    assert "no change" in small.treatment


def test_a_gradient_of_infinite_norm_cannot_be_clipped():
    model = built("relu").float()
    with torch.no_grad():
        model.weight_hh_l0.copy_(1e4 * torch.eye(4))
        model.bias_ih_l0.fill_(1)
    x = inputs(10).float()
    found = gradients.compare_cures(model, lambda model: 1e3 * model(x)[0][:, -1].sum())
    assert np.isfinite(found.before.layers[0].log_total).all()
    assert "clipping destroys the whole step" in remedy(found, "clipping").treatment
    assert any(found.figure().select_traces())


def test_gating_is_left_out_if_no_gate_has_a_bias():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.GRU(2, 4, bias=False, batch_first=True).double()
    found = gradients.compare_cures(model, last)
    assert found.left_out == {"gating": "no gate has a bias"}
    assert [one.name for one in found.after] == ["initialisation", "truncation", "clipping"]


def test_stored_activations_are_copied_without_their_graph():
    class Keeping(nn.Module):
        def __init__(self):
            super().__init__()
            self.below: Any = built("lstm")

        def forward(self, x):
            self.states = self.below(x)[0]
            return self.states

    model = Keeping()
    states = model(inputs())
    found = gradients.compare_cures(model, lambda model: model(inputs())[:, -1].sum())
    assert model.states is states
    assert len(found.after) == 4
    model.__dict__["history"] = [states + 1]
    with pytest.raises(InputError, match="freshly built"):
        gradients.compare_cures(model, lambda model: model(inputs())[:, -1].sum())


def test_cures_apply_to_loops_of_cells():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                self.cell: Any = nn.RNNCell(2, 4).double()

        def forward(self, x):
            h = x.new_zeros(len(x), 4)
            for x_t in x.unbind(1):
                h = self.cell(x_t, h)
            return h

    model = Loop()
    found = gradients.compare_cures(model, lambda model: model(inputs()).sum())
    assert isinstance(model.cell, nn.RNNCell)
    assert "detached" in found.left_out["truncation"]
    assert slope_of(remedy(found, "gating").flow) > slope_of(found.before)
    assert slope_of(remedy(found, "initialisation").flow) > slope_of(found.before)


def test_a_seed_fixes_the_result_and_all_runs_draw_the_same_dropout_masks():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.LSTM(2, 4, 2, dropout=0.5, batch_first=True).double()
    one, two = (gradients.compare_cures(model, last, seed=3) for _ in range(2))
    assert one.table().equals(two.table())
    assert (
        remedy(one, "clipping").flow.layers[0].hidden_norm == one.before.layers[0].hidden_norm
    ).all()
    assert (
        remedy(one, "truncation").flow.layers[0].hidden_norm == one.before.layers[0].hidden_norm
    ).all()
    other = gradients.compare_cures(model, last, seed=4)
    assert not one.table().equals(other.table())


def test_a_comparison_is_the_same_after_saving_and_loading(tmp_path):
    found = gradients.compare_cures(built("lstm"), last)
    found.save(tmp_path)
    back = gradients.CureComparison.load(tmp_path)
    assert str(back) == str(found)
    pd.testing.assert_frame_equal(back.table(), found.table())


def test_unsuitable_settings_models_and_losses_are_refused():
    model = built("tanh")
    with pytest.raises(InputError, match="window = 0"):
        gradients.compare_cures(model, last, window=0)
    with pytest.raises(InputError, match=r"max_norm = 0"):
        gradients.compare_cures(model, last, max_norm=0)
    with pytest.raises(InputError, match="made of Identity"):
        gradients.compare_cures(nn.Identity(), lambda model: model(inputs()).sum())
    with pytest.raises(InputError):
        gradients.compare_cures(model, lambda _: last(model))


def test_initialisation_is_left_out_for_a_loop_with_unknown_weights():
    class Leaky(nn.Module):
        def __init__(self):
            super().__init__()
            self.rate = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

        def forward(self, x):
            h = torch.zeros_like(x[:, 0])
            for x_t in x.unbind(1):
                h = gradients.record(self.rate * h + x_t)
            return h

    found = gradients.compare_cures(Leaky(), lambda model: model(inputs()).sum())
    assert [one.name for one in found.after] == ["clipping"]
    assert found.left_out["initialisation"] == "no layer has a known W_h"
    with pytest.raises(InputError, match="contains none of these layers"):
        gradients.measure_stability(Leaky(), inputs())  # pyright: ignore[reportArgumentType]


# Ties ---------------------------------------------------------------------------------------------


def remedies_with(spreads: dict[str, float]) -> gradients.CureComparison:
    """Return a comparison of flows with the given spreads, in nats."""

    def flow(spread: float) -> gradients.GradientFlow:
        log = np.linspace(-spread, 0, 10)[None]
        none, initial = np.zeros_like(log), np.zeros(1)
        layer = gradients.LayerFlow("net", 0, "forward", 0, log, none, none, none, initial, none)
        return gradients.GradientFlow(Protocol(), (layer,))

    others = {name: value for name, value in spreads.items() if name != "as it is"}
    after = tuple(CureEffect(name, "treated", flow(value)) for name, value in others.items())
    return gradients.CureComparison(Protocol(), flow(spreads["as it is"]), after, {})


@pytest.mark.parametrize(
    ("spreads", "sentence"),
    [
        (
            {"as it is": 5.0, "clipping": 5.0 - 1e-9, "gating": 6.0},
            "no cure makes the gradient steadier; its norms spread",
        ),
        (
            {"as it is": 5.0, "initialisation": 1.0, "gating": 1.0 + 1e-6},
            "initialisation and gating steady the gradient equally, from a spread of 10^2.17 to "
            "10^0.43",
        ),
        (
            {"as it is": 5.0, "initialisation": 1.0, "gating": 1.5, "clipping": 5.0},
            "initialisation steadies the gradient most, from a spread of 10^2.17 to 10^0.43",
        ),
        ({"as it is": 0.0, "clipping": 0.0}, "no cure makes the gradient steadier"),
    ],
)
def test_no_cure_is_called_best_if_cures_tie(spreads, sentence):
    verdict = str(remedies_with(spreads))
    assert sentence in verdict
    assert ("steadies" in verdict) == ("steadies" in sentence)


def test_a_loss_without_the_last_output_has_a_finite_spread():
    model = built("tanh")
    found = gradients.compare_cures(
        model, lambda model: model(inputs(20))[0][:, :-1].square().sum()
    )
    assert np.isfinite(found.table().log10_smallest).all()
