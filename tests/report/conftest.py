import pytest

from leadline.worksheet import STATEMENTS, Result
from tests.worksheet import example


@pytest.fixture
def results():
    """Results of each kind: supported, exact, differing from the course, failed, not measured."""
    kinds = {
        "ae.e": Result(STATEMENTS["ae.e"], failure="Traceback <of a> crash", seconds=1.0),
        "ae.f": Result(STATEMENTS["ae.f"], answer=example.answer("ae.f"), seconds=12.3),
        "beam.a": Result(STATEMENTS["beam.a"], answer=example.answer("beam.a", gain=-1.0)),
    }
    return [kinds.get(name, Result(statement)) for name, statement in STATEMENTS.items()]
