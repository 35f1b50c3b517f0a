import numpy as np
import pytest
import torch

from leadline import recurrent
from leadline.worksheet import Setting
from leadline.worksheet.measurements.recurrent import learning as measurements


def summing(time: int) -> recurrent.Regression:
    """Return a linear network that returns the sum of its inputs divided by the sequence length.

    Its prediction is exact at the last timestep.
    """
    model = recurrent.Regression(recurrent.RNN(1, 1, nonlinearity="identity", seed=0), seed=0)
    (layer,) = model.network.layers
    with torch.no_grad():
        for parameter, value in (
            (layer.W_x, 1.0),
            (layer.W_h, 1.0),
            (layer.b, 0.0),
            (model.b_f, 0.0),
        ):
            parameter.fill_(value)
        model.W_f.fill_(1 / time)
    return model


def test_the_share_is_relative_to_the_zero_predictor():
    T = measurements.TIME
    assert measurements.error_share(summing(T), 0, last_only=True) < 1e-10
    # At t it predicts (x_1 + … + x_t)/T instead of (x_1 + … + x_t)/t. Its error is
    # t (1/t - 1/T)², and the error of predicting zero is 1/t.
    t = np.arange(1, T + 1)
    expected = (t * (1 / t - 1 / T) ** 2).sum() / (1 / t).sum()
    assert measurements.error_share(summing(T), 0, last_only=False) == pytest.approx(
        expected, rel=0.05
    )
    nothing = summing(T)
    with torch.no_grad():
        nothing.W_f.zero_()
    assert measurements.error_share(nothing, 0, last_only=True) == 1


def test_the_worst_architecture_decides_for_each_seed():
    share = np.array([[[0.01, 0.03], [0.02, 0.001]], [[0.004, 0.005], [0.003, 0.006]]])
    learned = measurements.LearnedAverage(measurements.Protocol(), ("a", "b"), share)
    np.testing.assert_array_equal(learned.worst, [[0.02, 0.03], [0.004, 0.006]])
    assert "all timesteps: median 1.5 %, at worst 3 %" in str(learned)
    assert len(learned.table()) == 8
    row = learned.table().query("task == 'the last timestep' and architecture == 'b' and seed == 1")
    assert row["share"].tolist() == [0.006]
    assert len(learned.figure().to_dict()["data"]) == 3


def test_rnn_e_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(Setting, "seeds", property(lambda self: (0, 1)))
    steps = {recurrent.RNN: 100, recurrent.LSTM: 60}
    monkeypatch.setattr(measurements, "STEPS", {"quick": steps})
    monkeypatch.setattr(measurements, "HIDDEN", 8)
    answer = measurements.running_average_is_learned(Setting("quick"))
    assert set(answer.effects) == {"error_share_all_steps", "error_share_last_step"}
    learned = answer.soundings["learned"]
    assert isinstance(learned, measurements.LearnedAverage)
    assert learned.share.shape == (2, 4, 2)
    assert (learned.share < 0.9).all()
    assert answer.effects["error_share_last_step"].interval.estimate == pytest.approx(
        learned.worst[1].mean()
    )
    answer.save(tmp_path)
    assert str(type(answer).load(tmp_path)) == str(answer)
