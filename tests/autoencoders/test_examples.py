"""Examples and their corruption, and curves of a running training."""

from typing import Any

import numpy as np
import pytest
import torch

from leadline.autoencoders import (
    Autoencoder,
    Epoch,
    Examples,
    GaussianNoise,
    Nothing,
    PatchMask,
    PixelMask,
    TrainingCurves,
    corrupt_examples,
    pretrain,
    pretrain_many,
)
from leadline.errors import InputError

X = np.random.default_rng(0).uniform(0.1, 1, size=(60, 16)).astype("float32")


@pytest.mark.parametrize(
    "corruption", [Nothing(), GaussianNoise(0.3), PixelMask(0.5), PatchMask(0.5, 2, 4)]
)
def test_shown_rows_are_the_corrupted_rows(corruption):
    found = corrupt_examples(X[:5], corruption, seed=3, image_size=4)
    again = corrupt_examples(X[:5], corruption, seed=3, image_size=4)
    assert np.array_equal(found.shown, again.shown)
    assert np.array_equal(found.rows, X[:5])
    other = corrupt_examples(X[:5], corruption, seed=4, image_size=4)
    assert np.array_equal(found.shown, other.shown) == (corruption == Nothing())
    if isinstance(corruption, PatchMask):
        assert (found.shown == 0).sum(axis=1).tolist() == [8] * 5
        assert set(
            found.shown.reshape(5, 2, 2, 2, 2).swapaxes(2, 3).reshape(20, 4).astype(bool).sum(1)
        ) == {0, 4}


def test_reconstructions_are_the_model_on_the_shown_rows(tmp_path):
    pretrained = pretrain(Autoencoder(16, (3,), corruption=GaussianNoise(0.3), seed=0), X, epochs=2)
    found = corrupt_examples(X[:4], GaussianNoise(0.3), pretrained, seed=0, image_size=4)
    with torch.no_grad():
        assert np.array_equal(
            found.reconstructed, pretrained.model(torch.from_numpy(found.shown)).numpy()
        )
    error = np.square(found.reconstructed - X[:4]).sum(1).mean()
    assert str(found).endswith(f"the reconstruction has {error:.3g}")
    assert list(found.stages) == ["input", "shown", "reconstructed"]
    assert found.figure().data
    table = found.table()
    assert len(table) == 64
    assert np.array_equal(table["reconstructed"].to_numpy().reshape(4, 16), found.reconstructed)
    found.save(tmp_path / "found")
    kept = Examples.load(tmp_path / "found")
    assert np.array_equal(kept.reconstructed, found.reconstructed)
    assert kept.image_size == (4, 4)


def test_rows_without_images_are_drawn_as_stripes():
    assert corrupt_examples(X, Nothing(), seed=0).figure().data
    assert str(corrupt_examples(X, Nothing(), seed=0)) == "the encoder sees the clean rows"
    with pytest.raises(InputError, match="channels x height x width"):
        corrupt_examples(X, Nothing(), seed=0, image_size=5)


def test_curves_from_epochs_match_the_results():
    reports: list[Epoch] = []
    models = [Autoencoder(16, (3,), corruption=PixelMask(0.5), seed=seed) for seed in range(2)]
    trained = pretrain_many(models, X, seeds=[0, 1], epochs=4, progress=reports.append)
    found = TrainingCurves.from_epochs(reports)
    for i, pretrained in enumerate(trained):
        assert np.array_equal(found.training[i, 1:], pretrained.training_error)
        assert np.array_equal(found.clean[i], pretrained.clean_error)
        assert np.array_equal(found.own[i], pretrained.own_error)
    least = np.mean([pretrained.clean_error.min() for pretrained in trained])
    assert f"epoch 4 of 4, 2 models: lowest clean validation error {least:.4g}" in str(found)
    assert len(found.table()) == 10
    names = [trace.name for trace in list[Any](found.figure().data) if trace.name]
    assert names == ["training", "validation, clean", "validation, corrupted"]


def test_curves_of_a_running_training_have_gaps():
    found = TrainingCurves.from_epochs(
        [
            Epoch(0, 0, 9, None, 4.0, 4.0),
            Epoch(1, 0, 9, None, 6.0, 6.0),
            Epoch(0, 1, 9, 3.0, 2.0, 2.0),
        ]
    )
    assert isinstance(found, TrainingCurves)
    assert np.isnan(found.clean[1, 1])
    assert str(found) == "epoch 1 of 9, 2 models: lowest clean validation error 4, 5 at the start"
    assert [trace.name for trace in list[Any](found.figure().data) if trace.name] == [
        "training",
        "validation, clean",
    ]
    with pytest.raises(InputError, match="at least one Epoch"):
        TrainingCurves.from_epochs([])
    blown = TrainingCurves.from_epochs(
        [Epoch(0, 0, 2, None, None, None), Epoch(0, 1, 2, float("inf"), None, None)]
    )
    assert str(blown) == "epoch 1 of 2, 1 model"
    assert blown.figure() is not None
