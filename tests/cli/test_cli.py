import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from leadline import __version__, cli
from leadline.worksheet import STATEMENTS
from tests.worksheet import example


def shell(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "leadline", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **kwargs,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["worksheet", "--help"], ["--version"]])
def test_help_does_not_load_torch(arguments):
    heavy = "{'torch', 'plotly', 'pandas', 'sklearn'}"
    code = (
        f"import sys; from leadline.cli import run; assert run({arguments}) == 0; print({heavy} & "
        "set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_version_and_usage():
    assert shell("--version").stdout.strip() == __version__
    assert "worksheet" in shell("--help").stdout
    assert shell("worksheets").returncode == cli.BAD_USAGE
    refused = shell("worksheet", "--budget", "slow")
    assert refused.returncode == cli.BAD_USAGE
    assert refused.stderr == (
        "leadline: --budget must be quick or full\n"
        "  got:   --budget slow\n"
        "  cure:  see leadline worksheet --help\n"
    )


USAGE_ERRORS = {
    "worksheets": ("worksheets is not a command of leadline", "use leadline worksheet"),
    "nonsense": ("nonsense is not a command of leadline", "use one of represent, encode"),
    "represent": ("DATA is required", "see leadline represent --help"),
    "represent x --seeds y": ("--seeds must be a whole number", "--seeds y"),
    "represent x --seeds": ("--seeds needs a value", "see leadline represent --help"),
    "represent x --sed=3": ("--sed is not an option of leadline represent", "use --seeds"),
    "represent x y": ("y is one argument too many for leadline represent", "--help"),
    "worksheet --jobs 1 --jobs 2": ("--jobs must be given only once", "--jobs more than once"),
    "worksheet --json=3": ("--json must be given without a value", "--json 3"),
}


@pytest.mark.parametrize("command", USAGE_ERRORS)
def test_a_usage_error_begins_with_the_option_or_argument(command, capsys):
    rule, detail = USAGE_ERRORS[command]
    assert cli.run(command.split()) == cli.BAD_USAGE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"leadline: {rule}\n")
    assert detail in printed.err


def test_every_exit_code_has_a_meaning():
    codes = [value for name, value in vars(cli).items() if name.isupper() and type(value) is int]
    assert sorted(cli.EXIT_CODES) == sorted(codes)


@pytest.mark.parametrize("command", [name for name in cli.app if not name.startswith("-")])
def test_the_help_of_a_command_has_an_example_and_groups(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.run([command, "--help"]) == cli.DONE
    text = capsys.readouterr().out
    assert f"Example: leadline {command} " in text
    assert "─ Parameters ─" not in text, "each option belongs to a named group"


def test_statement_names_are_checked_before_torch_is_loaded(tmp_path: Path):
    code = (
        "import sys; from leadline.cli import run; code = run(['worksheet', '--only', 'ae.z']);"
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["2", "False"]
    assert "--only must contain ids of statements" in done.stderr
    assert "one of ae." in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--jobs", "0"], "--jobs must be a whole number of at least 1"),
        (
            ["--jobs", "2", "--cluster", "tcp://127.0.0.1:1"],
            "--jobs must be left out with --cluster",
        ),
        (["--only", ","], "--only must name statements or sections"),
        (["--data", "unlabelled.npz"], "--data must have labels"),
        (["--data", "few.npz"], "leadline: --data few.npz: "),
        (["--data", "nan.csv", "--labels", "y"], "X[1, 1] (column 'b') = nan"),
        (["--labels", "digit"], "--labels must name a column of --data"),
        (["--data", "nowhere.csv"], "--data must be an existing file or folder"),
    ],
)
def test_usage_errors_come_before_any_file_is_written(arguments, text, in_tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez("unlabelled.npz", X=rng.random((50, 3)))
    np.savez("few.npz", X=rng.random((8, 3)), y=np.arange(8) % 2)
    Path("nan.csv").write_text("a,b,y\n1,2,0\n3,nan,1\n")
    only = [] if "--only" in arguments else ["--only", "beam.a"]
    assert cli.run(["worksheet", *only, *arguments, "--out", "new"]) == cli.BAD_USAGE
    assert text in " ".join(capsys.readouterr().err.split())
    assert not Path("new").exists()


def test_an_unwritable_output_is_refused_before_work_starts(tmp_path: Path, capsys):
    (tmp_path / "file").touch()
    assert cli.run(["worksheet", "--out", str(tmp_path / "file")]) == cli.BAD_USAGE
    assert "--out must be a folder" in capsys.readouterr().err
    assert cli.run(["worksheet", "--out", str(tmp_path / "file" / "below")]) == cli.BAD_USAGE
    assert "a path through a file" in capsys.readouterr().err


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch):
    """Replace the measurements of some statements; the others count as not built."""

    def replace(**functions: str):
        use_examples({name.replace("_", "."): function for name, function in functions.items()})

    before = {name: statement.measure for name, statement in STATEMENTS.items()}
    yield replace
    for name, statement in STATEMENTS.items():
        object.__setattr__(statement, "measure", before[name])


