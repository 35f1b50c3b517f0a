"""Label efficiency against single probes, its statistics, and its refusals."""

import dataclasses
import json
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import stdtrit

from leadline import data
from leadline.autoencoders import (
    Autoencoder,
    GaussianNoise,
    MaskedPatchTransformer,
    ModuleEncoder,
    pretrain,
    pretrain_many,
)
from leadline.errors import InputError, describe
from leadline.probing import LabelEfficiency, label_efficiency, linear_probe, rank_me, ridge_probe
from leadline.probing.encoding._principal_components import principal_components
from leadline.probing.encoding._scaling import Scaling
from leadline.probing.encoding._sources import as_source
from leadline.sounding import Protocol
from leadline.statistics import paired_interval

DIGITS = data.digits()
X, y = DIGITS.X, data.check_labels(DIGITS.y, len(DIGITS))
SEEDS = range(3)
ROLES = [data.split_roles(y, seed=seed) for seed in SEEDS]


@pytest.fixture(scope="module")
def encoders():
    models = [
        Autoencoder(64, (96, 96, 32), corruption=GaussianNoise(0.5), seed=seed) for seed in SEEDS
    ]
    pretrained = pretrain_many(
        models,
        [X[role.pretrain_train] for role in ROLES],
        validation=[X[role.pretrain_validation] for role in ROLES],
        seeds=SEEDS,
    )
    return [one.encoder for one in pretrained]


def study(encoders, X=X, y=y, roles=ROLES, labels=(10, 30, "all"), num_subsets=3, **options):
    return label_efficiency(
        encoders, X, y, roles=roles, labels=labels, num_subsets=num_subsets, **options
    )


@pytest.fixture(scope="module")
def measured(encoders):
    return study({"denoising": encoders, "square": lambda rows: rows**2})


def test_a_study_adds_the_baselines(measured):
    assert measured.names == ("denoising", "square", "raw", "pca", "untrained")
    assert measured.sizes == (32, 64, 64, 32, 32)
    assert measured.accuracy.shape == (5, 3, 3, 3)
    assert measured.budgets.tolist() == [10, 30, len(ROLES[0].probe_pool)]
    assert ((measured.accuracy > 0.3) & (measured.accuracy <= 1)).all()


def test_fewer_baselines_change_nothing_else(measured, encoders):
    fewer = study({"denoising": encoders, "square": lambda rows: rows**2}, baselines=("raw",))
    assert fewer.names == ("denoising", "square", "raw")
    assert (fewer.accuracy == measured.accuracy[:3]).all()


@pytest.mark.parametrize(
    ("baselines", "text"),
    [
        ((), "baselines must contain 'raw'"),
        (("pca",), "baselines must contain 'raw'"),
        (("raw", "identity"), "baselines must be .* or 'pca'"),
        ("raw", "baselines must be a list"),
    ],
)
def test_raw_is_required_and_unknown_baselines_are_refused(baselines, text):
    with pytest.raises(InputError, match=text):
        study({"pca": 8}, baselines=baselines)


def test_each_score_equals_that_of_a_single_probe(measured, encoders):
    for seed, role in zip(SEEDS, ROLES, strict=True):
        subsets = data.label_subsets(y, role.probe_pool, [10, 30, "all"], num=3, seed=seed)
        for name, encode in (("raw", lambda rows: rows), ("denoising", encoders[seed].encode)):
            scaling = Scaling.fit(encode(X[role.pretrain_train]))
            for budget, labels in enumerate((10, 30)):
                for draw, rows in enumerate(subsets.rows(labels)):
                    probe = linear_probe(
                        encode(X[rows]),
                        y[rows],
                        encode(X[role.test]),
                        y[role.test],
                        scaling=scaling,
                    )
                    where = measured.names.index(name), seed, budget, draw
                    assert measured.accuracy[where] == pytest.approx(
                        probe.accuracy, abs=2.5 / len(role.test)
                    )
                    assert measured.strengths[where] == pytest.approx(probe.strength)


def test_the_whole_pool_is_one_subset(measured):
    assert np.ptp(measured.accuracy[:, :, -1], axis=-1).max() == 0


def test_denoising_helps_with_few_labels(measured):
    gain = measured.gain("denoising")
    assert gain.label == "denoising minus raw, 10 labels"
    assert gain.interval.estimate > 5
    assert gain.interval.estimate == pytest.approx(
        measured.interval("denoising").estimate - measured.interval("raw").estimate
    )
    assert measured.gain("denoising", over="untrained").interval.estimate > gain.interval.estimate
    shrinks = measured.gain_shrinks("denoising").interval.estimate
    last = int(measured.budgets[-1])
    assert shrinks == pytest.approx(
        gain.interval.estimate - measured.gain("denoising", labels=last).interval.estimate
    )
    assert measured.chosen == "denoising"
    assert str(measured).startswith("denoising gains +")


