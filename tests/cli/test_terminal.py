"""Unusual terminals: each command ends with its output, or with one line and an exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from leadline import cli, decoding

LEADLINE = f"{sys.executable} -m leadline"
TEXT = "the café sat on the mat .\n\nthe dog sat on the “log” .\n\na cat and a dog sat .\n\n" * 12


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    decoding.RecurrentLM(vocabulary_size=16, hidden_size=8, epochs=1, batch_size=4, seed=1).fit(
        TEXT
    ).save(folder / "model")
    prompts = [{"prompt": prompt} for prompt in ("the café", "the “log”", "a", "the")]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    return folder


def shell(command: str, **kwargs) -> subprocess.CompletedProcess:
    """Run a command line in bash; the exit code is that of the first program in the pipe."""
    script = f"{command}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, timeout=120, **kwargs
    )


def decode(model: Path) -> str:
    return (
        f"{LEADLINE} decode --model {model / 'model'} --input {model / 'prompts.jsonl'} --width 2 "
        "--max-length 4"
    )


def test_help_works_at_every_width():
    commands = ["", *(name for name in cli.app if not name.startswith("-"))]
    assert {"worksheet", "decode", "represent", "encode"} <= set(commands)
    code = f"""
import contextlib, io, os, resource
from leadline import cli
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
for width in ("0", "1", "2", "3", "5", "39", "abc", "-3", "²", "", "99999999", str(10**30)):
    for command in {commands}:
        os.environ["COLUMNS"] = os.environ["LINES"] = width
        cli.terminal.prepare()
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert cli.run([*command.split(), "--help"]) == 0
        longest = max(map(len, out.getvalue().splitlines()))
        is_allowed = cli.terminal.LEAST_WIDTH <= longest <= cli.terminal.MOST_WIDTH
        assert is_allowed, (width, command, longest)
        assert "Usage: leadline" in out.getvalue()
print("ended")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.stderr, done.returncode) == ("ended\n", "", 0)


@pytest.mark.parametrize("command", ["--help", "--version", "represent --help"])
def test_unwritable_output_gives_a_one_line_error(command):
    for place, reason in (
        ("/dev/full", "No space left on device"),
        ("&-", "standard output is closed"),
    ):
        done = shell(f"{LEADLINE} {command} >{place}")
        assert done.stderr == f"leadline: the output could not be written: {reason}\n"
        assert done.returncode == cli.FAILED
    done = shell(f"{LEADLINE} {command} | true")
    assert (
        done.stderr
        == "leadline: the program that reads the output closed it before everything was written\n"
    )
    assert done.returncode == cli.READER_GONE


def test_unwritable_answers_give_a_one_line_error(model):
    done = shell(f"{decode(model)} 2>{model}/errors | true")
    errors = (model / "errors").read_text().splitlines()
    assert done.returncode == cli.READER_GONE
    assert (
        errors[-1]
        == "leadline: the program that reads the output closed it before everything was written"
    )
    done = shell(f"{decode(model)} >/dev/full")
    assert done.returncode == cli.FAILED
    assert (
        done.stderr.splitlines()[-1]
        == "leadline: the output could not be written: No space left on device"
    )
    assert "Traceback" not in done.stderr + "".join(errors)


def test_answers_in_an_ascii_terminal_are_json(model):
    done = shell(f"PYTHONIOENCODING=ascii {decode(model)}")
    assert done.returncode == cli.DONE, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["prompt"] for answer in answers] == ["the café", "the “log”", "a", "the"]
    assert done.stdout.isascii()


@pytest.mark.parametrize(
    "settings", ["PYTHONIOENCODING=ascii", "LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0"]
)
def test_errors_in_an_ascii_terminal_are_readable(settings):
    refused = shell(f"{settings} {LEADLINE} encode “café” b.npy --out c.npy")
    assert refused.returncode == cli.BAD_USAGE
    assert "got:   ENCODER \\u" in refused.stderr
    assert refused.stderr.isascii()
    assert shell(f"{settings} {LEADLINE} represent --help").returncode == cli.DONE


def test_usage_errors_keep_their_exit_code():
    for place in ("/dev/full", "&-"):
        assert shell(f"{LEADLINE} nonsense 2>{place}").returncode == cli.BAD_USAGE
        assert shell(f"{LEADLINE} encode a b --out c 2>{place}").returncode == cli.BAD_USAGE


@pytest.mark.parametrize(
    "command", ["encode a b.npy --out c.npy", "decode --model a --prompt b", "--help"]
)
def test_a_deleted_working_folder_gives_a_one_line_error(tmp_path: Path, command):
    gone = tmp_path / "gone"
    done = shell(f"mkdir {gone} && cd {gone} && rmdir {gone}; {LEADLINE} {command}")
    assert done.returncode == cli.FAILED
    assert done.stderr.startswith(
        "leadline: the working directory was deleted; change to another folder"
    )
    assert len(done.stderr.splitlines()) == 1


def test_system_errors_give_a_one_line_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def fails(error: BaseException):
        def command(*_, **__):
            raise error

        return command

    for error, text, code in (
        (
            OSError(28, "No space left on device", "codes.npy"),
            "codes.npy: No space left on device",
            cli.FAILED,
        ),
        (PermissionError(13, "Permission denied", "a"), "a: Permission denied", cli.FAILED),
        (
            BrokenPipeError(32, "Broken pipe"),
            "the program that reads the output closed it",
            cli.READER_GONE,
        ),
        (MemoryError(), "there is not enough free memory", cli.FAILED),
    ):
        monkeypatch.setattr(cli, "app", fails(error))
        assert cli.run([]) == code
        assert text in capsys.readouterr().err
    monkeypatch.setattr(cli, "app", fails(KeyError("a fault of Leadline's own")))
    with pytest.raises(KeyError):
        cli.run([])
