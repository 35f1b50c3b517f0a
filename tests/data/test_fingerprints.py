import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from leadline import InputError
from leadline.data import digits, fingerprint, row_fingerprints

small = st.integers(-3, 3)


@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=small))
def test_rows_have_equal_hashes_exactly_if_they_are_equal(X):
    equal_rows = (X[:, None] == X[None]).all(axis=-1)
    hashes = row_fingerprints(X)
    assert np.array_equal(hashes[:, None] == hashes[None], equal_rows)


@given(
    hnp.arrays(np.int64, (4, 3), elements=small),
    st.sampled_from(["i1", "i8", "f2", "f4", "f8", ">f4", ">i4"]),
)
def test_hashes_do_not_depend_on_dtype_and_layout(X, dtype):
    hashes = row_fingerprints(X)
    assert np.array_equal(row_fingerprints(X.astype(dtype)), hashes)
    assert np.array_equal(row_fingerprints(np.asfortranarray(X.astype(dtype))), hashes)
    assert np.array_equal(row_fingerprints(0.0 - -X.astype(float)), hashes)
    assert np.array_equal(row_fingerprints(np.repeat(X, 2, axis=1)[:, ::2]), hashes)
    assert np.array_equal(row_fingerprints(X[::-1])[::-1], hashes)
    assert np.array_equal(row_fingerprints(X.reshape(4, 3, 1)), hashes)


def test_negative_zero_hashes_like_zero_and_one_bit_changes_the_hash():
    assert row_fingerprints([[0.0]]) == row_fingerprints([[-0.0]])
    assert row_fingerprints([[1.0]]) != row_fingerprints(
        [[np.nextafter(np.float32(1), np.float32(2))]]
    )


def test_the_digits_contain_no_repeated_rows():
    hashes = row_fingerprints(digits().X)
    assert len(np.unique(hashes)) == 1797


def test_a_fingerprint_depends_on_values_shapes_types_and_order():
    a, b = np.arange(6.0), np.arange(6.0) + 1
    variants = [
        (a,),
        (b,),
        (a, b),
        (b, a),
        (a, None),
        (None, a),
        (a.reshape(2, 3),),
        (a.astype("f4"),),
        (np.concatenate([a, b]),),
        (np.array(["a", "b"]),),
        (),
    ]
    assert len({fingerprint(*arrays) for arrays in variants}) == len(variants)
    assert fingerprint(a.reshape(2, 3)) == fingerprint(np.asfortranarray(a.reshape(2, 3)))
    assert fingerprint(a) == fingerprint(a.astype(">f8"))
    assert len(fingerprint(a)) == 16


def test_fingerprints_are_the_same_on_every_machine():
    assert row_fingerprints([[1, 2], [3, 4]]).tolist() == ROWS
    assert fingerprint(np.arange(3)) == ARRAY


ROWS = [7373934272132878346, 12768592790496120137]
ARRAY = "65b669fb5c599638"


def test_object_arrays_have_no_fingerprint():
    with pytest.raises(InputError, match=r"arrays\[1\] of dtype object"):
        fingerprint(np.zeros(2), np.array([None]))
    with pytest.raises(InputError, match="dtype <U1"):
        row_fingerprints([["a"]])
    with pytest.raises(InputError, match=r"shape \(\)"):
        row_fingerprints(3)
