import pickle

import pytest

from leadline.errors import InputError, context, describe, nearest


def test_message_names_rule_value_cause_and_cure():
    error = InputError(
        "ratio must lie in [0, 1)", got="ratio = 1.0", cause="all is hidden", cure="use 0.75"
    )
    assert str(error).splitlines() == [
        "ratio must lie in [0, 1)",
        "  got:   ratio = 1.0",
        "  cause: all is hidden",
        "  cure:  use 0.75",
    ]
    assert isinstance(error, ValueError)


def test_context_is_added_from_the_inside_out_and_survives_pickling():
    with (
        pytest.raises(InputError) as caught,
        context("in statement ae.f"),
        context("while reading a.csv"),
    ):
        raise InputError("rows must be finite", got="X[3, 4] = nan")
    home = pickle.loads(pickle.dumps(caught.value))
    assert describe(home) == describe(caught.value)
    assert describe(home).splitlines()[-2:] == [
        "  where: while reading a.csv",
        "  where: in statement ae.f",
    ]
    assert home.got == "X[3, 4] = nan"


def test_other_errors_pass_through_untouched():
    with pytest.raises(KeyError) as caught, context("anywhere"):
        raise KeyError("k")
    assert not hasattr(caught.value, "__notes__")


def test_nearest_lists_every_name_once():
    names = ["ae.a", "ae.b", "rnn.a", "beam.e"]
    assert sorted(nearest("beam.z", names)) == sorted(names)
    assert nearest("beam.z", names)[0] == "beam.e"
