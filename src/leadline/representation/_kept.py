"""The probe that a study hands over beside its encoder: chosen on all labels, and measured on rows it did not see."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from leadline.probing import Scaling, linear_probe, majority_share
from leadline.storage import record

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
"""Values of C that the probes choose from, inside their labels."""

PARTS = 5
"""Parts of the labels that are left out in turn to measure the probe."""


@record("representation.KeptProbe")
@dataclass(frozen=True)
class KeptProbe:
    """A logistic regression on the codes of the kept encoder: its strength, and its accuracy on rows left out."""

    strength: float
    """C for scikit-learn's ``LogisticRegression`` on the codes as they are."""
    accuracy: float
    """Share of the labels that are predicted by a probe which was chosen and fitted in the same way without them."""
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
    """Choose C by accuracy on held-out labels, and measure that choice.

    To measure, the labels are dealt to five parts. For each part C is chosen, and a probe fitted, by the other parts
    only; then it predicts this part.

    Args:
        codes: of all labelled rows.
        y: their classes.
        groups: equal for rows that stay in one part.
        strengths: values of C to choose from.
    """
    parts = _parts(y, groups)
    is_right = np.zeros(len(y), bool)
    for part in range(parts.max() + 1):
        left_out = parts == part
        is_known = np.isin(y, y[~left_out])  # a class whose rows are all equal lies in one part
        inside, tested = ~left_out, left_out & is_known
        if not tested.any() or len(np.unique(y[inside])) < 2:
            continue
        probe = _probe(codes[inside], y[inside], codes[tested], y[tested], strengths)
        is_right[tested] = probe.predict(codes[tested]) == y[tested]
    strength = _probe(codes, y, codes, y, strengths).strength
    return KeptProbe(strength, float(is_right.mean()), majority_share(y), len(y))


def _probe(
    Z: np.ndarray, y: np.ndarray, Z_test: np.ndarray, y_test: np.ndarray, strengths: Any
) -> Any:
    as_they_are = Scaling(np.zeros(Z.shape[1]), 1.0)
    return linear_probe(
        Z, y, Z_test, y_test, strengths=strengths, criterion="accuracy", scaling=as_they_are
    )


def _parts(y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The part of each row: the groups of a class go to the parts in turn."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(first)
    part_of_group = np.empty(len(first), np.int64)
    dealt = dict.fromkeys(np.unique(y).tolist(), 0)
    for group in order:
        label = int(y[first[group]])
        part_of_group[group] = dealt[label] % PARTS
        dealt[label] += 1
    return part_of_group[member]
