"""The printed command of each statement repeats its measurement with the same settings."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape

from leadline import cli, report
from leadline.data import Dataset
from leadline.worksheet import STATEMENTS, Result, Setting, select
from leadline.worksheet import _runner as runner
from tests.worksheet import example

HOSTILE = {
    "labels": 100,
    "path": "elsewhere",
    "data": "digits",
    "jobs": 3,
    "only": "beam",
    "out": "x",
    "fresh": False,
}
"""Settings whose values look like names of options."""


def own_data(name: str = "mine") -> Dataset:
    return Dataset(np.eye(4), np.array([0, 1, 0, 1]), name)


def printed(result: Result, setting: Setting) -> str | None:
    """Return the command in the JSON report; the page and the Markdown report print the same."""
    (document,) = report.as_json([result], setting)["statements"]
    command = document["command"]
    markdown = report.as_markdown([result], setting)
    page = report.as_html([result], setting, {})
    if command is None:
        assert "leadline worksheet" not in markdown + page
    else:
        assert f"\n{command}\n" in markdown
        assert f"<code>{escape(command)}</code>" in page
    return command


def parsed(command: str) -> dict[str, Any]:
    """Return the arguments that the command line reads from a printed command."""
    program, *words = shlex.split(command)
    assert program == "leadline"
    function, bound, _ = cli.app.parse_args(words, exit_on_error=False, print_error=False)
    assert function.__name__ == "worksheet"
    return bound.arguments


def measured(name: str, setting: Setting) -> Result:
    """Return a result with the protocol of a real measurement and misleading own settings."""
    statement = STATEMENTS[name]
    return Result(
        statement, answer=runner._with_setting(example.made_up(name, HOSTILE), statement, setting)
    )


SETTINGS = {
    "quick": Setting("quick"),
    "full": Setting("full"),
    "data": Setting("quick", own_data(), {"path": "my data.csv"}),
    "data and labels": Setting(
        "full", own_data(), {"path": "it's mine.npz", "labels": "kind of thing"}
    ),
    "names with dashes": Setting("quick", own_data(), {"path": "-rows.csv", "labels": "--only"}),
}


@pytest.mark.parametrize("case", SETTINGS)
@pytest.mark.parametrize("name", STATEMENTS)
def test_the_printed_command_selects_its_statement_and_its_setting(name, case):
    setting = SETTINGS[case]
    unmeasured = Result(STATEMENTS[name])
    failed = Result(STATEMENTS[name], failure="a crash")
    for result in (unmeasured, failed, measured(name, setting)):
        options = parsed(str(report.as_json([result], setting)["statements"][0]["command"]))
        assert [statement.id for statement in select(options.pop("only"))] == [name]
        assert options.pop("budget") == setting.budget
        assert options.pop("fresh") is True
        if name.startswith("ae.") and setting.data is not None:
            assert str(options.pop("data")) == setting.source["path"]
            assert options.pop("labels", None) == setting.source.get("labels")
        assert options == {}, "nothing else is asked for"


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_printed_command_measures_only_its_statement(name, in_tmp_path, monkeypatch, capsys):
    asked: list[tuple[str, str]] = []

    def measure(statement, setting):
        asked.append((statement.id, setting.budget))
        answer = runner._with_setting(example.made_up(statement.id, HOSTILE), statement, setting)
        return Result(statement, answer=answer, seconds=0.1)

    monkeypatch.setattr(runner, "measure", measure)
    command = shlex.split(str(printed(measured(name, Setting("full")), Setting("full"))))
    assert cli.run(command[1:]) == cli.DONE
    assert asked == [(name, "full")]
    assert cli.run(command[1:]) == cli.DONE
    assert asked == 2 * [(name, "full")], (
        "the command measures again what is there from an earlier run"
    )
    printed_again = json.loads(Path("report/worksheet.json").read_text("utf-8"))["statements"]
    commands = {statement["id"]: shlex.split(statement["command"]) for statement in printed_again}
    assert commands[name] == command
    capsys.readouterr()


def test_the_printed_command_follows_the_protocol_of_the_answer():
    answer = measured("ae.f", SETTINGS["data and labels"])
    assert parsed(str(printed(answer, Setting("quick")))) == {
        "only": ("ae.f",),
        "budget": "full",
        "data": Path("it's mine.npz"),
        "labels": "kind of thing",
        "fresh": True,
    }
    on_digits = measured("ae.f", Setting("quick"))
    assert "--data" not in str(printed(on_digits, SETTINGS["data"]))


def test_no_command_is_printed_if_it_could_not_repeat_the_measurement():
    unbuilt = Result(replace(STATEMENTS["ae.f"], measure=None))
    assert printed(unbuilt, Setting("quick")) is None
    from_memory = Setting("quick", own_data())
    assert printed(measured("ae.f", from_memory), from_memory) is None
    assert printed(Result(STATEMENTS["ae.f"]), from_memory) is None
    assert printed(Result(STATEMENTS["beam.a"]), from_memory) is not None, (
        "section 3 does not use the data"
    )


@pytest.mark.parametrize(
    "reserved", ["budget", "key", "data of your own", "file of the data", "column of labels"]
)
def test_a_measurement_cannot_use_reserved_names(reserved):
    with pytest.raises(TypeError, match=f"uses '{reserved}' as a name of its protocol"):
        runner._with_setting(
            example.made_up("ae.f", {reserved: 1}), STATEMENTS["ae.f"], Setting("quick")
        )