def test_a_run_writes_all_files_and_prints_a_summary(examples, tmp_path: Path, capsys):
    examples(ae_f="works")
    assert (
        cli.run(["worksheet", "--only", "ae.f,beam.a", "--out", str(tmp_path), "--jobs", "1"])
        == cli.DONE
    )
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == f"page: {tmp_path / 'index.html'}"
    assert printed.out.splitlines()[0].split()[:2] == ["ae.f", "supported"]
    assert printed.err.splitlines()[0].startswith("[1/1] ae.f")
    assert {p.name for p in tmp_path.iterdir()} == {
        "index.html",
        "worksheet.json",
        "worksheet.md",
        "timings.json",
        "answers",
        ".leadline.json",
    }


def test_measuring_a_statement_keeps_the_other_statements_on_the_page(
    examples, tmp_path: Path, capsys
):
    examples(ae_f="works", beam_a="works_too")
    assert cli.run(["worksheet", "--only", "ae.f", "--out", str(tmp_path)]) == cli.DONE
    assert cli.run(["worksheet", "--only", "beam.a", "--out", str(tmp_path), "--json"]) == cli.DONE
    document = json.loads(capsys.readouterr().out.partition("\npage: ")[2].partition("\n")[2])
    outcomes = {s["id"]: s["outcome"] for s in document["statements"]}
    assert (outcomes["ae.f"], outcomes["beam.a"], outcomes["ae.a"]) == (
        "supported",
        "supported",
        "not measured yet",
    )


def test_a_crash_is_reported_and_exits_with_1(examples, tmp_path: Path, capsys):
    examples(ae_e="crashes", ae_f="works")
    assert cli.run(["worksheet", "--out", str(tmp_path), "--jobs", "1"]) == cli.FAILED
    assert "ae.e failed" in capsys.readouterr().err
    assert "ZeroDivisionError" in (tmp_path / "index.html").read_text()


def test_an_interruption_leaves_a_page_and_exits_with_130(examples, tmp_path: Path, capsys):
    examples(ae_f="works", rnn_a="is_interrupted")
    assert cli.run(["worksheet", "--out", str(tmp_path), "--jobs", "1"]) == cli.INTERRUPTED
    assert "interrupted" in capsys.readouterr().err
    assert "the gain is 5.0 points" in (tmp_path / "index.html").read_text()


def test_a_full_disk_exits_with_1_and_keeps_the_old_page(
    examples, tmp_path: Path, monkeypatch, capsys
):
    examples(ae_f="works")
    assert cli.run(["worksheet", "--out", str(tmp_path), "--jobs", "1"]) == cli.DONE
    page = (tmp_path / "index.html").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert cli.run(["worksheet", "--out", str(tmp_path), "--jobs", "1", "--fresh"]) == cli.FAILED
    assert "No space left on device; what was saved earlier is untouched" in capsys.readouterr().err
    assert (tmp_path / "index.html").read_bytes() == page


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (signal.SIGINT, cli.INTERRUPTED),
        (signal.SIGTERM, cli.STOPPED),
        (signal.SIGHUP, cli.STOPPED),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_a_signal_ends_a_parallel_run_and_no_process_is_left(sent, code, tmp_path: Path):
    log = tmp_path / "runs"
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, example.RUNS: str(log), "PYTHONPATH": root}
    start = (
        # A shell starts background jobs with ignored interruptions, and children inherit that.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL);from tests.cli.test_cli import use_examples; "
        "from leadline.cli import main; import sys;use_examples({'ae.f': 'works', 'rnn.a': "
        "'never_ends', 'beam.a': 'never_ends'});sys.argv = ['leadline', 'worksheet', '--out', "
        f"{str(tmp_path / 'out')!r}, '--jobs', '2']; main()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", start], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert run.stderr is not None
    assert any("ae.f" in line for line in run.stderr), "the run ended before its first answer"
    deadline = time.monotonic() + 60
    while "never_ends" not in log.read_text():
        assert time.monotonic() < deadline
    group = children(run.pid)
    run.send_signal(sent)
    try:
        run.communicate(timeout=60)
    finally:
        run.kill()
    assert run.returncode == code
    if sent != signal.SIGKILL:
        assert "the gain is 5.0 points" in (tmp_path / "out" / "index.html").read_text()
    while [pid for pid in group if is_worker(pid)]:
        assert time.monotonic() < deadline, "a worker outlives the run"


def use_examples(functions: dict[str, str]) -> None:
    for name, statement in STATEMENTS.items():
        measure = f"tests.worksheet.example:{functions[name]}" if name in functions else None
        object.__setattr__(statement, "measure", measure)


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def is_worker(pid: int) -> bool:
    try:
        return (
            "loky" in Path(f"/proc/{pid}/cmdline").read_text()
            and "tracker" not in Path(f"/proc/{pid}/cmdline").read_text()
        )
    except OSError:
        return False
