"""Training of networks on the running average and on other tasks."""

import copy

import numpy as np
import pytest
import torch

from leadline import InputError, recurrent
from leadline.recurrent import GRU, LSTM, RNN, Regression
from leadline.recurrent._population import Population


def models_of(make, seeds, layers=1):
    return [Regression(make(1, 6, layers, seed=seed), seed=seed) for seed in seeds]


@pytest.mark.parametrize("last_only", [False, True])
@pytest.mark.parametrize("make", [RNN, LSTM, GRU])
def test_the_running_average_is_learned(make, last_only):
    training = recurrent.train(
        models_of(make, [0, 1]), seeds=[0, 1], time=4, num_steps=150, last_only=last_only
    )
    assert (training.error_share < 0.25).all()
    assert (training.error_share < training.validation_error[:, 0] / training.zero_error).all()
    assert training.steps[-1] == 150


def test_a_trained_model_does_not_depend_on_the_other_models():
    together, alone = models_of(RNN, [0, 1]), models_of(RNN, [1])
    two = recurrent.train(together, seeds=[5, 6], time=3, num_steps=20)
    one = recurrent.train(alone, seeds=[6], time=3, num_steps=20)
    np.testing.assert_allclose(two.validation_error[1], one.validation_error[0], rtol=1e-5)
    for ours, theirs in zip(together[1].parameters(), alone[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_models_end_with_their_best_weights_and_training_stops_early():
    model = models_of(RNN, [0])
    training = recurrent.train(
        model, seeds=[0], time=3, num_steps=2000, learning_rate=1e-9, evaluate_every=1, patience=2
    )
    assert training.steps[-1] < 2000
    x, y = recurrent.running_average(3000, 3, seed=9)
    error = recurrent.mse(model[0](x)[0], y).item()
    assert error == pytest.approx(training.validation_error.min(), rel=0.2)
    assert training.zero_error[0] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3, rel=0.1)


def test_progress_is_reported_and_training_is_saved(tmp_path):
    lines = []
    training = recurrent.train(
        models_of(RNN, [0]),
        seeds=[0],
        time=3,
        num_steps=10,
        evaluate_every=5,
        progress=lines.append,
    )
    assert [line.split(":")[0] for line in lines] == ["step 0", "step 5", "step 10"]
    training.save(tmp_path)
    assert recurrent.Training.load(tmp_path).table().equals(training.table())
    assert training.figure().to_dict()["data"]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"num_steps": 0}, "num_steps = 0"),
        ({"seeds": [0, 1]}, "1 models, 2 seeds"),
        ({"time": 0}, "time = 0"),
    ],
)
def test_unsuitable_settings_of_training_are_refused(changed, text):
    with pytest.raises(InputError, match=text):
        recurrent.train(models_of(RNN, [0]), **{"seeds": [0], "time": 3, **changed})


def relu(*sizes, seed):
    return RNN(*sizes, nonlinearity="relu", seed=seed)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("make", [RNN, relu, LSTM, GRU])
def test_a_population_has_the_predictions_and_gradients_of_its_models(make, layers):
    """Compare predictions and gradients, in float64, with each model under autograd."""
    models = [Regression(make(2, 5, layers, seed=seed), 3, seed=seed).double() for seed in range(4)]
    population = Population(models)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(7, 4, 6, n, generator=generator, dtype=torch.float64) for n in (2, 3))
    predictions = population.predict(x)
    found = torch.autograd.grad(
        (predictions - y).square().sum(), list(population.parameters.values())
    )
    for i, model in enumerate(models):
        alone = model(x[:, i].transpose(0, 1))[0].transpose(0, 1)
        torch.testing.assert_close(predictions[:, i], alone, rtol=1e-12, atol=1e-12)
        expected = torch.autograd.grad((alone - y[:, i]).square().sum(), list(model.parameters()))
        for gradient, stacked, (name, parameter) in zip(
            expected, found, model.named_parameters(), strict=True
        ):
            ours = stacked.unflatten(0, (-1, 4))[:, i].reshape(parameter.shape)
            torch.testing.assert_close(ours, gradient, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("make", [RNN, LSTM, GRU])
def test_a_step_of_a_population_is_a_step_of_adam(make):
    """With two outputs, some gradients are not contiguous; their entries must stay in order."""
    models = [Regression(make(2, 5, 2, seed=seed), 2, seed=seed).double() for seed in range(3)]
    population = Population(models)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(6, 3, 8, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    for _ in range(3):
        population.step((population.predict(x) - y).square().mean((0, 2, 3)), 0.01)
    trained = copy.deepcopy(models)
    population.write_to(trained)
    for i, model in enumerate(models):
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.9, 0.99))
        for _ in range(3):
            optimiser.zero_grad()
            predictions = model(x[:, i].transpose(0, 1))[0].transpose(0, 1)
            (predictions - y[:, i]).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1)
            optimiser.step()
        for ours, theirs in zip(trained[i].parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)


def test_a_population_writes_its_parameters_back():
    models, others = models_of(LSTM, [0, 1]), models_of(LSTM, [2, 3])
    Population(models).write_to(others)
    for model, other in zip(models, others, strict=True):
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(ours, theirs)


def test_another_task_is_learned_at_the_timesteps_with_weight():
    """The target at the last timestep is the previous input; all other targets are noise."""

    def draw(batch, generator):
        x, y = (torch.randn(batch, 4, 1, generator=generator) for _ in range(2))
        y[:, -1] = x[:, -2]
        return x, y

    (model,) = models_of(RNN, [0])
    last = np.array([[0.0], [0.0], [0.0], [2.0]])
    training = recurrent.train([model], seeds=[0], time=4, num_steps=200, draw=draw, weights=last)
    assert training.error_share[0] < 0.1
    assert training.zero_error[0] == pytest.approx(2, rel=0.15)
    x, y = draw(500, torch.Generator().manual_seed(1))
    share = (model(x)[0] - y).square().mean((0, 2)) / y.square().mean((0, 2))
    assert share[-1] < 0.15 < 0.9 < share[0]


def test_models_of_two_architectures_are_refused():
    models = [*models_of(RNN, [0]), *models_of(LSTM, [1])]
    with pytest.raises(InputError, match="one architecture") as caught:
        recurrent.train(models, seeds=[0, 1], time=3)
    assert "models[1] with lstm" in str(caught.value)


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="shape \\(2, 1\\), time = 3"):
        recurrent.train(models_of(RNN, [0]), seeds=[0], time=3, weights=np.ones((2, 1)))
