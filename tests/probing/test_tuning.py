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


def test_begins_as_the_linear_probe_and_with_many_labels_ends_better(encoder):
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


def test_same_seed_same_result_and_nothing_given_is_touched(encoder):
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


def test_labels_reach_the_copy_alone(encoder):
    """Permuted labels change the classifier, and leave the encoder bit-identical."""
    before = encoder.encode(X[:9])
    shuffled = np.random.default_rng(0).permutation(y[POOL])
    tuned = fine_tune(encoder, X[POOL], shuffled, X[ROLES.test], y[ROLES.test])
    assert tuned.accuracy < 0.3
    assert np.array_equal(encoder.encode(X[:9]), before)


@pytest.mark.parametrize("labels", [10, 20])
def test_where_labels_are_too_few_to_be_held_out_the_probe_is_kept(encoder, labels):
    tuned = tune(encoder, POOL[:labels])
    assert tuned.epochs == tuned.held_out_loss.size == 0
    assert tuned.accuracy == tuned.frozen_accuracy
    for name, tensor in encoder.module.state_dict().items():
        assert torch.equal(tuned.model.state_dict()[f"encoder.{name}"], tensor)


def test_a_loss_that_is_not_a_number_is_not_the_best(encoder):
    """An absurd learning rate makes the weights overflow; the probe is kept, not the ruin."""
    tuned = tune(encoder, lr=1e30, patience=2)
    assert tuned.epochs == 0
    assert tuned.accuracy == tuned.frozen_accuracy > 0.5


def test_labels_need_not_be_numbered_from_0(encoder):
    named = np.array([10**6 + 3 * k for k in range(10)])[y]
    tuned = fine_tune(encoder, X[POOL], named[POOL], X[ROLES.test], named[ROLES.test], epochs=2)
    assert tuned.accuracy == (tuned.predict(X[ROLES.test]) == named[ROLES.test]).mean() > 0.5
    assert tuned.majority == np.bincount(y[ROLES.test]).max() / len(ROLES.test)
    assert f"always predicting the largest class, on {100 * tuned.majority:.1f} %" in str(tuned)


def test_where_nothing_is_gained_the_probe_is_kept(encoder):
    tuned = tune(encoder, lr=10.0, patience=3)
    assert tuned.epochs == 0
    assert len(tuned.held_out_loss) == 4
    assert tuned.accuracy == tuned.frozen_accuracy


@pytest.mark.parametrize("mode", [True, False])
def test_any_module_takes_part_and_keeps_its_mode(mode):
    linear = Autoencoder(64, (32,), seed=0).encoder[0]
    module = nn.Sequential(linear, nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2)).train(mode)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tuned = tune(module, epochs=5, batch_size=33)
    assert module.training is mode
    assert not tuned.model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert tuned.accuracy > 0.6


def test_a_module_of_images_gives_tokens_that_stand_side_by_side():
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


def test_a_modules_encode_is_its_representation():
    model = Autoencoder(64, (8,), seed=0)
    assert tune(model, epochs=1).model.get_parameter("head.weight").shape == (10, 8)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda e: tune(lambda rows: rows), "only a module with parameters"),
        (lambda e: tune(nn.Flatten()), "only a module with parameters"),
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
        (lambda e: tune(e, lr=0.0), "lr = 0.0"),
        (lambda e: tune(e, lr="fast"), "lr = 'fast'"),
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
def test_refuses_what_does_not_fit(make, text, encoder):
    with pytest.raises(InputError, match=text):
        make(encoder)
