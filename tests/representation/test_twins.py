"""Near twins are counted; rows that are close by chance are not."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris, load_wine

from leadline import data
from leadline.autoencoders.training._settings import PretrainingSettings
from leadline.representation import represent
from leadline.representation._twins import near_twins
from leadline.representation._views import Whole

RNG = np.random.default_rng(0)


def twins(rows: np.ndarray) -> int:
    return near_twins(rows, data.row_fingerprints(rows))


@pytest.mark.parametrize(
    ("copies", "jitter", "width"), [(10, 0.05, 10), (2, 1e-4, 6), (16, 0.05, 3000)]
)
def test_rows_with_jitter_are_near_twins(copies: int, jitter: float, width: int):
    """Each of 40 rows is repeated, like windows of one recording or rows of one subject."""
    rows = np.repeat(RNG.normal(size=(40, width)), copies, axis=0)
    rows += jitter * RNG.normal(size=rows.shape)
    assert twins(rows) > 0.8 * len(rows)


def test_ordinary_data_has_no_near_twins():
    for load in (load_wine, load_breast_cancer, load_iris):
        table = np.asarray(load(return_X_y=True)[0])
        assert twins((table - table.mean(0)) / table.std(0)) == 0
    assert twins(data.digits().X[:500]) == 0
    for width in (1, 2, 3, 5, 200):
        assert twins(RNG.normal(size=(500, width))) == 0
    assert twins(np.ones((30, 8))) == 0


def test_exact_repeats_are_not_near_twins():
    assert twins(np.repeat(RNG.normal(size=(50, 8)), 3, axis=0)) == 0


def test_a_study_notes_near_twins(monkeypatch: pytest.MonkeyPatch):
    settings = property(lambda self: PretrainingSettings(5e-3, epochs=1, batch_size=150))
    monkeypatch.setattr(Whole, "settings", settings)
    rows = np.repeat(RNG.normal(size=(30, 8)), 4, axis=0)
    y = np.repeat(RNG.integers(2, size=30), 4)
    more = RNG.normal(size=(150, 8))
    options = {"kinds": "vanilla", "labels": ["all"], "num_subsets": 1, "seeds": 2}
    jittered = represent(rows + 0.01 * RNG.normal(size=rows.shape), y, X_unlabelled=more, **options)
    assert "120 of 120 labelled rows nearly equal another row" in " ".join(jittered.findings)
    assert not represent(rows, y, X_unlabelled=more, **options).notes
