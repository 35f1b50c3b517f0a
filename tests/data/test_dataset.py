import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from leadline import InputError
from leadline.data import Dataset, check_features, check_labels, class_indices

BAD_FEATURES = [
    (
        [[1.0, 2.0], [np.nan, np.inf]],
        ["X[1, 0] = nan", "2 such values in 1 of 2 rows", "must be finite"],
    ),
    ([[1e300, 0.0]], ["fit into float32", "X[0, 0] = 1e+300", "rescale"]),
    (np.array([[1, None]], dtype=object), ["real numbers", "X of dtype object, X[0, 1] = None"]),
    ([["a", "b"]], ["real numbers", "X[0, 0] = np.str_('a')"]),
    ([[1j]], ["real numbers", "complex128"]),
    (
        [1.0, 2.0],
        ["matrix of shape (n, features)", "X of shape (2,)", "X.reshape(len(X), -1)"],
    ),
    (np.zeros((2, 3, 3)), ["X of shape (2, 3, 3)", "images that are not flattened"]),
    (np.zeros((0, 3)), ["at least one row and one column", "(0, 3)"]),
    (np.zeros((3, 0)), ["at least one row and one column", "(3, 0)"]),
    ([[1, 2], [3]], ["X must be an array", "differ in length"]),
]

BAD_LABELS = [
    ([0, 1], ["y must have one label for each row", "2 labels in y for 3 rows"]),
    ([2, 2, 2], ["at least two classes", "all 3 labels in y are 2"]),
    ([0, 1.5, 0.5], ["whole numbers", "y[1] = 1.5; 2 of 3 rows"]),
    ([0, np.nan, 1], ["y[1] = nan"]),
    ([0, 1, -1], ["y[2] = -1", "class_indices"]),
    (["a", "b", "a"], ["class indices", "y[0] = np.str_('a')", "class_indices(labels)"]),
    (np.array([0, 1, None], dtype=object), ["dtype object"]),
    (np.eye(3), ["one label for each row", "(3, 3)", "one-hot", "y.argmax(axis=1)"]),
]


def assert_message_contains(error: pytest.ExceptionInfo, texts: list[str]):
    for text in texts:
        assert text in str(error.value)


@pytest.mark.parametrize(("X", "texts"), BAD_FEATURES)
def test_bad_features_raise_an_error_that_names_them(X, texts):
    with pytest.raises(InputError) as caught:
        check_features(X)
    assert_message_contains(caught, texts)


@pytest.mark.parametrize(("y", "texts"), BAD_LABELS)
def test_bad_labels_raise_an_error_that_names_them(y, texts):
    with pytest.raises(InputError) as caught:
        check_labels(y, 3)
    assert_message_contains(caught, texts)


@given(
    hnp.arrays(
        st.sampled_from(["f2", "f4", "f8", "i4", "u1", "?"]),
        hnp.array_shapes(min_dims=2, max_dims=2),
    )
)
def test_finite_numbers_of_any_type_are_accepted(X):
    if np.isfinite(X).all() and (np.abs(X.astype("f8")) < 1e38).all():
        checked = check_features(X)
        assert checked.dtype == np.float32
        assert np.array_equal(checked, X.astype("f4"))


def test_constant_columns_are_accepted_and_arrays_are_not_copied_needlessly():
    X = np.zeros((3, 2), dtype=np.float32)
    assert check_features(X) is X
    assert check_features(X, dtype=np.float64).dtype == np.float64


def test_errors_name_the_column():
    with pytest.raises(InputError, match=r"X\[0, 1\] \(column 'age'\) = nan"):
        check_features([[1.0, np.nan]], columns=["height", "age"])


@pytest.mark.parametrize(
    ("labels", "y", "names"),
    [
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        ([1, -1, 1], [1, 0, 1], ("-1", "1")),
        ([10, 9, 2.0], [2, 1, 0], ("2", "9", "10")),
        ([True, False], [1, 0], ("0", "1")),
        (np.array(["x", "y"], dtype=object), [0, 1], ("x", "y")),
        (np.array([np.int64(3), np.int64(1)], dtype=object), [1, 0], ("1", "3")),
    ],
)
def test_labels_of_any_kind_become_indices(labels, y, names):
    assert class_indices(labels)[0].tolist() == y
    assert class_indices(labels)[1] == names


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0.5, 1.0], r"labels\[0\] = 0.5"),
        (np.array(["a", None], dtype=object), r"labels\[1\] is missing; 1 of 2 rows"),
        (pd.Series(["a", "b", None], dtype="string"), r"labels\[2\] is missing; 1 of 3 rows"),
        ([0.0, np.nan], r"labels\[1\] is missing"),
        (np.array(["a", 3], dtype=object), r"of one kind\n.*labels\[1\] = 3"),
        ([[1, 2]], "one label for each row"),
        (["a", "a"], "all 2 labels in labels are 'a'"),
        ([], "labels is empty"),
    ],
)
def test_labels_that_are_not_classes_raise_an_error(labels, text):
    with pytest.raises(InputError, match=text):
        class_indices(labels)


def test_a_dataset_is_checked_on_creation():
    X, y = np.zeros((4, 12)), np.array([0, 1, 2, 1])
    data = Dataset(X, y, image_size=(2, 2), channels=3, class_names=("a", "b", "c", "d"))
    assert data.images.shape == (4, 3, 2, 2)
    assert (data.num_classes, len(data), data.X.dtype, data.labels.dtype) == (
        4,
        4,
        np.float32,
        np.int64,
    )
    assert Dataset(X).num_classes == 0
    for wrong, text in [
        (lambda: Dataset(X, y[:3]), "3 labels in y for 4 rows"),
        (
            lambda: Dataset(X, y, image_size=(3, 3)),
            r"image_size = \(3, 3\) and channels = 1 for 12 features",
        ),
        (lambda: Dataset(X, y, class_names=("a", "b")), r"y\[2\] = 2 with 2 class_names"),
        (lambda: Dataset(X, name="ropes").labels, "ropes must be labelled"),
        (lambda: Dataset(X).images, "data holds no images"),
    ]:
        with pytest.raises(InputError, match=text):
            wrong()


def test_importing_is_cheap():
    heavy = ("torch", "sklearn", "pandas", "PIL", "matplotlib", "pyarrow", "scipy", "plotly")
    code = f"import sys, leadline.data; print([name for name in {heavy} if name in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


def test_whole_numbers_of_any_size_name_classes():
    y, names = class_indices([2**70, 3, 2**70])
    assert (y.tolist(), names) == ([1, 0, 1], ("3", str(2**70)))
    y, names = class_indices(np.array([2**64 - 1, 5, 2**63], dtype=np.uint64))
    assert (y.tolist(), names) == ([2, 0, 1], ("5", str(2**63), str(2**64 - 1)))
    assert class_indices([True, False])[1] == ("0", "1")
    assert class_indices([10.0, 9])[1] == ("9", "10")
    with pytest.raises(InputError, match=rf"y\[1\] = {2**63}"):
        check_labels(np.array([0, 2**63], dtype=np.uint64), 2)


def test_booleans_are_classes():
    assert check_labels(np.array([True, False, True]), 3).tolist() == [1, 0, 1]
