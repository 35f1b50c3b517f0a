"""Splits of the rows into five disjoint roles, and nested labelled subsets of the probe pool.

Data that select a model must not also evaluate it. Hence there are five roles: two for pretraining,
two for probing, and one for the final test.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from leadline import checks
from leadline.checks import ShortRepr
from leadline.data._classes import check_labels, is_missing, label_values
from leadline.data._fingerprints import fingerprint
from leadline.data._memory import refuse_too_large
from leadline.errors import InputError
from leadline.randomness import numpy_generator

FRACTIONS = (0.5, 0.05, 0.2, 0.05, 0.2)
"""Default shares of the five roles, in the order of the fields of :class:`Roles`."""


@dataclass(frozen=True, eq=False)
class Roles(ShortRepr):
    """Row numbers of the five roles: sorted int64 arrays of shape (n,).

    The roles are disjoint and together contain all rows.
    """

    pretrain_train: np.ndarray
    """Rows to fit the encoder. Their labels are not used."""
    pretrain_validation: np.ndarray
    """Rows for early stopping and for the validation loss of pretraining; no labels are used."""
    probe_pool: np.ndarray
    """Rows from which labelled subsets are drawn; see :func:`label_subsets`."""
    probe_validation: np.ndarray
    """Rows to choose between encoders."""
    test: np.ndarray
    """Rows for the reported results."""

    def __post_init__(self):
        for name in ROLES:
            object.__setattr__(self, name, _check_role(getattr(self, name), name))
        together = np.sort(np.concatenate([getattr(self, name) for name in ROLES]))
        shared = together[1:][together[1:] == together[:-1]]
        if len(shared):
            owners = [name for name in ROLES if shared[0] in getattr(self, name)]
            raise InputError(
                "roles must not share rows",
                got=f"row {shared[0]} is in {' and in '.join(owners)}"
                if len(owners) > 1
                else f"row {shared[0]} occurs more than once in {owners[0]}",
                cause="rows that train and test at once give a score that is too good",
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of rows in each role."""
        return {name: len(getattr(self, name)) for name in ROLES}

    @property
    def fingerprint(self) -> str:
        """Hash that identifies the split, for protocols."""
        return fingerprint(*(getattr(self, name) for name in ROLES))


