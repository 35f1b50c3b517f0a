"""Standard output and standard error of the command line: width, encoding, and write errors."""

import codecs
import errno
import io
import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

LEAST_WIDTH = 40
"""Smallest width of the help, in characters. In a narrower terminal cyclopts would never return."""

MOST_WIDTH = 500
"""Largest width of the help, in characters. Panels are padded to the whole width."""

LONGEST_SIZE = 9
"""Number of digits from which a terminal size is ignored, because rich cannot use it."""


def console(*, stderr: bool = False) -> "Console":
    """Return a rich console of a usable width. A closed pipe raises ``BrokenPipeError``."""
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> NoReturn:
            raise BrokenPipeError

    width = Terminal(stderr=stderr).width
    fitting = min(max(width, LEAST_WIDTH), MOST_WIDTH)
    return Terminal(stderr=stderr, width=None if fitting == width else fitting)


def prepare() -> None:
    """Prepare the standard streams so that any text can be printed.

    A character that the encoding lacks, as in an ASCII terminal, is written as ``\\uXXXX``, which
    JSON can read. Terminal sizes in the environment that are not numbers are removed.
    """
    for name in ("COLUMNS", "LINES"):
        size = os.environ.get(name, "0")
        if not (size.isascii() and size.isdigit() and len(size) < LONGEST_SIZE):
            del os.environ[name]  # rich fails on "²", which Python's isdigit() accepts
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123  this file stays open
    codecs.register_error("leadline.escape", _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="leadline.escape")


def print_error(text: str) -> None:
    """Write an error message to standard error; ignore errors of the stream."""
    with suppress(OSError, ValueError):
        print(f"leadline: {text}", file=sys.stderr, flush=True)


def failure_of_stdout() -> OSError | None:
    """Flush standard output. Return the error if it cannot be written, or ``None``."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "standard output is closed")
        sys.stdout.flush()
    except OSError as error:
        _give_up(sys.stdout)
        return error
    except ValueError:  # the stream was closed after everything was written
        return None
    return None


def is_folder_gone() -> bool:
    """True if the working directory was deleted."""
    try:
        os.getcwd()  # noqa: PTH109  Path.cwd() is the same call
    except OSError:
        return True
    return False


def _give_up(stream: object) -> None:
    """Redirect a stream to the null device, so that Python reports no error when it exits."""
    with suppress(OSError, ValueError, AttributeError):
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, stream.fileno())  # type: ignore[attr-defined]
        os.close(null_device)


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Return the JSON escapes of characters that the encoding lacks, and where to continue."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return json.dumps(text)[1:-1], error.end
