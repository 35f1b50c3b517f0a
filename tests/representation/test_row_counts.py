"""The numbers of rows that play each part in a study."""

import numpy as np
import pytest

from leadline.representation._material import gather
from leadline.representation._plan import assign_roles, limit_probed_rows
from leadline.representation._row_counts import RowCounts

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(120, 5)).astype(np.float32)
Y = np.arange(120) % 3


def count(y: np.ndarray | None, more: np.ndarray | None = None, seeds: int = 2) -> RowCounts:
    material = gather(ROWS, y, more, None)
    return RowCounts.from_roles(material, assign_roles(limit_probed_rows(material), range(seeds)))


def parts(counts: RowCounts) -> dict[str, int]:
    table = counts.table()
    return dict(zip(table["part"].tolist(), table["rows"].tolist(), strict=True))


def test_every_row_has_one_part():
    counts = count(np.where(np.arange(120) < 45, Y, -1))
    found = parts(counts)
    assert found["pretraining"] == 75
    assert found["labelled"] == found["training"] + found["validation"] + found["test"] == 45
    assert (found["all"], found["set aside"], found["unused"]) == (120, 0, 0)
    assert str(counts) == (
        "75 of 120 rows are for pretraining; of the 45 labelled rows, each seed uses "
        f"{found['training']} for training, {found['validation']} for validation and "
        f"{found['test']} for testing"
    )


def test_rows_that_lose_their_labels_are_counted():
    counts = count(Y)
    assert counts.labelled == counts.total == 120
    assert counts.set_aside == counts.pretraining
    assert counts.probed == 120 - counts.set_aside
    assert str(counts).startswith(
        f"{counts.pretraining} of 120 rows are for pretraining ({counts.set_aside} of them lost "
        "their labels); of the 120 labelled rows, "
    )


def test_unlabelled_rows_that_repeat_labelled_rows_are_unused():
    more = np.concatenate([RNG.normal(size=(150, 5)), ROWS[:7]])
    counts = count(Y, more)
    assert (counts.total, counts.pretraining, counts.unused) == (277, 150, 7)


def test_numbers_that_differ_between_seeds_are_shown_as_a_range():
    counts = RowCounts(90, 30, 60, 0, training=(36, 35), validation=(9, 9), test=(15, 16))
    assert "each seed uses 35 to 36 for training, 9 for validation and 15 to 16 for test" in str(
        counts
    )


def test_rows_without_labels_are_only_pretrained_on():
    counts = count(None)
    assert str(counts) == "120 of 120 rows are for pretraining; no row has a label"
    assert parts(counts) == {
        "all": 120,
        "pretraining": 120,
        "labelled": 0,
        "set aside": 0,
        "unused": 0,
    }


@pytest.mark.parametrize("most", [60, 90])
def test_labelled_rows_beyond_the_limit_are_unused(most: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("leadline.representation._plan.MOST_PROBED", most)
    counts = count(Y, RNG.normal(size=(150, 5)))
    assert counts.unused == 120 - counts.probed
    assert abs(counts.probed - most) <= 3
