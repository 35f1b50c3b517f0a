"""``leadline explore`` as a command."""

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


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    # As in the foreground: a shell starts background jobs with interruptions ignored.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from leadline.cli import main; main()"
    )
    command = [sys.executable, "-c", start, "explore", "--no-browser", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()  # a test that fails must not wait for it


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_first_line_is_the_address_and_a_signal_is_the_end(sent):
    with started("--port", "0") as one:
        url = first_line(one)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", url)
        assert urllib.request.urlopen(url, timeout=20).status == 200
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url.rsplit("/", 2)[0] + "/", timeout=20)
        port = url.split(":")[2].split("/")[0]
        with started("--port", port, "http://127.0.0.1:1/a-token-of-theirs/gradients?time=9") as two:
            other = first_line(two)
            assert other.endswith("/gradients?time=9")
            assert url.split("/")[3] not in other
            two.send_signal(sent)
            _, told = two.communicate(timeout=30)
            assert f"port {port} is in use, so this is {other.split(':')[2].split('/')[0]}" in told
        one.send_signal(sent)
        rest, told = one.communicate(timeout=30)
    assert (one.returncode, two.returncode) == (cli.DONE, cli.DONE)
    assert rest == ""
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 --expose"),
        (["cellar"], "the rooms are gradients"),
        (["--port", "-1"], "--port is a number from 0 to 65535"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_served(arguments, told, capsys):
    assert cli.run(["explore", "--no-browser", *arguments]) == cli.BAD_USAGE
    assert told in capsys.readouterr().err
