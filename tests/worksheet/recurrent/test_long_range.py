import numpy as np
import pytest
import torch

from leadline.recurrent import RNN, Regression
from leadline.worksheet import Setting
from leadline.worksheet.measurements.recurrent import long_range as measurements
from leadline.worksheet.measurements.recurrent.long_range import EARLY, FAR, TIME

rng = np.random.default_rng(0)


def found(r2_none, r2_local, far_share=0.01, log_ratio=5.0) -> measurements.LongRange:
    """Return results of twelve seeds with one network each, with a little noise."""

    def noisy(value):
        return value + 0.001 * rng.standard_normal(12)

    log_total = np.zeros((2, 12, TIME))
    log_total[1] += noisy(log_ratio)[:, None]
    r2 = {
        arm: noisy(value)[:, None]
        for arm, value in (("none", r2_none), ("local", r2_local), ("past", 0.9))
    }
    share = np.stack([noisy(far_share), noisy(far_share)])
    return measurements.LongRange(
        measurements.Protocol(), log_total, np.zeros((12, TIME)), share, r2
    )


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({}, "supported"),
        ({"r2_local": 0.7}, "refuted"),
        ({"r2_local": 0.3}, "refuted"),
        ({"far_share": 0.2}, "refuted"),
        ({"log_ratio": 2.0}, "refuted"),
    ],
)
def test_the_outcome_follows_from_shares_ratios_and_r2(changed, outcome):
    answer = measurements._answer(found(**{"r2_none": 0.5, "r2_local": 0.5, **changed}), networks=1)
    assert answer.verdict.outcome == outcome


def test_noisy_r2_leaves_the_outcome_undecided():
    long_range = found(0.5, 0.5)
    long_range.r2["none"][::2] = 0.9
    assert measurements._answer(long_range, networks=1).verdict.outcome == "undecided"


def test_the_far_part_equals_brute_force():
    log_norms = np.where(np.tri(TIME) > 0, rng.standard_normal((TIME, TIME)), -np.inf)
    far, share = measurements.far_part(log_norms)
    norms, shares = np.exp(log_norms), []
    for t in range(TIME):
        distant = sum(norms[k, t] for k in range(TIME) if k >= t + FAR)
        assert np.exp(far[t]) == pytest.approx(distant)
        shares.append(distant / norms[:, t].sum())
    assert share == pytest.approx(np.mean(shares[:EARLY]))


@pytest.mark.parametrize("arm", measurements.ARMS)
def test_arms_differ_only_in_the_auxiliary_part(arm):
    x, y = measurements.task(arm)(4, torch.Generator().manual_seed(0))
    same_x, _ = measurements.task("none")(4, torch.Generator().manual_seed(0))
    assert torch.equal(x, same_x)
    assert torch.equal(y[..., 1], x[:, :1, 0].expand(4, TIME))
    assert torch.equal(y[..., 0], y[..., 1] if arm == "past" else x[..., 0])
    weights = measurements.loss_weights(arm)
    assert weights[:, 1].tolist() == [0] * (TIME - 1) + [1]
    assert weights[:, 0].sum() == pytest.approx(0 if arm == "none" else 1)
    assert weights[-1, 0] == 0


def keeping(share: float) -> Regression:
    """Return a linear network of one unit that keeps a share of its state at each step."""
    model = Regression(RNN(1, 1, nonlinearity="identity", seed=0), 2, seed=0)
    (layer,) = model.network.layers
    with torch.no_grad():
        for parameter, value in (
            (layer.W_x, 1.0),
            (layer.W_h, share),
            (layer.b, 0.0),
            (model.b_f, 0.0),
        ):
            parameter.fill_(value)
        model.W_f.copy_(torch.tensor([[1.0], [0.0]]))
    return model


def test_r2_of_a_network_that_predicts_zero_is_zero():
    assert measurements.final_r2(keeping(0.5), 0) == pytest.approx(0, abs=0.005)
    model = keeping(0.5)
    with torch.no_grad():
        # The prediction is unit noise plus the decayed past: its error is 1 + 1 + 1/4 + 1/16 + …
        model.W_f[1] = 1
    assert measurements.final_r2(model, 0) == pytest.approx(-4 / 3, abs=0.15)


def test_gradients_of_a_network_with_geometric_decay():
    totals, far, share = measurements._gradients(keeping(0.5), 0)
    # The final output does not read the state, so its gradient is zero.
    assert (totals[0] == -np.inf).all()
    assert np.isfinite(totals[1]).tolist() == [True] * (TIME - 1) + [False]
    assert np.isfinite(far).tolist() == [True] * (TIME - FAR - 1) + [False] * (FAR + 1)
    # dL_k/dh_t = 2^(t-k) dL_k/dh_k, and all dL_k/dh_k are about equal.
    assert share == pytest.approx(0.5**FAR, rel=0.5)


def test_rnn_c_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(Setting, "seeds", property(lambda self: (0, 1)))
    monkeypatch.setattr(Setting, "pick", lambda self, *, quick, full: (10, 2))
    monkeypatch.setattr(measurements, "HIDDEN", 6)
    answer = measurements.loss_at_every_timestep(Setting("quick"))
    long_range = answer.soundings["long_range"]
    assert isinstance(long_range, measurements.LongRange)
    assert {arm: r2.shape for arm, r2 in long_range.r2.items()} == {
        "none": (2, 2),
        "local": (2, 2),
        "past": (2, 1),
    }
    assert len(long_range.table()) == 10
    assert answer.effects["far_share_of_early_gradient"].interval.estimate == pytest.approx(
        long_range.far_share[0].mean()
    )
    assert len(answer.figure().to_dict()["data"]) == 6
    answer.save(tmp_path)
    assert str(type(answer).load(tmp_path)) == str(answer)
