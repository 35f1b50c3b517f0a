import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import leadline
from leadline import Interval, decoding
from leadline.sounding import decimals

numbers = st.floats(-10, 10)


@given(numbers, st.floats(0, 5), st.floats(0, 5), numbers)
def test_comparisons_are_three_valued_and_consistent(estimate, down, up, threshold):
    interval = Interval(estimate, estimate - down, estimate + up)
    above, below = interval.above(threshold), interval.below(threshold)
    assert not (above and below)
    if above:
        assert below is False
    if below:
        assert above is False
    if above is None and threshold not in (interval.low, interval.high):
        assert interval.low < threshold < interval.high


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(0, -0.04, 0.04), True),
        (Interval(0, -0.06, 0.04), None),
        (Interval(1, 0.5, 1.5), False),
    ],
)
def test_equivalence_is_inside_the_margin(interval, verdict):
    assert interval.within(-0.05, 0.05) is verdict


@given(
    st.floats(-1e6, 1e6),
    st.sampled_from([".0f", ".1f", "+.1f", "+.2f", ".3g", "g", ".0%", "+.1e", "8.1f"]),
)
def test_a_number_that_rounds_to_zero_has_no_sign(value, spec):
    text = decimals(value, spec)
    number = float(text.strip().removesuffix("%").strip())
    assert number != 0 or not text.strip().startswith(("-", "+"))
    if number != 0:
        assert text == format(value, spec)


def test_intervals_print_no_negative_zero():
    assert f"{Interval(-0.04, -0.01, 0.02):+.1f}" == "0.0 [0.0, 0.0]"
    assert str(Interval(-0.0, -0.0, 0.0)) == "0 [0, 0]"
    assert str(Interval(-0.001, -0.2, 0.2)) == "0.00 [-0.20, 0.20]"


def test_infinite_numbers_keep_their_sign():
    assert [decimals(value, ".1f") for value in (-float("inf"), float("inf"), float("nan"))] == [
        "-inf",
        "inf",
        "nan",
    ]


def test_a_notebook_shows_the_verdict_and_a_figure_that_stays_on_this_machine():
    table = decoding.Table({(): {"<b>": -0.5}})
    shown = decoding.beam_search(*table.problem(), width=1, max_length=1, trace=True)._repr_html_()
    assert "&lt;b&gt;" in shown.split("</p>")[0]
    assert '"modebar":{"remove":["sendChartToCloud"]}' in shown


def test_the_door_is_cheap_and_complete():
    heavy = "{'torch', 'plotly', 'pandas', 'sklearn', 'numpy', 'scipy'}"
    code = f"import sys, leadline; assert not {heavy} & set(sys.modules); leadline.InputError"
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in leadline.__all__:
        assert getattr(leadline, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'soundings'"):
        _ = leadline.soundings  # pyright: ignore[reportAttributeAccessIssue]
