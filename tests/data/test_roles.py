import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline import InputError
from leadline.data import FRACTIONS, ROLES, Roles, label_subsets, row_fingerprints, split_roles

seeds = st.integers(0, 2**32)


@st.composite
def labels(draw, least=5):
    counts = draw(st.lists(st.integers(least, 40), min_size=2, max_size=5))
    return np.random.default_rng(draw(seeds)).permutation(np.repeat(np.arange(len(counts)), counts))


@st.composite
def shares(draw):
    parts = np.array(draw(st.lists(st.integers(0, 20), min_size=5, max_size=5).filter(any)), float)
    return tuple(parts / parts.sum())


def parts(roles: Roles) -> list[np.ndarray]:
    return [getattr(roles, name) for name in ROLES]


@given(labels(), shares(), seeds)
def test_roles_are_disjoint_complete_and_stratified(y, fractions, seed):
    roles = split_roles(y, seed=seed, fractions=fractions)
    assert sorted(np.concatenate(parts(roles))) == list(range(len(y)))
    for share, rows in zip(fractions, parts(roles), strict=True):
        assert (np.diff(rows) > 0).all()
        for label in np.unique(y):
            count, ideal = int((y[rows] == label).sum()), share * int((y == label).sum())
            assert count >= (share > 0)
            assert share > 0 or count == 0
            # The guarantee of one row may take up to one row each from other roles.
            assert -5 < count - ideal < 1 + 1e-6
            if (np.array(fractions)[np.array(fractions) > 0] * (y == label).sum() >= 1).all():
                assert abs(count - ideal) < 1 + 1e-6


@given(st.integers(5, 300), seeds)
def test_without_labels_a_number_of_rows_is_split(n, seed):
    roles = split_roles(n, seed=seed)
    assert sorted(np.concatenate(parts(roles))) == list(range(n))
    assert sum(roles.sizes.values()) == n


@given(labels(), seeds)
def test_a_split_depends_only_on_the_seed(y, seed):
    assert split_roles(y, seed=seed).fingerprint == split_roles(y.tolist(), seed=seed).fingerprint
    assert split_roles(400, seed=seed).fingerprint != split_roles(400, seed=seed + 1).fingerprint


@given(labels(), st.integers(1, 60), shares(), seeds)
def test_groups_stay_together(y, num_groups, fractions, seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(num_groups, size=len(y)) + 100 * y
    for label in np.unique(y):
        # Every class needs at least five groups, one for each role.
        groups[np.flatnonzero(y == label)[:5]] = 1000 * label + 500 + np.arange(5)
    roles = split_roles(y, seed=seed, fractions=fractions, groups=groups)
    assert sorted(np.concatenate(parts(roles))) == list(range(len(y)))
    role_of = np.empty(len(y), int)
    for role, rows in enumerate(parts(roles)):
        role_of[rows] = role
        assert set(y[rows]) == (set(y) if fractions[role] > 0 else set())
    assert len({*zip(groups, role_of, strict=True)}) == len(np.unique(groups))


def test_duplicated_rows_share_a_role_and_shares_are_kept():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    X[200:300] = X[:100]
    y = np.tile(np.arange(2), 200)
    hashes = row_fingerprints(X)
    ungrouped, grouped = split_roles(y, seed=0), split_roles(y, seed=0, groups=hashes)
    assert np.isin(hashes[ungrouped.test], hashes[ungrouped.pretrain_train]).any()
    assert not np.isin(hashes[grouped.test], hashes[grouped.pretrain_train]).any()
    assert list(grouped.sizes.values()) == [200, 20, 80, 20, 80] == list(ungrouped.sizes.values())


def test_every_row_is_equally_likely_to_be_a_test_row():
    counts = np.zeros(50)
    for seed in range(1000):
        counts[split_roles(50, seed=seed).test] += 1
    assert abs(counts / 1000 - 0.2).max() < 5 * np.sqrt(0.2 * 0.8 / 1000)


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ({"y_or_n": 4}, ["at least 5 rows, one for each role", "the data has 4 rows"]),
        (
            {"y_or_n": [0] * 9 + [1]},
            ["at least 5 rows of each class", "class 1 has 1 row\n", "rare class"],
        ),
        ({"y_or_n": [0, 1] * 6, "groups": [0, 1] * 6}, ["class 0 has 6 rows, 1 of them distinct"]),
        ({"y_or_n": 10, "groups": [1, 2]}, ["groups of shape (2,) for 10 rows"]),
        ({"y_or_n": [1] * 10}, ["at least two classes"]),
        ({"y_or_n": 0}, ["n must be a whole number of at least 1"]),
        (
            {"y_or_n": 10, "fractions": (0.5, 0.5)},
            ["five shares", "give the shares of pretrain_train, pretrain_val"],
        ),
        ({"y_or_n": 10, "fractions": (0.5, 0.5, 0.5, 0, 0)}, ["their sum is 1.5"]),
        ({"y_or_n": 10, "fractions": (1.5, -0.5, 0, 0, 0)}, ["none of them negative"]),
        (
            {"y_or_n": 10, "fractions": (np.nan, 1, 0, 0, 0)},
            ["fractions[0] must be a finite number", "nan"],
        ),
    ],
)
def test_impossible_splits_raise_an_error(arguments, texts):
    with pytest.raises(InputError) as caught:
        split_roles(**arguments, seed=0)
    for text in texts:
        assert text in str(caught.value)


