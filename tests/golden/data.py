"""Results of ``leadline.data``: roles, subsets, glyphs, vectors and text."""

from typing import Any

import numpy as np

from leadline import data
from tests.golden.names import field


def splits() -> dict[str, Any]:
    """Assign roles to rows, with and without groups, and draw labelled subsets."""
    y = np.repeat(np.arange(4), 15)
    roles = data.split_roles(y, seed=0)
    groups = data.split_roles(60, seed=1, groups=np.arange(60) // 3)
    subsets = data.label_subsets(y, roles.probe_pool, [4, 8, "all"], num=3, seed=0)
    chosen = [subsets.rows(budget) for budget in subsets.budgets]
    return {"roles": roles, "groups": groups, "subsets": subsets, "rows": chosen}


def sources() -> dict[str, Any]:
    """Draw data sets."""
    x, y = data.running_average(3, 6, seed=0)
    glyphs = data.glyphs("ab", 6, 8, seed=0)
    patches = data.photograph_patches(3, 4, seed=0)
    vectors = data.high_variance_vectors(4, seed=0, dimensions=6, high=2)
    text = data.manual_text()
    digits = data.digits()
    return {
        "average": [x, y],
        "glyphs": [glyphs.X, glyphs.labels],
        "patches": patches.X,
        "vectors": [vectors.X, field(vectors, "rotation"), field(vectors, "variances")],
        "rotation": data.random_rotation(4, seed=2),
        "text": text.sha256,
        "digits": [data.fingerprint(digits.X), data.fingerprint(digits.labels)],
        "fingerprints": data.row_fingerprints(vectors.X),
        "classes": list(data.class_indices(["b", "a", "b"])),
        "missing": data.missing_labels(np.array([1.0, np.nan, -1.0])),
    }


CASES = (splits, sources)