def test_poisoned_test_rows_do_not_change_the_probes(encoders):
    """A huge offset on the test and probe-validation rows changes no accuracy on other rows."""
    poisoned = X.copy()
    for role in ROLES[:1]:
        poisoned[role.test] += 1e4
    swapped = {"test": ROLES[0].probe_validation, "probe_validation": ROLES[0].test}
    roles = [replace(ROLES[0], **swapped)] * 2
    same = {"denoising": [encoders[0]] * 2}
    clean, dirty = study(same, roles=roles), study(same, X=poisoned, roles=roles)
    assert np.array_equal(clean.accuracy, dirty.accuracy)
    assert np.array_equal(clean.strengths, dirty.strengths)


def test_labels_outside_the_subsets_have_no_effect(measured, encoders):
    """New labels for pretraining rows and for pool rows outside the subsets change nothing."""
    shuffled = y.copy()
    for role in ROLES[:1]:
        rows = np.r_[role.pretrain_train, role.pretrain_validation]
        shuffled[rows] = np.random.default_rng(0).permutation(shuffled[rows])
    roles = [ROLES[0]] * 2
    given = {"denoising": [encoders[0]] * 2}
    assert np.array_equal(
        study(given, roles=roles).accuracy, study(given, y=shuffled, roles=roles).accuracy
    )


def test_a_study_does_not_change_the_encoders(encoders):
    """The weights keep the same bits in a study, for any labels."""
    before = [
        {name: tensor.clone() for name, tensor in one.module.state_dict().items()}
        for one in encoders
    ]
    for labels in (y, np.random.default_rng(0).permutation(y)):
        study({"denoising": encoders}, y=labels, labels=(10,), num_subsets=1)
        for one, weights in zip(encoders, before, strict=True):
            assert all(
                torch.equal(tensor, weights[name])
                for name, tensor in one.module.state_dict().items()
            )
            assert all(
                np.array_equal(array, weights[name].numpy()) for name, array in one.weights.items()
            )


def test_noise_features_stay_at_chance():
    rng = np.random.default_rng(0)
    noise = {tuple(row): rng.normal(size=5) for row in X}
    result = study({"noise": lambda rows: np.array([noise[tuple(row)] for row in rows])})
    assert np.abs(result.accuracy[0].mean() - 0.1) < 0.02


def test_pca_is_fitted_to_the_pretraining_rows_and_all_components_equal_raw_inputs():
    from sklearn.decomposition import PCA

    rows = X[ROLES[0].pretrain_train]
    ours, theirs = (
        principal_components(rows, 5)(X),
        PCA(5, svd_solver="full").fit(rows).transform(X),
    )
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-4)
    full = study({"all components": 64})
    np.testing.assert_allclose(full.accuracy[0], full.accuracy[1], atol=0.006)


def test_a_pipeline_of_scikit_learn_is_probed_through_its_transform():
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(StandardScaler(), PCA(8, random_state=0)).fit(
        X[ROLES[0].pretrain_train]
    )
    both = study(
        {"pipeline": pipeline, "function": pipeline.transform}, labels=(30,), num_subsets=1
    )
    assert np.array_equal(both.accuracy[0], both.accuracy[1])
    assert both.sizes[0] == 8


def test_a_users_module_is_probed_and_stays_unchanged():
    module = torch.nn.Sequential(Autoencoder(64, (8,), seed=0).encoder[0], torch.nn.Dropout(0.5))
    module[0].eval()
    encode = as_source(module).fit(X)
    assert np.array_equal(encode(X[:9]), encode(X[:9]))
    assert [part.training for part in module.modules()] == [True, False, True]
    assert all(parameter.grad is None for parameter in module.parameters())
    assert study({"mine": module}, labels=(10,)).sizes[0] == 8


