"""Long work in a process of its own, which writes what it measures into ``metrics.jsonl``; a page asks how far it is.

A job has a name that goes into an address, so that a page which is loaded again finds it. It ends when it is done, when
it is told to stop, or with the server. Its folder holds JSON and what the work saves there; nothing is pickled on disk.
"""

import atexit
import json
import multiprocessing
import secrets
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from leadline import storage
from leadline.errors import InputError, LeadlineError, SaveError, describe
from leadline.explore.server import _orphans as orphans
from leadline.explore.server._folders import remove, temporary

Status = Literal["running", "done", "failed", "stopped"]

METRICS, TROUBLE = "metrics.jsonl", "trouble.txt"

Write = Callable[[Mapping[str, Any]], None]
"""Adds a line to a job's metrics."""

Work = Callable[[Mapping[str, Any], Path, Write], None]
"""What a job does: with settings that JSON can hold, in a folder, telling how it goes."""


@dataclass(frozen=True)
class Progress:
    """How a job stands."""

    status: Status
    metrics: tuple[dict[str, Any], ...]
    """What it has written so far, in order."""
    trouble: str
    """What was wrong, where it failed."""
    folder: Path
    """Where its results are."""


class Jobs:
    """The jobs of one server; they end with it, or with the block that they are the context of.

    Args:
        most: the largest number of jobs whose processes may run at the same time.
    """

    def __init__(self, most: int = 2) -> None:
        self.most = most
        self._home = temporary("leadline-explorer-jobs")
        self._processes: dict[str, BaseProcess] = {}
        self._stopped: set[str] = set()
        self._lock = threading.Lock()
        atexit.register(self.close)

    def start(self, work: str, settings: Mapping[str, Any]) -> str:
        """Begin, and return the job's name.

        Args:
            work: where the function is, ``"package.module:function"``; see :data:`Work`.
            settings: what it is called with.

        Raises:
            InputError: as many jobs run as may run at the same time.
            SaveError: the job's folder or process could not be made.
        """
        name = secrets.token_hex(6)
        folder = self._home / name
        # A fresh interpreter: after a fork, threads of this one would hold locks that nobody frees.
        process = multiprocessing.get_context("spawn").Process(
            target=_run,
            args=(work, json.dumps(dict(settings)), str(folder)),
            name=f"leadline job {name}",
            daemon=True,
        )
        with self._lock:  # from the count to the start, so that two clicks at once cannot both pass
            running = sum(process.is_alive() for process in self._processes.values())
            if running >= self.most:
                raise InputError(
                    f"at most {self.most} runs can be under way at the same time",
                    got=f"{running} are under way",
                    cure="wait until one of them ends, or stop one",
                )
            try:
                folder.mkdir()
                orphans.start(process)
            except OSError as error:
                raise SaveError(
                    f"the run could not start: {error.strerror or error}; free some memory or disk"
                ) from error
            self._processes[name] = process
        return name

    def progress(self, name: str) -> Progress:
        """How a job stands.

        Raises:
            InputError: this server has begun no such job.
        """
        process = self._known(name)
        code = process.exitcode  # before its files are read: what it wrote is then there
        folder = self._home / name
        trouble = folder / TROUBLE
        if name in self._stopped:
            status: Status = "stopped"
        elif code is None:
            status = "running"
        else:
            status = "done" if code == 0 else "failed"
        told = (
            trouble.read_text("utf-8", "replace")
            if trouble.exists()
            else f"the process ended with {code}"
        )
        return Progress(
            status, _lines(folder / METRICS), told if status == "failed" else "", folder
        )

    def stop(self, name: str) -> None:
        """End a job that is running; what it has written stays."""
        process = self._known(name)
        with self._lock:
            if process.exitcode is None:
                self._stopped.add(name)
                process.terminate()
        process.join(5)
        if process.exitcode is None:
            process.kill()
            process.join()

    def close(self) -> None:
        """End all jobs and remove what they wrote."""
        with self._lock:
            self.most = 0  # a request that is still being answered starts no other job
            names = list(self._processes)
        for name in names:
            self.stop(name)
        remove(self._home)

    def __enter__(self) -> "Jobs":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _known(self, name: str) -> BaseProcess:
        if name not in self._processes:
            raise InputError(
                "a job is one that this server has begun",
                got=name[:50],
                cause="the server was started anew, and its jobs ended with it",
                cure="begin it again",
            )
        return self._processes[name]


def _lines(file: Path) -> tuple[dict[str, Any], ...]:
    """The complete lines of a file that may be being written."""
    if not file.exists():
        return ()
    lines, _ = storage.split_lines(file.read_bytes())
    return tuple(json.loads(line) for line in lines)


def _run(work: str, settings: str, folder: str) -> None:
    """In the process of a job."""
    orphans.end_with_parent()
    module, _, function = work.partition(":")
    try:
        with storage.appending_lines(Path(folder, METRICS)) as file:

            def write(record: Mapping[str, Any]) -> None:
                # A run that diverged has errors that are not finite.
                file.append(storage.json_line(dict(record), allow_nan=True), sync=False)

            getattr(import_module(module), function)(json.loads(settings), Path(folder), write)
    except Exception as error:
        told = (
            describe(error) if isinstance(error, LeadlineError) else traceback.format_exc(limit=-3)
        )
        (Path(folder) / TROUBLE).write_text(told, "utf-8")
        raise SystemExit(1) from None
