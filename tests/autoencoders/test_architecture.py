"""A new architecture and a new corruption take one class each."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from leadline.autoencoders import (
    Autoencoder,
    Corruption,
    Encoder,
    GaussianNoise,
    Nothing,
    pretrain,
    pretrain_many,
)
from leadline.autoencoders.models._architecture import (
    Architecture,
    BuiltModule,
    TrainableArchitecture,
    check_width,
)
from leadline.errors import InputError

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)


@dataclass(frozen=True)
class HalfMask(Corruption):
    """Hides the second half of each row."""

    def corrupt(self, x, generator):
        seen = x.clone()
        seen[:, x.shape[1] // 2 :] = 0
        return seen, None


class ForgetfulMask(HalfMask):
    """Returns a mask of the counted entries, but does not define ``counts_everywhere``."""

    def corrupt(self, x, generator):  # pyright: ignore[reportIncompatibleMethodOverride]
        seen, _ = super().corrupt(x, generator)
        return seen, (seen == 0).float()


class Sums(BuiltModule):
    """A linear autoencoder whose code is a few numbers."""

    def __init__(self, architecture, corruption):
        super().__init__()
        self.architecture = architecture
        self.corruption = corruption
        self.encoder = architecture.encoder(torch.Generator().manual_seed(0))
        self.decoder = nn.Linear(architecture.output_size, architecture.input_size)

    def forward(self, x):
        return self.decoder(self.encoder(x))


@pytest.fixture
def sums() -> Iterator[type]:
    """Define an architecture, and forget its kind after the test."""

    @dataclass(frozen=True)
    class SumsArchitecture(Architecture, TrainableArchitecture, kind="sums"):
        input_size: int
        size: int

        @property
        def output_size(self):
            return self.size

        def encoder(self, generator=None):
            layer = nn.Linear(self.input_size, self.size)
            nn.init.normal_(layer.weight, generator=generator)
            return layer

        def encoder_shapes(self):
            yield "weight", (self.size, self.input_size)
            yield "bias", (self.size,)

        def centre(self, mean):
            return torch.zeros_like(mean)

        def moved(self, state, centre):
            return dict(state)

        def autoencoder(self, corruption):
            return Sums(self, corruption)

        def squared_errors(self, module, seen, target, loss_mask):
            return (module(seen) - target).square()

        def check_rows(self, model, rows, name):
            check_width(rows, name, self.input_size)

    with torch.random.fork_rng(devices=[]):
        yield SumsArchitecture
    del Architecture.kinds["sums"]


def test_a_new_architecture_is_trained_saved_and_loaded(sums: type, tmp_path: Path):
    model = sums(6, 2).autoencoder(Nothing())
    pretrained = pretrain(model, X, epochs=5, learning_rate=1e-2)
    assert pretrained.own_error[-1] < pretrained.own_error[0]
    pretrained.encoder.save(tmp_path / "encoder")
    loaded = Encoder.load(tmp_path / "encoder")
    np.testing.assert_array_equal(loaded.encode(X), pretrained.encoder.encode(X))
    with torch.no_grad():
        code = pretrained.model.encoder(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(code, loaded.encode(X), rtol=1e-5, atol=1e-6)


def test_a_new_corruption_is_used_in_training(sums: type):
    pretrained = pretrain(sums(6, 2).autoencoder(HalfMask()), X, epochs=2)
    assert pretrained.corruption == HalfMask()
    assert not np.array_equal(pretrained.own_error, pretrained.clean_error)


def test_frozen_parameters_stay_frozen(sums: type):
    model = sums(6, 2).autoencoder(Nothing())
    model.encoder.requires_grad_(False)
    before = model.encoder.weight.detach().clone()
    pretrain(model, X, epochs=2)
    assert torch.equal(model.encoder.weight, before)


def test_a_mask_that_the_corruption_does_not_declare_is_refused():
    """Otherwise the mask would count for the models that train together with this one."""
    models = [
        Autoencoder(4, (3,), corruption=corruption, seed=0)
        for corruption in (GaussianNoise(0.1), ForgetfulMask())
    ]
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    with pytest.raises(InputError, match=r"ForgetfulMask.corrupt\(\) must return"):
        pretrain_many(models, rows, seeds=[0, 0], epochs=1)