class OfImages(torch.nn.Module):
    """A module that only accepts images, and returns tokens."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            self.layer = torch.nn.Conv2d(1, 3, 4, stride=4)

    def encode(self, images):
        return self.layer(images).flatten(2)


def test_modules_and_functions_receive_images_in_their_shape(encoders):
    """Sources of images read images, sources of rows read rows; tokens are concatenated."""
    module, images = OfImages(), X.reshape(-1, 1, 8, 8)
    given = {
        "module": module,
        "function": lambda images: images[:, 0, :, 3],
        "trained": ModuleEncoder(module),
        "denoising": encoders,
        "dense": Autoencoder(64, (4,), seed=0),
    }
    shaped = study(given, X=images, labels=(10,))
    assert shaped.sizes[:3] == (12, 8, 12)
    flat = {
        "module": lambda rows: (
            OfImages.encode(module, torch.tensor(rows).view(-1, 1, 8, 8)).flatten(1).detach()
        ),
        "function": lambda rows: rows[:, 3::8],
        "trained": lambda rows: given["trained"].encode(rows.reshape(-1, 1, 8, 8)).reshape(-1, 12),
        **{name: given[name] for name in ("denoising", "dense")},
    }
    assert shaped.names == (
        "module",
        "function",
        "trained",
        "denoising",
        "dense",
        "raw",
        "pca",
        "untrained",
    )
    np.testing.assert_allclose(
        shaped.accuracy, study(flat, labels=(10,)).accuracy, atol=2.5 / len(ROLES[0].test)
    )


def test_a_module_of_another_shape_is_refused_before_any_probe():
    called = []
    with pytest.raises(InputError, match=r"OfImages failed on rows of shape \(1, 64\)") as caught:
        study({"spy": lambda rows: called.append(1) or rows, "mine": OfImages()})
    assert "(n, channels, height, width)" in str(caught.value)
    assert "in the representation 'mine'" in describe(caught.value)
    assert not called


def curves(*accuracies, validation=None, names=("a", "raw"), budgets=(10, 100, 1000)):
    """Return a study of known accuracies, each of shape (seeds, label counts)."""
    stacked = np.stack([np.atleast_3d(np.asarray(one, float)) for one in accuracies])
    return LabelEfficiency(
        protocol=Protocol(),
        names=names,
        sizes=(1,) * len(names),
        budgets=np.array(budgets),
        accuracy=stacked,
        validation_accuracy=stacked
        if validation is None
        else np.asarray(validation, float)[..., None],
        strengths=np.ones_like(stacked),
        rank_me=np.ones(stacked.shape[:2]),
    )


SPREAD = np.array([[-0.02], [0.0], [0.02]])


def test_crossing_is_the_meeting_point_of_the_mean_curves():
    raw = np.array([[0.5, 0.7, 1.0]] * 3)
    crossed = curves(SPREAD + np.array([0.6, 0.8, 0.9]), raw)
    assert crossed.crossing("a").estimate == pytest.approx(10**2.5)
    assert crossed.crossing("raw", over="a").estimate == pytest.approx(10**2.5)
    # The difference falls from 0.1 to -0.1 within a decade, so that the half-width of the mean,
    # t(2) 0.02 / sqrt(3), is a quarter of a decade.
    reach = stdtrit(2, 0.975) * 0.02 / 3**0.5 / 0.2
    found = crossed.crossing("a")
    assert np.log10([found.low, found.high]) == pytest.approx([2.5 - reach, 2.5 + reach])
    sentence = f"meet at 316 [{found.low:.0f}, {found.high:.0f}] labels."
    assert sentence in " ".join(crossed.findings)


def test_curves_that_do_not_meet_leave_the_crossing_open():
    raw = np.array([[0.5, 0.7, 0.8]] * 3)
    ahead, behind = curves(SPREAD + raw + 0.1, raw), curves(SPREAD + raw - 0.1, raw)
    assert dataclasses.astuple(ahead.crossing("a"))[:3] == (np.inf, 1000, np.inf)
    assert dataclasses.astuple(behind.crossing("a"))[:3] == (0, 0, 10)
    assert "meet at 1000 or more labels." in " ".join(ahead.findings)
    near = curves(SPREAD + np.array([0.6, 0.71, 0.81]), raw).crossing("a")
    assert near.estimate == near.high == np.inf
    assert 10 < near.low < 100


def test_multiplier_is_the_ratio_of_label_counts_with_equal_scores():
    raw = np.array([[0.5, 0.7, 0.8]] * 3)
    ahead = curves(SPREAD + np.array([0.6, 0.75, 0.9]), raw)
    reach = stdtrit(2, 0.975) * 0.02 / 3**0.5 / 0.2
    found = ahead.multiplier("a")
    assert found.estimate == pytest.approx(10**0.5)
    assert np.log10([found.low, found.high]) == pytest.approx([0.5 - reach, 0.5 + reach])
    assert dataclasses.astuple(ahead.multiplier("a", labels=1000))[:3] == (np.inf, 1, np.inf)
    assert ahead.multiplier("raw", over="a").high == 1
    wider = ahead.multiplier("a", level=0.9975)
    assert wider.low < found.low < found.high < wider.high
    sentence = f"Raw inputs need 3.2 [{found.low:.1f}, {found.high:.1f}] times as many labels"
    assert sentence in " ".join(ahead.findings)


def test_findings_state_that_the_seeds_determine_nothing():
    """Contradicting seeds leave the intervals of crossing and multiplier open on both sides."""
    raw = np.array([[0.5, 0.5, 0.5]] * 3)
    undecided = curves(np.array([[-0.4], [0.0], [0.4]]) + raw, raw)
    assert dataclasses.astuple(undecided.crossing("a"))[1:3] == (0, np.inf)
    assert (
        "The seeds do not determine where the curves of a and raw inputs meet."
        in undecided.findings
    )
    assert "do not determine how many more labels raw inputs need" in " ".join(undecided.findings)


def test_intervals_stay_within_the_possible_values():
    """Student's t of three seeds exceeds 100 %; accuracies and their differences do not."""
    raw = np.array([[0.05, 0.7, 0.9], [0.0, 0.9, 0.8], [0.3, 0.8, 1.0]])
    extreme = curves(np.array([[0.6, 0.9, 1.0], [0.2, 0.7, 0.9], [1.0, 0.8, 1.0]]), raw)
    plain = paired_interval(100 * extreme.at("a", 1000))
    assert plain.high > 100
    assert (extreme.interval("a", 1000).high, extreme.interval("a", 1000).low) == (100, plain.low)
    assert extreme.interval("raw", 10).low == 0
    for name in extreme.names:
        for labels in extreme.budgets.tolist():
            accuracy, gain = extreme.interval(name, labels), extreme.gain(name, labels=labels)
            assert 0 <= accuracy.low <= accuracy.estimate <= accuracy.high <= 100
            for interval in (
                gain.interval,
                gain.simultaneous,
                extreme.optimism(labels).simultaneous,
            ):
                assert -100 <= interval.low <= interval.estimate <= interval.high <= 100
    assert extreme.optimism(10).interval.low >= 0
    assert extreme.gain("a", labels=10).simultaneous.high == 100
    low, high = extreme.figure().to_dict()["layout"]["yaxis"]["range"]
    assert -5 < low < 0
    assert 100 < high < 105
    explained = replace(extreme, measure="R²", accuracy=extreme.accuracy - 3)
    assert explained.interval("a", 10).low < -300
    assert replace(extreme, measure="R²").interval("a", 1000).high == 100


