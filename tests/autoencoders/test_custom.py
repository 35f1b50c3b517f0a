from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from leadline import data
from leadline.autoencoders import (
    Autoencoder,
    Epoch,
    GaussianNoise,
    ModuleEncoder,
    Nothing,
    Pretrained,
    pretrain,
    pretrain_many,
)
from leadline.errors import InputError
from leadline.probing import label_efficiency

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 8)).astype(np.float32)
IMAGES = RNG.random((40, 1, 6, 6)).astype(np.float32)


def drawn(module: nn.Module, seed=0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.2, generator=generator)
    return module


@pytest.fixture(autouse=True)
def unmoved():
    """Restore PyTorch's global generator, which initialises the modules."""
    with torch.random.fork_rng(devices=[]):
        yield


class Plain(nn.Module):
    """A user's own dense autoencoder."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(8, 3), nn.Linear(3, 8)

    def encode(self, x):
        return self.encoder(x)

    def forward(self, x):
        return self.decoder(self.encoder(x))


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        )
        self.up = nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1)

    def encode(self, x):
        return self.down(x).flatten(1)

    def forward(self, x):
        return self.up(self.down(x))


@pytest.mark.parametrize("corruption", [Nothing(), GaussianNoise(0.3)])
def test_a_custom_module_trains_like_an_equal_dense_autoencoder(corruption):
    """Autograd takes the same steps as the handwritten gradient."""
    dense = Autoencoder(8, (3,), corruption=corruption, seed=0)
    model = Plain()
    model.corruption = corruption
    model.encoder.load_state_dict(dense.encoder[0].state_dict())
    model.decoder.load_state_dict(dense.decoder[0].state_dict())
    options = {"epochs": 5, "learning_rate": 1e-2, "seed": 3, "centre": False, "batch_size": 16}
    expected, got = pretrain(dense, X, **options), pretrain(model, X, **options)
    np.testing.assert_allclose(got.own_error, expected.own_error, rtol=1e-4)
    np.testing.assert_allclose(got.encoder.encode(X), expected.encoder.encode(X), atol=1e-4)
    assert got.corruption == corruption


def test_images_keep_their_shape_and_the_model_ends_with_the_best_weights():
    model = Convolutional()
    drawn(model)
    pretrained = pretrain(model, IMAGES, epochs=4, learning_rate=1e-2)
    assert pretrained.own_error[-1] < pretrained.own_error[0]
    code = pretrained.encoder.encode(IMAGES)
    assert code.shape == (40, 36)
    assert model.training
    model.eval()
    with torch.no_grad():
        np.testing.assert_allclose(model.encode(torch.from_numpy(IMAGES)).numpy(), code, atol=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert pretrained.encoder.has_seen(IMAGES).all()


def test_grouping_and_repetition_do_not_change_any_bit():
    alone = pretrain(drawn(Convolutional()), IMAGES, epochs=3, seed=1)
    flat = IMAGES.reshape(40, -1)
    dense = Autoencoder(36, (4,), seed=0)
    both = pretrain_many([dense, drawn(Convolutional())], [flat, IMAGES], seeds=[0, 1], epochs=3)
    assert np.array_equal(both[1].own_error, alone.own_error)
    assert all(np.array_equal(both[1].weights[name], alone.weights[name]) for name in alone.weights)


def test_studies_accept_a_custom_encoder_but_not_on_its_training_rows():
    y = np.arange(120) % 3
    rows = (RNG.standard_normal((120, 8)) + 2 * np.eye(8)[y]).astype(np.float32)
    roles = [data.split_roles(y, seed=seed) for seed in range(2)]
    trained = [
        pretrain(drawn(Plain()), rows[role.pretrain_train], epochs=2).encoder for role in roles
    ]
    study = label_efficiency({"mine": trained}, rows, y, roles=roles, labels=[6], num_subsets=2)
    assert "mine" in study.names
    leaky = [pretrain(drawn(Plain()), rows, epochs=1).encoder for _ in roles]
    with pytest.raises(InputError, match="must not be probed on rows that it was pretrained on"):
        label_efficiency({"mine": leaky}, rows, y, roles=roles, labels=[6], num_subsets=2)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 300])
def test_batch_size_and_order_do_not_change_any_code(size: int):
    frozen = ModuleEncoder(drawn(Convolutional()))
    rows = np.random.default_rng(0).random((300, *IMAGES.shape[1:])).astype(np.float32)
    codes, order = frozen.encode(rows), np.random.default_rng(size).permutation(300)
    in_batches = np.concatenate(
        [frozen.encode(rows[order[i : i + size]]) for i in range(0, 300, size)]
    )
    np.testing.assert_array_equal(in_batches, codes[order])


def test_a_plain_module_can_be_an_encoder():
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.Dropout(0.5))
    encoder = ModuleEncoder(module)
    whole = encoder.encode(IMAGES)
    assert whole.shape == (40, 5)
    order = RNG.permutation(40)
    assert np.array_equal(encoder.encode(IMAGES[order]), whole[order])
    assert np.array_equal(encoder.encode(IMAGES[3:4]), whole[3:4])
    assert module.training
    assert not encoder.has_seen(IMAGES).any()


def test_rows_of_earlier_trainings_are_remembered():
    for model in (drawn(Plain()), Autoencoder(8, (3,), seed=0)):
        pretrain(model, X[:20], epochs=1)
        encoder = pretrain(model, X[20:40], epochs=1, centre=False).encoder
        assert encoder.has_seen(X[:40]).all()
        assert not encoder.has_seen(X[40:]).any()


def test_a_saved_custom_module_needs_the_users_code(tmp_path: Path):
    pretrained = pretrain(drawn(Plain()), X, epochs=2)
    pretrained.save(tmp_path)
    back = Pretrained.load(tmp_path)
    assert np.array_equal(back.weights["encoder.weight"], pretrained.weights["encoder.weight"])
    with pytest.raises(InputError, match="rebuilt by your own code"):
        _ = back.encoder
    with pytest.raises(InputError, match="a Plain, for"):
        pretrained.encoder.save(tmp_path / "encoder")
    model = Plain()
    model.load_state_dict({name: torch.from_numpy(w) for name, w in back.weights.items()})
    again = ModuleEncoder(model, back.rows_seen)
    assert np.array_equal(again.encode(X), pretrained.encoder.encode(X))
    assert again.has_seen(X).all()


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x), x


@pytest.mark.parametrize(
    ("model", "rows", "text"),
    [
        (lambda: nn.Linear(8, 3), X, r"Linear gave shape \(2, 3\) for rows of shape \(2, 8\)"),
        (Twice, X, "Twice gave a tuple"),
        (Convolutional, IMAGES.reshape(40, -1), r"failed on rows of shape \(2, 36\)"),
        (nn.Identity, X, "model must have trainable parameters"),
        (
            lambda: nn.Linear(8, 8).requires_grad_(False),
            X,
            "a frozen model\n  cure:  model.requires_grad_",
        ),
        (
            lambda: nn.Linear(8, 8).bfloat16(),
            X,
            r"a Linear of torch.bfloat16\n  cure:  model.float\(\)",
        ),
    ],
)
def test_modules_that_do_not_reconstruct_are_refused_before_any_work(model, rows, text):
    with pytest.raises(InputError, match=text):
        pretrain(model(), rows, epochs=1)


def test_module_encoders_refuse_bad_rows():
    encoder = ModuleEncoder(nn.Linear(8, 3))
    with pytest.raises(InputError, match=r"Linear failed on rows of shape \(60, 7\)"):
        encoder.encode(X[:, 1:])
    with pytest.raises(InputError, match="finite"):
        encoder.encode(np.full((2, 8), np.nan))


def test_progress_is_reported_after_each_epoch():
    reports: list[Epoch] = []
    models = [Autoencoder(8, (3,), seed=s) for s in range(2)]
    done = pretrain_many(models, X, seeds=[0, 1], epochs=[2, 3], progress=reports.append)
    assert [(epoch.model, epoch.epoch) for epoch in reports] == [
        (0, 0),
        (1, 0),
        (0, 1),
        (1, 1),
        (0, 2),
        (1, 2),
        (1, 3),
    ]
    last = done[1]
    curves = (last.training_error, last.clean_error, last.own_error)
    assert reports[-1] == Epoch(1, 3, 3, *(float(curve[-1]) for curve in curves))


def test_the_progress_bar_is_shown_on_terminals_only(capsys: pytest.CaptureFixture[str]):
    pretrain(Autoencoder(8, (3,), seed=0), X, epochs=2, progress=True)
    assert capsys.readouterr() == ("", "")


def test_the_device_is_checked():
    same = pretrain(Autoencoder(8, (3,), seed=0), X, epochs=1, device="cpu")
    assert np.array_equal(
        same.own_error, pretrain(Autoencoder(8, (3,), seed=0), X, epochs=1).own_error
    )
    with pytest.raises(InputError, match="device = 'gpu'"):
        pretrain(Autoencoder(8, (3,), seed=0), X, epochs=1, device="gpu")


def test_the_verdict_distinguishes_slow_progress_from_divergence():
    slow = pretrain(Autoencoder(8, (3,), seed=0), X, epochs=2, learning_rate=1e-9)
    assert "hardly fallen: raise the learning rate" in str(slow)
    wild = pretrain(
        Autoencoder(8, (3,), seed=0),
        X,
        epochs=9,
        learning_rate=1e9,
        schedule="constant",
        validation=None,
    )
    assert wild.ending == "diverged"
    assert "lower the learning rate" in str(wild)
    assert all(np.isfinite(weights).all() for weights in wild.weights.values())
