"""The shared checks return plain values, and raise readable errors for all other values."""

from contextlib import suppress

import numpy as np
import pytest
import torch

from leadline import checks
from leadline.errors import InputError
from tests.bad_input.harness import BAD_VALUES

CHECKS = {
    "whole_number": lambda value: checks.whole_number(value, "x", least=1),
    "optional_whole_number": lambda value: checks.optional_whole_number(value, "x", least=1),
    "number": lambda value: checks.number(value, "x", above=0),
    "seed": checks.seed,
    "seeds": checks.seeds,
    "flag": lambda value: checks.flag(value, "x"),
    "text": lambda value: checks.text(value, "x"),
    "choice": lambda value: checks.choice(value, "x", ("a", "b")),
    "items": lambda value: checks.items(value, "x"),
    "whole_numbers": lambda value: checks.whole_numbers(value, "x", least=0),
    "mapping": lambda value: checks.mapping(value, "x"),
    "instance": lambda value: checks.instance(value, "x", bool),
    "function": lambda value: checks.function(value, "x"),
    "path": lambda value: checks.path(value, "x"),
    "device": checks.device,
    "array": lambda value: checks.array(value, "x"),
}


@pytest.mark.parametrize("bad", BAD_VALUES)
@pytest.mark.parametrize("check", CHECKS)
def test_a_check_accepts_a_value_or_raises_a_readable_error(check, bad):
    with suppress(InputError):  # Any other error fails the test.
        CHECKS[check](BAD_VALUES[bad]())


@pytest.mark.parametrize(
    ("value", "plain"),
    [(np.int64(3), 3), (np.uint8(3), 3), (torch.tensor(3), 3), (np.array(3), 3), (3, 3)],
)
def test_whole_numbers_of_any_type_become_int(value, plain):
    found = checks.whole_number(value, "x")
    assert found == plain
    assert type(found) is int


@pytest.mark.parametrize("wrong", [True, np.True_, 3.0, "3", [3], np.array([3]), 0, 10**30])
def test_other_values_are_not_whole_numbers_in_range(wrong):
    with pytest.raises(InputError, match=r"^x must be a whole number from 1 to 9\n  got:   x = "):
        checks.whole_number(wrong, "x", least=1, most=9)


def test_bf16_becomes_float32_and_masked_cells_become_missing():
    assert (
        checks.array(torch.ones(2, dtype=torch.bfloat16, requires_grad=True), "x").dtype
        == np.float32
    )
    masked = np.ma.masked_array(np.arange(4), mask=[False, True, False, False])
    assert np.isnan(checks.array(masked, "x")).tolist() == [False, True, False, False]
    assert np.isnan(masked.data).sum() == 0, "the caller's array is untouched"
    rows = [np.ma.masked_array([1, 2], mask=[True, False]), np.ma.masked_array([3, 4])]
    assert np.isnan(checks.array(rows, "x")).tolist() == [[True, False], [False, False]]
    for cells in ([np.ma.masked, 2.0], [[np.ma.masked, 2.0]], (2, np.ma.masked)):
        assert np.isnan(checks.array(cells, "x")).sum() == 1
    large = np.ma.masked_array([2**60 + 1, 2**60, 3], mask=[False, False, True])
    assert checks.array(large, "x").tolist() == [2**60 + 1, 2**60, None], (
        "float64 would make the first two equal"
    )


@pytest.mark.parametrize("wrong", ["12", {1, 2}, {"a": 1}, 3, np.int64(2), []])
def test_seeds_are_a_list_but_not_text_or_a_set(wrong):
    with pytest.raises(InputError, match="seeds must be a list"):
        checks.seeds(wrong)