def test_two_seeds_give_no_interval_in_text_table_figure_and_file(tmp_path: Path):
    two = curves(np.array([[0.85, 0.9, 0.95], [0.9, 0.92, 0.97]]), np.array([[0.5, 0.7, 0.96]] * 2))
    assert not two.interval("a").is_known
    text = str(two)
    assert "gains +37.5 points over raw inputs with 10 labels (no interval: 2 seeds)" in text
    assert "[" not in text
    assert "nan" not in text
    table = two.table()
    assert (
        table[["accuracy low", "accuracy high", "gain low", "gain high", "multiplier low"]]
        .isna()
        .all()
        .all()
    )
    assert table[["accuracy", "gain"]].notna().all().all()
    low, high = two.figure().to_dict()["layout"]["yaxis"]["range"]
    assert 40 < low < 50
    assert 96 < high < 101
    assert "nan" not in json.dumps(two.figure().to_plotly_json()["layout"], default=str).lower()
    two.save(tmp_path)
    assert str(LabelEfficiency.load(tmp_path)) == text
    ahead = curves(np.array([[0.9, 0.9, 0.9]] * 2), np.array([[0.5, 0.7, 0.8]] * 2))
    assert "do not determine where the curves of a and raw inputs meet" in " ".join(ahead.findings)


def test_verdict_table_and_figure_show_the_largest_class(measured):
    share = 100 * np.mean([np.bincount(y[role.test]).max() / len(role.test) for role in ROLES])
    assert f", largest class {share:.1f} %" in str(measured)
    assert measured.table()["largest class"].to_numpy() == pytest.approx(share)
    layout = measured.figure().to_dict()["layout"]
    assert layout["annotations"][0]["text"] == f"largest class {share:.1f} %"
    assert layout["shapes"][0]["y0"] == pytest.approx(share)


