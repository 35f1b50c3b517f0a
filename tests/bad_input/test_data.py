"""Bad input for every public name of leadline.data."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from leadline import InputError, data
from tests.bad_input.harness import Room, call

untyped: Any = data
"""The package without its types, so that wrong arguments pass the type checker."""

FOLDER = tempfile.TemporaryDirectory()
X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
Y = np.arange(30) % 2


@pytest.fixture(autouse=True, scope="module")
def folder():
    yield
    FOLDER.cleanup()


def file() -> Path:
    path = Path(FOLDER.name, "rows.npz")
    if not path.exists():
        np.savez(path, X=X, y=Y)
    return path


class Contrary:
    """An object whose special methods all fail."""

    def __array__(self, *_: Any) -> np.ndarray:
        raise KeyError("no array")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


def quantised() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8)


def roles() -> data.Roles:
    return data.split_roles(20, seed=0)


CALLS = {
    "Dataset.resized": lambda: call(data.Dataset(X, Y, image_size=(2, 2)).resized, (4, 4)),
    "Dataset": lambda: call(
        data.Dataset, X, Y, "rows", (2, 2), 1, class_names=("a", "b"), notes=("scaled",)
    ),
    "Labels": lambda: call(data.Labels, np.array(["a", "b"]), "kind"),
    "Roles": lambda: call(data.Roles, *(getattr(roles(), name) for name in data.ROLES)),
    "LabelSubsets.rows": lambda: call(
        data.label_subsets(Y, np.arange(20), [2, 4], num=2, seed=0).rows, 4
    ),
    "Text": lambda: call(data.Text, "sounding", "word", "0" * 64),
    "check_features": lambda: call(
        data.check_features, X, "X", columns=["a", "b", "c", "d"], dtype=np.float64, first_row=3
    ),
    "check_labels": lambda: call(data.check_labels, Y, 30, "y"),
    "class_indices": lambda: call(data.class_indices, ["a", "b"], "kinds"),
    "missing_labels": lambda: call(data.missing_labels, np.array([1, -1, 2])),
    "fingerprint": lambda: call(data.fingerprint, X, Y, None),
    "row_fingerprints": lambda: call(data.row_fingerprints, X),
    "glyphs": lambda: call(data.glyphs, "ab", 4, 8, seed=0, fonts=["DejaVuSans"]),
    "high_variance_vectors": lambda: call(
        data.high_variance_vectors,
        4,
        seed=0,
        rotation_seed=0,
        dimensions=5,
        high=2,
        high_variance=10.0,
        low_variance=1.0,
    ),
    "label_subsets": lambda: call(data.label_subsets, Y, np.arange(20), [2, "all"], num=2, seed=0),
    "load": lambda: call(data.load, file(), "y"),
    "photograph_patches": lambda: call(
        data.photograph_patches, 4, 8, seed=0, channels=1, region="left"
    ),
    "random_rotation": lambda: call(data.random_rotation, 3, seed=0),
    "read": lambda: call(data.read, file(), "y"),
    "running_average": lambda: call(data.running_average, 2, 3, seed=0, dtype=np.float32),
    "split_roles": lambda: call(
        data.split_roles, Y, seed=0, fractions=data.FRACTIONS, groups=np.arange(30)
    ),
}

ROOM = Room(data, CALLS, results=frozenset({"RotatedVectors", "LabelSubsets"}))


def test_every_public_name_has_a_good_call():
    assert ROOM.without_a_call() == []


@pytest.mark.parametrize("name", CALLS)
def test_a_good_call_succeeds_with_numbers_of_any_kind(name):
    ROOM.check_good(name)


@pytest.mark.parametrize(("name", "parameter"), ROOM.cases())
def test_bad_values_raise_readable_errors(name, parameter):
    ROOM.check_bad(name, parameter)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda: untyped.check_features(data.Dataset(X, Y)), "X = a Dataset"),
        (lambda: untyped.check_features(torch.ones(3, 2).to_sparse()), r"X.to_dense\(\)"),
        (lambda: untyped.check_features(quantised()), "dequantize"),
        (lambda: untyped.check_features(torch.ones(2, 2, device="meta")), "hold no numbers"),
        (lambda: untyped.check_features(X, columns=["a"]), "1 names for 4 columns"),
        (lambda: untyped.check_features(X, dtype=np.int64), "dtype must be float32 or float64"),
        (lambda: untyped.check_features(np.array([[10**400, 1]], dtype=object)), "below 1e308"),
        (
            lambda: untyped.check_features(pd.DataFrame({"a": pd.array([1, None], "Int64")})),
            r"X\[1, 0\] = ",
        ),
        (
            lambda: untyped.check_labels([0, 10**12], 2),
            r"from 0 to 1048575\n  got:   y\[1\] = 1000000000000",
        ),
        (lambda: untyped.check_labels(Y, -1), "n must be a whole number of at least 0"),
        (
            lambda: untyped.class_indices(np.array(["2020-01-01", "2021-01-01"], "datetime64[ns]")),
            "dates, bytes",
        ),
        (lambda: untyped.class_indices(["a", float("nan")]), r"labels\[1\] is missing"),
        (lambda: untyped.class_indices([1, "a"]), r"of one kind\n.*labels\[0\] = 1"),
        (lambda: untyped.class_indices([{1}, {2}]), r"labels\[0\] = {1}"),
        (lambda: untyped.Dataset(X, image_size=(2, 2, 1)), "image_size must be"),
        (lambda: untyped.Dataset(X, channels=0), "channels must be a whole number of at least 1"),
        (lambda: untyped.Dataset(X, Y, class_names="ab"), "class_names must be a list of texts"),
        (lambda: untyped.split_roles(X, seed=0), r"shape \(30, 4\)"),
        (lambda: untyped.split_roles(data.Dataset(X, Y), seed=0), "n must be a whole number"),
        (lambda: untyped.split_roles(10**11, seed=0), "must fit into the free memory"),
        (lambda: untyped.split_roles(Y, seed=-1), "seed must be a whole number from 0"),
        (
            lambda: untyped.split_roles(Y, seed=0, groups=[None] * 30),
            r"groups\[0\] is missing; 30 of 30 rows",
        ),
        (lambda: untyped.label_subsets(Y, roles(), [2], num=1, seed=0), "pool = a Roles"),
        (
            lambda: untyped.label_subsets(Y, np.arange(9), "all", num=1, seed=0),
            "budgets must be a list",
        ),
        (
            lambda: untyped.label_subsets(Y, np.arange(9), [2], num=10**15, seed=0),
            "must fit into the free memory",
        ),
        (
            lambda: untyped.Roles([0, 1], [1], [2], [3], [4]),
            "row 1 is in pretrain_train and in pretrain_validation",
        ),
        (
            lambda: untyped.Roles([0, 0], [1], [2], [3], [4]),
            "row 0 occurs more than once in pretrain_train",
        ),
        (
            lambda: untyped.Roles(np.array([True, False]), [1], [2], [3], [4]),
            "pretrain_train must be a list of row",
        ),
        (
            lambda: untyped.glyphs("ab", 4, 10**5, seed=0),
            "size must be a whole number from 4 to 2048",
        ),
        (lambda: untyped.glyphs("ab", 10**12, 8, seed=0), "must fit into the free memory"),
        (lambda: untyped.photograph_patches(10**12, 8, seed=0), "must fit into the free memory"),
        (lambda: untyped.random_rotation(10**9, seed=0), "must fit into the free memory"),
        (lambda: untyped.high_variance_vectors(10**12, seed=0), "must fit into the free memory"),
        (lambda: untyped.running_average(10**9, 10**9, seed=0), "must fit into the free memory"),
        (
            lambda: untyped.check_labels([10**400, 1], 2),
            r"y must hold class indices.*\n.*y\[0\] = inf",
        ),
        (lambda: untyped.check_features(Contrary()), "X = a Contrary"),
        (lambda: untyped.class_indices([Contrary(), Contrary()]), r"labels\[0\] = a Contrary"),
        (
            lambda: untyped.glyphs("ab", 2, 8, seed=0, fonts=[Contrary()]),
            r"fonts\[0\] = a Contrary",
        ),
        (lambda: untyped.class_indices([range(2), range(3)]), r"labels\[0\] = range\(0, 2\)"),
        (
            lambda: untyped.fingerprint(np.ma.masked_array(np.zeros(2, [("a", int)]), mask=True)),
            r"arrays\[0\] of dtype",
        ),
        (lambda: untyped.load(file(), 3), "labels must be text"),
        (lambda: untyped.load(data.Dataset(X)), "path must be a path"),
    ],
)
def test_objects_of_a_wrong_type_raise_an_error_that_names_them(wrong, text):
    with pytest.raises(InputError, match=text):
        wrong()


def test_masked_cells_are_missing_values_everywhere():
    features = np.ma.masked_array(np.ones((2, 2)), mask=[[False, True], [False, False]])
    numbers = np.ma.masked_array([0, 1, 1], mask=[False, False, True])
    names = np.ma.masked_array(["a", "b", "b"], mask=[False, False, True])
    for check in (data.check_features, data.Dataset):
        with pytest.raises(InputError, match=r"X\[0, 1\] = nan"):
            check(features)
    for labels, found in ((numbers, r"y\[2\] = nan"), (names, "class names, or missing labels")):
        assert data.missing_labels(labels).tolist() == [False, False, True]
        assert data.Labels(labels, "y").known.tolist() == [True, True, False]
        with pytest.raises(InputError, match=r"labels\[2\] is missing; 1 of 3 rows"):
            data.class_indices(labels)
        with pytest.raises(InputError, match=found):
            data.check_labels(labels, 3)
        with pytest.raises(InputError, match=found):
            data.Dataset(np.eye(3), labels)
        with pytest.raises(InputError, match=r"groups\[2\] is missing"):
            data.split_roles(3, seed=0, groups=labels, fractions=(1, 0, 0, 0, 0))
    with pytest.raises(InputError, match="pool"):
        data.label_subsets(Y, numbers, ["all"], num=1, seed=0)
    with pytest.raises(InputError, match=r"y\[2\] = nan"):
        data.label_subsets(numbers, [0, 1], ["all"], num=1, seed=0)
    with pytest.raises(InputError, match=r"y\[2\] = nan"):
        data.split_roles(numbers, seed=0)
    assert data.fingerprint(features) == data.fingerprint(features.filled(np.nan))
    assert (
        data.row_fingerprints(features).tolist()
        == data.row_fingerprints(features.filled(np.nan)).tolist()
    )
    unmasked = np.ma.masked_array(np.eye(2))
    assert data.fingerprint(unmasked) == data.fingerprint(np.eye(2))
    assert np.array_equal(data.check_features(unmasked), np.eye(2))


def test_tensors_of_every_dtype_are_read():
    for tensor in (
        torch.eye(2, dtype=torch.bfloat16),
        torch.eye(2, dtype=torch.float16),
        torch.eye(2, requires_grad=True),
        torch.eye(2).to_sparse().to_dense().conj(),
        torch.eye(2).mT,
    ):
        assert np.array_equal(data.check_features(tensor), np.eye(2))
        assert data.row_fingerprints(tensor).tolist() == data.row_fingerprints(np.eye(2)).tolist()
    assert data.check_labels(torch.tensor([0, 1]), 2).tolist() == [0, 1]
    assert data.class_indices([torch.tensor(4), torch.tensor(2)])[1] == ("2", "4")


def test_numbers_and_text_in_object_arrays_keep_their_type():
    assert np.array_equal(
        data.check_features(pd.DataFrame({"a": [True, False], "b": [0.5, 1]})), [[1, 0.5], [0, 1]]
    )
    assert data.check_labels(pd.Series([0, 1], dtype="Int64"), 2).tolist() == [0, 1]
    y, names = data.class_indices(pd.Categorical(["b", "a", "b"]))
    assert (y.tolist(), names) == ([1, 0, 1], ("a", "b"))
    assert data.missing_labels(["a", None, float("nan"), ""]).tolist() == [False, True, True, True]


def test_large_labels_do_not_cost_memory():
    y, names = data.class_indices([10**12, 0, 10**12])
    assert (y.tolist(), names) == ([1, 0, 1], ("0", "1000000000000"))
    assert data.missing_labels(np.array([10**12, -1])).tolist() == [False, True]
