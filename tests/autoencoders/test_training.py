import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.autoencoders import (
    Autoencoder,
    DenseArchitecture,
    GaussianNoise,
    Nothing,
    PixelMask,
    pretrain,
    pretrain_many,
)
from leadline.autoencoders._rows import open_rows
from leadline.autoencoders.training._opening import RunRows
from leadline.autoencoders.training._settings import PretrainingSettings
from leadline.autoencoders.training._stack import Stack, stack_size
from leadline.data import row_fingerprints
from leadline.errors import InputError, describe
from leadline.randomness import torch_generator

KINDS = [
    Nothing(),
    GaussianNoise(0.3),
    PixelMask(0.3),
    PixelMask(0.3, loss="masked"),
    PixelMask(0.3, loss="visible"),
]


def rows(n=60, d=7, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) + 0.3 * rng.normal(size=(n, d)) + 1
    ).astype(np.float32)


@pytest.fixture(params=[1, 2])
def threads(request):
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)


def equal(a, b):
    same_weights = all(np.array_equal(a.weights[name], b.weights[name]) for name in a.weights)
    same_curves = all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("training_error", "clean_error", "own_error")
    )
    return same_weights and same_curves and (a.best_epoch, a.ending) == (b.best_epoch, b.ending)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "linear"])
@pytest.mark.parametrize("corruption", KINDS, ids=str)
def test_the_handwritten_gradient_matches_autograd(activation, corruption):
    model = Autoencoder(7, (6, 5, 3), activation, seed=0).double()
    x = torch.from_numpy(rows()).double()
    seen, loss_mask = corruption.corrupt(x, torch.Generator().manual_seed(1))
    squares = (model(seen) - x).square()
    loss = (squares if loss_mask is None else squares * loss_mask).sum(1).mean()
    loss.backward()
    stack = Stack(model.architecture, [model.state_dict()] * 2, [1e-3] * 2)
    loss_mask = None if loss_mask is None else loss_mask.expand(2, -1, -1)
    summed = stack.step(seen.expand(2, -1, -1), x.expand(2, -1, -1), loss_mask)
    assert (summed / len(x)).tolist() == pytest.approx([loss.item()] * 2, rel=1e-12)
    for row in stack.gradients:
        for (name, ours), theirs in zip(stack.state(row).items(), model.parameters(), strict=True):
            assert theirs.grad is not None
            np.testing.assert_allclose(ours, theirs.grad, rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_step_of_the_stack_matches_adam_of_pytorch():
    model = Autoencoder(7, (6, 3), seed=0).double()
    x = torch.from_numpy(rows()).double()
    stack = Stack(model.architecture, [model.state_dict()] * 2, [1e-2, 1e-3])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
    for _ in range(5):
        stack.step(x.expand(2, -1, -1), x.expand(2, -1, -1), None)
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()
    for ours, theirs in zip(
        stack.state(stack.weights[1]).values(), model.parameters(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-9)


@pytest.mark.parametrize(
    ("size", "hidden", "batch"),
    [(7, (6, 3), 16), (64, (128, 32), 40), (5, (1,), 7), (40, (33, 17), 30), (3, (4,), 1)],
)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_grouping_does_not_change_any_bit(threads, size, hidden, batch, activation):
    """Results are equal alone, together, and next to other corruptions, rates and data."""
    seeds = range(5)
    kinds = [Nothing(), GaussianNoise(0.3), PixelMask(0.3), GaussianNoise(0.1), Nothing()]
    data = [rows(47, size, seed) for seed in seeds]
    options = [
        {"learning_rate": 1e-2 / (1 + s), "epochs": 3 + s % 2, "patience": 1 + s % 3} for s in seeds
    ]
    made = [
        Autoencoder(size, hidden, activation, kind, seed=s)
        for s, kind in zip(seeds, kinds, strict=True)
    ]
    each: dict[str, Any] = {name: [o[name] for o in options] for name in options[0]}
    together = pretrain_many(made, data, seeds=seeds, batch_size=batch, **each)
    for s, kind in zip(seeds, kinds, strict=True):
        model = Autoencoder(size, hidden, activation, kind, seed=s)
        alone = pretrain(model, data[s], seed=s, batch_size=batch, **options[s])
        assert equal(alone, together[s])


def test_the_stack_size_depends_only_on_shapes():
    small, large = DenseArchitecture(64, (32,)), DenseArchitecture(784, (1000, 64))
    assert stack_size(small, 100) == 2 * stack_size(small, 100, element_size=8) > 8
    assert stack_size(large, 100) == 1
    models = [Autoencoder(7, (3,), seed=s) for s in range(3)] + [Autoencoder(7, (4,), seed=0)]
    done = pretrain_many(models, rows(), seeds=range(4), epochs=1)
    assert [pretrained.protocol.settings["stack"] for pretrained in done] == [3, 3, 3, 1]


@pytest.mark.parametrize("corruption", [GaussianNoise(0.5), PixelMask(0.3)], ids=str)
def test_a_corrupted_autoencoder_equals_a_vanilla_one_on_corrupted_pairs(corruption):
    """Training on the pairs (corrupted, clean) gives the same bits: statement ae.h.

    The test draws the pairs as training does: in each epoch a permutation, then the corruption.
    """
    X, epochs, seed = rows(60), 4, 3
    options: dict[str, Any] = {
        "schedule": "constant",
        "batch_size": 15,
        "validation": None,
        "centre": False,
    }
    model = Autoencoder(7, (5, 3), corruption=corruption, seed=0)
    inside = pretrain(model, X, epochs=epochs, seed=seed, **options)
    generator, pairs = torch_generator(seed, "autoencoders.training"), []
    for _ in range(epochs):
        clean = torch.from_numpy(X)[torch.randperm(60, generator=generator)]
        pairs.append((corruption.corrupt(clean, generator)[0], clean))
    seen, clean = (torch.cat(part).numpy() for part in zip(*pairs, strict=True))
    vanilla = pretrain(
        Autoencoder(7, (5, 3), seed=0), seen, targets=clean, shuffle=False, epochs=1, **options
    )
    assert all(
        np.array_equal(inside.weights[name], vanilla.weights[name]) for name in inside.weights
    )
    clean = clean[::-1].copy()
    other = pretrain(
        Autoencoder(7, (5, 3), seed=0), seen, targets=clean, shuffle=False, epochs=1, **options
    )
    assert not np.array_equal(inside.weights["encoder.0.weight"], other.weights["encoder.0.weight"])


def test_the_model_learns_the_targets():
    """A linear autoencoder of full width learns targets: here the reversed rows."""
    X = rows(200)
    options: dict[str, Any] = {"validation": None, "epochs": 400, "learning_rate": 1e-2, "seed": 0}
    learned = pretrain(
        Autoencoder(7, (7,), "linear", seed=0), X, targets=X[:, ::-1].copy(), **options
    )
    found = learned.model(torch.from_numpy(X)).detach().numpy()
    assert ((found - X[:, ::-1]) ** 2).mean() < 1e-2 * X.var(0).mean()
    by_default, spelt_out = (
        pretrain(Autoencoder(7, (3,), seed=0), X, targets=targets, epochs=3, validation=None)
        for targets in (None, X)
    )
    assert equal(by_default, spelt_out)
    assert np.isin(row_fingerprints(X[:, ::-1].copy()), learned.rows_seen).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"targets": rows(59), "validation": None}, "59, 7) for X of shape (60, 7)"),
        ({"targets": rows(60)}, "validation must not be a share"),
        ({"targets": rows(60, 6), "validation": None}, "has 6 features"),
    ],
)
def test_targets_of_another_shape_are_refused(given, message):
    with pytest.raises(InputError) as caught:
        pretrain(Autoencoder(7, (3,), seed=0), rows(60), **given)
    assert message in describe(caught.value)


