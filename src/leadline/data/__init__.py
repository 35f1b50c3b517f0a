"""Load arrays from files, and assign the roles of rows (training, validation, probing, test)."""

from leadline.data._classes import check_labels as check_labels
from leadline.data._classes import class_indices as class_indices
from leadline.data._classes import missing_labels as missing_labels
from leadline.data._dataset import Dataset
from leadline.data._dataset import check_features as check_features

# The following names are private to Leadline's own packages.
from leadline.data._dataset import column_names as column_names
from leadline.data._fingerprints import fingerprint as fingerprint
from leadline.data._fingerprints import row_fingerprints as row_fingerprints
from leadline.data._glyphs import FONTS as FONTS
from leadline.data._glyphs import LETTERS_UNLIKE_DIGITS as LETTERS_UNLIKE_DIGITS
from leadline.data._glyphs import glyphs
from leadline.data._images import digits, photograph_patches
from leadline.data._pixels import DIVIDED as DIVIDED
from leadline.data._pixels import are_bytes as are_bytes
from leadline.data._pixels import flatten_images as flatten_images
from leadline.data._pixels import refuse_other_range as refuse_other_range
from leadline.data._pixels import scale_pixels as scale_pixels
from leadline.data._precision import compact_features as compact_features
from leadline.data._precision import exact_features as exact_features
from leadline.data._roles import FRACTIONS as FRACTIONS
from leadline.data._roles import ROLES as ROLES
from leadline.data._roles import LabelSubsets, Roles, label_subsets, split_roles
from leadline.data._sequences import running_average as running_average
from leadline.data._spread import means_and_spreads as means_and_spreads
from leadline.data._text import Text, manual_text
from leadline.data._vectors import RotatedVectors as RotatedVectors
from leadline.data._vectors import high_variance_vectors as high_variance_vectors
from leadline.data._vectors import random_rotation as random_rotation
from leadline.data.files import load, read
from leadline.data.files._labels import Labels

__all__ = [
    "Dataset",
    "LabelSubsets",
    "Labels",
    "Roles",
    "Text",
    "digits",
    "glyphs",
    "label_subsets",
    "load",
    "manual_text",
    "photograph_patches",
    "read",
    "split_roles",
]
