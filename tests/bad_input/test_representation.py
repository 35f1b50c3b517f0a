"""Bad input to represent()."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leadline import representation
from leadline.autoencoders.training._settings import PretrainingSettings
from leadline.errors import InputError
from leadline.representation import RepresentationStudy, represent
from leadline.representation._views import Whole
from tests.bad_input.harness import Room, call

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 2
MORE = RNG.normal(size=(80, 4)).astype(np.float32)
FOLDER = Path("unfinished")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, in_tmp_path: Path) -> None:
    settings = property(lambda self: PretrainingSettings(5e-3, epochs=1, batch_size=150))
    monkeypatch.setattr(Whole, "settings", settings)


def a_study() -> Any:
    return call(
        represent,
        X,
        Y,
        X_unlabelled=MORE,
        kinds=["vanilla"],
        image_size="auto",
        labels=[4],
        num_subsets=1,
        seeds=[0, 1],
        checkpoint=FOLDER,
        progress=lambda _: None,
    )


CALLS: dict[str, Any] = {"represent": a_study}
RESULTS = frozenset({RepresentationStudy.__name__})
FILES = ("save", "load")  # Methods of every sounding; the tests of soundings cover them.
ROOM = Room(representation, CALLS, results=RESULTS)
CASES = [
    (name, parameter) for name, parameter in ROOM.cases() if name.rpartition(".")[2] not in FILES
]


def test_every_public_name_has_a_good_call():
    assert [name for name in ROOM.without_a_call() if name.rpartition(".")[2] not in FILES] == []


@pytest.mark.parametrize("name", CALLS)
def test_a_good_call_succeeds_with_numbers_of_any_type(name):
    ROOM.check_good(name)


@pytest.mark.parametrize(("name", "parameter"), CASES)
def test_bad_values_are_refused_with_an_input_error(name, parameter):
    ROOM.check_bad(name, parameter)


OBJECTS: dict[str, dict[str, Any]] = {
    "labels and rows swapped": {"X": Y, "y": X},
    "one-hot labels": {"y": np.eye(2)[Y]},
    "labels for other rows": {"y": Y[:50]},
    "labels of numbers between classes": {"y": Y + 0.5},
    "infinite labels": {"y": np.where(Y, np.inf, 0.0)},
    "labels of mixed kinds": {"y": [1, "a"] * 30},
    "a path for rows": {"X": "rows.npy"},
    "a dictionary of arrays": {"X": {"X": X}},
    "rows of text": {"X": np.full((60, 4), "a")},
    "a study": {"X": representation.represent},
    "rows of complex numbers": {"X": X + 1j},
    "rows beside images": {"X_unlabelled": MORE.reshape(-1, 2, 2)},
    "rows of another width": {"X_unlabelled": MORE[:, :3]},
    "labels in place of unlabelled rows": {"X_unlabelled": Y},
    "a size of three numbers": {"image_size": (2, 2, 1)},
    "a size that is true": {"image_size": True},
    "a negative size": {"image_size": (-2, -2)},
    "label counts of text": {"labels": "most"},
    "label counts below the classes": {"labels": [1]},
    "a true label count": {"labels": [True]},
    "kinds in one text": {"kinds": "vanilla,denoising"},
    "seeds in text": {"seeds": "12"},
    "seeds of floats": {"seeds": [0.0, 1.0]},
    "a number for progress": {"progress": 3},
    "a number for a checkpoint": {"checkpoint": 3},
}


@pytest.mark.parametrize("title", OBJECTS)
def test_invalid_objects_are_refused_before_any_work(title):
    arguments = dict(a_study().arguments) | OBJECTS[title]
    reports = []
    arguments.setdefault("progress", reports.append)
    with pytest.raises(InputError):
        represent(**arguments)
    assert not reports
    assert not FOLDER.exists()
