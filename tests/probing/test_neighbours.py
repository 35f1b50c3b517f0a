"""The nearest-neighbour probe against a plain vote, and its refusals."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from leadline.errors import InputError
from leadline.probing import Scaling, knn_probe

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(4, 6))
y = np.arange(160) % 4
Z = CENTRES[y] + 0.8 * RNG.normal(size=(160, 6))
KS = (1, 3, 5, 7, 60)


def probe(Z_train=Z[:100], y_train=y[:100], Z_test=Z[100:], y_test=y[100:], **options):
    return knn_probe(Z_train, y_train, Z_test, y_test, **{"neighbours": KS, **options})


def by_hand(distances, labels, k):
    """Return the vote of the first k rows by distance; the first class wins among equals."""
    found = []
    for row in distances:
        voters = labels[np.argsort(row, kind="stable")[:k]].tolist()
        found.append(max(sorted(set(voters)), key=lambda c: (voters.count(c), -voters.index(c))))
    return np.array(found)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_every_k_and_label_count_equals_the_plain_vote(metric):
    result = probe(labels=[20, 50, 100], metric=metric)
    scale = Scaling.fit(Z[:100])
    a, b = scale(Z[100:]), scale(Z[:100])
    if metric == "cosine":
        a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, b))
    distances = ((a[:, None] - b[None]) ** 2).sum(2)
    assert result.neighbours == KS
    for i, size in enumerate((20, 50, 100)):
        for j, k in enumerate(KS):
            expected = by_hand(distances[:, :size], y[:size], k)
            assert np.array_equal(result.predictions[i, j], expected)
            assert result.accuracies[i, j] == (expected == y[100:]).mean()


def test_one_neighbour_equals_scikit_learn():
    theirs = KNeighborsClassifier(1).fit(Z[:100], y[:100]).predict(Z[100:])
    assert np.array_equal(probe(neighbours=1, metric="euclidean").predictions[0, 0], theirs)


def test_labelled_rows_choose_k_without_voting_on_themselves():
    result = probe(labels=[30, 100], metric="euclidean")
    scaled = Scaling.fit(Z[:100])(Z[:100])
    distances = ((scaled[:, None] - scaled[None]) ** 2).sum(2)
    for i, size in enumerate((30, 100)):
        for j, k in enumerate(KS):
            right = []
            for row in range(size):
                others = np.delete(np.arange(size), row)
                right.append(by_hand(distances[row : row + 1, others], y[others], k)[0] == y[row])
            assert result.own_accuracies[i, j] == pytest.approx(np.mean(right))
        assert result.accuracy[i] == result.accuracies[i, KS.index(result.chosen[i])]
    poisoned = probe(Z_test=Z[100:] + 1e6, labels=[30, 100], metric="euclidean")
    assert poisoned.chosen == result.chosen


def test_ties_prefer_the_earlier_row_and_the_nearer_class():
    same = np.array([[0.0], [0.0], [0.0], [4.0]])
    result = knn_probe(
        same, [2, 1, 1, 0], [[0.0], [4.0]], [2, 0], neighbours=[1, 2, 3, 4], metric="euclidean"
    )
    assert result.predictions[0, :, 0].tolist() == [2, 2, 1, 1]
    assert result.predictions[0, :, 1].tolist() == [0, 0, 0, 1]


def test_labels_may_have_gaps():
    named = np.array([10**6, 2024, 0, 7])[y]
    found = probe(y_train=named[:100], y_test=named[100:])
    assert np.array_equal(found.predictions, np.array([10**6, 2024, 0, 7])[probe().predictions])
    assert np.array_equal(found.accuracies, probe().accuracies)


def test_the_verdict_contains_the_share_of_the_largest_class():
    found = probe(y_test=np.where(y[100:] == 1, 0, y[100:]))
    assert found.majority == 0.5
    accuracy = 100 * found.accuracy[-1]
    assert f"with 100 labels classifies {accuracy:.1f} % of the test rows" in str(found)
    assert "always predicting the largest class reaches 50.0 %" in str(found)


def test_all_rows_of_a_label_count_vote_if_k_exceeds_it():
    many = probe(neighbours=[20, 100], labels=[20, 100])
    assert np.array_equal(many.predictions[0, 0], many.predictions[0, 1])
    assert many.predictions.shape == (2, 2, 60)


def test_by_default_neighbours_are_at_most_the_labelled_rows():
    assert knn_probe(Z[:12], y[:12], Z[100:], y[100:]).neighbours == (1, 3, 5, 10)
    assert knn_probe(Z[:20], y[:20], Z[100:], y[100:]).neighbours == (1, 3, 5, 10, 20)


def test_knn_probe_ignores_scale_and_offset():
    for metric in ("cosine", "euclidean"):
        moved = probe(1000 * Z[:100] - 7, Z_test=1000 * Z[100:] - 7, metric=metric)
        assert np.array_equal(moved.predictions, probe(metric=metric).predictions)


def test_blocks_of_rows_give_the_same_result(monkeypatch):
    whole = probe(labels=[20, 100])
    monkeypatch.setattr("leadline.probing.probes._neighbours.ROWS_AT_ONCE", 7)
    parts = probe(labels=[20, 100])
    assert np.array_equal(whole.predictions, parts.predictions)
    assert np.array_equal(whole.own_accuracies, parts.own_accuracies)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"neighbours": 0}, r"neighbours\[0\] must be a whole number of at least 1"),
        ({"neighbours": 101}, "neighbours must be at most the number of labelled rows"),
        ({"neighbours": (1, 10**20)}, "for 100 rows in Z_train"),
        ({"neighbours": []}, r"neighbours = \[\]"),
        ({"neighbours": "13"}, "neighbours must be a list"),
        ({"labels": [101]}, r"labels\[0\] must be a whole number from 2 to 100"),
        ({"labels": [1]}, r"labels\[0\] must be a whole number from 2 to 100"),
        ({"y_test": np.full(60, 9)}, r"y_test\[0\] = 9; 60 of 60 rows"),
        ({"metric": "manhattan"}, "'manhattan'"),
        ({"y_train": np.zeros(100, int)}, "at least two classes"),
        ({"Z_test": np.full((60, 6), np.nan)}, r"Z_test\[0, 0\] = nan"),
        ({"Z_test": Z[100:, :3]}, "Z_train has 6 features, Z_test has 3"),
    ],
)
def test_knn_probe_refuses_invalid_arguments(changes, text):
    with pytest.raises(InputError, match=text):
        probe(**changes)
