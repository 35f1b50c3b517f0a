"""Public functions give the results that Leadline 0.1.0 gave.

Integers, tokens, labels and outcomes are equal; float64 agrees to 1e-12, float32 to 1e-5. With
LEADLINE_GOLDEN=bits everything is equal bit for bit, which holds on the host that wrote the
results.
"""

import math
import os

import numpy as np
import pytest

from tests.golden.make import CASES, RESULTS, results
from tests.golden.values import differences, load

BITS = os.environ.get("LEADLINE_GOLDEN") == "bits"

TOLERANCES = {
    # The equations of LSTM and GRU are written once since 0.2, which changed the rounding.
    "gradients-networks": {"/lstm 32": 1e-6, "/gru 32": 1e-6},
    "gradients-library": {" 32/": 1e-6},
    # Exponents multiply rounding by the condition of a block of steps, which is up to 1e8.
    "gradients-stability": {"/lstm": 1e-9},
    # In 0.1 the optimiser read the gradients of the GRU's weights in the wrong order.
    "gradients-training": {"/gru": math.inf},
}
"""Relative tolerances of values whose arithmetic has changed, by case and part of the path."""

ON_OTHER_HOSTS = {
    "autoencoders-closed_forms": {"/moments": 1e-9},
    "autoencoders-pretraining": {"": 1e-5},
    "autoencoders-pretraining_many": {"": 1e-5},
    # The loss does not depend on the biases of the keys, so rounding alone decides their updates.
    "autoencoders-transformers": {"qkv.bias": math.inf, "": 1e-5},
    "decoding-models": {"": 1e-5},
    "gradients-library": {" 32/": 1e-5},
    "gradients-networks": {"/lstm 32": 1e-5, "/gru 32": 1e-5, " 32": 1e-5},
    # A gradient at the optimum and the error of a solved system are rounding.
    "probing-probes": {
        "/gradient": 0.05,
        "/ridge/errors": 1e-8,
        "/intercepts": 5e-5,
        "": 1e-5,
    },
    "probing-studies": {"": 1e-5},
    "representation-study": {"": 1e-5},
}
"""Relative tolerances on other hosts, by case and part of the path.

These results come from training in float32, whose rounding depends on the processor and on the
number of threads.
"""


@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_0_1(name):
    expected = load(RESULTS, name)
    assert expected
    tolerances = dict(TOLERANCES.get(name, {}))
    if not BITS:
        tolerances |= ON_OTHER_HOSTS.get(name, {})
    lines = differences(expected, results(name), bits=BITS, tolerances=tolerances)
    assert not lines, "\n".join(lines)


def test_every_file_of_results_is_compared():
    assert {path.stem for path in RESULTS.iterdir()} == set(CASES)


EXPECTED = {
    "a/tokens": np.array([1, 2]),
    "a/x": np.array([1.0, np.inf]),
    "a/outcome": "optimal",
    "a/y": 0.5,
}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("a/tokens", np.array([1, 3]), "other values"),
        ("a/tokens", np.array([1.0, 2.0]), "int64"),
        ("a/x", np.array([1 + 1e-11, np.inf]), "differs by up to 1e-11"),
        ("a/x", np.array([1.0, -np.inf]), "other infinite"),
        ("a/outcome", "search error", "became 'search error'"),
        ("a/y", 0.5 + 1e-11, "differs by up to 1e-11"),
        ("a/y", None, "became None"),
    ],
)
def test_a_different_result_is_noticed(path, value, message):
    assert differences(EXPECTED, EXPECTED, bits=True) == []
    (line,) = differences(EXPECTED, {**EXPECTED, path: value})
    assert line.startswith(path)
    assert message in line


def test_a_missing_result_is_noticed_and_a_new_one_is_allowed():
    assert differences(EXPECTED, {**EXPECTED, "a/new": 1}) == []
    assert differences(EXPECTED, {}) == [f"{path}: missing" for path in EXPECTED]


def test_the_last_bit_counts_only_on_the_host_that_wrote_the_results():
    near = {**EXPECTED, "a/x": np.array([np.nextafter(1.0, 2.0), np.inf])}
    assert differences(EXPECTED, near) == []
    assert differences(EXPECTED, near, bits=True) == ["a/x: other bits"]
