"""Bad input to the rooms in a notebook: every setting of every room, times every bad value."""

import numpy as np
import pytest
import torch

from leadline import explore
from leadline.errors import InputError, LeadlineError
from leadline.explore import open_rooms
from leadline.explore.page._settings import fields_of
from tests.bad_input.harness import BAD_VALUES, Room, call

CALLS = {
    "gradients": lambda: call(explore.gradients, cell="LSTM", time=100, gate_bias=1.5, sample=3),
    "search": lambda: call(explore.search, width=3, table="A4-0.5_B4-0.9", prompt="the class"),
    "representation": lambda: call(explore.representation, kind="vanilla", noise=0.3, rows=200),
}
ROOM = Room(explore, CALLS)
SETTINGS = [(room.name, field.name) for room in open_rooms() for field in fields_of(room.settings)]


def test_every_public_name_has_a_good_call():
    assert ROOM.without_a_call() == []


@pytest.mark.parametrize("name", CALLS)
def test_a_good_call_succeeds_with_numbers_of_any_kind(name):
    ROOM.check_good(name)


@pytest.mark.parametrize(("name", "parameter"), ROOM.cases())
def test_bad_values_are_refused_kindly(name, parameter):
    ROOM.check_bad(name, parameter)


def refusal(room: str, **settings: object) -> str:
    """The message of the refusal; nothing, where the settings are allowed."""
    try:
        getattr(explore, room)(**settings)
    except LeadlineError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("room", "setting"), SETTINGS)
def test_every_setting_refuses_bad_values_by_its_name(room, setting):
    for title, make in BAD_VALUES.items():
        message = refusal(room, **{setting: make()})
        assert message or title in ACCEPTED, title
        assert not message or message.startswith(f"{setting} must be "), title
        assert not message or f"\n  got:   {setting} = " in message


ACCEPTED = {"-1", "numpy -3", "0", "2.5", "text", "None"}
"""Bad values that some setting allows: numbers in its range, any text as a prompt, and no job."""


@pytest.mark.parametrize(
    "three", [np.int64(3), np.uint8(3), torch.tensor(3), np.array(3), np.float32(3), 3.0, "3"]
)
def test_numbers_of_other_libraries_are_numbers(three):
    assert explore.search(width=three).url.endswith("/search?width=3")
    assert explore.gradients(sample=three).url.endswith("/gradients?sample=3")


@pytest.mark.parametrize("room", CALLS)
def test_a_setting_that_no_room_has_is_refused_by_name(room):
    for name in ("widht", "self", "x" * 10_000, "__class__"):
        with pytest.raises(InputError, match=rf"^{room}\(\) takes the settings of its room"):
            getattr(explore, room)(**{name: 3})


def test_without_dash_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(explore, "find_spec", lambda name: None)
    for room in CALLS:
        with pytest.raises(InputError, match=r"pip install 'leadline\[explore\]'"):
            getattr(explore, room)()