def test_the_default_shares_are_used():
    assert sum(FRACTIONS) == pytest.approx(1)
    assert len(ROLES) == len(FRACTIONS)


@given(labels(), seeds, st.data())
def test_label_subsets_are_nested_and_stratified_without_repetition(y, seed, data):
    pool = split_roles(y, seed=seed, fractions=(0.5, 0, 0.5, 0, 0)).probe_pool
    classes, totals = np.unique(y[pool], return_counts=True)
    budgets = data.draw(st.lists(st.integers(len(classes), len(pool)), min_size=1, max_size=4))
    subsets = label_subsets(y, pool, [*budgets, "all"], num=3, seed=seed)
    assert subsets.budgets == tuple(sorted({*budgets, len(pool)}))
    smaller = subsets.rows(subsets.budgets[0])
    for budget in subsets.budgets:
        rows = subsets.rows(budget)
        assert rows.shape == (3, budget)
        assert np.array_equal(rows[:, : smaller.shape[1]], smaller)
        assert np.isin(rows, pool).all()
        for draw in rows:
            assert len(set(draw)) == budget
            counts = np.array([(y[draw] == label).sum() for label in classes])
            assert (counts >= 1).all()
            # A rare class gets one row even if its share of the budget is below one row.
            assert (np.abs(counts - budget * totals / len(pool)) <= len(classes)).all()
        smaller = rows
    assert label_subsets(y, pool, budgets, num=3, seed=seed).fingerprint == (
        label_subsets(y, pool, budgets[::-1], num=3, seed=seed).fingerprint
    )


def test_equal_classes_are_labelled_equally():
    y = np.repeat(np.arange(10), 36)
    subsets = label_subsets(y, np.arange(360), [10, 20, 25, 100, "all"], num=20, seed=0)
    for budget in (10, 20, 100, 360):
        for draw in subsets.rows(budget):
            assert np.bincount(y[draw]).tolist() == [budget // 10] * 10
    assert all(set(np.bincount(y[draw])) == {2, 3} for draw in subsets.rows(25))
    extra = np.sum([np.bincount(y[draw]) - 2 for draw in subsets.rows(25)], axis=0)
    assert extra.min() > 0
    assert len({tuple(draw) for draw in subsets.rows(10)}) == 20


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"budgets": [1]}, "label count = 1 for 2 classes"),
        ({"budgets": [7]}, "label count = 7 with 6 rows in the pool"),
        ({"budgets": ["most"]}, "label count = 'most'"),
        ({"budgets": [2.5]}, "label count = 2.5"),
        ({"budgets": [True]}, "label count = True"),
        ({"budgets": []}, "budgets is empty"),
        ({"pool": [0, 1, 9]}, r"pool\[2\] = 9 with 6 rows"),
        ({"pool": [0, -1]}, r"pool\[1\] = -1"),
        ({"pool": [3, 3, 2]}, "row 3 occurs 2 times"),
        ({"pool": []}, "at least one"),
        ({"pool": np.ones(6, bool)}, "dtype bool"),
        ({"num": 0}, "num must be a whole number of at least 1"),
        ({"y": [1, 1, 1]}, "two classes"),
    ],
)
def test_impossible_subsets_raise_an_error(change, text):
    arguments = {
        "y": [0, 0, 0, 1, 1, 1],
        "pool": np.arange(6),
        "budgets": [2, 4],
        "num": 2,
    } | change
    with pytest.raises(InputError, match=text):
        label_subsets(**arguments, seed=0)


def test_an_unknown_budget_raises_an_error():
    subsets = label_subsets([0, 1, 0, 1], [0, 1, 2], [2, "all"], num=1, seed=0)
    with pytest.raises(InputError, match=r"budget = 4\n.*one of 2, 3"):
        subsets.rows(4)


def test_missing_groups_of_pandas_raise_an_error():
    pd = pytest.importorskip("pandas")
    groups = pd.array(["a", "b", None] * 20, dtype="string")
    with pytest.raises(InputError, match=r"groups\[2\] is missing; 20 of 60 rows"):
        split_roles(np.arange(60) % 2, seed=0, groups=groups)
