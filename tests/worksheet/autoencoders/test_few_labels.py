import numpy as np
import pytest

from leadline.data import Dataset
from leadline.worksheet import STATEMENTS, Holds, Setting
from leadline.worksheet.measurements.autoencoders import few_labels as measurements


@pytest.fixture
def three_seeds(monkeypatch: pytest.MonkeyPatch):
    """Make the measurement short."""
    monkeypatch.setattr(Setting, "seeds", property(lambda self: (0, 1, 2)))
    monkeypatch.setattr(
        Setting, "pick", lambda self, *, quick, full: min(quick, 20) if quick > 20 else 2
    )
    monkeypatch.setattr(measurements, "HIDDEN_SIZES", (48, 16))
    monkeypatch.setattr(measurements, "LABELS", (10, 50))


def test_ae_f_is_measured_on_the_digits(three_seeds, tmp_path):
    answer = measurements.gain_with_few_labels(Setting("quick"))
    named = {
        leaf.effect for leaf in STATEMENTS["ae.f"].criterion.leaves() if not isinstance(leaf, Holds)
    }
    assert named <= set(answer.effects)
    gains = answer.effects
    difference = gains["gain_at_fewest"].interval.estimate - gains["gain_at_most"].interval.estimate
    assert gains["gain_at_fewest_minus_most"].interval.estimate == pytest.approx(difference)
    study = answer.soundings["study"]
    assert isinstance(study, measurements.LabelEfficiency)
    assert {"raw", "pca", "untrained", "vanilla", "denoising"} == set(study.names)
    assert gains["gain_at_fewest"].interval == study.gain("denoising", labels=10).interval
    assert any("times as many" in finding for finding in answer.findings)
    answer.save(tmp_path)
    assert str(type(answer).load(tmp_path)) == str(answer)


def test_ae_f_is_measured_on_rows_of_the_user(three_seeds):
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    X = (rng.standard_normal((240, 12)) + 2 * np.eye(12)[y]).astype(np.float32)
    answer = measurements.gain_with_few_labels(Setting("quick", Dataset(X, y, name="three heaps")))
    assert answer.protocol.settings["data"] == "three heaps"
    assert answer.effects["gain_at_fewest"].label == "denoising minus raw, 3 labels"
    assert answer.verdict.outcome in ("supported", "refuted", "undecided")
