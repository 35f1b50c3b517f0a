"""The roles of rows in a study, checked before any work starts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from leadline import checks
from leadline.data import ROLES, Roles
from leadline.errors import InputError


def check_roles(roles: Any, name: str, n: int | None = None) -> tuple[Roles, ...]:
    """Roles of the rows, or a refusal.

    Raises:
        InputError: not a list of roles, a role without rows that a study needs, or rows that there are not.
    """
    listed = checks.items(roles, name, of="roles")
    for i, role in enumerate(listed):
        where = f"{name}[{i}]"
        checks.instance(
            role, where, Roles, wanted="what split_roles() returns", cure="split_roles(y, seed=0)"
        )
        for part in ROLES:
            rows = checks.array(getattr(role, part), f"{where}.{part}")
            if rows.ndim != 1 or rows.dtype.kind not in "iu":
                raise InputError(
                    f"{where}.{part} must be a list of row numbers",
                    got=f"shape {rows.shape}, dtype {rows.dtype}",
                )
            if part != "pretrain_validation" and not len(rows):
                raise InputError(
                    "a study needs rows to scale by, to probe, to choose by and to test on",
                    got=f"no rows in {where}.{part}",
                    cure="give each of these roles a share in split_roles(fractions=...)",
                )
            if len(rows) and (rows.min() < 0 or (n is not None and rows.max() >= n)):
                raise InputError(
                    "roles must name rows of X",
                    got=f"row {rows.max() if rows.min() >= 0 else rows.min()} in {where}.{part}; X has {n} rows",
                    cause="roles of other data, or rows that were filtered after the split",
                    cure="split again: split_roles(y, seed=0)",
                )
    return listed


def refuse_untestable(truth: np.ndarray, roles: Sequence[Roles], *, are_classes: bool) -> None:
    """Test rows must be of classes that the pool holds; a quantity must vary on them, or its R² is undefined."""
    for i, role in enumerate(roles):
        for part in ("probe_validation", "test"):
            rows = getattr(role, part)
            if are_classes:
                is_unknown = ~np.isin(truth[rows], truth[role.probe_pool])
                if is_unknown.any():
                    row = int(rows[int(np.argmax(is_unknown))])
                    raise InputError(
                        "each class that is tested needs a row in the probe pool: a probe never predicts others",
                        got=f"the class of row {row}, in roles[{i}].{part}, is not in its probe_pool",
                        cure="split with labels, split_roles(y, seed=0), or leave the class out",
                    )
            elif np.ptp(truth[rows]) == 0:
                raise InputError(
                    "R² needs a quantity that varies on the test rows and on the probe-validation rows",
                    got=f"roles[{i}].{part} holds {len(rows)} row{'s' * (len(rows) != 1)} of one value",
                    cause="very few rows in this role",
                    cure="give the role a larger share in split_roles(fractions=...)",
                )
