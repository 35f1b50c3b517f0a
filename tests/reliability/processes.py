"""Child processes that run to the end, are killed before a file operation, or have a full disk."""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from leadline.errors import LeadlineError

DONE, REFUSED, CRASHED = 0, 3, 4
"""Exit codes of a child: it succeeded, raised a LeadlineError, or raised another error."""

OPERATIONS = {
    "open",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.mkdir",
    "os.truncate",
    "os.link",
    "os.symlink",
}
"""Audit events of file operations. Wrappers count writing and ``fsync``, which have no events."""


@dataclass(frozen=True)
class Child:
    """A forked child. Its output goes into a pipe, so a full disk or a kill does not lose it."""

    number: int
    output: int

    def wait(self) -> tuple[int, str]:
        """Return the exit code, negative for a signal, and the output (less than a pipe holds)."""
        _, status = os.waitpid(self.number, 0)
        with os.fdopen(self.output, "rb") as pipe:
            return os.waitstatus_to_exitcode(status), pipe.read().decode(errors="replace")


def run(action: Callable[[], object], before: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """Run an action in a forked child that ``before`` prepares. Return exit code and output."""
    return start(action, before).wait()


def start(action: Callable[[], object], before: Callable[[], None] = lambda: None) -> Child:
    """Start an action in a forked child."""
    sys.stdout.flush()
    sys.stderr.flush()
    output, into = os.pipe()
    child = os.fork()
    if child:
        os.close(into)
        return Child(child, output)
    code = CRASHED
    try:
        os.dup2(into, 1)
        os.dup2(into, 2)
        try:
            before()
            action()
            code = DONE
        except LeadlineError as error:
            code = REFUSED
            os.write(2, str(error).encode())
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def killed_before(
    number: int, folder: Path, count: Callable[[], object] = lambda: None
) -> Callable[[], None]:
    """Return a function that kills a child before its file operation ``number``, counted from 0.

    Args:
        number: number of the operation; with -1 the child is never killed.
        folder: only operations in or below this folder count.
        count: function that is called at every operation.
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


def count_operations(action: Callable[[], object], folder: Path) -> int:
    """Return the number of file operations of an action in or below a folder."""
    read, write = os.pipe()
    real_write = os.write
    code, output = run(action, killed_before(-1, folder, lambda: real_write(write, b".")))
    os.close(write)
    assert code == DONE, output
    with os.fdopen(read, "rb") as pipe:
        return len(pipe.read())


def with_small_files(size: int) -> Callable[[], None]:
    """Return a function that limits the files of a child to ``size`` bytes.

    This simulates a full disk without needing privileges.
    """
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
