"""A statement beyond the twenty takes one file, and works like any other statement.

The file is ``EXTENSION``. It registers the statement, and holds its measurement.
"""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from leadline import InputError, report
from leadline.worksheet import (
    STATEMENTS,
    Result,
    Setting,
    Statement,
    effects_of,
    measure,
    register,
    run,
    select,
)

SETTING = Setting("quick")

EXTENSION = '''
"""The gradient of a small recurrent network shrinks on its way back."""

import numpy as np

from leadline import Protocol, gradients, recurrent
from leadline.worksheet import Above, Answer, Criterion, Statement, effects_of, register

register(
    Statement(
        id="rnn.x",
        number="+",
        title="The gradient shrinks",
        claim="An untrained network has a smaller gradient at the first timestep than at the last.",
        course="(ours)",
        agrees="supported",
        measurement="A tanh network of 4 units, 10 timesteps, a loss at the last; batch mean.",
        criterion=Criterion(Above("decades_lost"), met="supported"),
        why="The weights of PyTorch's initialisation have a spectral radius below 1.",
        condition="Larger weights let the gradient grow.",
        measure="shrinking_gradient:decades_lost",
        is_extension=True,
    )
)


def decades_lost(setting):
    lost = []
    for seed in setting.seeds:
        model = recurrent.Regression(recurrent.RNN(1, 4, seed=seed), seed=seed)
        x, y = recurrent.running_average(8, 10, seed=seed)
        with gradients.trace(model) as tape:
            loss = recurrent.mse(model(x)[0], y, last_only=True)
        flow = tape.gradient_flow(loss)
        norms = flow.layers[0].total
        lost.append(np.log10(norms[:, -1] / norms[:, 0]))
    effects = effects_of("rnn.x", decades_lost=(np.array(lost), "decades lost", "decades"))
    return Answer(
        protocol=Protocol({"timesteps": 10, "units": 4}, seeds=setting.seeds),
        statement_id="rnn.x",
        sentence=f"the gradient loses {effects['decades_lost'].interval} decades in 9 steps",
        soundings={"flow": flow},
        effects=effects,
    )
'''


@pytest.fixture
def extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Import the file of the extension; afterwards forget it. Return its path."""
    path = tmp_path / "shrinking_gradient.py"
    path.write_text(EXTENSION, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    importlib.import_module("shrinking_gradient")
    yield path
    del STATEMENTS["rnn.x"]
    del sys.modules["shrinking_gradient"]


def test_select_returns_the_extension_after_the_twenty(extension):
    assert len(select()) == 21
    assert [statement.id for statement in select(("rnn.x",))] == ["rnn.x"]
    assert select(("rnn",))[-1].id == "rnn.x"
    assert [s.id for s in STATEMENTS.values() if s.is_extension] == ["rnn.x"]


def test_the_extension_is_measured_saved_and_reported(extension, tmp_path: Path):
    folder = tmp_path / "answers"
    (result,) = run(select(("rnn.x",)), SETTING, folder=folder)
    assert result.failure is None
    assert result.status == "supported"
    (kept,) = run(select(("rnn.x",)), SETTING, folder=folder)
    assert kept.seconds is None
    results = [Result(statement) for statement in select() if statement.id != "rnn.x"]
    document = report.as_json([*results, kept], SETTING)["statements"][-1]
    assert (document["id"], document["outcome"]) == ("rnn.x", "supported")
    report.write([*results, kept], SETTING, tmp_path / "report")
    for name in ("index.html", "worksheet.md"):
        assert "The gradient shrinks" in (tmp_path / "report" / name).read_text("utf-8")


def test_a_worker_process_knows_the_extension(extension):
    (alone,) = run(select(("rnn.x",)), SETTING)
    results = {r.statement.id: r for r in run(select(("rnn.x", "beam.a")), SETTING, jobs=2)}
    assert results["rnn.x"].failure is None
    assert str(results["rnn.x"].answer) == str(alone.answer)


def test_an_edited_extension_is_measured_again(extension):
    (statement,) = select(("rnn.x",))
    key = SETTING.key(statement)
    assert SETTING.key(statement) == key
    extension.write_text(EXTENSION.replace("mean", "median"), "utf-8")
    assert SETTING.key(statement) != key


def level_of(result: Result) -> float:
    assert result.answer is not None, result.failure
    return result.answer.effects["decades_lost"].simultaneous.level


def test_an_extension_does_not_change_the_levels_of_the_twenty(extension):
    assert level_of(measure(STATEMENTS["rnn.x"], SETTING)) == pytest.approx(1 - 0.05 / 20)
    assert STATEMENTS["rnn.e"].criterion.comparisons == 2
    values = (np.array([0.0, 0.01, 0.02]), "share", "")
    (effect,) = effects_of("rnn.e", error_share_last_step=values).values()
    assert effect.simultaneous.level == pytest.approx(1 - 0.05 / 20 / 2)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: STATEMENTS["ae.a"], "register() needs an extension"),
        (
            lambda: replace(STATEMENTS["ae.a"], is_extension=True),
            "register() needs an id that no other statement has",
        ),
        (lambda: "rnn.x", "statement must be a Statement"),
    ],
)
def test_register_refuses_statements_of_the_course_and_ids_that_exist(make, text):
    before = dict(STATEMENTS)
    with pytest.raises(InputError) as caught:
        register(make())
    assert text in str(caught.value)
    assert before == STATEMENTS


def test_a_statement_can_be_registered_twice(extension):
    statement: Statement = STATEMENTS["rnn.x"]
    assert register(statement) is statement
    assert len(STATEMENTS) == 21
