"""Jobs: long work in separate processes, which write their metrics into ``metrics.jsonl``.

The name of a job is part of the page's address, so a reloaded page finds its job. A job ends when
it is done, when it is stopped, or with the server. Its folder holds JSON and saved results; nothing
is pickled on disk.
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

METRICS = "metrics.jsonl"
ERROR = "error.txt"
"""Files in the folder of a job: its records, and the message of a failed job."""

LONGEST_NAME = 50
"""Largest number of characters of a wrong name that an error shows."""

PATIENCE = 5
"""Seconds after which a job that ignores the request to stop is killed."""

Write = Callable[[Mapping[str, Any]], None]
"""Function that appends one record to the metrics of a job."""

Work = Callable[[Mapping[str, Any], Path, Write], None]
"""Function that a job runs: it takes JSON settings, a folder and a :data:`Write`."""


@dataclass(frozen=True)
class Progress:
    """State of a job."""

    status: Status
    metrics: tuple[dict[str, Any], ...]
    """Records that the job has written so far."""
    error: str
    """Error message of a failed job; empty otherwise."""
    folder: Path
    """Folder of the results."""


class Jobs:
    """The jobs of one server. It is a context manager that ends all jobs.

    Args:
        most: largest number of jobs that run at the same time.
    """

    def __init__(self, most: int = 2) -> None:
        self.most = most
        self._home = temporary("leadline-explorer-jobs")
        self._processes: dict[str, BaseProcess] = {}
        self._stopped: set[str] = set()
        self._lock = threading.Lock()
        atexit.register(self.close)

    def start(self, work: str, settings: Mapping[str, Any]) -> str:
        """Start a job and return its name.

        Args:
            work: the function as ``"package.module:function"``; see :data:`Work`.
            settings: settings that the function receives.

        Raises:
            InputError: the largest number of jobs is running already.
            SaveError: the folder or the process of the job could not be created.
        """
        name = secrets.token_hex(6)
        folder = self._home / name
        # A new interpreter: after a fork, locks held by other threads would never be released.
        process = multiprocessing.get_context("spawn").Process(
            target=_run,
            args=(work, json.dumps(dict(settings)), str(folder)),
            name=f"leadline job {name}",
            daemon=True,
        )
        # Jobs are counted and started under one lock, so two clicks at once cannot both pass.
        with self._lock:
            running = sum(process.is_alive() for process in self._processes.values())
            if running >= self.most:
                raise InputError(
                    f"at most {self.most} runs can be active at the same time",
                    got=f"{running} active runs",
                    cure="wait until a run ends, or stop one",
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
        """Return the state of a job.

        Raises:
            InputError: this server has not started a job of this name.
        """
        process = self._process_of(name)
        code = process.exitcode  # read before the files, which are then complete
        folder = self._home / name
        error = folder / ERROR
        if name in self._stopped:
            status: Status = "stopped"
        elif code is None:
            status = "running"
        else:
            status = "done" if code == 0 else "failed"
        message = ""
        if status == "failed":
            has_message = error.exists()
            unknown = f"the process ended with exit code {code}"
            message = error.read_text("utf-8", "replace") if has_message else unknown
        return Progress(status, _lines(folder / METRICS), message, folder)

    def stop(self, name: str) -> None:
        """Stop a running job; its files stay."""
        process = self._process_of(name)
        with self._lock:
            if process.exitcode is None:
                self._stopped.add(name)
                process.terminate()
        process.join(PATIENCE)
        if process.exitcode is None:
            process.kill()
            process.join()

    def close(self) -> None:
        """Stop all jobs and remove their files."""
        with self._lock:
            self.most = 0  # a request in progress can no longer start a job
            names = list(self._processes)
        for name in names:
            self.stop(name)
        remove(self._home)

    def __enter__(self) -> "Jobs":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _process_of(self, name: str) -> BaseProcess:
        """Return the process of a job; refuse an unknown name."""
        if name not in self._processes:
            raise InputError(
                "job must name a run that was started on this server",
                got=f"job = {name[:LONGEST_NAME]}",
                cause="the server was restarted, which ended its runs",
                cure="start the run again",
            )
        return self._processes[name]


def _lines(file: Path) -> tuple[dict[str, Any], ...]:
    """Read the complete lines of a file that another process may be writing."""
    if not file.exists():
        return ()
    lines, _ = storage.split_lines(file.read_bytes())
    return tuple(json.loads(line) for line in lines)


def _run(work: str, settings: str, folder: str) -> None:
    """Run a job in its own process."""
    orphans.end_with_parent()
    module, _, function = work.partition(":")
    try:
        with storage.appending_lines(Path(folder, METRICS)) as file:

            def write(record: Mapping[str, Any]) -> None:
                # Errors of a diverged run are not finite.
                file.append(storage.json_line(dict(record), allow_nan=True), sync=False)

            getattr(import_module(module), function)(json.loads(settings), Path(folder), write)
    except Exception as error:  # the page shows every error of a run
        is_ours = isinstance(error, LeadlineError)
        message = describe(error) if is_ours else traceback.format_exc(limit=-3)
        (Path(folder) / ERROR).write_text(message, "utf-8")
        raise SystemExit(1) from None
