"""Settings, their controls and their form in an address."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from leadline.errors import InputError
from leadline.explore.page._settings import (
    Between,
    Draw,
    Label,
    Text,
    fields_of,
    from_query,
    from_values,
    to_query,
)


@dataclass(frozen=True)
class Example:
    """Settings of every kind."""

    cell: Literal["RNN", "GRU"] = "RNN"
    """Kind of cell."""
    time: Annotated[int, Between(5, 200)] = 50
    """Timesteps."""
    scale: Annotated[float, Between(-5, 5, 0.05)] = 1.0
    """Factor of
    the weights."""
    is_on: bool = False
    sample: Annotated[int, Draw("new sample")] = 0
    prompt: Annotated[str, Text(20)] = "the"


examples = st.builds(
    Example,
    cell=st.sampled_from(["RNN", "GRU"]),
    time=st.integers(5, 200),
    scale=st.integers(-100, 100).map(lambda n: round(0.05 * n, 2)),
    is_on=st.booleans(),
    sample=st.integers(0, 2**31 - 1),
    prompt=st.text(max_size=20),
)


@given(examples)
def test_an_address_restores_the_settings(settings):
    query = to_query(settings)
    assert from_query(Example, query) == settings
    assert query.isascii()
    assert all(
        f"{name}=" not in query
        for name in vars(settings)
        if getattr(settings, name) == getattr(Example(), name)
    )


@given(examples)
def test_controls_restore_the_settings(settings):
    held = list(vars(settings).values())
    assert from_values(Example, held) == settings
    # Sliders of a browser send numbers as text.
    as_text = [str(value) if type(value) in (int, float) else value for value in held]
    assert from_values(Example, as_text) == settings


def test_default_settings_have_an_empty_query():
    assert to_query(Example()) == ""
    assert from_query(Example, "") == Example()


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("?time=4", "time must be a whole number from 5 to 200"),
        ("?time=7.5", "time must be a whole number from 5 to 200"),
        ("?time=", "time must be a whole number from 5 to 200"),
        ("?time=nan", "time must be a whole number from 5 to 200"),
        ("?scale=inf", "scale must be a number from -5 to 5"),
        ("?scale=<b>", "scale must be a number from -5 to 5"),
        ("?cell=LSTM", "cell must be one of RNN, GRU"),
        ("?is_on=maybe", "is_on must be yes or no"),
        ("?sample=-1", "sample must be a whole number from 0"),
        ("?sample=1e400", "sample must be a whole number from 0"),
        ("?prompt=" + "x" * 21, "prompt must be text of at most 20 characters"),
        ("?tme=5", "an address must set only settings of the room"),
        ("?__class__=5", "an address must set only settings of the room"),
    ],
)
def test_an_invalid_address_gives_an_error_with_the_field(query, rule):
    with pytest.raises(InputError, match=rule):
        from_query(Example, query)


def test_an_unknown_field_gives_a_suggestion():
    with pytest.raises(InputError, match="perhaps time"):
        from_query(Example, "?tme=5")


@pytest.mark.parametrize("held", [None, [], {}, True, "x", 10**400])
def test_an_invalid_control_value_is_refused(held):
    values = ["RNN", held, 1.0, False, 0, "the"]
    with pytest.raises(InputError, match="time must be a whole number"):
        from_values(Example, values)


@pytest.mark.parametrize(
    "held", [np.int64(7), np.array(7), torch.tensor(7), 7.0, "7", " 7 ", "7.0", "70e-1"]
)
def test_numbers_of_all_types_become_python_numbers(held):
    found = from_values(Example, ["RNN", held, 1.0, False, held, "the"])
    assert (found.time, found.sample) == (7, 7)
    assert type(found.time) is type(found.sample) is int


@pytest.mark.parametrize(
    "held", [True, np.True_, "1_0", "0x7", "1e", "七", "٧", [7], {"a": 7}, np.array([7]), "7\n7"]
)
def test_values_that_only_resemble_numbers_are_refused(held):
    for place, name in ((1, "time"), (4, "sample")):
        values = ["RNN", 50, 1.0, False, 0, "the"]
        values[place] = held
        with pytest.raises(InputError, match=f"^{name} must be a whole number from"):
            from_values(Example, values)


def test_a_lone_surrogate_is_refused():
    with pytest.raises(InputError, match="prompt must be text of at most 20 characters"):
        from_values(Example, ["RNN", 50, 1.0, False, 0, "\ud800"])


def test_minus_zero_is_zero():
    assert to_query(from_values(Example, ["RNN", 50, "-0.0", False, 0, "the"])) == "?scale=0"
    assert str(from_query(Example, "?scale=-0.0001").scale) == "0.0"


def test_an_address_with_too_many_settings_is_refused():
    with pytest.raises(InputError, match="an address must set only settings of the room"):
        from_query(Example, "?" + "time=7&" * 1000)


def test_help_texts_come_from_the_docstrings():
    helps = {field.name: field.help for field in fields_of(Example)}
    assert helps["time"] == "Timesteps."
    assert helps["scale"].split() == ["Factor", "of", "the", "weights."]
    assert helps["is_on"] == ""


def test_a_label_is_the_name_with_spaces_or_the_label_of_the_annotation():
    labels = {field.name: field.label for field in fields_of(Example)}
    assert (labels["is_on"], labels["time"]) == ("is on", "time")

    @dataclass(frozen=True)
    class Labelled:
        kind: Annotated[Literal["a", "b"], Label("kind of model")] = "a"
        size: Annotated[int, Between(1, 3), Label("number of units")] = 1

    assert [field.label for field in fields_of(Labelled)] == ["kind of model", "number of units"]
    assert from_query(Labelled, "?kind=b&size=2") == Labelled("b", 2)
