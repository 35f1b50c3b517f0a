import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from leadline import data
from leadline.autoencoders import Autoencoder, GaussianNoise, pretrain_many
from leadline.errors import InputError, describe
from leadline.probing import LabelEfficiency, label_efficiency, linear_probe
from leadline.probing.representation import as_encode, principal_components
from leadline.probing.scaling import Scaling

DIGITS = data.digits()
X, y = DIGITS.X, data.check_labels(DIGITS.y, len(DIGITS))
SEEDS = range(3)
ROLES = [data.split_roles(y, seed=seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def encoders():
    models = [Autoencoder(64, (96, 96, 32), corruption=GaussianNoise(0.5), seed=seed) for seed in SEEDS]
    pretrained = pretrain_many(
        models,
        [X[role.pretrain_train] for role in ROLES],
        validation=[X[role.pretrain_validation] for role in ROLES],
        seeds=SEEDS,
    )
    return [one.encoder for one in pretrained]


def study(encoders, X=X, y=y, roles=ROLES, labels=(10, 30, "all"), num_subsets=3, **options):
    return label_efficiency(encoders, X, y, roles=roles, labels=labels, num_subsets=num_subsets, **options)


@pytest.fixture(scope="module")
def measured(encoders):
    return study({"denoising": encoders, "square": lambda rows: rows**2})


def test_baselines_are_always_there(measured):
    assert measured.names == ("denoising", "square", "raw", "pca", "untrained")
    assert measured.sizes == (32, 64, 64, 32, 32)
    assert measured.accuracy.shape == (5, 3, 3, 3)
    assert measured.budgets.tolist() == [10, 30, len(ROLES[0].probe_pool)]
    assert ((measured.accuracy > 0.3) & (measured.accuracy <= 1)).all()


def test_each_number_is_that_of_a_probe_on_its_own(measured, encoders):
    for seed, role in zip(SEEDS, ROLES, strict=True):
        subsets = data.label_subsets(y, role.probe_pool, [10, 30, "all"], num=3, seed=seed)
        for name, encode in (("raw", lambda rows: rows), ("denoising", encoders[seed].encode)):
            scaling = Scaling.fit(encode(X[role.pretrain_train]))
            for budget, labels in enumerate((10, 30)):
                for draw, rows in enumerate(subsets.rows(labels)):
                    probe = linear_probe(encode(X[rows]), y[rows], encode(X[role.test]), y[role.test], scaling=scaling)
                    where = measured.names.index(name), seed, budget, draw
                    assert measured.accuracy[where] == pytest.approx(probe.accuracy, abs=2.5 / len(role.test))
                    assert measured.strengths[where] == pytest.approx(probe.strength)


def test_the_whole_pool_is_one_subset(measured):
    assert np.ptp(measured.accuracy[:, :, -1], axis=-1).max() == 0


def test_denoising_helps_where_labels_are_few(measured):
    gain = measured.gain("denoising")
    assert gain.label == "denoising minus raw, 10 labels"
    assert gain.interval.estimate > 5
    assert gain.interval.estimate == pytest.approx(
        measured.interval("denoising").estimate - measured.interval("raw").estimate
    )
    assert measured.gain("denoising", over="untrained").interval.estimate > gain.interval.estimate
    shrinks = measured.gain_shrinks("denoising").interval.estimate
    last = int(measured.budgets[-1])
    assert shrinks == pytest.approx(gain.interval.estimate - measured.gain("denoising", labels=last).interval.estimate)
    assert measured.chosen == "denoising"
    assert "denoising reaches" in str(measured)


def test_poisoned_test_rows_move_no_statistic(encoders):
    """A huge offset on the test and probe-validation rows leaves every accuracy on the others as it was."""
    poisoned = X.copy()
    for role in ROLES[:1]:
        poisoned[role.test] += 1e4
    roles = [replace(ROLES[0], test=ROLES[0].probe_validation)] * 2
    same = {"denoising": [encoders[0]] * 2}
    clean, dirty = study(same, roles=roles), study(same, X=poisoned, roles=roles)
    assert np.array_equal(clean.accuracy, dirty.accuracy)
    assert np.array_equal(clean.strengths, dirty.strengths)


def test_labels_outside_the_subset_do_not_matter(measured, encoders):
    """Relabelling pool rows that no subset holds, and all pretraining rows, changes nothing."""
    shuffled = y.copy()
    for role in ROLES[:1]:
        rows = np.r_[role.pretrain_train, role.pretrain_validation]
        shuffled[rows] = np.random.default_rng(0).permutation(shuffled[rows])
    roles = [ROLES[0]] * 2
    given = {"denoising": [encoders[0]] * 2}
    assert np.array_equal(study(given, roles=roles).accuracy, study(given, y=shuffled, roles=roles).accuracy)


def test_noise_features_stay_at_chance():
    rng = np.random.default_rng(0)
    noise = {tuple(row): rng.normal(size=5) for row in X}
    result = study({"noise": lambda rows: np.array([noise[tuple(row)] for row in rows])})
    assert np.abs(result.accuracy[0].mean() - 0.1) < 0.02


def test_pca_is_fitted_on_the_pretraining_rows_and_a_rotation_changes_nothing():
    from sklearn.decomposition import PCA

    rows = X[ROLES[0].pretrain_train]
    ours, theirs = principal_components(rows, 5)(X), PCA(5, svd_solver="full").fit(rows).transform(X)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-4)
    full = study({"all components": 64})
    np.testing.assert_allclose(full.accuracy[0], full.accuracy[1], atol=0.006)


def test_a_users_module_takes_part_and_is_left_as_it_was():
    module = torch.nn.Sequential(Autoencoder(64, (8,), seed=0).encoder[0], torch.nn.Dropout(0.5))
    module[0].eval()
    encode = as_encode(module, X)
    assert np.array_equal(encode(X[:9]), encode(X[:9]))
    assert [part.training for part in module.modules()] == [True, False, True]
    assert all(parameter.grad is None for parameter in module.parameters())
    assert study({"mine": module}, labels=(10,)).sizes[0] == 8


def test_crossing_is_where_the_mean_curves_meet(measured):
    curves = np.zeros((2, 3, 3, 1))
    curves[0, :, :, 0], curves[1, :, :, 0] = [0.6, 0.8, 0.9], [0.5, 0.7, 1.0]
    arrays = {"accuracy": curves, "validation_accuracy": curves, "strengths": curves}
    crossed = replace(measured, names=("a", "raw"), sizes=(1, 1), budgets=np.array([10, 100, 1000]), **arrays)
    assert crossed.crossing("a") == pytest.approx(10**2.5)
    assert crossed.crossing("raw", over="a") == pytest.approx(10**2.5)
    short = {name: array[:, :, :2] for name, array in arrays.items()}
    apart = replace(crossed, budgets=np.array([10, 100]), **short)
    assert apart.crossing("a") is None
    assert "the curves cross at 316 labels" in str(crossed)


def test_is_a_sounding(measured, tmp_path: Path):
    table = measured.table()
    assert len(table) == 5 * 3
    assert table.iloc[0].representation == "denoising"
    names = {trace["name"] for trace in measured.figure().to_dict()["data"] if trace.get("name")}
    assert names == set(measured.names)
    measured.save(tmp_path)
    back = LabelEfficiency.load(tmp_path)
    assert np.array_equal(back.accuracy, measured.accuracy)
    assert str(back) == str(measured)
    assert back.protocol == measured.protocol


def test_same_seeds_same_study(measured, encoders):
    again = study({"denoising": encoders})
    assert np.array_equal(again.accuracy[0], measured.accuracy[0])


def test_rows_that_an_encoder_saw_are_refused_unless_asked_for(encoders):
    wrong = [encoders[1], encoders[0], encoders[2]]
    with pytest.raises(InputError, match=r"'denoising' of seed 0 has seen \d+ of \d+ rows of probe_pool") as caught:
        study({"denoising": wrong})
    assert "transductive=True" in str(caught.value)
    assert study({"denoising": wrong}, labels=(10,), transductive=True).accuracy.shape == (4, 3, 1, 3)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda e: study({"denoising": e[:2]}), "'denoising' lists 2 for 3 seeds"),
        (lambda e: study({"pca": 65}), r"65 components of 64 features.*\n.*\n  where: in the representation 'pca'"),
        (lambda e: study({"mine": "pixels"}), "'pixels'"),
        (lambda e: study({}, roles=ROLES[:1]), "1 roles and 1 seeds"),
        (lambda e: study({}, seeds=[1]), "3 roles and 1 seeds"),
        (lambda e: study({}, labels=(5,)), "at least one label per class"),
        (lambda e: study({}, strengths=0.0), "must be positive"),
        (lambda e: study({"short": lambda rows: rows[:-1]}), "'short' gave"),
        (lambda e: study({"nan": lambda rows: rows / 0}), "the representation 'nan'"),
        (lambda e: study({}).gain("mine"), "use one of raw, pca"),
        (lambda e: study({}, labels=(10,)).gain("raw", labels=11), "labels = 11"),
    ],
)
def test_refuses_what_does_not_fit(make, text, encoders):
    with np.errstate(all="ignore"), pytest.raises(InputError) as caught:
        make(encoders)
    assert re.search(text, describe(caught.value))