def test_best_weights_are_kept_and_error_is_measured_on_them():
    X = rows(40, 7)
    pretrained = pretrain(
        Autoencoder(7, (64, 6), seed=0),
        X[:20],
        validation=X[20:],
        epochs=300,
        patience=10,
        learning_rate=2e-2,
    )
    assert pretrained.ending == "stopped early"
    assert len(pretrained.training_error) == pretrained.best_epoch + 10
    assert pretrained.clean_error[pretrained.best_epoch] == pretrained.clean_error.min()
    error = (
        ((pretrained.model(torch.from_numpy(X[20:])).detach().numpy() - X[20:]) ** 2).sum(1).mean()
    )
    assert error == pytest.approx(pretrained.clean_error.min(), rel=1e-4)


def test_validation_of_a_corrupted_model_is_on_one_fixed_corruption():
    X = rows()
    pretrained = pretrain(Autoencoder(7, (4,), corruption=GaussianNoise(0.5), seed=0), X, epochs=4)
    assert (pretrained.own_error > pretrained.clean_error).all()
    frozen = pretrain(
        Autoencoder(7, (4,), corruption=GaussianNoise(0.5), seed=0),
        X,
        epochs=4,
        learning_rate=1e-12,
    )
    assert np.ptp(frozen.own_error) < 1e-4


def test_the_model_ends_with_the_best_weights_and_starts_where_the_data_are():
    X = rows()
    model = Autoencoder(7, (4,), seed=0)
    with torch.no_grad():
        plain = float(model.loss(torch.from_numpy(X[:20])))
        moved = float(model.loss(torch.from_numpy(X[:20] - X[20:].mean(0))))
    pretrained = pretrain(model, X[20:], validation=X[:20], epochs=3)
    assert pretrained.clean_error[0] == pytest.approx(moved, rel=1e-5)
    for name, parameter in model.state_dict().items():
        assert np.array_equal(parameter.numpy(), pretrained.weights[name])
    model = Autoencoder(7, (4,), seed=0)
    pretrained = pretrain(model, X[20:], validation=X[:20], epochs=3, centre=False)
    assert pretrained.clean_error[0] == pytest.approx(plain, rel=1e-5)


