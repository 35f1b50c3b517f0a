"""The command ``leadline explore``."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from leadline import cli
from leadline.explore.rooms._representation import ROOM
from leadline.explore.rooms._representation_settings import Settings
from tests.explore.asking import UPDATE, body, values_of
from tests.explore.processes import Ends, descendants


@contextmanager
def started(*arguments: str, new_session: bool = False) -> Iterator[subprocess.Popen[str]]:
    # A shell starts background jobs with ignored interruptions, and children inherit that.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); from leadline.cli import main; main()"
    )
    command = [sys.executable, "-c", start, "explore", "--no-browser", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=new_session,
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # a failed test must not wait for the process


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


ENDS = {
    signal.SIGINT: (cli.INTERRUPTED, "leadline: interrupted\n"),
    signal.SIGTERM: (cli.STOPPED, "leadline: stopped\n"),
    signal.SIGHUP: (cli.STOPPED, "leadline: stopped\n"),
}
"""Exit code and last line on standard error, by the signal that ends the explorer."""


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    """A temporary folder for the explorers of one test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_the_first_line_is_the_address_and_ctrl_c_ends_the_explorer(temporary_folder):
    strangers = [
        f"leadline-{kind}-mine/thesis.tex" for kind in ("jobs", "uploads", "explorer-jobs")
    ]
    for name in strangers:
        (temporary_folder / name).parent.mkdir()
        (temporary_folder / name).write_text("years of work")
    with started("--port", "0") as first:
        url = first_line(first)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", url)
        assert urllib.request.urlopen(url, timeout=20).status == 200
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url.rsplit("/", 2)[0] + "/", timeout=20)
        port = url.split(":")[2].split("/")[0]
        with started(
            "--port", port, "http://127.0.0.1:1/a-token-of-theirs/gradients?time=9"
        ) as second:
            other = first_line(second)
            assert other.endswith("/gradients?time=9")
            assert url.split("/")[3] not in other
            second.send_signal(signal.SIGINT)
            _, message = second.communicate(timeout=30)
            assert f"port {port} is in use; using {other.split(':')[2].split('/')[0]}" in message
        first.send_signal(signal.SIGINT)
        rest, last = first.communicate(timeout=30)
    code, line = ENDS[signal.SIGINT]
    assert (first.returncode, second.returncode) == (code, code)
    assert (rest, last) == ("", line)
    assert message.endswith(f"\n{line}")
    assert [(temporary_folder / name).read_text() for name in strangers] == ["years of work"] * 3


def test_an_explorer_under_nohup_survives_a_closed_terminal():
    command = f"trap '' HUP; exec {sys.executable} -m leadline explore --no-browser --port 0"
    with subprocess.Popen(
        ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as first:
        url = first_line(first)
        first.send_signal(signal.SIGHUP)
        assert urllib.request.urlopen(url, timeout=20).status == 200
        first.send_signal(signal.SIGTERM)
        assert first.communicate(timeout=30)[1] == "leadline: stopped\n"
    assert first.returncode == cli.STOPPED


def post(url: str, asked: object) -> dict:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(asked).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def begin_run(url: str) -> None:
    """Start a training run that takes minutes."""
    with urllib.request.urlopen(f"{url}_dash-dependencies", timeout=60) as answer:
        known = {
            callback["inputs"][0]["id"]: callback
            for callback in json.loads(answer.read())
            if callback["inputs"]
        }
    settings = Settings(data="photographs", rows=2000, epochs=300, hidden=512)
    answer = post(url + UPDATE, body(known["representation-train"], values_of(ROOM, settings)))
    assert re.fullmatch("[0-9a-f]{12}", answer["response"]["representation-job"]["value"])


@pytest.mark.skipif(
    sys.platform != "linux", reason="the ends of other processes are watched by Linux's means"
)
@pytest.mark.parametrize("sent", [*ENDS, signal.SIGKILL])
def test_training_runs_end_with_their_explorer(sent, temporary_folder):
    with started("--port", "0") as first:
        begin_run(first_line(first))
        ends = Ends(descendants(first.pid))
        assert list(temporary_folder.iterdir()) != []
        first.send_signal(sent)
        _, message = first.communicate(timeout=60)
    ends.wait()
    assert first.returncode == (ENDS[sent][0] if sent in ENDS else -signal.SIGKILL)
    assert message == (ENDS[sent][1] if sent in ENDS else "")
    if sent == signal.SIGKILL:
        # The next explorer removes the folders of a killed explorer.
        with started("--port", "0") as second:
            first_line(second)
            assert list(temporary_folder.iterdir()) == []
    assert list(temporary_folder.iterdir()) == []


@pytest.mark.skipif(
    sys.platform != "linux", reason="the ends of other processes are watched by Linux's means"
)
def test_ctrl_c_reaches_every_process_and_prints_one_message(temporary_folder):
    with started("--port", "0", new_session=True) as first:
        begin_run(first_line(first))
        ends = Ends(descendants(first.pid))
        os.killpg(first.pid, signal.SIGINT)
        _, message = first.communicate(timeout=60)
    ends.wait()
    assert (first.returncode, message) == ENDS[signal.SIGINT]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 --expose"),
        (["cellar"], "use one of gradients"),
        (["--port", "-1"], "--port must be a number from 0 to 65535"),
        (["--port", str(10**30)], "--port must be a number from 0 to 65535"),
        (["http://[::1/gradients"], "PAGE must be the name of a page, or a link to a page"),
        (["gradients/\x00"], "PAGE must be the name of a page, or a link to a page"),
        (["--host", "ä" * 100, "--expose"], "--host must be an address of this machine"),
        (["--host", "a\x00b", "--expose"], "--host must be an address of this machine"),
        (["--host", "unix:///tmp/x", "--expose"], "--host must be an address of this machine"),
        (["--host", "no.such.host.invalid", "--expose"], "not an address of this machine"),
    ],
)
def test_invalid_arguments_are_refused_before_the_server_starts(arguments, message, capsys):
    assert cli.run(["explore", "--no-browser", *arguments]) == cli.BAD_USAGE
    assert message in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="needs a device that is always full")
def test_an_unprintable_address_is_a_readable_error():
    command = [sys.executable, "-m", "leadline", "explore", "--no-browser", "--port", "0"]
    with open("/dev/full", "w") as full:  # noqa: PTH123  a device, not a file
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False
        )
    assert done.stderr.startswith(
        "leadline: the address could not be printed: No space left on device\n"
    )
    assert done.returncode != 0