def test_the_largest_class_puts_rare_positives_into_perspective():
    """An accuracy of 99 % means nothing if 99 % of the rows belong to one class."""
    labels = (np.arange(len(X)) % 100 == 0).astype(int)
    roles = [data.split_roles(labels, seed=seed) for seed in SEEDS]
    found = study({"pca": 2}, y=labels, roles=roles, labels=("all",), num_subsets=1)
    assert re.search(
        r"pca gains .*: 9\d\.\d % against 9\d\.\d %, largest class 9[89]\.\d %$",
        str(found),
    )


def test_no_verdict_prints_a_negative_zero():
    raw = np.array([[0.5, 0.7, 0.8]] * 3)
    found = curves(raw - 1e-5 * np.array([[0.9], [1.0], [1.1]]), raw)
    assert -0.05 < found.gain("a").interval.estimate < 0
    assert "0.0 [0.0, 0.0] points" in str(found)
    assert not re.search(r"[-−+]0(\.0+)?\b", str(found))


def test_a_seed_that_never_matches_is_not_dropped():
    """A seed whose raw inputs never match opens the interval; it is not dropped."""
    raw = np.array([[0.5, 0.7, 0.8], [0.5, 0.7, 0.8], [0.5, 0.7, 0.8], [0.3, 0.4, 0.5]])
    found = curves(np.array([[0.6, 0.8, 0.9]] * 4), raw).multiplier("a")
    assert found.high == np.inf
    assert curves(np.array([[0.6, 0.8, 0.9]] * 3), raw[:3]).multiplier("a").high < 10


def test_optimism_is_the_best_test_score_minus_the_honest_choice():
    tested = np.array([[0.5, 0.6, 0.7], [0.6, 0.5, 0.7], [0.4, 0.4, 0.4]])
    judged = np.array([[0.9, 0.1, 0.5], [0.1, 0.9, 0.6], [1.0, 1.0, 1.0]])
    both = curves(
        *tested[..., None], validation=judged[..., None], names=("a", "b", "raw"), budgets=(10,)
    )
    assert both.choices() == ("a", "b", "b")
    assert both.honest().estimate == pytest.approx(100 * np.mean([0.5, 0.5, 0.7]))
    assert both.optimism().interval.estimate == pytest.approx(100 * np.mean([0.1, 0.1, 0.0]))
    overstated = "Choosing among 2 candidates on the test rows would overstate the score"
    assert f"{overstated} with 10 labels by 6.7 [" in " ".join(both.findings)
    assert both.optimism().label == "best on the test rows minus the honest choice, 10 labels"


def test_baselines_are_candidates_only_without_other_representations(measured):
    assert measured.candidates == ("denoising", "square")
    assert set(measured.choices()) <= {"denoising", "square"}
    assert measured.optimism().interval.estimate >= 0
    assert measured.optimism().interval.high == 0
    assert "on the test rows would not overstate the score" in " ".join(measured.findings)
    alone = study({}, labels=(10,))
    assert alone.candidates == ("raw", "pca")


def test_a_choice_among_52_noise_encoders_stays_at_chance():
    """A choice on the validation rows reports chance; a choice on the test rows does not."""
    rows = {row.tobytes(): i for i, row in enumerate(X)}
    noise = np.random.default_rng(3).normal(size=(52, len(X), 4))
    encoders = {
        f"noise {k}": lambda given, k=k: noise[
            k, [rows[np.ascontiguousarray(row).tobytes()] for row in given]
        ]
        for k in range(52)
    }
    roles = [data.split_roles(y, seed=seed) for seed in range(12)]
    found = study(encoders, roles=roles, labels=(30,), num_subsets=1, strengths=0.1)
    honest, chance = found.honest(), 100 * np.mean([(y[role.test] == 0).mean() for role in roles])
    assert len(set(found.choices())) > 5
    assert honest.low <= chance <= honest.high
    assert found.optimism().simultaneous.above(0)


