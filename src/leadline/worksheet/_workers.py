"""Where statements are measured at the same time: processes of this machine, or the workers of a Dask cluster."""

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
"""Seconds that a cluster is given to answer."""

POLL = 0.2
"""Seconds between two looks of a worker at whether its parent is there."""


class Workers(NamedTuple):
    """An executor, and what its futures raise where the process that measured has died."""

    executor: Executor
    died: type[Exception]


@contextmanager
def processes(jobs: int) -> Iterator[Workers]:
    """Processes of this machine, killed at the end: after an interruption they would run on for minutes."""
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
    """End this worker process when its parent has ended, even if the parent was killed and could not say so.

    Args:
        parent: the number of the parent process.
    """
    threading.Thread(target=_wait_for_end_of, args=(parent,), daemon=True).start()


def _wait_for_end_of(parent: int) -> None:
    if os.name == "nt":  # where the number of a process that has ended tells nothing
        process = multiprocessing.parent_process()
        assert process is not None
        process.join()
    else:
        while os.getppid() == parent:
            time.sleep(POLL)
    os._exit(1)


@contextmanager
def cluster_workers(address: str) -> Iterator[Workers]:
    """The workers of a Dask cluster. What still waits at the end is cancelled there.

    Raises:
        InputError: ``distributed`` is not installed, no scheduler answers, or a worker is missing, has several
            threads, or runs another Leadline.
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
    # Named before it connects: one that cannot is closed here. Left to the garbage collector, closing takes a lock that
    # the next client's start may hold at that moment.
    client = Client.__new__(Client)
    try:
        Client.__init__(client, address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        client.close()
        raise InputError(
            "the cluster's scheduler must answer",
            got=f"cluster = {address!r} ({error})",
            cause="the address is wrong, or no scheduler runs there",
            cure="start one with `dask scheduler` and give the address that it prints, tcp://host:port",
        ) from None
    finally:
        random.setstate(
            state
        )  # Dask draws from Python's global generator how long it waits between attempts
    with client:
        _check(client, address)
        executor = client.get_executor(pure=False)
        try:
            yield Workers(executor, KilledWorker)
        finally:
            executor.shutdown(wait=False)


def _check(client: "Client", address: str) -> None:
    """Refuse workers that would give other answers than this machine."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError:
        raise InputError(
            "a cluster measures with its workers",
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
