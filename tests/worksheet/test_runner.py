import os
from pathlib import Path

import pytest

from leadline import InputError, SaveError
from leadline.worksheet import STATEMENTS, Answer, Setting, run
from tests.worksheet import example

SETTING = Setting("quick")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The names of all measurements that have run."""
    log = tmp_path / "runs"
    monkeypatch.setenv(example.RUNS, str(log))
    return lambda: (
        [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []
    )


def test_a_crashed_measurement_does_not_affect_the_others(tmp_path: Path):
    statements = [
        example.statement("ae.e", "crashes"),
        example.statement("ae.d", "refuses"),
        example.statement("ae.f", "works"),
    ]
    crash, refusal, answer = run(statements, SETTING, folder=tmp_path)
    assert crash.status == refusal.status == "failed"
    assert "ZeroDivisionError: a defect" in str(crash.failure)
    assert str(refusal.failure).splitlines() == [
        "labels need at least two classes",
        "  got:   y = all 3",
        "  where: in statement ae.d",
    ]
    assert answer.status == "supported"


@pytest.mark.parametrize(
    ("function", "text"),
    [
        ("returns_nothing", "not an Answer to ae.f"),
        ("works_too", "not an Answer to ae.f"),
        ("lacks_an_effect", "effects must hold 'gain_at_fewest', which the criterion names"),
        ("lacks_a_figure", "an Answer needs at least one sounding, whose figure it shows"),
        ("exits", "SystemExit: 3"),
    ],
)
def test_an_invalid_answer_is_a_failure_and_is_not_saved(function, text, tmp_path: Path):
    statements = [example.statement("ae.f", function), example.statement("beam.a", "works_too")]
    failed, worked = run(statements, SETTING, folder=tmp_path)
    assert failed.status == "failed"
    assert text in str(failed.failure)
    assert worked.status == "supported"
    assert not (tmp_path / "quick" / "ae.f").exists()


def test_unfinished_statements_fail_if_a_worker_dies(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    statements = [example.statement("ae.f", "dies"), example.statement("beam.a", "never_ends")]
    results = {result.statement.id: result for result in run(statements, SETTING, jobs=2)}
    assert {result.status for result in results.values()} == {"failed"}
    assert "a worker process died" in str(results["ae.f"].failure)


def test_each_budget_has_its_own_saved_answers(tmp_path: Path, runs):
    statements = [example.statement("ae.f", "works")]
    for budget in ("quick", "full", "quick", "full"):
        list(run(statements, Setting(budget), folder=tmp_path))
    assert len(runs()) == 2


def test_saved_answers_are_not_measured_again(tmp_path: Path, runs):
    statements = [example.statement("ae.f", "works"), example.statement("beam.a", "works_too")]
    (first, _), (second, _) = (list(run(statements, SETTING, folder=tmp_path)) for _ in range(2))
    assert runs() == ["works", "works_too"]
    assert second.seconds is None
    assert second.answer is not None
    assert first.answer is not None
    assert second.answer.verdict == first.answer.verdict
    assert second.answer.effects == first.answer.effects
    list(run(statements, SETTING, folder=tmp_path, fresh=True))
    assert len(runs()) == 4
    list(run(statements, Setting("full"), folder=tmp_path))
    assert len(runs()) == 6, "another budget is another measurement"


def test_damaged_answers_are_measured_again(tmp_path: Path, runs):
    statements = [example.statement("ae.f", "works")]
    list(run(statements, SETTING, folder=tmp_path))
    (arrays,) = (tmp_path / "quick" / "ae.f").glob("arrays-*.safetensors")
    arrays.write_bytes(arrays.read_bytes()[:-1])
    (result,) = run(statements, SETTING, folder=tmp_path)
    assert result.status == "supported"
    assert len(runs()) == 2


def test_a_foreign_file_in_place_of_an_answer_is_rejected_before_measuring(tmp_path: Path, runs):
    place = tmp_path / "quick" / "ae.f" / "sounding.json"
    place.parent.mkdir(parents=True)
    place.write_text('{"mine": 1}')
    with pytest.raises(SaveError, match="was not written by Leadline"):
        list(run([example.statement("ae.f", "works")], SETTING, folder=tmp_path))
    assert runs() == []
    assert place.read_text() == '{"mine": 1}'


def test_an_interruption_keeps_complete_answers(tmp_path: Path):
    statements = [example.statement("ae.f", "works"), example.statement("beam.a", "is_interrupted")]
    with pytest.raises(KeyboardInterrupt):
        list(run(statements, SETTING, folder=tmp_path))
    assert Answer.load(tmp_path / "quick" / "ae.f").verdict.outcome == "supported"


def test_a_full_disk_ends_the_run_and_keeps_saved_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    results = run(
        [example.statement("ae.f", "works"), example.statement("beam.a", "works_too")],
        SETTING,
        folder=tmp_path,
    )
    next(results)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match="No space left on device"):
        next(results)
    assert Answer.load(tmp_path / "quick" / "ae.f").statement_id == "ae.f"
    assert not (tmp_path / "quick" / "beam.a" / "sounding.json").exists()


def test_parallel_measurements_give_the_same_answers_on_one_thread_each(
    tmp_path: Path, runs, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    statements = [example.statement("ae.f", "works"), example.statement("beam.a", "works_too")]
    alone = {r.statement.id: r for r in run(statements, SETTING)}
    together = {r.statement.id: r for r in run(statements, SETTING, jobs=2)}
    assert {name: str(r.answer) for name, r in alone.items()} == {
        name: str(r.answer) for name, r in together.items()
    }
    assert {
        line.split()[1] for line in Path(os.environ[example.RUNS]).read_text().splitlines()
    } == {"1"}


def test_a_statement_without_a_measurement_is_not_measured():
    unbuilt = [statement for statement in STATEMENTS.values() if statement.measure is None]
    assert all(result.status == "not measured yet" for result in run(unbuilt, SETTING))


def test_zero_jobs_are_rejected():
    with pytest.raises(InputError, match="jobs = 0"):
        list(run([], SETTING, jobs=0))


def test_an_undecided_answer_states_the_detectable_effect():
    answer = example.answer("ae.f", gain=0.1, spread=3.0)
    assert answer.verdict.outcome == "undecided"
    assert "The design would have detected gain at 10 labels from" in answer.verdict.sentence
    assert not answer.agrees
    assert answer.table()["holds"].isna().all()
