import importlib

import numpy as np
import pytest

from leadline import InputError
from leadline.data import Dataset
from leadline.statistics import effect
from leadline.worksheet import SECTIONS, STATEMENTS, Setting, select

IDS = (
    [f"ae.{c}" for c in "abcdefghij"]
    + [f"rnn.{c}" for c in "abcde"]
    + [f"beam.{c}" for c in "abcde"]
)


def test_the_twenty_statements_are_in_the_order_of_the_course():
    assert list(STATEMENTS) == IDS
    assert {statement.section for statement in STATEMENTS.values()} == set(SECTIONS)


@pytest.mark.parametrize("name", IDS)
def test_each_statement_is_complete_before_its_measurement(name):
    statement = STATEMENTS[name]
    for text in (
        statement.claim,
        statement.course,
        statement.measurement,
        statement.why,
        statement.condition,
    ):
        assert text.strip() == text != ""
    assert statement.criterion.leaves()
    assert statement.criterion.met == statement.agrees
    if statement.measure is not None:
        module, _, function = statement.measure.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_select_accepts_ids_and_sections_in_any_order():
    assert [s.id for s in select(("beam.b", "ae.f", "beam.b"))] == ["ae.f", "beam.b"]
    assert len(select()) == 20
    assert len(select(("ae", "rnn", "beam"))) == 20


def test_an_unknown_id_error_lists_the_nearest_ids_first():
    with pytest.raises(InputError) as caught:
        select(("beam.z",))
    assert "--only beam.z" in str(caught.value)
    listed = str(caught.value.cure).removeprefix("one of ").split(", ")
    assert set(IDS) < set(listed)
    assert listed[0].startswith("beam")


def test_an_unknown_budget_is_rejected():
    with pytest.raises(InputError, match="budget must be 'quick' or 'full'"):
        Setting("slow")  # pyright: ignore[reportArgumentType]


def test_the_key_covers_statement_budget_and_used_data():
    autoencoder, search = STATEMENTS["ae.a"], STATEMENTS["beam.a"]
    X, y = np.zeros((4, 4), np.float32), np.array([0, 1, 0, 1])
    flat, image = Dataset(X, y), Dataset(X, y, image_size=(2, 2))
    settings = [Setting("quick"), Setting("full"), Setting("quick", flat), Setting("quick", image)]
    assert len({setting.key(autoencoder) for setting in settings}) == 4
    assert len({setting.key(search) for setting in settings}) == 2
    assert (
        Setting("quick").key(autoencoder)
        == Setting("quick").key(autoencoder)
        != Setting("quick").key(STATEMENTS["ae.b"])
    )
    from_file = Setting("quick", flat, {"path": "x.npz", "labels": "kind"})
    assert from_file.describe(autoencoder) == {
        "budget": "quick",
        "data of your own": "data",
        "file of the data": "x.npz",
        "column of labels": "kind",
    }
    assert from_file.describe(search) == {"budget": "quick"}


@pytest.mark.parametrize(
    "source",
    [{"path": ""}, {"path": 3}, {"file": "x"}, {"labels": "kind"}, "x.npz", [("path", "x")]],
)
def test_an_invalid_source_is_rejected(source):
    data = Dataset(np.zeros((4, 4), np.float32), np.array([0, 1, 0, 1]))
    with pytest.raises(InputError, match="source"):
        Setting("quick", data, source)


def test_a_source_without_data_is_rejected():
    with pytest.raises(InputError, match="source names the file of data"):
        Setting("quick", None, {"path": "x.npz"})


def test_all_intervals_of_the_worksheet_cover_simultaneously():
    """The simultaneous intervals of all criteria together cover with at least 95 %."""
    rng = np.random.default_rng(5)
    counts = [statement.criterion.comparisons for statement in STATEMENTS.values()]
    rounds = 600
    covered = 0
    for draws in rng.standard_normal((rounds, sum(counts), 12)):
        rest = iter(draws)
        effects = [
            effect(next(rest), "", comparisons=count) for count in counts for _ in range(count)
        ]
        covered += all(e.simultaneous.low <= 0 <= e.simultaneous.high for e in effects)
    assert 0.93 <= covered / rounds <= 0.985
