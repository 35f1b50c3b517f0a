"""Checks of roles, the assignment of rows to pretraining, probing and testing."""

from typing import Any

from leadline import checks
from leadline.data import ROLES, Roles
from leadline.errors import InputError


def check_roles(roles: Any, name: str, n: int | None = None) -> tuple[Roles, ...]:
    """Return the roles of each seed as a tuple.

    Args:
        roles: a list with the roles of each seed.
        name: name of the argument in messages.
        n: number of rows of X, if it is known.

    Raises:
        InputError: ``roles`` is not a list of roles, a required role is empty, or a row number is
            out of range.
    """
    listed = checks.items(roles, name, of="roles")
    for i, role in enumerate(listed):
        title = f"{name}[{i}]"
        checks.instance(
            role, title, Roles, wanted="what split_roles() returns", cure="split_roles(y, seed=0)"
        )
        for part in ROLES:
            rows = checks.array(getattr(role, part), f"{title}.{part}")
            if rows.ndim != 1 or rows.dtype.kind not in "iu":
                raise InputError(
                    f"{title}.{part} must be a list of row numbers",
                    got=f"shape {rows.shape}, dtype {rows.dtype}",
                )
            if part != "pretrain_validation" and not len(rows):
                raise InputError(
                    "roles must give rows to scaling, probing, choosing and testing",
                    got=f"no rows in {title}.{part}",
                    cure="give each of these roles a share in split_roles(fractions=...)",
                )
            if len(rows) and (rows.min() < 0 or (n is not None and rows.max() >= n)):
                wrong = rows.max() if rows.min() >= 0 else rows.min()
                raise InputError(
                    "roles must name rows of X",
                    got=f"row {wrong} in {title}.{part}; X has {n} rows",
                    cause="roles of other data, or rows that were filtered after the split",
                    cure="split again: split_roles(y, seed=0)",
                )
    return listed
