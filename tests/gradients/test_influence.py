import numpy as np
import pytest
import torch
from torch import nn

from leadline import InputError, gradients, recurrent
from leadline.gradients.tracing import _influence_sweep as influence_sweep
from leadline.gradients.tracing import _recorded_call as tracing
from leadline.gradients.tracing._arrival import arrive
from leadline.gradients.tracing._replay import Call, replay

CELLS = {
    "tanh": lambda layers: nn.RNN(3, 5, layers, batch_first=True),
    "relu": lambda layers: nn.RNN(3, 5, layers, nonlinearity="relu", batch_first=True),
    "lstm": lambda layers: nn.LSTM(3, 5, layers, batch_first=True),
    "projected": lambda layers: nn.LSTM(3, 5, layers, proj_size=2, batch_first=True),
    "gru": lambda layers: nn.GRU(3, 5, layers, batch_first=True),
}


class Model(nn.Module):
    """A recurrent network with a head that reads each timestep alone (local), or also the mean."""

    def __init__(self, network, is_local: bool, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = network()
            sizes = {"proj_size": 0, **vars(self.network)}
            width = (sizes["proj_size"] or self.network.hidden_size) * (
                2 if self.network.bidirectional else 1
            )
            self.head = nn.Linear(width, 2)
        self.is_local = is_local

    def forward(self, x):
        h = self.network(x)[0]
        return self.head(h if self.is_local else h + h.mean(1, keepdim=True))


def data_of(batch=3, time=9):
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(batch, time, n, generator=generator, dtype=torch.float64) for n in (3, 2))


def terms_of(model, x, y):
    return (model(x) - y).square().mean((0, 2)) / x.shape[1]


