"""Workers that measure statements in parallel: local processes, or a Dask cluster."""

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, cast

from leadline.errors import InputError
from leadline.worksheet._setting import source_digest

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 10.0
"""Seconds to wait for an answer from a cluster."""

POLL = 0.2
"""Seconds between two checks that the parent process is still running."""


class Workers(NamedTuple):
    """An executor, and the exceptions that its futures raise if a worker process dies."""

    executor: Executor
    died: type[Exception]


@contextmanager
def processes(jobs: int) -> Iterator[Workers]:
    """Local worker processes. They are killed on exit, because they could run for minutes."""
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    executor = ProcessPoolExecutor(
        max_workers=jobs, initializer=end_with_parent, initargs=(os.getpid(),)
    )
    try:
        yield Workers(executor, TerminatedWorkerError)
    finally:
        executor.shutdown(wait=True, kill_workers=True)


def end_with_parent(parent: int) -> None:
    """End this worker process when its parent has ended, even if the parent was killed.

    Args:
        parent: the number of the parent process.
    """
    threading.Thread(target=_wait_for_end_of, args=(parent,), daemon=True).start()


def _wait_for_end_of(parent: int) -> None:
    # On Windows the number of a process does not show whether it has ended.
    if os.name == "nt":
        process = multiprocessing.parent_process()
        assert process is not None
        process.join()
    else:
        while os.getppid() == parent:
            time.sleep(POLL)
    os._exit(1)


@contextmanager
def cluster_workers(address: str) -> Iterator[Workers]:
    """Workers of a Dask cluster. Pending tasks are cancelled on exit.

    Raises:
        InputError: ``distributed`` is not installed, no scheduler answers, or a worker is missing,
            has several threads, or runs another version of Leadline.
    """
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise InputError(
            "a cluster needs Dask",
            got=f"cluster = {address!r}",
            cure="pip install 'leadline[cluster]'",
        ) from None
    state = random.getstate()
    # The client gets a name before it connects, so that a client that cannot connect is closed
    # below. If the garbage collector closed it, the collector would need a lock that the start of
    # the next client may hold at that moment.
    client = Client.__new__(Client)
    try:
        Client.__init__(client, address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        client.close()
        raise InputError(
            "the cluster's scheduler must answer",
            got=f"cluster = {address!r} ({error})",
            cause="the address is wrong, or no scheduler runs there",
            cure="start one with `dask scheduler` and give the address that it prints, "
            "tcp://host:port",
        ) from None
    finally:
        # Dask draws its waiting times from Python's global generator.
        random.setstate(state)
    with client:
        _check(client, address)
        executor = client.get_executor(pure=False)
        try:
            yield Workers(executor, KilledWorker)
        finally:
            executor.shutdown(wait=False)


def _check(client: "Client", address: str) -> None:
    """Raise if workers would give other answers than this machine."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise InputError(
            "--cluster needs a scheduler with at least one worker",
            got=f"{address} has none",
            cure=f"start some: dask worker {address} --nthreads 1",
        ) from None
    for worker, count in cast(dict[str, int], client.nthreads()).items():
        if count != 1:
            raise InputError(
                "a worker measures one statement at a time, on one thread",
                got=f"{worker} has {count} threads",
                cause="answers depend, in their last bits, on the number of threads",
                cure="start workers with --nthreads 1, as many as there are cores",
            )
    for worker, digest in cast(dict[str, str], client.run(source_digest)).items():
        if digest != source_digest():
            raise InputError(
                "workers must run this Leadline",
                got=f"{worker} runs another version",
                cure="install the same version there, and start the worker again",
            )
