"""RankMe against the formula of the paper."""

import numpy as np
import pytest

from leadline.errors import InputError
from leadline.probing import rank_me

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(50, 8), (8, 50), (1, 3)])
def test_rank_me_equals_the_formula_of_the_paper(shape):
    Z = RNG.normal(size=shape) * np.logspace(0, -9, shape[1])
    sizes = np.sqrt(np.maximum(np.linalg.eigvalsh(Z @ Z.T if shape[0] < shape[1] else Z.T @ Z), 0))
    shares = [size / sizes.sum() + 1e-7 for size in sizes]
    assert rank_me(Z) == pytest.approx(np.exp(-sum(p * np.log(p) for p in shares)))


def test_rank_me_counts_directions_of_equal_size():
    turn = np.linalg.qr(RNG.normal(size=(30, 30)))[0]
    for directions in (1, 5, 30):
        Z = turn[:, :directions] @ RNG.permutation(turn)[:directions]
        assert rank_me(Z) == pytest.approx(np.linalg.matrix_rank(Z), abs=1e-3 * 30)


def test_rank_me_ignores_scale_and_rotation_but_not_an_offset():
    Z = RNG.normal(size=(60, 6))
    turn = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    assert rank_me(1e4 * Z @ turn) == pytest.approx(rank_me(Z))
    assert rank_me(Z + 100) < 1.5 < rank_me(Z)


def test_zeros_have_rank_one_and_nan_is_refused():
    assert rank_me(np.zeros((5, 3))) == pytest.approx(1, abs=1e-5)
    with pytest.raises(InputError, match=r"Z\[0, 1\] = nan"):
        rank_me([[0.0, np.nan]])
