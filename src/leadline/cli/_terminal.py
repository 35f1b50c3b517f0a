"""The streams of the command line: their width, their encoding, and what happens when they cannot be written."""

import codecs
import io
import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

LEAST_WIDTH = 40
"""Narrower terminals are treated as this wide: help needs room for the names of options, and cyclopts' line breaking
never ends without it."""

MOST_WIDTH = 500
"""Wider terminals are treated as this wide, because panels are padded to the whole width."""


def console(*, stderr: bool = False) -> "Console":
    """A console of a width at which help can be laid out; a reader that goes away raises ``BrokenPipeError``."""
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self) -> NoReturn:
            raise BrokenPipeError

    width = Terminal(stderr=stderr).width
    fitting = min(max(width, LEAST_WIDTH), MOST_WIDTH)
    return Terminal(stderr=stderr, width=None if fitting == width else fitting)


def prepare() -> None:
    """Make the standard streams fit to print any text, and forget sizes of the terminal that are no numbers.

    A character that the encoding lacks, as in an ASCII terminal, is written as ``\\uXXXX``, which JSON reads back.
    """
    for name in ("COLUMNS", "LINES"):
        size = os.environ.get(name, "0")
        if not (size.isascii() and size.isdigit() and len(size) < 9):
            del os.environ[name]  # rich would stop at "²", which Python's isdigit() accepts
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123  it stays open
    codecs.register_error("leadline.escape", _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="leadline.escape")


def complain(text: str) -> None:
    """Write a line to standard error, if it can be written."""
    with suppress(OSError, ValueError):
        print(f"leadline: {text}", file=sys.stderr, flush=True)


def failure_of_stdout() -> OSError | None:
    """Write what standard output still holds; gives the error if it cannot be written, and gives up the rest."""
    try:
        if sys.stdout is None:
            raise OSError(9, "it is closed")
        sys.stdout.flush()
    except OSError as error:
        _give_up(sys.stdout)
        return error
    except ValueError:  # the stream was closed, with everything written
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
    """Send the rest of a stream nowhere, so that Python does not complain about it when it ends."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
        os.close(nowhere)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return json.dumps(text)[1:-1], error.end
