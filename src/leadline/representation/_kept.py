"""The probe that a study keeps: chosen on all labels, and measured by cross-validation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from leadline.probing import LinearProbe, Scaling, linear_probe
from leadline.storage import record

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Values of C that the probes choose from."""

PARTS = 5
"""Number of folds of the cross-validation."""


@record("representation.KeptProbe")
@dataclass(frozen=True)
class KeptProbe:
    """A logistic regression on the codes of the kept encoder, with its cross-validated accuracy."""

    strength: float
    """C for scikit-learn's ``LogisticRegression`` on the unscaled codes."""
    accuracy: float
    """Share of labels that are predicted correctly by a probe chosen and fitted without them."""
    majority: float
    """Share of the largest class among the labels."""
    labels: int
    """Number of labels."""


def kept_probe(
    codes: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    groups: np.ndarray,
    strengths: Any = STRENGTHS,
) -> KeptProbe:
    """Choose C by accuracy on held-out labels, and measure the choice by cross-validation.

    For each of five folds, C is chosen and a probe is fitted on the other folds; the probe then
    predicts the labels of the fold.

    Args:
        codes: codes of all labelled rows.
        y: class of each row.
        groups: group of each row; rows of one group are in the same fold.
        strengths: values of C to choose from.
    """
    fold = _folds(y, groups)
    is_right = np.zeros(len(y), bool)
    for k in range(fold.max() + 1):
        is_inside = fold != k
        # A class whose rows are all equal is in a single fold, so it has no label inside.
        is_known = np.isin(y, y[is_inside])
        is_tested = ~is_inside & is_known
        if not is_tested.any() or len(np.unique(y[is_inside])) < 2:
            continue
        probe = _probe(codes[is_inside], y[is_inside], codes[is_tested], y[is_tested], strengths)
        is_right[is_tested] = probe.predict(codes[is_tested]) == y[is_tested]
    whole = _probe(codes, y, codes, y, strengths)
    return KeptProbe(whole.strength, float(is_right.mean()), whole.majority, len(y))


def _probe(
    Z: np.ndarray, y: np.ndarray, Z_test: np.ndarray, y_test: np.ndarray, strengths: Any
) -> LinearProbe:
    """Fit a probe to unscaled codes."""
    no_scaling = Scaling(np.zeros(Z.shape[1]), 1.0)
    return linear_probe(
        Z, y, Z_test, y_test, strengths=strengths, criterion="accuracy", scaling=no_scaling
    )


def _folds(y: np.ndarray, groups: np.ndarray) -> Int[np.ndarray, " n"]:
    """Return the fold of each row: the groups of a class go to the folds in turn."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    fold_of_group = np.empty(len(first), np.int64)
    num_dealt = dict.fromkeys(np.unique(y).tolist(), 0)
    for group in np.argsort(first):
        label = int(y[first[group]])
        fold_of_group[group] = num_dealt[label] % PARTS
        num_dealt[label] += 1
    return fold_of_group[member]
