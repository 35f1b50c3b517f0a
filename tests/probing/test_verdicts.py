"""Verdicts have at most 25 words, and their numbers are those of their tables."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.probing import (
    FineTuned,
    KNNProbe,
    LabelEfficiency,
    LinearProbe,
    RankAgreement,
    RidgeProbe,
    Scaling,
    TransferMatrix,
)
from leadline.sounding import Interval, Protocol

MOST_WORDS = 25

seeds_of_generators = st.integers(0, 10**6)
numbers_of_seeds = st.integers(2, 6)


def check(verdict: object, expected: list[str]) -> None:
    """Check the length of a verdict, and that it contains each expected text."""
    text = str(verdict)
    assert len(text.split()) <= MOST_WORDS, text
    assert "nan" not in text
    for part in expected:
        assert part in text, (part, text)


def interval_of(row: "pd.Series[Any]", column: str) -> Interval:
    """Return the interval that three columns of a table show."""
    return Interval(row[column], row[f"{column} low"], row[f"{column} high"])


def percent(value: float) -> str:
    """Return a share of a table as a verdict prints it, without a negative zero."""
    return f"{f'{value:.1f}'.replace('-0.0', '0.0')} %"


@settings(max_examples=60, deadline=None)
@given(seeds_of_generators, numbers_of_seeds, st.booleans(), st.booleans())
def test_label_efficiency_and_its_table_agree(seed, num_seeds, is_accuracy, has_encoders):
    rng = np.random.default_rng(seed)
    names = ("denoising", "vanilla", "raw") if has_encoders else ("raw", "pca")
    shape = (len(names), num_seeds, 2, 3)
    study = LabelEfficiency(
        protocol=Protocol(seeds=tuple(range(num_seeds))),
        names=names,
        sizes=(4,) * len(names),
        budgets=np.array([10, 300]),
        accuracy=rng.uniform(0 if is_accuracy else -2, 1, shape),
        validation_accuracy=rng.uniform(size=shape),
        strengths=np.ones(shape),
        rank_me=np.ones(shape[:2]),
        measure="accuracy" if is_accuracy else "R²",
        majority=rng.uniform(size=num_seeds) if is_accuracy else None,
    )
    table: Any = study.table().set_index(["representation", "labels"])
    expected = [percent(table.loc[("raw", 10), "accuracy"]).removesuffix(" %")]
    if study.chosen != "raw":
        row = table.loc[(study.chosen, 10)]
        gain = f"{study.chosen} gains {interval_of(row, 'gain'):+.1f} points"
        expected += [gain, percent(row["accuracy"])]
    if is_accuracy:
        expected.append(f"largest class {percent(table['largest class'].iloc[0])}")
    check(study, expected)


@settings(max_examples=40, deadline=None)
@given(seeds_of_generators, numbers_of_seeds)
def test_a_transfer_matrix_and_its_table_agree(seed, num_seeds):
    rng = np.random.default_rng(seed)
    matrix = TransferMatrix(
        protocol=Protocol(seeds=tuple(range(num_seeds))),
        sources=("digits", "letters", "raw", "untrained"),
        targets=("digits", "letters"),
        labels=(10, 26),
        accuracy=rng.uniform(size=(4, 2, num_seeds, 3)),
        majority=rng.uniform(size=(2, num_seeds)),
    )
    table: Any = matrix.table()
    transfers = table[table["source"].isin(["digits", "letters"])]
    transfers = transfers[transfers["source"] != transfers["target"]]
    best = transfers.loc[transfers["gain"].idxmax()]
    gain = f"{best['source']} gains {interval_of(best, 'gain'):+.1f} points over raw inputs"
    check(matrix, [gain, f"on {best['target']} with {best['labels']} labels", "of 2 transfers"])


@settings(max_examples=40, deadline=None)
@given(seeds_of_generators, numbers_of_seeds, st.booleans())
def test_a_rank_agreement_and_its_table_agree(seed, num_seeds, has_variants):
    rng = np.random.default_rng(seed)
    agreement = RankAgreement(
        protocol=Protocol(seeds=tuple(range(num_seeds))),
        names=("a", "b", "c", "d"),
        variants=("x", "x", "y", "y") if has_variants else ("x",) * 4,
        labels=10,
        loss=rng.uniform(size=(4, num_seeds)),
        rank_me=rng.uniform(1, 3, size=(4, num_seeds)),
        accuracy=rng.uniform(size=(4, num_seeds)),
    )
    row: Any = agreement.table().iloc[0]
    loss = interval_of(row, "loss tau")
    rank = interval_of(row, "RankMe tau")
    check(agreement, [f"at tau {loss:.2f} and", f"RankMe at {rank:.2f}, "])
    within: Any = agreement.agreements().set_index(["criterion", "pairs"])["tau"]
    assert within.loc[("loss", "within")] == loss.estimate


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
def test_verdicts_of_classifiers_contain_both_shares(accuracy, majority, number):
    classes = np.arange(2)
    weights = np.zeros((2, 3))
    scaling = Scaling(np.zeros(3), 1.0)
    linear = LinearProbe(accuracy, majority, 0.1, True, classes, weights, np.zeros(2), 0.0, scaling)
    accuracies = np.array([[accuracy]])
    predictions = np.zeros((1, 1, 4), np.int64)
    knn = KNNProbe((number,), (number,), predictions, accuracies, accuracies, majority)
    losses = np.zeros(number % 3)
    tuned = FineTuned(accuracy, accuracy, number, losses, torch.nn.Identity(), classes, majority)
    for probe in (linear, knn, tuned):
        check(probe, [percent(100 * accuracy), f"reaches {percent(100 * majority)}"])


@pytest.mark.parametrize("num_subsets", [1, 7])
def test_the_verdict_of_a_ridge_probe_contains_the_mean(num_subsets):
    r2 = np.linspace(-0.3, 0.5, num_subsets)
    probe = RidgeProbe(
        r2=r2,
        errors=r2,
        strengths=r2,
        own_errors=np.zeros((num_subsets, 2)),
        coefficients=np.zeros((num_subsets, 1, 3)),
        intercepts=np.zeros((num_subsets, 1)),
        scaling=Scaling(np.zeros(3), 1.0),
    )
    check(probe, [percent(100 * float(r2.mean()))])
    assert re.search(r"mean of 7 label subsets", str(probe)) or num_subsets == 1
