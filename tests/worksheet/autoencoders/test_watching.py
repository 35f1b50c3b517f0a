import numpy as np
import pytest

from leadline import data
from leadline.sounding import Protocol
from leadline.worksheet.measurements.autoencoders import overfitting, watching


def test_ae_a_detects_broken_runs_by_validation_loss(short, monkeypatch):
    monkeypatch.setattr(overfitting, "epochs", lambda setting: 60)
    answer = watching.held_out_error_is_watched(short)
    watched = answer.soundings["watched"]
    assert isinstance(watched, watching.Watched)
    assert watched.curves.shape == (2, 2, 2, 60)
    assert answer.facts["training_loss_is_blind"].holds
    assert answer.facts["validation_loss_tells"].holds
    assert "training loss finds out 0 of 2 broken runs, validation loss 2" in str(watched)


def test_early_stopping_does_not_change_the_training_run(short):
    """The two runs differ only in the kept weights, so their training errors are equal."""
    digits = data.digits()
    roles = [data.split_roles(digits.labels, seed=seed) for seed in short.seeds]
    kept, last, broken = watching._runs(digits, roles, short)
    for one, other, third in zip(kept, last, broken, strict=True):
        np.testing.assert_allclose(one.training_error, other.training_error, rtol=1e-4)
        assert abs(third.training_error - one.training_error).max() > 1e-2


def test_shuffling_keeps_the_rows_and_moves_every_row():
    X = np.arange(40, dtype=np.float32).reshape(20, 2)
    shuffled = watching.shuffled_between_samples(X, 0)
    assert not (shuffled == X).all(1).any()
    assert sorted(map(tuple, shuffled.tolist())) == sorted(map(tuple, X.tolist()))


def test_a_run_fails_if_it_does_not_beat_the_mean_row():
    # The curves have one seed and two epochs.
    curves = np.array([[[[3.0, 1.0]], [[3.0, 2.0]]], [[[3.0, 1.0]], [[3.0, 9.0]]]])
    watched = watching.Watched(Protocol(seeds=(0,)), curves, np.array([[4.0], [4.0]]))
    assert watched.passes[..., 0].tolist() == [[True, True], [True, False]]


def test_the_error_equals_that_of_the_reconstruction():
    from leadline.autoencoders import Autoencoder, pretrain

    X = data.digits().X[:30]
    pretrained = pretrain(Autoencoder(64, (5,), seed=0), X[:20], validation=X[20:], epochs=3)
    found = overfitting.reconstruction_error(pretrained, X[20:])
    assert found == pytest.approx(pretrained.clean_error[pretrained.best_epoch], rel=1e-5)
