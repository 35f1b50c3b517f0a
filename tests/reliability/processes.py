"""Children of the test process: run to the end, killed before a file operation, or on a disk that is full."""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from leadline.errors import LeadlineError

DONE, REFUSED, CRASHED = 0, 3, 4
"""Exit codes of a child: it ended well, it raised a LeadlineError, or it raised anything else."""

OPERATIONS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}
"""Audit events of file operations. Writing and ``fsync`` raise none and are counted by wrappers."""


def run(action: Callable[[], object], log: Path, before: Callable[[], None] = lambda: None) -> int:
    """Run an action in a forked child and wait for it; gives its exit code, negative for a signal.

    Args:
        action: what the child does.
        log: where the child's output and traceback go.
        before: prepares the child.
    """
    child = start(action, log, before)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def start(action: Callable[[], object], log: Path, before: Callable[[], None] = lambda: None) -> int:
    """Begin an action in a forked child and return its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = CRASHED
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        try:
            before()
            action()
            code = DONE
        except LeadlineError as error:
            os.write(output, str(error).encode())
            code = REFUSED
        except BaseException:
            os.write(output, traceback.format_exc().encode())
    finally:
        os._exit(code)


def killed_before(number: int, folder: Path, count: Callable[[], None] = lambda: None) -> Callable[[], None]:
    """Prepare a child so that it is killed before its file operation ``number`` (from 0) in or below ``folder``.

    Args:
        number: -1 never kills.
        folder: operations elsewhere do not count.
        count: called at every operation.
    """
    done = 0
    inside = str(folder)

    def step() -> None:
        nonlocal done
        if done == number:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        count()

    def audit(event: str, arguments: tuple) -> None:
        if event in OPERATIONS and any(_is_inside(argument, inside) for argument in arguments[:2]):
            step()

    def prepare() -> None:
        for name in ("fsync", "write", "ftruncate"):
            setattr(os, name, _counted(getattr(os, name), step))
        sys.addaudithook(audit)

    return prepare


def count_operations(action: Callable[[], object], folder: Path, log: Path) -> int:
    """The number of file operations that an action does in or below a folder."""
    read, write = os.pipe()

    def count() -> None:
        real_write(write, b".")

    real_write = os.write
    code = run(action, log, killed_before(-1, folder, count))
    os.close(write)
    assert code == DONE, log.read_text()
    with os.fdopen(read, "rb") as pipe:
        return len(pipe.read())


def with_small_files(size: int) -> Callable[[], None]:
    """Prepare a child that cannot write files larger than ``size`` bytes: as on a full disk, without privileges."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _counted(function: Callable[..., object], step: Callable[[], None]) -> Callable[..., object]:
    def counted(*arguments: object) -> object:
        step()
        return function(*arguments)

    return counted


def _is_inside(argument: object, folder: str) -> bool:
    if isinstance(argument, bytes):
        argument = os.fsdecode(argument)
    return isinstance(argument, (str, os.PathLike)) and os.fspath(argument).startswith(folder)
