import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.autoencoders import Autoencoder, DenseArchitecture, Encoder, GaussianNoise, pretrain
from leadline.errors import InputError, SaveError

RNG = np.random.default_rng(0)
X = RNG.random((700, 12)).astype(np.float32)


def make(hidden=(20, 5), **options):
    return pretrain(
        Autoencoder(12, hidden, corruption=GaussianNoise(0.5), seed=0), X[:100], epochs=2, **options
    ).encoder


ENCODERS = [make(), make((1,)), make((33, 64))]


@settings(max_examples=40)
@given(st.integers(0, 2), st.data())
def test_a_code_does_not_depend_on_other_rows(which, data):
    encoder = ENCODERS[which]
    whole = encoder.encode(X)
    rows = data.draw(
        st.lists(
            st.integers(0, len(X) - 1), min_size=1, max_size=2 * DenseArchitecture.block_rows + 3
        )
    )
    assert np.array_equal(encoder.encode(X[rows]), whole[rows])


def test_encode_is_deterministic_and_draws_nothing():
    encoder = ENCODERS[0]
    first = encoder.encode(X)
    assert first.dtype == np.float32
    assert np.array_equal(first, encoder.encode(X))
    with torch.no_grad():
        np.testing.assert_allclose(first, encoder.module(torch.from_numpy(X)).numpy(), atol=1e-6)


def test_an_encoder_is_frozen_and_contains_no_decoder():
    model = Autoencoder(12, (20, 5), seed=0)
    pretrained = pretrain(model, X, epochs=1)
    encoder = pretrained.encoder
    assert not encoder.module.training
    assert not any(parameter.requires_grad for parameter in encoder.module.parameters())
    assert set(encoder.weights) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    before = encoder.encode(X)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert np.array_equal(encoder.encode(X), before)


def test_labels_do_not_affect_the_encoder():
    """Pretraining takes no labels, so a permutation of the labels keeps the weights."""
    y = RNG.integers(0, 3, len(X))
    first, second = (
        pretrain(Autoencoder(12, (5,), seed=0), X[np.argsort(y * 0, kind="stable")], epochs=2)
        for _ in "ab"
    )
    y = RNG.permutation(y)
    assert all(np.array_equal(first.weights[name], second.weights[name]) for name in first.weights)


def test_has_seen_covers_training_and_validation_rows():
    encoder = make(validation=X[100:120])
    assert encoder.has_seen(X[:120]).all()
    assert not encoder.has_seen(X[120:]).any()
    assert not encoder.untrained(0).has_seen(X).any()


def test_the_untrained_control_has_the_same_shapes_and_other_weights():
    encoder = ENCODERS[0]
    control = encoder.untrained(3)
    assert control.architecture == encoder.architecture
    assert np.array_equal(control.encode(X), encoder.untrained(3).encode(X))
    assert not np.allclose(control.encode(X), encoder.encode(X))
    assert torch.equal(
        next(control.module.parameters()), next(Autoencoder(12, (20, 5), seed=3).parameters())
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saving_and_loading_keeps_every_bit(tmp_path: Path, dtype):
    encoder = pretrain(
        Autoencoder(12, (20, 5), "tanh", seed=0).to(dtype), X[:100], epochs=2
    ).encoder
    encoder.save(tmp_path / "digits.encoder")
    back = Encoder.load(tmp_path / "digits.encoder")
    assert back.architecture == encoder.architecture
    assert np.array_equal(back.encode(X), encoder.encode(X))
    assert np.array_equal(back.rows_seen, encoder.rows_seen)
    assert b"decoder" not in (tmp_path / "digits.encoder").read_bytes()


def rewrite(path: Path, change):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    document = json.loads(header["__metadata__"]["leadline"])
    change(document)
    header["__metadata__"]["leadline"] = json.dumps(document)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "no readable encoder"),
        (lambda path: path.write_bytes(b"PK rubbish"), "no readable encoder"),
        (
            lambda path: rewrite(path, lambda d: d.update(schema=9)),
            "encoder schema 9; this release reads schema 2",
        ),
        (
            lambda path: rewrite(path, lambda d: d.update(schema=1)),
            r"earlier release of Leadline \(encoder schema 1",
        ),
        (
            lambda path: rewrite(path, lambda d: d["architecture"].update(hidden_sizes=[7, 5])),
            "damaged or from another",
        ),
        (
            lambda path: rewrite(path, lambda d: d["architecture"].update(activation="os")),
            "damaged or from another",
        ),
        (lambda path: rewrite(path, lambda d: d.pop("architecture")), "damaged or from another"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, damage, text):
    path = tmp_path / "digits.encoder"
    ENCODERS[0].save(path)
    damage(path)
    with pytest.raises(SaveError, match=text):
        Encoder.load(path)


def test_rows_of_another_shape_are_refused():
    with pytest.raises(InputError, match="X has 11 features, the encoder takes 12"):
        ENCODERS[0].encode(X[:, 1:])
    with pytest.raises(InputError, match=r"X\[0, 0\] = inf"):
        ENCODERS[0].encode(np.full((1, 12), np.inf))
