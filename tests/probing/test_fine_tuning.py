"""Fine-tuning: it starts from the linear probe and leaves the given encoder unchanged."""

import numpy as np
import pytest
import torch
from torch import nn

from leadline import data
from leadline.autoencoders import Autoencoder, GaussianNoise, pretrain
from leadline.errors import InputError
from leadline.probing import fine_tune, linear_probe

DIGITS = data.digits()
X, y = DIGITS.X, data.check_labels(DIGITS.y, len(DIGITS))
ROLES = data.split_roles(y, seed=0)
POOL = data.label_subsets(y, ROLES.probe_pool, [100], num=1, seed=0).rows(100)[0]


@pytest.fixture(scope="module")
def encoder():
    model = Autoencoder(64, (48, 16), corruption=GaussianNoise(0.5), seed=0)
    return pretrain(model, X[ROLES.pretrain_train], epochs=20).encoder


def tune(encoder, rows=POOL, **options):
    return fine_tune(encoder, X[rows], y[rows], X[ROLES.test], y[ROLES.test], **options)


def test_fine_tuning_starts_as_the_linear_probe_and_improves_with_many_labels(encoder):
    rows = ROLES.probe_pool
    tuned = tune(encoder, rows)
    frozen = linear_probe(
        encoder.encode(X[rows]), y[rows], encoder.encode(X[ROLES.test]), y[ROLES.test]
    )
    assert tuned.frozen_accuracy == pytest.approx(frozen.accuracy, abs=2.5 / len(ROLES.test))
    assert tuned.accuracy > tuned.frozen_accuracy + 0.01
    assert tuned.accuracy == (tuned.predict(X[ROLES.test]) == y[ROLES.test]).mean()
    assert tuned.epochs == tuned.held_out_loss.argmin() > 0
    np.testing.assert_allclose(tuned.probabilities(X[:5]).sum(1), 1, atol=1e-5)


def test_equal_seeds_give_equal_results_and_inputs_stay_unchanged(encoder):
    before = [tensor.clone() for tensor in encoder.module.state_dict().values()]
    state = torch.get_rng_state()
    first, second, other = tune(encoder, seed=1), tune(encoder, seed=1), tune(encoder, seed=2)
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(first.model.parameters(), other.model.parameters(), strict=True)
    )
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(before, encoder.module.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not any(parameter.requires_grad for parameter in encoder.module.parameters())


def test_labels_only_change_the_copy(encoder):
    """Permuted labels change the classifier; the encoder stays bit-identical."""
    before = encoder.encode(X[:9])
    shuffled = np.random.default_rng(0).permutation(y[POOL])
    tuned = fine_tune(encoder, X[POOL], shuffled, X[ROLES.test], y[ROLES.test])
    assert tuned.accuracy < 0.3
    assert np.array_equal(encoder.encode(X[:9]), before)


@pytest.mark.parametrize("labels", [10, 20])
def test_the_probe_is_kept_if_labels_are_too_few_to_hold_out(encoder, labels):
    tuned = tune(encoder, POOL[:labels])
    assert tuned.epochs == tuned.held_out_loss.size == 0
    assert tuned.accuracy == tuned.frozen_accuracy
    for name, tensor in encoder.module.state_dict().items():
        assert torch.equal(tuned.model.state_dict()[f"encoder.{name}"], tensor)


def test_a_loss_of_nan_is_never_the_best(encoder):
    """An extreme learning rate makes the weights overflow; the linear probe is kept."""
    tuned = tune(encoder, learning_rate=1e30, patience=2)
    assert tuned.epochs == 0
    assert tuned.accuracy == tuned.frozen_accuracy > 0.5


def test_labels_may_have_gaps(encoder):
    named = np.array([10**6 + 3 * k for k in range(10)])[y]
    tuned = fine_tune(encoder, X[POOL], named[POOL], X[ROLES.test], named[ROLES.test], epochs=2)
    assert tuned.accuracy == (tuned.predict(X[ROLES.test]) == named[ROLES.test]).mean() > 0.5
    assert tuned.majority == np.bincount(y[ROLES.test]).max() / len(ROLES.test)
    assert f"the largest class reaches {100 * tuned.majority:.1f} %" in str(tuned)


def test_the_probe_is_kept_if_training_gains_nothing(encoder):
    tuned = tune(encoder, learning_rate=10.0, patience=3)
    assert tuned.epochs == 0
    assert len(tuned.held_out_loss) == 4
    assert tuned.accuracy == tuned.frozen_accuracy


@pytest.mark.parametrize("mode", [True, False])
def test_any_module_is_accepted_and_keeps_its_mode(mode):
    linear = Autoencoder(64, (32,), seed=0).encoder[0]
    module = nn.Sequential(linear, nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2)).train(mode)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tuned = tune(module, epochs=5, batch_size=33)
    assert module.training is mode
    assert not tuned.model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert tuned.accuracy > 0.6


def test_tokens_of_a_module_of_images_are_concatenated():
    with torch.random.fork_rng():
        convolution = nn.Conv2d(1, 4, 4, stride=4)
    of_images = nn.Sequential(convolution, nn.Flatten(2))
    of_rows = nn.Sequential(nn.Unflatten(1, (1, 8, 8)), convolution, nn.Flatten())
    images = X.reshape(-1, 1, 8, 8)
    shaped = fine_tune(
        of_images, images[POOL], y[POOL], images[ROLES.test], y[ROLES.test], epochs=2
    )
    flat = tune(of_rows, epochs=2)
    assert np.array_equal(shaped.probabilities(images[:99]), flat.probabilities(X[:99]))
    assert shaped.accuracy == flat.accuracy


def test_the_encode_method_of_a_module_is_used():
    model = Autoencoder(64, (8,), seed=0)
    assert tune(model, epochs=1).model.get_parameter("head.weight").shape == (10, 8)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda e: tune(lambda rows: rows), r"fine_tune\(\) needs a module with parameters"),
        (lambda e: tune(nn.Flatten()), r"fine_tune\(\) needs a module with parameters"),
        (
            lambda e: tune(Autoencoder(63, (4,), seed=0).encoder),
            r"Sequential failed on rows of shape \(\d+, 64\)",
        ),
        (
            lambda e: fine_tune(
                e, np.ones((9, 8, 8), np.uint8), y[:9], np.ones((9, 8, 8), np.uint8), y[:9]
            ),
            "X_train of dtype uint8",
        ),
        (lambda e: tune(e, learning_rate=0.0), "learning_rate = 0.0"),
        (lambda e: tune(e, learning_rate="fast"), "learning_rate = 'fast'"),
        (lambda e: tune(e, seed=-1), "seed = -1"),
        (lambda e: fine_tune(e, X[:99], y[:99], X[:99, :9], y[:99]), "rows of one shape"),
        (lambda e: fine_tune(e, X[:99], y[:99], X[:9], np.full(9, 12)), r"y_test\[0\] = 12"),
        (
            lambda e: tune(
                nn.Sequential(Autoencoder(64, (4,), seed=0).encoder[0], nn.BatchNorm1d(4)),
                batch_size=1,
            ),
            "batch normalisation",
        ),
        (lambda e: tune(e, epochs=0), "epochs must be"),
        (lambda e: fine_tune(e, X[:9], np.zeros(9, int), X[:9], y[:9]), "at least two classes"),
    ],
)
def test_fine_tune_refuses_invalid_arguments(make, text, encoder):
    with pytest.raises(InputError, match=text):
        make(encoder)