@pytest.mark.parametrize("labels", [5, 40])
def test_a_study_of_a_quantity_equals_the_ridge_probe(labels):
    quantity = X @ np.random.default_rng(0).normal(size=64)
    quantity.flags.writeable = False  # as a column of pandas
    roles = [data.split_roles(len(X), seed=seed) for seed in SEEDS]
    found = study(
        {"square": lambda rows: rows**2},
        y=quantity,
        roles=roles,
        labels=(labels, "all"),
        probe="ridge",
    )
    assert found.measure == "R²"
    assert found.accuracy[found.names.index("raw"), :, -1].min() > 0.99
    strata = (quantity > quantity.mean()).astype(int)
    for seed, role in zip(SEEDS, roles, strict=True):
        rows = data.label_subsets(strata, role.probe_pool, [labels], num=3, seed=seed).rows(labels)
        assert strata[rows].sum(axis=1) == pytest.approx(
            labels * strata[role.probe_pool].mean(), abs=1
        )
        scaling = Scaling.fit(X[role.pretrain_train])
        for draw, index in enumerate(rows):
            probe = ridge_probe(
                X[index], quantity[index], X[role.test], quantity[role.test], scaling=scaling
            )
            where = found.names.index("raw"), seed, 0, draw
            assert found.accuracy[where] == pytest.approx(probe.r2[0], abs=1e-3)
            assert found.strengths[where] == probe.strengths[0]
    assert f"over raw inputs with {labels} labels over 3 seeds" in str(found)
    own = found.interval("square").estimate
    assert re.search(rf"{own:.1f} % against \d+\.\d % of the variance$", str(found))
    assert "variance explained" in found.figure().to_dict()["layout"]["yaxis"]["title"]["text"]


def test_rank_me_is_computed_from_the_pretraining_rows(measured, encoders):
    assert measured.rank_me.shape == (5, 3)
    rows = X[ROLES[1].pretrain_train]
    assert measured.rank_me[0, 1] == rank_me(encoders[1].encode(rows))
    assert measured.rank_me[2, 1] == rank_me(rows)
    assert (measured.rank_me <= np.array(measured.sizes)[:, None] + 0.01).all()


def test_images_that_were_scaled_in_pretraining_are_recognised():
    """Whole numbers are divided by 255 in pretraining and when an encoder recognises its rows."""
    pixels = np.round(255 * X[:600]).astype(np.uint8).reshape(-1, 8, 8)
    model = MaskedPatchTransformer(
        8, 4, width=8, depth=1, heads=1, decoder_width=8, decoder_heads=1, seed=0
    )
    encoder = pretrain(model, pixels, epochs=1).encoder
    assert encoder.has_seen(pixels).all()
    assert encoder.has_seen(pixels[..., None]).all()
    roles = [data.split_roles(y[:600], seed=seed) for seed in range(2)]
    with pytest.raises(InputError, match="must not be probed on rows that it was pretrained on"):
        study({"masked": encoder}, X=pixels, y=y[:600], roles=roles, labels=(10,))


def test_an_encoder_of_another_width_is_refused_before_any_probe(encoders):
    called = []
    with pytest.raises(InputError) as caught:
        study({"spy": lambda rows: called.append(1) or rows, "denoising": encoders}, X=X[:, :60])
    assert "X has 60 features, the encoder takes 64" in str(caught.value)
    assert "in the representation 'denoising'" in describe(caught.value)
    assert not called


def test_label_efficiency_is_a_sounding(measured, tmp_path: Path):
    table = measured.table()
    assert len(table) == 5 * 3
    assert {"multiplier low", "optimism high", "RankMe", "chosen"} < set(table.columns)
    assert table[table.labels == 10].chosen.sum() == pytest.approx(1)
    assert table.iloc[0].representation == "denoising"
    names = {trace["name"] for trace in measured.figure().to_dict()["data"] if trace.get("name")}
    assert names == set(measured.names)
    measured.save(tmp_path)
    back = LabelEfficiency.load(tmp_path)
    assert np.array_equal(back.accuracy, measured.accuracy)
    assert str(back) == str(measured)
    assert back.protocol == measured.protocol


def test_equal_seeds_give_equal_studies(measured, encoders):
    again = study({"denoising": encoders})
    assert np.array_equal(again.accuracy[0], measured.accuracy[0])


def test_seen_rows_are_refused_unless_transductive(encoders):
    wrong = [encoders[1], encoders[0], encoders[2]]
    with pytest.raises(
        InputError, match=r"'denoising' of seed 0 has seen \d+ of \d+ rows of probe_pool"
    ) as caught:
        study({"denoising": wrong})
    assert "transductive=True" in str(caught.value)
    assert study({"denoising": wrong}, labels=(10,), transductive=True).accuracy.shape == (
        4,
        3,
        1,
        3,
    )


