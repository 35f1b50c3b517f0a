import math

import numpy as np
import pytest
import torch

from leadline import recurrent
from leadline.worksheet import STATEMENTS, Setting
from leadline.worksheet.measurements.recurrent import explosions
from leadline.worksheet.measurements.recurrent.explosions import Explosions


def test_shares_count_changes_by_a_factor_of_1000():
    """Of four networks one explodes, one vanishes completely, and one shrinks too little."""
    growth = np.full((2, 3, 8, 4), [7.0, -np.inf, -6.0, 0.0])
    found = Explosions(
        explosions.Protocol(),
        np.array(explosions.SMALL + explosions.LARGE),
        growth,
        np.ones_like(growth),
    )
    assert (found.exploding == 25).all()
    assert (found.vanishing == 25).all()
    assert "tanh 25 % explode, 25 % vanish" in str(found)
    assert len(found.table()) == 2 * 3 * 8
    assert len(found.figure().to_dict()["data"]) == 6


def test_growth_of_a_linear_network_equals_that_of_the_matrix_power():
    radius, seed = 1.4, 3
    growth, _ = explosions._growth("identity", radius, seed, 0)
    drawn = int(np.random.SeedSequence((seed, 0)).generate_state(1)[0])
    network = recurrent.RNN(1, explosions.HIDDEN, nonlinearity="identity", seed=drawn)
    model = recurrent.Regression(network, seed=drawn).double()
    W_h, W_f = next(p for n, p in network.named_parameters() if n.endswith("W_h")), model.W_f
    with torch.no_grad():
        W_h = W_h.double() * radius / torch.linalg.eigvals(W_h.double()).abs().max()
        far = W_f @ torch.linalg.matrix_power(W_h, explosions.STEPS - 1)
        assert growth == pytest.approx(float(far.norm().log() - W_f.norm().log()), rel=1e-6)


def test_nonlinearities_share_their_draws():
    """tanh is the identity near zero, so equal draws must show equal growth."""
    linear, tanh = (explosions._growth(kind, 1e-3, 0, 0)[0] for kind in ("identity", "tanh"))
    assert linear == pytest.approx(tanh, rel=1e-3)


def test_a_tanh_network_near_zero_explodes():
    growth, radius, state = explosions.exception(1.5)
    assert radius == pytest.approx(1.5)
    assert growth == pytest.approx(49 * math.log(1.5), rel=1e-3)
    assert state < 0.01


def test_the_gradient_of_the_preset_doubles():
    assert explosions._doubling(10) == pytest.approx(2**10)


def test_rnn_b_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(Setting, "seeds", property(lambda self: (0, 1)))
    monkeypatch.setattr(Setting, "pick", lambda self, quick, full: 2)
    answer = explosions.nonlinearities(Setting("quick"))
    assert answer.statement is STATEMENTS["rnn.b"]
    assert answer.facts["tanh_exception"].holds
    assert answer.facts["tanh_states_bounded"].holds
    assert answer.effects["relu_minus_tanh_exploding"].interval.estimate > 0
    assert answer.figure().to_dict()["data"]
    answer.save(tmp_path)
    assert str(type(answer).load(tmp_path)) == str(answer)
