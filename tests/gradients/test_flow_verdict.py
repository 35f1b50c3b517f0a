"""The verdict on a flow agrees with the numbers of the flow."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from leadline import gradients, recurrent
from leadline.gradients import GradientFlow, LayerFlow
from leadline.sounding import Protocol

LN10 = math.log(10)


def flow_of(log_total: np.ndarray, direction: str = "forward", **more) -> GradientFlow:
    unknown, initial = np.full_like(log_total, -np.inf), np.zeros(len(log_total))
    layer = LayerFlow(
        "net",
        0,
        direction,
        0,
        log_total,
        unknown,
        unknown,
        unknown,
        initial,
        np.ones_like(log_total),
        **more,
    )
    return GradientFlow(Protocol(), (layer,))


def line(slope: float, time: int, samples: int = 3) -> np.ndarray:
    """Return norms that grow by ``slope`` nats per step back and are 1 at the last timestep."""
    return np.tile(slope * np.arange(time - 1, -1.0, -1), (samples, 1))


def module_of(make) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# The change over the whole length decides ---------------------------------------------------------


@pytest.mark.parametrize("time", [2, 10, 50, 500, 5000])
@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_gradient_keeps_its_size_if_its_total_change_is_less_than_tenfold(time, factor, sign):
    slope = sign * factor * LN10 / (time - 1)
    sentence = str(flow_of(line(slope, time)))
    assert ("keeps its size" in sentence) == (factor < 1)
    assert ("grows" in sentence) == (factor > 1 and sign > 0)
    assert ("shrinks" in sentence) == (factor > 1 and sign < 0)
    assert f"to 10^{round(sign * factor, 1):.1f} (timestep 1)" in sentence


def test_a_slow_change_over_five_thousand_steps_is_reported():
    time, radius = 5000, 0.991
    network = recurrent.RNN(1, 2, nonlinearity="identity", seed=0).double()
    with torch.no_grad():
        network.layers[0].W_h.copy_(radius * torch.eye(2))
    x = draw(1, time, 1)
    with gradients.trace(network) as tape:
        loss = network(x)[0][:, -1].sum()
    flow = tape.gradient_flow(loss)
    end = (time - 1) * math.log10(radius) + 0.5 * math.log10(2)
    assert "shrinks 1.01-fold per step back" in str(flow)
    assert f"to 10^{end:.1f} (timestep 1)" in str(flow)
    (found,) = gradients.measure_stability(network, x, flow).layers
    assert found.regime == "vanishes"


# Losses that do not read the last states ----------------------------------------------------------


@pytest.mark.parametrize("unread", [1, 2, 7])
def test_sizes_are_measured_from_the_last_state_that_receives_gradient(unread):
    log = line(-0.5, 20)
    log[:, -unread:] = -np.inf
    flow = flow_of(log)
    start = -0.5 * unread / LN10
    assert f"from 10^{start:.1f} (timestep {20 - unread})" in str(flow)
    assert "shrinks 1.65-fold" in str(flow)
    assert "10^-inf" not in str(flow)
    assert "though" not in str(flow)
    assert f"net[0]: the loss does not reach the last {unread} timesteps" in flow.notes
    flow = flow_of(log[:, ::-1].copy(), "reverse")
    assert f"from 10^{start:.1f} (timestep {1 + unread})" in str(flow)
    assert f"net[0] reverse: the loss does not reach the first {unread} timesteps" in flow.notes


@pytest.mark.parametrize("kind", ["logits", "c_n", "masked tail", "packed"])
def test_the_verdict_starts_at_the_last_state_that_the_loss_reaches(kind):
    model, x = module_of(lambda: nn.LSTM(3, 4)), draw(12, 3, 3)
    lengths = torch.tensor([12, 9, 4])
    mask = (torch.arange(12).unsqueeze(1) < lengths).double().unsqueeze(-1)
    with gradients.trace(model) as tape:
        output, (_, c_n) = model(pack_padded_sequence(x, lengths) if kind == "packed" else x)
        loss = {
            "logits": lambda: output[:-1].square().sum(),
            "c_n": lambda: c_n.sum(),
            "masked tail": lambda: (output * mask).square().sum(),
            "packed": lambda: c_n.sum(),
        }[kind]()
    flow = tape.gradient_flow(loss)
    (layer,) = flow.layers
    assert "10^-inf" not in str(flow)
    near = [row[np.isfinite(row)][-1] for row in layer.log_total]
    ends = {int(np.isfinite(row).nonzero()[0][-1]) + 1 for row in layer.log_total}
    place = "each sample's end" if len(ends) > 1 else f"timestep {ends.pop()}"
    assert f"from 10^{np.median(near) / LN10:.1f} ({place})" in str(flow)
    assert any("the loss does not reach the last" in note for note in flow.notes) == (
        kind in ("logits", "c_n", "masked tail", "packed")
    )


def test_a_note_gives_the_gradient_of_the_cell_states():
    model, x = module_of(lambda: nn.LSTM(3, 4)), draw(30, 2, 3)
    with torch.no_grad():
        # This bias opens the forget gate.
        model.bias_ih_l0[4:8] = 8.0
    with gradients.trace(model) as tape:
        flow = tape.gradient_flow(model(x)[0][-1].sum())
    (layer,) = flow.layers
    assert layer.log_cell_total is not None
    far, near = (np.median(layer.log_cell_total[:, t]) / LN10 for t in (0, -1))
    assert f"LSTM[0]: dL/dc goes from 10^{near:.1f} to 10^{far:.1f}" in flow.notes


# Samples that differ from the median one ----------------------------------------------------------


def test_a_note_counts_the_few_samples_whose_gradient_dies():
    log = line(0.1, 30, samples=64)
    log[:3, :10] = -np.inf
    flow = flow_of(log)
    assert "grows 1.11-fold" in str(flow)
    assert "net[0]: the gradient dies on the way in 3 of 64 samples" in flow.notes


def test_a_note_counts_the_few_samples_whose_gradient_is_infinite():
    log = line(0.1, 30, samples=10)
    log[7, :5] = np.inf
    note = "net[0]: the gradient is infinite at some timestep in 1 of 10 samples"
    assert note in flow_of(log).notes


def test_the_verdict_reports_an_empty_batch():
    assert "the batch is empty" in str(flow_of(np.zeros((0, 5))))


@pytest.mark.parametrize(("scale", "factor"), [(0.9995, "1.0005"), (1.001, "1.001")])
def test_a_slow_change_is_not_rounded_to_one_fold(scale, factor):
    network = recurrent.RNN(1, 8, nonlinearity="identity", seed=0).double()
    with torch.no_grad():
        torch.nn.init.orthogonal_(network.layers[0].W_h, generator=torch.Generator().manual_seed(0))
        network.layers[0].W_h.mul_(scale)
    x = torch.randn(1, 5000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with gradients.trace(network) as tape:
        output, _ = network(x)
    assert f"{factor}-fold per step back" in str(tape.gradient_flow(output[:, -1].sum()))
    stability = gradients.measure_stability(network, x, seed=0)
    assert f"{factor}-fold per step back" in str(stability)
    assert not any(" 1 times as large" in note for note in stability.notes)
