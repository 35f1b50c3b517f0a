"""Agreement of loss and RankMe with probes against SciPy, and its refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

from leadline.errors import InputError
from leadline.probing import LabelEfficiency, RankAgreement, rank_agreement
from leadline.sounding import Protocol

RNG = np.random.default_rng(0)
NAMES = ("a1", "a2", "a3", "b1", "b2", "b3")
VARIANTS = {name: name[0] for name in NAMES}


def study(accuracy, rank_me=None):
    """Return a study of known accuracies, shape (configurations, seeds)."""
    values = np.repeat(np.asarray(accuracy, float)[..., None, None], 2, axis=2)
    names = NAMES[: len(values)]
    return LabelEfficiency(
        protocol=Protocol(seeds=(0, 1, 2)),
        names=(*names, "raw"),
        sizes=(3,) * (len(names) + 1),
        budgets=np.array([10, 50]),
        accuracy=np.concatenate([values, values[:1]]),
        validation_accuracy=np.concatenate([values, values[:1]]),
        strengths=np.ones((len(names) + 1, values.shape[1], 2, 1)),
        rank_me=np.ones((len(names) + 1, values.shape[1]))
        if rank_me is None
        else np.r_[rank_me, rank_me[:1]],
    )


ACCURACY = RNG.uniform(size=(6, 3))
LOSS = RNG.uniform(size=(6, 3))
RANK = RNG.uniform(1, 3, size=(6, 3))


@pytest.fixture(scope="module")
def found():
    return rank_agreement(
        study(ACCURACY, RANK), dict(zip(NAMES, LOSS.tolist(), strict=True)), variants=VARIANTS
    )


def test_tau_over_all_pairs_equals_scipy(found):
    criteria: dict[Any, np.ndarray] = {"loss": -LOSS, "RankMe": RANK}
    for criterion, better in criteria.items():
        theirs: list[Any] = [kendalltau(better[:, seed], ACCURACY[:, seed])[0] for seed in range(3)]
        assert found.tau(criterion).interval.estimate == pytest.approx(sum(theirs) / 3)


def test_pairs_within_and_across_variants_are_separated(found):
    """The expected values count pair by pair."""
    scopes: dict[Any, bool] = {"within": True, "across": False}
    for pairs, belongs in scopes.items():
        taus = []
        for seed in range(3):
            agree = [
                float(
                    np.sign(LOSS[j, seed] - LOSS[i, seed])
                    * np.sign(ACCURACY[i, seed] - ACCURACY[j, seed])
                )
                for i in range(6)
                for j in range(i)
                if (NAMES[i][0] == NAMES[j][0]) is belongs
            ]
            taus.append(sum(agree) / len(agree))
        assert found.tau("loss", pairs).interval.estimate == pytest.approx(sum(taus) / 3)


def test_incomparable_losses_mislead_only_across_variants():
    """A lower loss is better within a variant, but the variant with lower losses is worse."""
    quality, level = np.tile([1.0, 2.0, 3.0], 2), np.repeat([0.0, 10.0], 3)
    noise = 0.01 * RNG.normal(size=(6, 3))
    accuracy = (quality + level)[:, None] / 20 + 0.001 * noise
    loss = (level - quality)[:, None] + 20 + noise
    found = rank_agreement(
        study(accuracy), dict(zip(NAMES, loss.tolist(), strict=True)), variants=VARIANTS
    )
    assert found.tau("loss", "within").interval.estimate == 1
    assert found.tau("loss", "across").interval.estimate == -1
    assert "within a variant, lower loss agrees with the probes at tau 1.00 [1.00, 1.00]" in str(
        found
    )
    table: Any = found.agreements().set_index(["criterion", "pairs"])
    assert table.loc[("loss", "across"), "tau"] == -1


def test_a_seed_with_equal_scores_counts_as_zero():
    accuracy = np.array([[0.1, 0.5, 0.1], [0.2, 0.5, 0.2], [0.3, 0.5, 0.3]])
    losses = {name: [3.0 - i] * 3 for i, name in enumerate(NAMES[:3])}
    found = rank_agreement(study(accuracy), losses)
    assert found.tau().interval.estimate == pytest.approx(2 / 3)
    assert found.tau("RankMe").interval.estimate == 0
    assert "within a variant, lower loss agrees with the probes at tau 0.67" in str(found)


def test_rank_agreement_is_a_sounding(found, tmp_path: Path):
    assert len(found.table()) == 6
    assert len(found.agreements()) == 2 * 3
    traces = found.figure().to_dict()["data"]
    assert [trace["name"] for trace in traces] == ["a", "b"] * 2
    assert traces[0]["text"] == ["a1", "a2", "a3"]
    drawn: Any = found.figure().data
    assert np.asarray(drawn[3].x) == pytest.approx(RANK[3:].mean(axis=1))
    assert [trace.xaxis for trace in drawn] == ["x", "x", "x2", "x2"]
    found.save(tmp_path)
    assert str(RankAgreement.load(tmp_path)) == str(found)


def test_intervals_stay_within_the_possible_values(found):
    for criterion in ("loss", "RankMe"):
        for interval in (found.tau(criterion).interval, found.tau(criterion).simultaneous):
            assert -1 <= interval.low <= interval.high <= 1
    table = found.table()
    assert table["accuracy high"].max() <= 100
    assert table["accuracy low"].min() >= 0
    assert table["RankMe low"].min() >= 0


def test_the_figure_draws_the_intervals_of_the_table(found):
    """An interval that ends at 0 or 100 % is asymmetric."""
    table = found.table()
    for panel, name in enumerate(("loss", "RankMe")):
        for k, variant in enumerate(("a", "b")):
            rows = table[table["variant"] == variant]
            trace = found.figure().data[2 * panel + k]
            for along, column in ((trace.error_x, name), (trace.error_y, "accuracy")):
                middle = rows[column].to_numpy()
                assert middle + along.array == pytest.approx(rows[f"{column} high"].to_numpy())
                assert middle - along.arrayminus == pytest.approx(rows[f"{column} low"].to_numpy())
                assert along.symmetric is False


def test_the_largest_class_and_missing_intervals_are_shown():
    two = replace(study(ACCURACY[:, :2]), majority=np.array([0.4, 0.6]))
    found = rank_agreement(
        two, {name: LOSS[i, :2].tolist() for i, name in enumerate(NAMES)}, variants=VARIANTS
    )
    assert "no interval: 2 seeds" in str(found)
    assert "[" not in str(found)
    assert (found.table()["largest class"] == 50).all()
    assert found.figure().to_dict()["layout"]["annotations"][-1]["text"] == "largest class 50.0 %"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: rank_agreement(study(ACCURACY), {"a1": [1.0] * 3, "a2": [1.0] * 3}),
            "2 names",
        ),
        (
            lambda: rank_agreement(study(ACCURACY), {n: [1.0] * 3 for n in ("a1", "a2", "mine")}),
            "'mine' is not known",
        ),
        (
            lambda: rank_agreement(study(ACCURACY), {"a1": [1.0] * 2}),
            r"losses\['a1'\] = \[1.0, 1.0\] for 3 seeds",
        ),
        (lambda: rank_agreement(study(ACCURACY), {"a1": "low"}), "losses"),  # pyright: ignore[reportArgumentType]
        (
            lambda: rank_agreement({"a1": 0.5}, {"a1": [1.0] * 3}),  # pyright: ignore[reportArgumentType]
            r"study must be the result of label_efficiency\(\)",
        ),
        (lambda: rank_agreement(study(ACCURACY), [1.0] * 3), "losses must be a dictionary"),  # pyright: ignore[reportArgumentType]
        (
            lambda: rank_agreement(study(ACCURACY), {"a1": [1.0, 2.0, np.nan]}),
            "one finite validation loss",
        ),
        (
            lambda: rank_agreement(study(ACCURACY), {n: [1.0] * 3 for n in NAMES}).tau(
                pairs="across"
            ),
            "no pairs across variants",
        ),
        (
            lambda: rank_agreement(study(ACCURACY), {n: [1.0] * 3 for n in NAMES}).tau(
                pairs="apart"  # pyright: ignore[reportArgumentType]
            ),
            "'apart'",
        ),
        (
            lambda: rank_agreement(study(ACCURACY), {n: [1.0] * 3 for n in NAMES}, labels=11),
            "labels = 11",
        ),
    ],
)
def test_rank_agreement_refuses_invalid_arguments(make, text):
    with pytest.raises(InputError, match=text):
        make()
