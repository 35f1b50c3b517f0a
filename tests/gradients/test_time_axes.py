"""Distances |k - t| are reported only if loss terms and states share one time axis."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leadline import InputError, gradients, recurrent
from leadline.sounding import Protocol


def module_of(make) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def far_share(norms: np.ndarray, window: int, offset: int = 0) -> float:
    """Compute the formula term by term."""
    total = far = 0.0
    for k, row in enumerate(norms):
        for t, norm in enumerate(row):
            total += norm
            far += norm if abs(k + offset - t) >= window else 0
    return far / total


@pytest.mark.parametrize("time", [2, 5])
def test_losses_of_whole_sequences_have_no_distance_in_time(time):
    model, x = module_of(lambda: nn.GRU(3, 4)), draw(time, 2, 3)
    with gradients.trace(model) as tape:
        states, last = model(x)
        influence = tape.influence(torch.stack([states.mean(), last.square().sum()]))
    (layer,) = influence.layers
    assert layer.timestep_of_term is None
    with pytest.raises(InputError, match="one loss term for each of several consecutive timesteps"):
        layer.lost_beyond(1)
    with pytest.raises(InputError, match=r"window_for\(\) needs"):
        layer.window_for()
    assert "of its loss" not in str(influence)
    assert (
        f"99 % of the gradient of 2 loss terms lies in {layer.timesteps_for()} of {time} timesteps"
        in str(influence)
    )


class Translator(nn.Module):
    def __init__(self, is_bidirectional: bool = False):
        super().__init__()
        self.encoder = nn.GRU(3, 4, bidirectional=is_bidirectional)
        self.decoder = nn.GRU(3, 4)

    def forward(self, x):
        _, code = self.encoder(x)
        return self.decoder(x, code[-1:])[0]


def test_terms_of_a_decoder_have_a_distance_from_its_own_states_only():
    model, x = module_of(Translator), draw(6, 2, 3)
    with gradients.trace(model) as tape:
        influence = tape.influence(model(x).square().sum((1, 2)))
    encoder, decoder = influence.layers
    assert encoder.timestep_of_term is None
    assert decoder.timestep_of_term is not None
    assert decoder.timestep_of_term.tolist() == [1, 2, 3, 4, 5, 6]
    assert decoder.lost_beyond(2) == pytest.approx(far_share(decoder.norms, 2), rel=1e-12)


@pytest.mark.parametrize(("first", "last"), [(0, 6), (1, 7), (3, 7), (2, 5)])
def test_terms_of_some_timesteps_are_placed_where_they_enter(first, last):
    """Next-step prediction omits the last output, and a warm-up omits the first ones."""
    model, x = module_of(lambda: nn.LSTM(3, 4)), draw(7, 2, 3)
    with gradients.trace(model) as tape:
        influence = tape.influence(model(x)[0][first:last].square().sum((1, 2)))
    (layer,) = influence.layers
    assert layer.timestep_of_term is not None
    assert layer.timestep_of_term.tolist() == list(range(first + 1, last + 1))
    for window in (1, 2, 4):
        assert layer.lost_beyond(window) == pytest.approx(
            far_share(layer.norms, window, first), rel=1e-12
        )
    window = layer.window_for(0.9)
    assert (
        far_share(layer.norms, window, first)
        <= 0.1
        < (far_share(layer.norms, window - 1, first) if window > 1 else 1)
    )


def test_masked_terms_do_not_hide_the_axis():
    model, x = module_of(lambda: nn.GRU(3, 4)), draw(7, 2, 3)
    mask = torch.tensor([1.0, 1, 0, 1, 1, 0, 0], dtype=torch.float64)
    with gradients.trace(model) as tape:
        influence = tape.influence(model(x)[0].square().sum((1, 2)) * mask)
    (layer,) = influence.layers
    assert layer.lost_beyond(2) == pytest.approx(far_share(layer.norms, 2), rel=1e-12)


def test_a_bidirectional_stack_shares_the_time_axis_of_its_top_layer():
    model, x = module_of(lambda: nn.LSTM(3, 4, 2, bidirectional=True)), draw(6, 2, 3)
    with gradients.trace(model) as tape:
        influence = tape.influence(model(x)[0].square().sum((1, 2)))
    for layer in influence.layers:
        assert layer.lost_beyond(3) == pytest.approx(far_share(layer.norms, 3), rel=1e-12)


def test_a_single_term_at_the_last_timestep_keeps_its_place():
    model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0).double()
    x, y = (part.double() for part in recurrent.running_average(3, 9, seed=0))
    with gradients.trace(model) as tape:
        terms = recurrent.mse(model(x)[0], y, last_only=True, per_step=True)
    (layer,) = tape.influence(terms).layers
    assert layer.lost_beyond(4) == pytest.approx(far_share(layer.norms, 4), rel=1e-12)


def test_a_model_that_reads_the_future_has_no_distance_in_time():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(3, 4)

        def forward(self, x):
            states = self.gru(x)[0]
            return states - states.mean(0)

    model, x = module_of(Mixing), draw(6, 2, 3)
    with gradients.trace(model) as tape:
        influence = tape.influence(model(x).square().sum((1, 2)))
    assert influence.layers[0].timestep_of_term is None
    assert "6 loss terms lies in" in str(influence)


def test_the_smallest_window_equals_a_computation_by_hand():
    norms = np.array([[3.0, 0.0, 1.0], [3.0, 2.0, 1.0]])
    with np.errstate(divide="ignore"):
        layer = gradients.LayerInfluence("lstm", 0, "forward", 0, np.log(norms))
    assert [layer.timesteps_for(share) for share in (0.5, 0.6, 0.61, 0.8, 0.81, 1)] == [
        1,
        1,
        2,
        2,
        3,
        3,
    ]


def test_the_verdict_names_terms_that_reach_no_state():
    layer = gradients.LayerInfluence("lstm", 0, "forward", 0, np.full((3, 3), -np.inf))
    influence = gradients.Influence(Protocol(), (layer,))
    assert "no gradient of any loss term arrives" in str(influence)
