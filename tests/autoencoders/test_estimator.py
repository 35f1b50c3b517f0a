import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from leadline import data
from leadline.autoencoders import AutoencoderTransformer
from leadline.errors import InputError
from leadline.probing import label_efficiency

X = np.random.default_rng(0).normal(size=(60, 5)) * [1, 10, 1e3, 1e-6, 0] + [0, 5, 1e5, 0, 3]


def quick(**options):
    return AutoencoderTransformer(hidden_sizes=(8, 3), epochs=10, **options)


@pytest.fixture
def scikit_learns_own_seed():
    """Restore NumPy's global generator, which the checks of scikit-learn seed."""
    before = np.random.get_state()
    yield
    np.random.set_state(before)


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("scikit_learns_own_seed")
@pytest.mark.parametrize("kind", ["denoising", "masked", "vanilla"])
def test_the_estimator_passes_the_checks_of_scikit_learn(kind):
    results = check_estimator(
        AutoencoderTransformer(kind, hidden_sizes=(8, 3), epochs=20), on_skip=None
    )
    assert {result["status"] for result in results} <= {"passed", "skipped"}
    assert sum(result["status"] == "passed" for result in results) > 30


def test_the_defaults_work_on_data_of_any_scale():
    small = AutoencoderTransformer(epochs=20).fit(X)
    codes = small.transform(X)
    assert codes.shape == (60, 64)
    assert np.isfinite(codes).all()
    assert small.scale_[3] == pytest.approx(X[:, 3].std())
    assert list(small.get_feature_names_out()[:2]) == [
        "autoencodertransformer0",
        "autoencodertransformer1",
    ]


def test_codes_do_not_depend_on_units():
    one, other = (quick().fit(rows).transform(rows) for rows in (X, X * [2.0, 0.5, 4, 1024, 1] + 0))
    np.testing.assert_allclose(one, other, atol=1e-3)
    digits = data.digits().X[:200].astype(np.float64)
    one, other = (quick().fit(rows).transform(rows) for rows in (digits, 256 * digits))
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_columns_that_share_a_unit_are_scaled_together():
    digits = data.digits().X
    assert np.ptp(AutoencoderTransformer(epochs=1).fit(digits).scale_) == 0
    by_column = AutoencoderTransformer(epochs=1, scale="column").fit(digits).scale_
    assert by_column[5] == pytest.approx(digits[:, 5].astype(float).std())
    assert by_column[0] == 1
    assert np.ptp(AutoencoderTransformer(epochs=1).fit(X).scale_) > 100


def test_without_validation_the_last_weights_are_kept():
    transformer = AutoencoderTransformer(hidden_sizes=(4,), epochs=2, validation=None).fit(X)
    assert transformer.pretrained_.best_epoch == 2
    assert transformer.pretrained_.own_error.size == 0


def test_transforming_is_repeatable_and_survives_pickling_and_cloning():
    fitted = quick(seed=3).fit(X)
    whole = fitted.transform(X)
    assert np.array_equal(fitted.transform(X[7:9]), whole[7:9])
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).transform(X), whole)
    copied: Any = clone(fitted)
    assert np.array_equal(copied.fit(X).transform(X), whole)
    assert not np.array_equal(quick(seed=4).fit(X).transform(X), whole)


def test_codes_are_centred_and_have_unit_length_by_default():
    rows = data.digits().X[:150]
    directions, plain = (quick(unit_length=unit).fit(rows) for unit in (True, False))
    codes = plain.transform(rows)
    np.testing.assert_allclose(codes.mean(axis=0), 0, atol=1e-5)
    inner = plain.pretrained_.encoder.encode(plain._scaled(rows))
    np.testing.assert_allclose(codes, inner - plain.code_mean_, atol=1e-5)
    lengths = np.linalg.norm(codes, axis=1, keepdims=True)
    assert np.ptp(lengths) > 0.1
    np.testing.assert_allclose(directions.transform(rows), codes / lengths, atol=1e-6)


def test_a_code_of_the_estimator_does_not_depend_on_other_rows():
    fitted = quick().fit(X)
    whole, order = fitted.transform(X), np.random.default_rng(0).permutation(len(X))
    assert np.array_equal(fitted.transform(X[order]), whole[order])
    assert all(
        np.array_equal(fitted.transform(X[i : i + 1]), whole[i : i + 1]) for i in range(len(X))
    )


def test_a_pipeline_tunes_only_the_probe():
    rows, y = load_wine(return_X_y=True)
    encoder = AutoencoderTransformer(hidden_sizes=(16, 8)).fit(rows)
    steps = make_pipeline(FrozenEstimator(encoder), StandardScaler(), LogisticRegression())
    search = GridSearchCV(steps, {"logisticregression__C": [0.1, 1.0]}, cv=3)
    search.fit(rows, y)
    assert search.best_score_ > 0.9
    assert np.array_equal(search.best_estimator_[:1].transform(rows), encoder.transform(rows))


def test_the_estimator_recognises_raw_rows_and_can_be_studied():
    digits = data.digits()
    roles = [data.split_roles(digits.labels, seed=seed) for seed in range(2)]
    fitted = [quick().fit(digits.X[role.pretrain_train]) for role in roles]
    assert fitted[0].has_seen(digits.X[roles[0].pretrain_train]).all()
    study = label_efficiency(
        {"mine": fitted}, digits.X, digits.labels, roles=roles, labels=[10], num_subsets=2
    )
    assert "mine" in study.names
    with pytest.raises(InputError, match="must not be probed on rows that it was pretrained on"):
        label_efficiency(
            {"mine": fitted[::-1]}, digits.X, digits.labels, roles=roles, labels=[10], num_subsets=2
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kind": "noisy"}, "kind = 'noisy'"),
        ({"scale": "rows"}, "scale = 'rows'"),
        ({"strength": -1.0}, "at least 0"),
        ({"epochs": 0}, "epochs must be"),
    ],
)
def test_settings_are_checked(options, text):
    with pytest.raises(InputError, match=text):
        AutoencoderTransformer(**{"hidden_sizes": (4,), **options}).fit(X)


def test_masked_cells_count_as_missing():
    rows = np.ma.array(X, mask=np.eye(60, 5, dtype=bool))
    with pytest.raises(InputError, match="NaN"):
        quick().fit(rows)
    fitted = quick().fit(X)
    with pytest.raises(InputError, match="NaN"):
        fitted.transform(rows)
    np.testing.assert_array_equal(fitted.transform(np.ma.array(X)), fitted.transform(X))