def one_by_one(model, x, y):
    """Return the flow of each term alone; this is the oracle."""
    with gradients.trace(model) as tape:
        terms = terms_of(model, x, y)
    flows = [tape.gradient_flow(term) for term in terms]
    return [
        np.stack([flow.layers[i].log_total for flow in flows], 1)
        for i in range(len(flows[0].layers))
    ]


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_rows_are_the_flows_of_single_terms(cell, layers, is_local, monkeypatch):
    model, (x, y) = Model(lambda: CELLS[cell](layers), is_local).double(), data_of()
    swept = []
    sweep = tracing.influence_sweep
    monkeypatch.setattr(tracing, "influence_sweep", lambda *a: swept.append(1) or sweep(*a))
    with gradients.trace(model) as tape:
        terms = terms_of(model, x, y)
    influence = tape.influence(terms, per_sample=True, chunk=4)
    assert bool(swept) == is_local, (
        "the fast path is for heads that are local in time, and for those alone"
    )
    for layer, expected in zip(influence.layers, one_by_one(model, x, y), strict=True):
        assert layer.log_norms.shape == (9, 9)
        assert layer.log_norms_per_sample is not None
        per_sample = np.exp(layer.log_norms_per_sample)
        # The logarithms of single samples are kept in float32.
        np.testing.assert_allclose(per_sample, np.exp(expected), rtol=1e-6, atol=1e-14)
        whole = np.sqrt((np.exp(expected) ** 2).sum(0))
        np.testing.assert_allclose(layer.norms, whole, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_the_terms_sum_to_the_flow(cell, layers):
    """The vectors behind the influence sum to the vectors behind the flow.

    Both results hold only the norms of these vectors.
    """
    model, (x, y) = Model(lambda: CELLS[cell](layers), True).double(), data_of()
    with gradients.trace(model) as tape:
        terms = terms_of(model, x, y)
    flow, influence = tape.gradient_flow(terms), tape.influence(terms)
    (call,) = tape.calls
    assert isinstance(call, Call)
    by_term = [torch.autograd.grad(term, call.outputs[:1], retain_graph=True) for term in terms]
    seeds = [(of_output, *(None for _ in call.outputs[1:])) for (of_output,) in by_term]
    for arrived, total, norms in zip(
        arrive(replay(call), seeds), flow.layers, influence.layers, strict=True
    ):
        rows = arrived.hidden(arrived.total)
        # The axes are timestep, term and sample.
        vectors = rows.unit * rows.log.exp().unsqueeze(-1)
        np.testing.assert_allclose(vectors.sum(1).norm(dim=-1).T, total.total, rtol=1e-9)
        np.testing.assert_allclose(vectors.norm(dim=(2, 3)).T, norms.norms, rtol=1e-9)


@pytest.mark.parametrize("layers", [1, 2])
def test_terms_of_bidirectional_networks_reach_both_directions(layers):
    model = Model(lambda: nn.GRU(3, 4, layers, bidirectional=True, batch_first=True), True).double()
    x, y = data_of()
    with gradients.trace(model) as tape:
        terms = terms_of(model, x, y)
    influence = tape.influence(terms, chunk=4)
    forward, reverse = influence.layers[-2:]
    assert (forward.direction, reverse.direction) == ("forward", "reverse")
    assert (np.triu(forward.norms, 1) == 0).all()
    assert (np.tril(reverse.norms, -1) == 0).all()
    for layer, expected in zip(influence.layers, one_by_one(model, x, y), strict=True):
        np.testing.assert_allclose(
            layer.norms, np.sqrt((np.exp(expected) ** 2).sum(0)), rtol=1e-9, atol=1e-300
        )


def test_long_sequences_have_finite_logarithms_in_single_precision():
    model = recurrent.Regression(recurrent.RNN(1, 3, 2, "identity", seed=0), seed=1)
    with torch.no_grad():
        for layer in model.network.layers:
            layer.W_h.copy_(0.1 * torch.eye(3))
    x, y = recurrent.running_average(2, 400, seed=0)
    with gradients.trace(model) as tape:
        terms = recurrent.mse(model(x)[0], y, per_step=True)
    top = tape.influence(terms).layers[1]
    last = top.log_norms[-1]
    np.testing.assert_allclose(
        last - last[-1], np.log(0.1) * np.arange(399, -1, -1), rtol=1e-5, atol=1e-4
    )
    assert top.window_for(0.99) == 2
    assert top.lost_beyond(2) == pytest.approx(0.01, rel=0.05)
    verdict = str(tape.influence(terms))
    assert "backpropagation through 2 of 400 timesteps keeps 99 % of the gradient" in verdict
    with pytest.raises(InputError, match="window = 0"):
        top.lost_beyond(0)
    for share in (0, 1.1):
        with pytest.raises(InputError, match=f"share = {share}"):
            top.window_for(share)


def test_terms_are_summed_over_the_batch_and_the_influence_can_be_saved(tmp_path):
    model, (x, y) = Model(lambda: CELLS["gru"](1), True).double(), data_of()
    with gradients.trace(model) as tape:
        by_sample = (model(x) - y).square().sum(2)
    influence = tape.influence(by_sample)
    assert np.array_equal(
        influence.layers[0].log_norms, tape.influence(by_sample.sum(0)).layers[0].log_norms
    )
    influence.save(tmp_path)
    assert str(gradients.Influence.load(tmp_path)) == str(influence)
    assert len(influence.table()) == 81
    assert influence.figure().to_dict()["data"]


@pytest.mark.parametrize("shape", [(), (2, 3, 4)])
def test_terms_of_another_shape_are_refused(shape):
    model, (x, _) = Model(lambda: CELLS["gru"](1), True).double(), data_of()
    with gradients.trace(model) as tape:
        out = model(x).sum()
    with pytest.raises(InputError, match=r"loss terms of shape \(K,\) or \(batch, K\)"):
        tape.influence(out * torch.ones(shape, dtype=torch.float64))


@pytest.mark.parametrize("cell", ["tanh", "lstm"])
def test_a_sweep_in_chunks_equals_a_sweep_of_all_terms(cell, monkeypatch):
    """The gradient shrinks fast, so rows are rescaled inside and between blocks of norms."""
    model, (x, y) = Model(lambda: CELLS[cell](2), True).double(), data_of(time=40)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.mul_(0.2 if "weight_hh" in name else 1)
    with gradients.trace(model) as tape:
        terms = terms_of(model, x, y)
    at_once = tape.influence(terms, per_sample=True)
    monkeypatch.setattr(influence_sweep, "CACHE", 1)
    monkeypatch.setattr(influence_sweep, "LEAST_ROWS", 7 * len(x))
    in_chunks = tape.influence(terms, per_sample=True)
    for a, b in zip(at_once.layers, in_chunks.layers, strict=True):
        np.testing.assert_allclose(b.log_norms, a.log_norms, rtol=1e-10)
        assert a.log_norms_per_sample is not None
        assert b.log_norms_per_sample is not None
        np.testing.assert_allclose(b.log_norms_per_sample, a.log_norms_per_sample, rtol=1e-6)
    without = tape.influence(terms)
    for a, b in zip(at_once.layers, without.layers, strict=True):
        np.testing.assert_allclose(b.log_norms, a.log_norms, rtol=1e-10)
