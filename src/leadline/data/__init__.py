"""Where arrays and sequences come from, and who may see which row."""

from leadline.data.classes import check_labels, class_indices, missing_labels
from leadline.data.dataset import Dataset, check_features
from leadline.data.files import load, read
from leadline.data.files.labels import Labels
from leadline.data.fingerprints import fingerprint, row_fingerprints
from leadline.data.glyphs import FONTS, LETTERS_UNLIKE_DIGITS, glyphs
from leadline.data.images import digits, photograph_patches
from leadline.data.roles import (
    FRACTIONS,
    ROLES,
    LabelSubsets,
    Roles,
    label_subsets,
    split_roles,
)
from leadline.data.sequences import running_average
from leadline.data.text import Text, manual_text
from leadline.data.vectors import RotatedVectors, high_variance_vectors, random_rotation

__all__ = [
    "FONTS",
    "FRACTIONS",
    "LETTERS_UNLIKE_DIGITS",
    "ROLES",
    "Dataset",
    "LabelSubsets",
    "Labels",
    "Roles",
    "RotatedVectors",
    "Text",
    "check_features",
    "check_labels",
    "class_indices",
    "digits",
    "fingerprint",
    "glyphs",
    "high_variance_vectors",
    "label_subsets",
    "load",
    "manual_text",
    "missing_labels",
    "photograph_patches",
    "random_rotation",
    "read",
    "row_fingerprints",
    "running_average",
    "split_roles",
]
