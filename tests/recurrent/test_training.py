import numpy as np
import pytest
import torch

from leadline import InputError, recurrent
from leadline.recurrent import GRU, LSTM, RNN, Regression


def models_of(make, seeds, layers=1):
    return [Regression(make(1, 6, layers, seed=seed), seed=seed) for seed in seeds]


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("make", [RNN, LSTM, GRU])
def test_the_running_average_is_learned(make, last_only):
    training = recurrent.train(models_of(make, [0, 1]), seeds=[0, 1], time=4, steps=150, last_only=last_only)
    assert (training.error_share < 0.25).all()
    assert (training.error_share < training.validation_error[:, 0] / training.zero_error).all()
    assert training.steps[-1] == 150


def test_a_model_does_not_depend_on_its_company():
    together, alone = models_of(RNN, [0, 1]), models_of(RNN, [1])
    two = recurrent.train(together, seeds=[5, 6], time=3, steps=20)
    one = recurrent.train(alone, seeds=[6], time=3, steps=20)
    np.testing.assert_allclose(two.validation_error[1], one.validation_error[0], rtol=1e-5)
    for ours, theirs in zip(together[1].parameters(), alone[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_models_end_with_their_best_weights_and_training_stops_early():
    model = models_of(RNN, [0])
    training = recurrent.train(model, seeds=[0], time=3, steps=2000, lr=1e-9, evaluate_every=1, patience=2)
    assert training.steps[-1] < 2000
    x, y = recurrent.running_average(3000, 3, seed=9)
    error = recurrent.mse(model[0](x)[0], y).item()
    assert error == pytest.approx(training.validation_error.min(), rel=0.2)
    assert training.zero_error[0] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3, rel=0.1)


def test_progress_is_told_and_training_is_saved(tmp_path):
    lines = []
    training = recurrent.train(
        models_of(RNN, [0]), seeds=[0], time=3, steps=10, evaluate_every=5, progress=lines.append
    )
    assert [line.split(":")[0] for line in lines] == ["step 0", "step 5", "step 10"]
    training.save(tmp_path)
    assert recurrent.Training.load(tmp_path).table().equals(training.table())
    assert training.figure().to_dict()["data"]


@pytest.mark.parametrize(
    ("changed", "text"),
    [({"steps": 0}, "steps = 0"), ({"seeds": [0, 1]}, "1 models, 2 seeds"), ({"time": 0}, "time = 0")],
)
def test_what_cannot_be_trained_is_refused(changed, text):
    with pytest.raises(InputError, match=text):
        recurrent.train(models_of(RNN, [0]), **{"seeds": [0], "time": 3, **changed})