def test_a_shift_of_the_data_does_not_change_the_training():
    X = rows(200, 7)
    near, far = (
        pretrain(Autoencoder(7, (5, 3), seed=0).double(), X + shift, epochs=5)
        for shift in (0, np.float32(1000))
    )
    np.testing.assert_allclose(near.own_error, far.own_error, rtol=1e-3)


def test_divergence_ends_training():
    X = rows()
    wild = pretrain(
        Autoencoder(7, (5, 3), seed=0), X, learning_rate=30.0, epochs=50, schedule="constant"
    )
    assert wild.ending == "diverged"
    assert "lower the learning rate" in str(wild.verdict)
    assert all(np.isfinite(weights).all() for weights in wild.weights.values())
    slow = pretrain(Autoencoder(7, (5, 3), seed=0), X, learning_rate=1e-6, epochs=5)
    assert slow.ending == "budget"
    mixed = pretrain_many(
        [Autoencoder(7, (5, 3), seed=0) for _ in range(2)],
        X,
        seeds=[0, 0],
        learning_rate=[30.0, 1e-6],
        epochs=5,
    )
    assert equal(mixed[1], slow)


@settings(max_examples=10)
@given(st.integers(2, 40), st.integers(1, 45), st.integers(1, 60))
def test_an_epoch_visits_every_row_once(n, batch, numbers):
    from leadline.autoencoders.training import _member as member

    X = np.arange(n * 2, dtype=np.float32).reshape(n, 2)
    model = Autoencoder(2, (1,), seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member, "BLOCK_NUMBERS", numbers)
        rows = open_rows(X, "X", np.float32, torch.device("cpu"))
        training = PretrainingSettings(1e-3, batch_size=batch)
        trained = member.Member(0, model, model.architecture, RunRows(rows), training)
        blocks = [target + trained.centre for _, target, _ in trained.blocks()]
    assert all(len(block) % batch == 0 for block in blocks[:-1])
    visited = np.sort(np.concatenate([block.numpy() for block in blocks])[:, 0])
    assert visited == pytest.approx(X[:, 0], abs=1e-4)


def test_pretrained_is_a_sounding(tmp_path):
    from leadline.autoencoders import Pretrained

    pretrained = pretrain(
        Autoencoder(7, (4, 2), corruption=PixelMask(0.5), seed=0), rows(), epochs=3
    )
    assert "clean validation error" in str(pretrained)
    assert list(pretrained.table().columns) == [
        "epoch",
        "training",
        "clean validation",
        "own validation",
    ]
    assert [trace["name"] for trace in pretrained.figure().to_dict()["data"]] == [
        "training",
        "validation, clean",
        "validation, corrupted",
    ]
    pretrained.save(tmp_path)
    back = Pretrained.load(tmp_path)
    assert equal(back, pretrained)
    assert np.array_equal(back.encoder.encode(rows()), pretrained.encoder.encode(rows()))
    without = pretrain(Autoencoder(7, (2,), seed=0), rows(), validation=None, epochs=2)
    assert "without validation" in str(without)
    assert len(list(without.figure().select_traces())) == 1
    assert len(without.table()) == 3


def bad(**changes):
    arguments = {
        "models": [Autoencoder(7, (3,), seed=s) for s in range(2)],
        "X": rows(),
        "seeds": [0, 1],
        **changes,
    }
    return pretrain_many(arguments.pop("models"), arguments.pop("X"), **arguments)


same = Autoencoder(7, (3,), seed=0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"models": [same, same]}, "models must be different objects"),
        ({"seeds": [0]}, "1 for 2 models"),
        ({"seeds": 3}, r"seeds = 3\n  cure:  seeds=range\(2\)"),
        ({"learning_rate": "fast"}, "learning_rate = 'fast'"),
        ({"seeds": [0, -1]}, r"seed = -1\n  where: in model 1 of 2"),
        ({"X": [rows()]}, "a list of 1 for 2 models"),
        ({"X": rows(d=6)}, "X has 6 features, the model takes 7"),
        ({"X": np.full((9, 7), np.nan)}, r"X\[0, 0\] = nan"),
        ({"X": np.zeros((0, 7))}, "at least one row"),
        ({"validation": 1.5}, "validation = 1.5 of 60 rows"),
        ({"validation": 0.001}, "leaves rows for training and validation"),
        ({"validation": rows(d=6)}, "validation has 6 features"),
        ({"learning_rate": [1e-3, 0]}, r"learning_rate = 0\n  where: in model 1 of 2"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"batch_size": 2.5}, "batch_size = 2.5"),
        ({"schedule": "linear"}, "schedule = 'linear'"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(changes, text):
    with pytest.raises(InputError) as caught:
        bad(**changes)
    assert re.search(text, describe(caught.value))