def test_a_trained_module_is_refused_on_rows_that_it_saw():
    pixels = np.round(255 * X[:600]).astype(np.uint8).reshape(-1, 1, 8, 8)
    dense = Autoencoder(64, (4,), seed=0)
    masked = MaskedPatchTransformer(
        8, 4, width=8, depth=1, heads=1, decoder_width=8, decoder_heads=1, seed=0
    )
    roles = [data.split_roles(y[:600], seed=0)] * 2
    for model, rows in ((dense, X[:600]), (masked, pixels)):
        other = deepcopy(model)
        pretrain(model, rows, epochs=1)
        pretrain(other, rows[roles[0].pretrain_train], epochs=1)
        with pytest.raises(InputError, match="'mine' of seed 0 has seen"):
            study({"mine": model}, X=rows, y=y[:600], roles=roles, labels=(10,))
        assert (
            study({"mine": other}, X=rows, y=y[:600], roles=roles, labels=(10,)).names[0] == "mine"
        )


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda e: study({"denoising": e[:2]}), "'denoising' lists 2 for 3 seeds"),
        (
            lambda e: study({"pca": 65}),
            r"65 components of 64 features.*\n.*\n  where: in the representation 'pca'",
        ),
        (lambda e: study({"mine": "pixels"}), "'pixels'"),
        (lambda e: study({}, roles=ROLES[:1]), "1 roles and 1 seeds"),
        (lambda e: study({}, seeds=[1]), "3 roles and 1 seeds"),
        (lambda e: study({}, labels=(5,)), "at least the number of classes"),
        (lambda e: study({}, strengths=0.0), r"strengths\[0\] must be a finite number above 0"),
        (
            lambda e: study({}, y=np.stack([X[:, 20], X[:, 21]], 1), probe="ridge"),
            "y with 2 columns",
        ),
        (lambda e: study({}, y=np.ma.masked_equal(y, 3)), "y.* = nan"),
        (lambda e: study({}, X=np.ma.masked_greater(X, 0.5)), r"X\[\d+, \d+\] = nan"),
        (lambda e: study({"mine": Autoencoder}), "an encoder must be an object, not a class"),
        (
            lambda e: study({"mine": lambda rows: rows @ np.eye(3)}),
            "'mine' failed on rows of shape",
        ),
        (lambda e: study([("pca", 3)]), "encoders must be a dictionary"),
        (lambda e: study({}, seeds="012"), "seeds must be a list"),
        (lambda e: study({}, seeds=[0, 0, 1]), "seeds must differ"),
        (
            lambda e: study({}, roles=[r.test for r in ROLES]),
            r"roles\[0\] must be what split_roles\(\) returns",
        ),
        (
            lambda e: study({}, X=X[:500], y=y[:500]),
            r"row 17\d\d in roles\[0\].pretrain_train; X has 500 rows",
        ),
        (
            lambda e: study({}, roles=[replace(ROLES[0], test=ROLES[0].test[:0])] * 3),
            r"no rows in roles\[0\].test",
        ),
        (lambda e: study({}, transductive="no"), "transductive must be True or False"),
        (lambda e: study({}, num_subsets=2.0), "num_subsets"),  # pyright: ignore[reportArgumentType]
        (
            lambda e: study({}, y=np.where(np.arange(len(X)) == ROLES[1].test[3], 77, y)),
            r"in roles\[1\].test, is not",
        ),
        (lambda e: study({}, probe="tree"), "probe = 'tree'"),
        (lambda e: study({}, y=np.zeros(len(X), int)), "at least two classes"),
        (lambda e: study({}, y=y[:-1]), "1796 labels in y for 1797 rows"),
        (lambda e: study({}, y=np.ones(len(X)), probe="ridge"), "y is 1 in all 1797 rows"),
        (lambda e: study({}, y=y + 0.5), "a quantity to regress on"),
        (lambda e: study({}, X=X[:0]), "at least one row"),
        (lambda e: study({}, X=np.where(np.arange(64) == 3, np.nan, X)), r"X\[0, 3\] = nan"),
        (lambda e: study({}).crossing("mine"), "use one of raw, pca"),
        (lambda e: study({"short": lambda rows: rows[:-1]}), "'short' gave"),
        (lambda e: study({"nan": lambda rows: rows / 0}), "the representation 'nan'"),
        (lambda e: study({}).gain("mine"), "use one of raw, pca"),
        (lambda e: study({}, labels=(10,)).gain("raw", labels=11), "labels = 11"),
    ],
)
def test_label_efficiency_refuses_invalid_arguments(make, text, encoders):
    with np.errstate(all="ignore"), pytest.raises(InputError) as caught:
        make(encoders)
    assert re.search(text, describe(caught.value))


def test_too_many_components_are_refused_before_any_row_is_encoded():
    encoded = []

    def encode(rows: np.ndarray) -> np.ndarray:
        encoded.append(len(rows))
        return rows

    few = replace(ROLES[0], pretrain_train=ROLES[0].pretrain_train[:20])
    with pytest.raises(InputError, match="21 components of 64 features and 20 rows"):
        study({"mine": encode, "pca": 21}, roles=[few] * 3)
    assert not encoded


