import gc
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from distributed import Client

from leadline import InputError
from leadline.worksheet import Setting, run
from leadline.worksheet import _workers as workers
from tests.worksheet import example

SETTING = Setting("quick")
ROOT = Path(__file__).parents[2]


@contextmanager
def dask(program: str, *arguments: str) -> Iterator[str]:
    """Start a scheduler or a worker in its own process and yield the scheduler's address."""
    command = [
        sys.executable,
        "-m",
        f"distributed.cli.dask_{program}",
        *arguments,
        "--no-dashboard",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True)
    assert process.stderr is not None
    try:
        seen = (
            re.search(r"(?:Scheduler at: +|Registered to: +)(tcp://\S+)", line)
            for line in process.stderr
        )
        yield next(match[1] for match in seen if match)
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with dask("scheduler", "--host", "127.0.0.1", "--port", "0") as address:
        yield address


@pytest.fixture(scope="module")
def cluster(scheduler) -> Iterator[str]:
    """A scheduler with one worker."""
    with dask("worker", scheduler, "--nthreads", "1"):
        yield scheduler


def test_a_cluster_without_workers_is_rejected(scheduler, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 1.0)
    with pytest.raises(InputError, match=r"has none(.|\n)*dask worker tcp://"):
        list(run([example.statement("ae.f", "works")], SETTING, cluster=scheduler))


def test_a_cluster_gives_the_same_answers_as_this_machine(cluster, tmp_path: Path):
    statements = [example.statement("ae.f", "works"), example.statement("beam.a", "works_too")]
    local = {r.statement.id: r for r in run(statements, SETTING)}
    remote = {r.statement.id: r for r in run(statements, SETTING, cluster=cluster, folder=tmp_path)}
    assert {name: str(r.answer) for name, r in local.items()} == {
        name: str(r.answer) for name, r in remote.items()
    }
    (kept, _) = run(statements, SETTING, folder=tmp_path)
    assert kept.seconds is None, "what a cluster measured is kept like any other answer"


def test_a_cluster_worker_that_dies_is_a_failure(cluster):
    statements = [example.statement("ae.f", "dies")]
    (result,) = run(statements, SETTING, cluster=cluster)
    assert result.status == "failed"
    assert "a worker process died" in str(result.failure)


def test_a_worker_with_another_leadline_is_rejected(cluster, monkeypatch):
    monkeypatch.setattr(workers, "source_digest", lambda: "another")
    monkeypatch.setattr(Client, "run", lambda self, function: {"tcp://worker": "this"})
    with pytest.raises(
        InputError,
        match="workers must run this Leadline\n  got:   tcp://worker runs another version",
    ):
        list(run([example.statement("ae.f", "works")], SETTING, cluster=cluster))


def test_workers_with_several_threads_are_rejected(cluster, monkeypatch):
    monkeypatch.setattr(Client, "nthreads", lambda self: {"tcp://worker": 2})
    with pytest.raises(InputError, match="tcp://worker has 2 threads"):
        list(run([example.statement("ae.f", "works")], SETTING, cluster=cluster))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:{free}", "nowhere", "carrier-pigeon://loft"])
def test_a_scheduler_that_does_not_answer_is_rejected(address, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.2)
    with socket.socket() as listener:
        # The socket is bound but does not listen, so nothing answers at this address.
        listener.bind(("127.0.0.1", 0))
        address = address.format(free=listener.getsockname()[1])
        with pytest.raises(InputError, match="the cluster's scheduler must answer") as refused:
            list(run([example.statement("ae.f", "works")], SETTING, cluster=address))
    assert address in str(refused.value)
    assert all(client.status == "closed" for client in gc.get_objects() if type(client) is Client)
