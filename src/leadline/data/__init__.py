"""Where arrays and sequences come from, and who may see which row."""

from leadline.data._classes import check_labels, class_indices, missing_labels
from leadline.data._dataset import Dataset, check_features

# For other packages of Leadline; not public.
from leadline.data._dataset import column_names as column_names
from leadline.data._fingerprints import fingerprint, row_fingerprints
from leadline.data._glyphs import FONTS, LETTERS_UNLIKE_DIGITS, glyphs
from leadline.data._images import digits, photograph_patches
from leadline.data._pixels import DIVIDED as DIVIDED
from leadline.data._pixels import are_bytes as are_bytes
from leadline.data._pixels import flatten_images as flatten_images
from leadline.data._pixels import scale_pixels as scale_pixels
from leadline.data._precision import compact_features as compact_features
from leadline.data._precision import exact_features as exact_features
from leadline.data._roles import (
    FRACTIONS,
    ROLES,
    LabelSubsets,
    Roles,
    label_subsets,
    split_roles,
)
from leadline.data._sequences import running_average
from leadline.data._spread import means_and_spreads as means_and_spreads
from leadline.data._text import Text, manual_text
from leadline.data._vectors import RotatedVectors, high_variance_vectors, random_rotation
from leadline.data.files import load, read
from leadline.data.files._labels import Labels

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
