import numpy as np
import pytest

from leadline import data
from leadline.autoencoders import Autoencoder, GaussianNoise, Nothing, pretrain
from leadline.worksheet import STATEMENTS, Holds, Setting
from leadline.worksheet.measurements.autoencoders import inference


def test_ae_i_is_measured_on_the_digits(monkeypatch, tmp_path):
    monkeypatch.setattr(Setting, "seeds", property(lambda self: (0, 1, 2)))
    monkeypatch.setattr(Setting, "pick", lambda self, *, quick, full: min(quick, 10))
    answer = inference.noise_when_used(Setting("quick"))
    named = {
        leaf.effect for leaf in STATEMENTS["ae.i"].criterion.leaves() if not isinstance(leaf, Holds)
    }
    assert named <= set(answer.effects)
    use = answer.soundings["use"]
    assert isinstance(use, inference.CorruptedUse)
    assert use.accuracy.shape == (2, 3, 2, 2)
    both = 100 * (use.accuracy[0, :, 0, 0] - use.accuracy[0, :, 1, 1])
    assert answer.effects["clean_minus_noisy"].interval.estimate == pytest.approx(both.mean())
    assert answer.effects["clean_minus_masked"].interval.estimate > 0
    answer.save(tmp_path)
    assert str(type(answer).load(tmp_path)) == str(answer)


@pytest.fixture(scope="module")
def trained():
    digits = data.digits()
    role = data.split_roles(digits.labels, seed=0)
    model = Autoencoder(digits.X.shape[1], (16,), seed=0)
    return digits, role, pretrain(model, digits.X[role.pretrain_train], epochs=3).encoder


def test_without_corruption_all_cells_agree(trained):
    digits, role, encoder = trained
    cells = inference._cells(encoder, Nothing(), role, 0, 2, digits)
    assert np.ptp(cells) == 0
    assert cells[0, 0] > 0.3


def test_rows_hidden_by_noise_are_classified_at_chance(trained):
    digits, role, encoder = trained
    cells = inference._cells(encoder, GaussianNoise(1000.0), role, 0, 2, digits)
    assert cells[0, 0] > 0.3
    assert cells[1, 1] == pytest.approx(0.1, abs=0.08)