def test_pca_has_at_most_as_many_components_as_pretraining_rows():
    X = np.random.default_rng(0).normal(size=(40, 100)).astype(np.float32)
    y = np.arange(40) % 2
    roles = [data.split_roles(y, seed=seed) for seed in range(2)]
    study = label_efficiency({}, X, y, roles=roles, labels=[2], num_subsets=2)
    assert len(roles[0].pretrain_train) == 20
    assert study.sizes[study.names.index("pca")] == 20


@pytest.mark.parametrize(
    ("shape", "components"), [((30, 4000), 20), ((90, 40), 40), ((700, 600), 12), ((600, 900), 30)]
)
def test_principal_components_equal_a_full_decomposition(shape, components):
    """Components equal the singular vectors for every shape and number of components."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=shape) * np.linspace(3, 0.5, shape[1]) + 5
    centred = rows - rows.mean(axis=0)
    U, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    codes = principal_components(rows, components)(rows)
    for k in range(min(components, shape[0] - 1)):
        assert abs(codes[:, k] @ U[:, k]) == pytest.approx(sizes[k], rel=1e-6)
    again = principal_components(rows, components)(rows)
    assert np.array_equal(again, codes)


def test_components_beyond_the_rank_are_zero():
    rows = np.random.default_rng(0).normal(size=(5, 200))
    encode = principal_components(rows, 5)
    others = np.random.default_rng(1).normal(size=(9, 200))
    assert (encode(others)[:, 4] == 0).all()
    assert (np.abs(encode(others)[:, :4]).max(axis=0) > 0.01).all()


def test_wide_rows_create_no_square_matrix(monkeypatch):
    """A matrix of all pairs of 20,000 features would take 3 GB and minutes."""
    largest = []
    for name in ("eigh", "svd"):
        original = getattr(np.linalg, name)

        def spy(a, *rest, _original=original, **more):
            largest.append(np.size(a))
            return _original(a, *rest, **more)

        monkeypatch.setattr(np.linalg, name, spy)
    rows = np.random.default_rng(0).normal(size=(200, 20_000)).astype(np.float32)
    labels = np.arange(200) % 4
    roles = [data.split_roles(labels, seed=seed) for seed in range(2)]
    found = label_efficiency({"pca": 20}, rows, labels, roles=roles, labels=[8], num_subsets=1)
    assert found.sizes == (20, 20_000)
    assert max(largest) <= rows.size


def test_a_timestamp_keeps_its_precision():
    """float32 would blur 1.7e9 seconds by a minute, and any rows with an offset of 1e8."""
    rng = np.random.default_rng(0)
    seconds = rng.permutation(1000).astype(float)
    labels = (seconds >= 500).astype(int)
    rows = np.c_[1.7e9 + seconds, rng.normal(size=1000)]
    roles = [data.split_roles(labels, seed=seed) for seed in SEEDS]
    options = {"y": labels, "roles": roles, "labels": ("all",), "num_subsets": 1, "strengths": 10.0}
    found = study({"pca": 1}, X=rows, **options)
    assert found.interval("raw").estimate >= 99
    assert found.interval("pca").estimate >= 99
    moved = study({}, X=X.astype(np.float64) + 1e8, labels=(30,), num_subsets=1)
    assert moved.interval("raw").estimate == pytest.approx(
        study({}, labels=(30,), num_subsets=1).interval("raw").estimate, abs=1.0
    )


def test_a_shared_encoder_runs_once_for_equal_rows():
    calls = []
    roles = [replace(ROLES[0], test=ROLES[0].test[k:]) for k in range(3)]
    study({"mine": lambda rows: calls.append(len(rows)) or rows}, roles=roles, labels=(10,))
    assert calls == [len(roles[0].pretrain_train), len(X)]


def test_labels_may_have_gaps():
    named = np.array([10**6 + 7 * k for k in range(10)])[y]
    options = {"labels": (10,), "num_subsets": 2}
    assert np.array_equal(study({}, y=named, **options).accuracy, study({}, **options).accuracy)


def test_a_quantity_that_is_constant_on_the_test_rows_is_refused():
    quantity = X[:, 20].copy()
    roles = [data.split_roles(len(X), seed=seed) for seed in SEEDS]
    quantity[roles[2].test] = 1.0
    with pytest.raises(InputError, match=r"roles\[2\].test holds \d+ rows of one value"):
        study({}, y=quantity, roles=roles, probe="ridge")
