"""The material of a study, and the refusals before any work starts."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from leadline import data
from leadline.errors import InputError
from leadline.representation._material import gather, retained

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 5)).astype(np.float32)
Y = np.arange(60) % 3
IMAGES = RNG.random((60, 6, 8))


def test_unlabelled_rows_are_pretrained_on_and_labelled_rows_are_probed():
    more = RNG.normal(size=(90, 5))
    material = gather(ROWS, Y, more, "auto")
    np.testing.assert_array_equal(material.labelled, ROWS)
    np.testing.assert_array_equal(material.unlabelled, more.astype(np.float32))
    assert (material.set_aside, material.notes, material.class_names) == (0, (), ("0", "1", "2"))


@pytest.mark.parametrize("missing", [None, float("nan"), "", -1])
def test_a_row_without_a_label_counts_as_unlabelled(missing: Any):
    names = ["rope", "lead", "wool"] if missing in (None, "") else [0, 1, 2]
    y = np.array([names[i % 3] if i < 12 else missing for i in range(60)], dtype=object)
    material = gather(ROWS, y, None, "auto")
    assert (len(material.labelled), len(material.unlabelled)) == (12, 48)
    np.testing.assert_array_equal(material.labelled, ROWS[:12])
    assert material.class_names == tuple(sorted(map(str, names)))


def test_nan_in_a_list_of_names_is_a_missing_label():
    y: list[Any] = [("rope", "lead")[i % 2] if i < 12 else float("nan") for i in range(60)]
    material = gather(ROWS, y, None, "auto")
    assert material.class_names == ("lead", "rope")
    assert len(material.labelled) == 12


def test_masked_labels_are_missing():
    for values in (Y, np.array(["a", "b", "c"])[Y]):
        material = gather(ROWS, np.ma.masked_array(values, mask=np.arange(60) >= 12), None, "auto")
        assert (len(material.labelled), len(material.unlabelled), len(material.class_names)) == (
            12,
            48,
            3,
        )


@pytest.mark.parametrize("sizes", [(3, 57), (4, 56), (5, 5, 50), (3, 3, 3, 51), (7, 53)])
def test_at_least_three_different_rows_of_each_class_keep_their_labels(sizes: tuple[int, ...]):
    """Half of the labels are set aside, but a class of three rows keeps all of its labels."""
    y = np.repeat(np.arange(len(sizes)), sizes)
    material = gather(ROWS, y, None, "auto")
    counts = np.bincount(material.y)
    assert counts.min() >= 3
    assert len(material.unlabelled) + len(material.labelled) == 60
    assert np.bincount(np.r_[material.y, material.y_set_aside]).tolist() == list(sizes)
    for seed in range(5):
        roles = data.split_roles(
            material.y, seed=seed, fractions=(0, 0, 0.6, 0.15, 0.25), groups=material.groups
        )
        assert min(
            len(np.unique(material.y[part])) for part in (roles.probe_pool, roles.test)
        ) == len(sizes)


def test_equal_rows_count_once():
    rows = np.concatenate([ROWS, np.repeat(ROWS[:1], 3, axis=0)])
    y = np.r_[Y % 2, 2, 2, 2]
    y[0] = 2
    with pytest.raises(InputError, match="class '2' has 4, 1 of them distinct"):
        gather(rows, y, None, "auto")


def test_equal_rows_stay_together_in_the_retained_share():
    rng = np.random.default_rng(0)
    groups = rng.integers(40, size=300).astype(np.uint64)
    y = (groups % 3).astype(np.int64)
    is_kept = retained(y, groups, 0.5)
    assert not np.isin(groups[is_kept], groups[~is_kept]).any()
    assert abs(is_kept.mean() - 0.5) < 0.05
    assert len(np.unique(groups[is_kept & (y == 1)])) >= 3


def test_rows_that_float32_would_blur_stay_in_float64():
    rows = ROWS.astype(np.float64) + np.array([1.7e9, 0, 0, 0, 0])
    more = RNG.normal(size=(90, 5)) + np.array([1.7e9, 0, 0, 0, 0])
    material = gather(rows, Y, np.concatenate([more, rows[:7]]), "auto")
    np.testing.assert_array_equal(material.labelled, rows)
    assert material.notes == (
        "7 unlabelled rows equal labelled rows and were not used for pretraining",
    )
    assert len(np.unique(material.groups)) == 60
    assert gather(ROWS.astype(np.float64), Y, None, "auto").labelled.dtype == np.float32


def test_minus_one_is_a_class_next_to_one():
    y = np.where(np.arange(60) % 2, 1, -1)
    assert gather(ROWS, y, RNG.normal(size=(70, 5)), "auto").class_names == ("-1", "1")


def test_whole_numbers_keep_their_names_next_to_nan():
    y = np.where(np.arange(60) < 12, Y, np.nan)
    assert gather(ROWS, y, None, "auto").class_names == ("0", "1", "2")


def test_without_unlabelled_rows_half_of_the_labelled_rows_lose_their_labels():
    material = gather(ROWS, Y, None, "auto")
    assert (material.set_aside, len(material.unlabelled), len(material.labelled)) == (30, 30, 30)
    seen = data.row_fingerprints(material.unlabelled)
    assert not np.isin(data.row_fingerprints(material.labelled), seen).any()
    np.testing.assert_array_equal(np.bincount(material.y), [10, 10, 10])
    place = {row.tobytes(): label for row, label in zip(ROWS, Y, strict=True)}
    assert [place[row.tobytes()] for row in material.labelled] == material.y.tolist()
    assert "30 rows lost their labels" in material.notes[0]


def test_rows_that_are_also_labelled_are_not_pretrained_on():
    more = np.concatenate([ROWS[:7], RNG.normal(size=(70, 5))])
    material = gather(ROWS, Y, more, "auto")
    assert len(material.unlabelled) == 70
    assert material.notes == (
        "7 unlabelled rows equal labelled rows and were not used for pretraining",
    )


def test_without_labels_all_rows_are_pretrained_on():
    material = gather(ROWS, None, ROWS[:20] + 1, "auto")
    assert (len(material.unlabelled), material.labelled.shape, material.class_names) == (
        80,
        (0, 5),
        (),
    )


def test_images_are_scaled_and_flattened_in_the_order_of_files():
    whole = (IMAGES * 255).round()
    by_dtype = [
        gather(whole.astype(kind), None, None, "auto") for kind in (np.uint8, np.int64, np.float32)
    ]
    for material in by_dtype:
        assert material.notes == ("pixels from 0 to 255 were divided by 255",)
        assert (material.image_size, material.channels) == ((6, 8), 1)
        np.testing.assert_allclose(material.unlabelled, whole.reshape(60, -1) / 255, rtol=1e-6)
    colour = RNG.random((60, 6, 8, 3))
    material = gather(colour, None, None, "auto")
    np.testing.assert_allclose(
        material.unlabelled, np.moveaxis(colour, 3, 1).reshape(60, -1), rtol=1e-6
    )
    assert (material.image_size, material.channels, material.notes) == ((6, 8), 3, ())


def test_flat_rows_keep_their_values():
    material = gather(ROWS * 1000 - 300, None, None, "auto")
    np.testing.assert_array_equal(material.unlabelled, ROWS * 1000 - 300)
    assert (material.image_size, material.notes) == (None, ())


def test_flat_rows_with_similar_neighbours_count_as_images():
    flat = data.glyphs("abc", 60, 16, seed=0).X
    detected = gather(flat, None, None, "auto")
    assert detected.image_size == (16, 16)
    assert "image_size=None treats them as plain rows" in detected.notes[0]
    assert gather(flat, None, None, None).image_size is None
    assert gather(flat, None, None, (8, 32)).image_size == (8, 32)
    shuffled = flat[:, RNG.permutation(256)]
    assert gather(shuffled, None, None, "auto").image_size is None
    walks = np.cumsum(RNG.normal(size=(60, 256)), axis=1)  # similar beside, not below
    assert gather(walks - walks.mean(), None, None, "auto").image_size is None


BAD: list[tuple[str, tuple[Any, ...], str]] = [
    (
        "a NaN",
        (np.where(ROWS[3, 2] == ROWS, np.nan, ROWS), Y, None, "auto"),
        r"X must be finite\n.*X\[3, 2\]",
    ),
    ("a NaN beside", (ROWS, Y, np.full((30, 5), np.inf), "auto"), r"X_unlabelled\[0, 0\] = inf"),
    (
        "a NaN in an image",
        (np.full((30, 6, 8), np.nan), None, None, "auto"),
        "must be finite",
    ),
    ("one class", (ROWS, np.ones(60, int), None, "auto"), "at least two classes"),
    (
        "a rare class",
        (ROWS, np.r_[np.arange(58) % 2, 2, 2], None, "auto"),
        "three rows of each class.*\n.*class '2' has 2",
    ),
    ("a label each", (ROWS, np.arange(60), None, "auto"), "three rows of each class"),
    ("a quantity", (ROWS, RNG.random(60), None, "auto"), "whole numbers or strings"),
    ("no label", (ROWS, np.full(60, np.nan), None, "auto"), "all 60 labels in y are missing"),
    ("other labels", (ROWS, Y[:50], None, "auto"), r"y of shape \(50,\) for 60 rows"),
    (
        "bytes too large",
        (np.full((30, 6, 8), 300), None, None, "auto"),
        r"from 0 to 255 .*\n  got:   X\[0, 0, 0\] = 300",
    ),
    ("standardised", (IMAGES - 0.5, None, None, "auto"), "between 0 and 1.*\n  got:   X from -0"),
    ("not whole", (IMAGES * 255, None, None, "auto"), "must lie between 0 and 1"),
    ("ragged", ([[1.0, 2.0], [3.0]], None, None, "auto"), "X must be an array"),
    ("five channels", (np.zeros((30, 6, 8, 5)), None, None, "auto"), "1 or 3 channels"),
    ("no rows", (np.zeros((0, 5)), None, None, "auto"), "at least one row"),
    ("no images", (np.zeros((0, 6, 8)), None, None, "auto"), "at least one row"),
    ("few rows", (ROWS[:19], None, None, "auto"), "at least 20 rows for pretraining\n  got:   19"),
    ("other width", (ROWS, Y, np.zeros((30, 4)), "auto"), "5 numbers a row and X_unlabelled of 4"),
    ("images beside rows", (IMAGES, Y, IMAGES.reshape(60, 48), "auto"), r"\(images of 6 x 8\)"),
    ("other scale", (ROWS, Y, 255 * RNG.normal(size=(90, 5)), "auto"), "the same scale"),
    ("other size", (ROWS, Y, None, (2, 3)), r"image_size = \(2, 3\) for rows of 5 numbers"),
    ("a size of text", (ROWS, Y, None, (2.5, 2)), "image_size must be"),
    ("a size of three", (ROWS, Y, None, (2, 2, 1)), r"image_size = \(2, 2, 1\)"),
    ("a masked cell", (np.ma.masked_greater(ROWS, 1.5), Y, None, "auto"), r"X\[\d+, \d\] = nan"),
    ("labels in a set", (ROWS, {0, 1}, None, "auto"), "y must be an array of labels"),
    ("ragged labels", (ROWS, [[0, 1], [2]], None, "auto"), "y must be an array of labels"),
    ("mixed labels", (ROWS, [1, "1"] * 30, None, "auto"), "of one kind"),
    ("infinite labels", (ROWS, np.full(60, np.inf), None, "auto"), "y must hold"),
    ("another size", (IMAGES, None, None, (8, 6)), "images of 6 x 8 pixels"),
]


@pytest.mark.parametrize(
    ("given", "text"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_bad_input_is_refused_with_its_reason(given, text):
    with pytest.raises(InputError, match=text):
        gather(*given)


def test_labelled_and_unlabelled_rows_share_columns_and_scale():
    table = pd.DataFrame(ROWS, columns=list("abcde"))
    more = pd.DataFrame(RNG.normal(size=(90, 5)).astype(np.float32), columns=list("abcde"))
    material = gather(table, Y, more.iloc[:, ::-1], "auto")
    np.testing.assert_array_equal(material.unlabelled, more.to_numpy())
    assert material.form.columns == tuple("abcde")
    with pytest.raises(InputError, match="X_unlabelled without 'a' and with 'z'"):
        gather(table, Y, more.rename(columns={"a": "z"}), "auto")
    bright = RNG.integers(0, 256, (90, 6, 8), dtype=np.uint8)
    dark = RNG.integers(0, 60, (60, 6, 8), dtype=np.uint8)
    material = gather(dark, Y, bright, None)
    np.testing.assert_array_equal(material.labelled, dark.reshape(60, -1).astype(np.float32) / 255)
    assert material.form.divisor == 255
    flat = gather(dark.reshape(60, -1), Y, bright.reshape(90, -1), None)
    np.testing.assert_array_equal(flat.labelled, material.labelled)
    nearly_black = RNG.integers(0, 2, (60, 6, 8), dtype=np.uint8)
    with pytest.raises(InputError, match="same scale"):
        gather(nearly_black, Y, bright, None)


def test_labels_in_float16_are_read_without_a_warning():
    labels = np.where(np.arange(len(ROWS)) % 3 == 0, np.nan, np.arange(len(ROWS)) % 3).astype(
        np.float16
    )
    assert gather(ROWS, labels, None, None).class_names == ("1", "2")