def _check_role(rows: Any, name: str) -> Int64[np.ndarray, " n"]:
    """Return the row numbers of a role, sorted."""
    array = checks.array(rows, name, wanted="a list of row numbers")
    if array.ndim == 1 and len(array) == 0:
        return np.empty(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= 2**63:
        raise InputError(
            f"{name} must be a list of row numbers from 0",
            got=f"{name} = {checks.shown(rows)}",
            cure="use np.flatnonzero(mask) for a mask",
        )
    return np.sort(array.astype(np.int64))


ROLES = tuple(role.name for role in fields(Roles))
"""The names of the five roles, in order."""


def split_roles(
    y_or_n: Any, *, seed: int, fractions: Sequence[float] = FRACTIONS, groups: Any = None
) -> Roles:
    """Assign rows to the five roles at random, stratified by class.

    A role gets ``fraction * m`` of the m rows of a class, rounded by the largest-remainder method,
    and at least one row.

    Identical rows in different roles leak information. Pass ``groups=row_fingerprints(X)`` to keep
    them together: all rows of a group get the same role, and a group counts for the class of its
    first row. Groups of several rows are assigned first, each to the role that lacks the most rows.
    The shares are then as close to ``fractions`` as the groups allow.

    Args:
        y_or_n: class indices of shape (n,), or the number n if there are no labels.
        seed: seed of the split.
        fractions: shares of the five roles, which add up to 1. A role of share 0 stays empty.
        groups: array-like of shape (n,), with equal values for rows that belong together, or
            ``None``.

    Raises:
        InputError: the shares do not add up to 1, or a class has fewer rows (or groups) than there
            are roles to fill.

    >>> roles = split_roles(100, seed=0)
    >>> len(roles.pretrain_train), len(roles.pretrain_validation)
    (50, 5)
    >>> len(roles.probe_pool), len(roles.probe_validation), len(roles.test)
    (20, 5, 20)

    Reference: Kaufman et al., *Leakage in data mining: formulation, detection, and avoidance*,
    2012.
    """
    shares = _check_fractions(fractions)
    seed = checks.seed(seed)
    is_labelled = _is_list(y_or_n)
    if is_labelled:
        values = checks.array(y_or_n, "y", wanted="a list of class indices, or a number of rows")
        y = check_labels(values, len(values) if values.ndim else 0)
    else:
        n = checks.whole_number(y_or_n, "n", least=1)
        refuse_too_large(
            100 * n, f"split_roles() of {n} rows", cure="give the number of rows, or their labels"
        )
        y = np.zeros(n, np.int64)
    member, first, sizes = _group(groups, len(y))
    rng = numpy_generator(seed, "data.roles")
    role_of = np.empty(len(first), dtype=np.int64)
    for label in np.unique(y):
        units = rng.permutation(np.flatnonzero(y[first] == label))
        _refuse_few(
            len(units),
            int((y == label).sum()),
            int((shares > 0).sum()),
            label if is_labelled else None,
        )
        role_of[units] = _deal(sizes[units], shares)
    return Roles(*(np.flatnonzero(role_of[member] == role) for role in range(len(ROLES))))


@dataclass(frozen=True, eq=False)
class LabelSubsets(ShortRepr):
    """Nested labelled subsets.

    In each draw, the subset of a budget contains the subsets of all smaller budgets.
    """

    order: np.ndarray
    """Row numbers of the pool in the order in which they are labelled, one line per draw.

    Shape (num, pool), int64.
    """
    budgets: tuple[int, ...]
    """Label counts, ascending and unique. ``"all"`` is replaced by the size of the pool."""

    def rows(self, budget: int) -> Int64[np.ndarray, "num budget"]:
        """Return the row numbers of every draw at a budget, of shape (num, budget).

        They index ``X`` and ``y``: ``X[subsets.rows(50)[draw]]``.

        Raises:
            InputError: the budget is not among :attr:`budgets`.
        """
        budget = checks.whole_number(budget, "budget", least=1)
        if budget not in self.budgets:
            known = ", ".join(map(str, self.budgets))
            raise InputError(
                "budget must be one of the label counts of these subsets",
                got=f"budget = {budget}",
                cure=f"one of {known}",
            )
        return self.order[:, :budget]

    @property
    def fingerprint(self) -> str:
        """Hash that identifies the draws, for protocols."""
        return fingerprint(self.order, np.array(self.budgets, np.int64))


def label_subsets(
    y: Any, pool: Any, budgets: Sequence[int | Literal["all"]], *, num: int, seed: int
) -> LabelSubsets:
    """Draw labelled subsets of the pool: stratified, nested, without replacement.

    Each draw orders the whole pool. The first rows are one row of each class. The other rows follow
    in an order that keeps the classes in proportion, to within about one row. A budget of b takes
    the first b rows.

    Args:
        y: class indices of all rows, shape (n,).
        pool: row numbers that may be labelled, such as ``roles.probe_pool``.
        budgets: label counts, each at least the number of classes in the pool and at most its size;
            or ``"all"``.
        num: number of draws, at least 1.
        seed: seed of the draws.

    Raises:
        InputError: a budget is too small or too large, or row numbers do not exist or repeat.

    >>> y = np.array([0, 0, 0, 1, 1, 1])
    >>> subsets = label_subsets(y, np.arange(6), [2, 4, "all"], num=3, seed=0)
    >>> y[subsets.rows(4)].sum(axis=1)
    array([2, 2, 2])
    """
    values = checks.array(y, "y", wanted="a list of class indices")
    y = check_labels(values, len(values) if values.ndim else 0)
    pool = _check_pool(pool, len(y))
    num = checks.whole_number(num, "num", least=1)
    seed = checks.seed(seed)
    budgets = checks.items(budgets, "budgets", of="label counts")
    refuse_too_large(
        8 * num * len(pool), f"{num} draws of {len(pool)} rows", cure="ask for fewer draws"
    )
    classes, counts = np.unique(y[pool], return_counts=True)
    sizes = tuple(sorted({_check_budget(b, len(classes), len(pool)) for b in budgets}))
    if not sizes:
        raise InputError(
            "budgets must hold at least one label count",
            got="budgets is empty",
            cure='use budgets=["all"]',
        )
    rng = numpy_generator(seed, "data.label_subsets")
    order = np.empty((num, len(pool)), dtype=np.int64)
    for draw in order:
        rows = np.concatenate([rng.permutation(pool[y[pool] == label]) for label in classes])
        rank = np.concatenate([np.arange(count) for count in counts])
        due = np.where(rank == 0, 0, (rank + 0.5) / np.repeat(counts, counts))
        draw[:] = rows[np.lexsort((rng.random(len(rows)), due))]
    return LabelSubsets(order, sizes)


def _deal(sizes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the role of each unit (a group of rows) of one class.

    ``sizes`` are the numbers of rows of the units, in random order.
    """
    target = _allocate(int(sizes.sum()), shares, (shares > 0).astype(int))
    role_of = np.full(len(sizes), -1)
    dealt = np.zeros(len(shares), np.int64)
    left = len(sizes)
    for unit in np.argsort(-sizes, kind="stable")[: int((sizes > 1).sum())]:
        empty = (dealt == 0) & (shares > 0)
        open_ = empty if empty.sum() >= left else shares > 0
        role = int(np.argmax(np.where(open_, target - dealt, -np.inf)))
        role_of[unit] = role
        dealt[role] += sizes[unit]
        left -= 1
    lacking = np.maximum(target - dealt, 0)
    singles = _allocate(left, lacking, ((dealt == 0) & (shares > 0)).astype(int))
    role_of[role_of < 0] = np.repeat(np.arange(len(shares)), singles)
    return role_of


def _allocate(total: int, weights: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Divide ``total`` into whole numbers in proportion to ``weights``, each at least ``least``.

    Rounding uses the largest-remainder method.
    """
    if total == 0:
        return np.zeros(len(weights), np.int64)
    ideal = total * weights / weights.sum()
    counts = np.maximum(np.floor(ideal + 1e-9).astype(np.int64), least)
    while counts.sum() != total:
        step = 1 if counts.sum() < total else -1
        movable = weights > 0 if step > 0 else counts > least
        counts[np.argmax(np.where(movable, step * (ideal - counts), -np.inf))] += step
    return counts


def _group(groups: Any, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the group of each row, and the first row and the size of each group."""
    if groups is None:
        return np.arange(n), np.arange(n), np.ones(n, np.int64)
    array = checks.array(groups, "groups", wanted="a list of groups")
    if array.shape != (n,):
        raise InputError(
            "groups must have one entry for each row",
            got=f"groups of shape {array.shape} for {n} rows",
        )
    array = label_values(array, "groups")
    missing = np.array([is_missing(value) for value in array.tolist()])
    if missing.any():
        raise InputError(
            "groups must have a group for each row",
            got=f"groups[{int(np.argmax(missing))}] is missing; {int(missing.sum())} of {n} rows",
            cure="give each row without a group a group of its own",
        )
    if array.dtype == object:
        numbers: dict[Any, int] = {}
        array = np.array([numbers.setdefault(value, len(numbers)) for value in array.tolist()])
    _, first, member, sizes = np.unique(
        array, return_index=True, return_inverse=True, return_counts=True
    )
    return member, first, sizes


def _is_list(value: Any) -> bool:
    """True if the value has several items, false if it is a number of rows."""
    if isinstance(value, (list, tuple, range)):
        return True
    return getattr(value, "ndim", 0) > 0


def _check_fractions(fractions: Any) -> np.ndarray:
    """Return the shares of the five roles as an array."""
    given = checks.items(fractions, "fractions", of="five shares")
    shares = np.array([checks.number(share, f"fractions[{i}]") for i, share in enumerate(given)])
    if len(shares) != len(ROLES) or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise InputError(
            "fractions must be five shares that add up to 1, none of them negative",
            got=f"fractions = {list(shares.tolist())}; their sum is {shares.sum():g}",
            cure=f"give the shares of {', '.join(ROLES)}",
        )
    return shares


def _refuse_few(units: int, rows: int, needed: int, label: Any) -> None:
    """Refuse a class, or data without labels, with fewer groups of rows than roles."""
    if units < needed:
        subject = "the data" if label is None else f"class {label}"
        of_class = "" if label is None else " of each class"
        distinct = f", {units} of them distinct" if units < rows else ""
        raise InputError(
            f"a split needs at least {needed} rows{of_class}, one for each role",
            got=f"{subject} has {rows} row{'s' * (rows != 1)}{distinct}",
            cause="a rare class, or too few rows",
            cure="add rows, leave the class out, or set the fractions of roles that you do not "
            "need to 0",
        )


def _check_pool(pool: Any, n: int) -> np.ndarray:
    """Return the row numbers of the pool, each of them once and below ``n``."""
    pool = checks.array(pool, "pool", wanted="a list of row numbers")
    if pool.ndim != 1 or len(pool) == 0 or pool.dtype.kind not in "iu":
        raise InputError(
            "pool must be a list of row numbers, at least one",
            got=f"pool of shape {pool.shape}, dtype {pool.dtype}",
            cure="use roles.probe_pool, or np.flatnonzero(mask) for a mask",
        )
    outside = (pool < 0) | (pool >= n)
    if outside.any():
        i = int(np.argmax(outside))
        raise InputError(
            "pool must contain numbers of rows of y", got=f"pool[{i}] = {pool[i]} with {n} rows"
        )
    rows, counts = np.unique(pool, return_counts=True)
    if len(rows) < len(pool):
        raise InputError(
            "pool must contain each row number once",
            got=f"row {rows[np.argmax(counts)]} occurs {counts.max()} times",
        )
    return pool.astype(np.int64)


def _check_budget(budget: Any, classes: int, size: int) -> int:
    """Return a label count that fits into a pool of ``size`` rows."""
    if isinstance(budget, str) and budget == "all":
        return size
    budget = checks.whole_number(budget, "label count", cure='or "all" for the whole pool')
    if budget < classes:
        raise InputError(
            "a label count must be at least the number of classes",
            got=f"label count = {budget} for {classes} classes",
            cure=f"start at {classes} labels",
        )
    if budget > size:
        raise InputError(
            "a label count must be at most the number of rows in the pool",
            got=f"label count = {budget} with {size} rows in the pool",
            cure='use "all" for the whole pool, or give the pool a larger share',
        )
    return budget
