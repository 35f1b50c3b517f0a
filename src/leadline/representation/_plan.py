"""The plan of a study: the rows that are probed, their roles, and the label counts."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from leadline.autoencoders import column_spreads
from leadline.data import Roles, label_subsets, means_and_spreads, split_roles
from leadline.representation._material import Material, retained
from leadline.representation._study import SHARES

LABELS_PER_CLASS = (1, 2, 5, 10, 20, 50)
"""Default label counts per class, in addition to the whole probe pool."""

MOST_PROBED = 2000
"""Largest number of labelled rows that are probed; more rows add little about few labels."""

FAR = 1000.0
"""Distance of a column's mean from zero, in spreads, above which rows are centred in float64."""


def limit_probed_rows(material: Material) -> Material:
    """Return all labelled rows, or a share of very many rows with each class in proportion."""
    m = len(material.labelled)
    if m <= MOST_PROBED:
        return material
    part = np.flatnonzero(retained(material.y, material.groups, MOST_PROBED / m))
    return replace(
        material,
        labelled=material.labelled[part],
        y=material.y[part],
        groups=material.groups[part],
        notes=(*material.notes, f"{len(part)} of {m} labelled rows were probed"),
    )


def assign_roles(material: Material, seeds: Sequence[int]) -> list[Roles]:
    """Return the roles of the labelled rows for each seed; equal rows have the same role."""
    if not len(material.labelled):
        return []
    return [
        split_roles(material.y, seed=seed, fractions=SHARES, groups=material.groups)
        for seed in seeds
    ]


def plan_label_counts(
    labels: Sequence[Any] | None, material: Material, roles: Sequence[Roles]
) -> list[Any]:
    """Return the requested label counts, or the default counts that fit into every pool."""
    if not roles:
        return []
    if labels is not None:
        counts = list(labels)
        for role in roles:
            # This call refuses counts that do not fit, before any work starts.
            label_subsets(material.y, role.probe_pool, counts, num=1, seed=0)
        return counts
    pool = min(len(role.probe_pool) for role in roles)
    num_classes = len(material.class_names)
    defaults = [per_class * num_classes for per_class in LABELS_PER_CLASS]
    return [count for count in defaults if count < 0.8 * pool] + ["all"]


def measure_scaling(material: Material) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and spread of the columns of the pretraining rows; images have one spread."""
    centre = means_and_spreads(material.unlabelled)[0]
    scale = column_spreads(material.unlabelled, "auto" if material.image_size is None else "common")
    return centre, scale


def needs_exact_centre(material: Material, centre: np.ndarray, scale: np.ndarray) -> bool:
    """True if rows need float64, or if an encoder in float32 could not centre them."""
    return material.unlabelled.dtype == np.float64 or bool((np.abs(centre) > FAR * scale).any())
