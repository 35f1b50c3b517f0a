"""Jobs: their progress, their errors and their ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from leadline.errors import InputError
from leadline.explore.server._jobs import METRICS, Jobs, Progress


@pytest.fixture(scope="module")
def jobs():
    with Jobs() as some:
        yield some


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def ended(jobs: Jobs, name: str) -> Progress:
    until(lambda: jobs.progress(name).status != "running")
    return jobs.progress(name)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_finished_job_has_its_metrics_and_results(jobs):
    name = jobs.start("tests.explore.work:counts", {"steps": 3, "name": "ü"})
    found = ended(jobs, name)
    assert (found.status, found.error) == ("done", "")
    assert found.metrics == tuple({"step": step, "name": "ü"} for step in range(3))
    assert {path.name for path in found.folder.iterdir()} == {METRICS, "result.txt"}


@pytest.mark.parametrize(
    ("work", "message"),
    [
        ("refuses", "this cannot be trained"),
        ("breaks", "ZeroDivisionError: by nothing"),
        ("dies", "ended with exit code 7"),
    ],
)
def test_a_failed_job_has_an_error_message(jobs, work, message):
    found = ended(jobs, jobs.start(f"tests.explore.work:{work}", {}))
    assert found.status == "failed"
    assert message in found.error


def test_a_stopped_job_keeps_its_metrics(jobs):
    name = jobs.start("tests.explore.work:never_ends", {})
    until(lambda: bool(jobs.progress(name).metrics))
    (pid,) = (line["pid"] for line in jobs.progress(name).metrics)
    assert jobs.progress(name).status == "running"
    jobs.stop(name)
    jobs.stop(name)
    assert jobs.progress(name).status == "stopped"
    assert len(jobs.progress(name).metrics) == 1
    assert not is_alive(pid)


def test_an_unknown_job_name_is_an_error(jobs):
    for name in ("", "../..", "x" * 500):
        with pytest.raises(InputError, match="job must name a run that was started on this server"):
            jobs.progress(name)


def test_an_incomplete_line_is_ignored(jobs):
    name = jobs.start("tests.explore.work:counts", {"steps": 1, "name": "a"})
    folder = ended(jobs, name).folder
    with (folder / METRICS).open("a") as file:
        file.write('{"step": ')
    assert len(jobs.progress(name).metrics) == 1


def test_a_job_ends_when_its_server_is_killed(tmp_path):
    start = (
        "import time; from leadline.explore.server._jobs import Jobs\n"
        "if __name__ == '__main__':\n"
        "    jobs = Jobs()\n"
        "    name = jobs.start('tests.explore.work:never_ends', {})\n"
        "    while not jobs.progress(name).metrics:\n"
        "        time.sleep(0.02)\n"
        "    print(jobs.progress(name).metrics[0]['pid'], jobs._home, flush=True)\n"
        "    time.sleep(600)\n"
    )
    script = tmp_path / "server.py"
    script.write_text(start)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{Path(__file__).parents[2]}:{os.environ.get('PYTHONPATH', '')}",
    }
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdout is not None
        pid, home = server.stdout.readline().split()
        assert is_alive(int(pid))
        server.send_signal(signal.SIGKILL)
    until(lambda: not is_alive(int(pid)))
    assert Path(home).exists()
    with Jobs() as one:
        assert not Path(home).exists(), "what it left goes when the next one starts"
        with Jobs():
            assert one._home.exists(), "what is in use stays"
