"""The command line: thin commands over the library; each is imported only when it is called.

All commands share the exit codes in :data:`EXIT_CODES` and one form of errors, which the page of
the commands in the documentation describes.
"""

import signal
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from leadline import __version__
from leadline.cli import _help
from leadline.cli import _terminal as terminal
from leadline.cli._usage import usage_error

DONE = 0
FAILED = 1
BAD_USAGE = 2
INTERRUPTED = 130
READER_GONE = 141
STOPPED = 143

EXIT_CODES = {
    DONE: "success",
    FAILED: "failure: a measurement failed, or a file could not be read or written",
    BAD_USAGE: "wrong usage: an argument, an option or an input file breaks a rule",
    INTERRUPTED: "interrupted by Ctrl-C (SIGINT)",
    READER_GONE: "the program that reads the output closed the pipe",
    STOPPED: "stopped by SIGTERM or SIGHUP",
}
"""Exit codes of all commands, each with its meaning."""


class Stopped(KeyboardInterrupt):
    """The process received a termination signal.

    It is handled like Ctrl-C: finished results are kept, and all worker processes end.
    """


app = App(
    name="leadline",
    help=_help.LEADLINE,
    version=__version__,
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for name, text in (
    ("represent", _help.REPRESENT),
    ("encode", _help.ENCODE),
    ("gradients", _help.GRADIENTS),
    ("decode", _help.DECODE),
    ("worksheet", _help.WORKSHEET),
    ("explore", _help.EXPLORE),
):
    # A command is imported when it is called.
    app.command(f"leadline.cli._{name}:{name}", name=name, help=text)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Errors are printed to standard error."""
    from leadline.errors import InputError, LeadlineError, describe

    if terminal.is_folder_gone():  # torch would end the process without a message
        terminal.print_error(
            "the working directory was deleted; change to another folder and run the command again"
        )
        return FAILED
    try:
        screen = terminal.console()
        code = app(arguments, exit_on_error=False, print_error=False, console=screen) or DONE
    except CycloptsError as error:
        terminal.print_error(describe(usage_error(error)))
        code = BAD_USAGE
    except InputError as error:
        terminal.print_error(describe(error))
        code = BAD_USAGE
    except LeadlineError as error:
        terminal.print_error(describe(error))
        code = FAILED
    except Stopped:
        terminal.print_error("stopped")
        code = STOPPED
    except KeyboardInterrupt:
        terminal.print_error("interrupted")
        code = INTERRUPTED
    except MemoryError:
        terminal.print_error(
            "there is not enough free memory; use smaller batches, fewer rows or smaller networks"
        )
        code = FAILED
    except OSError as error:
        return _failed(error)
    failure = terminal.failure_of_stdout()
    if failure is not None and code == DONE:
        return _failed(failure)
    return code


def _failed(error: OSError) -> int:
    """Print the reason why a system call failed, and return the exit code."""
    failure = terminal.failure_of_stdout()
    if isinstance(error, BrokenPipeError):
        terminal.print_error(
            "the program that reads the output closed it before everything was written"
        )
        return READER_GONE
    reason = error.strerror or str(error) or type(error).__name__
    if failure is not None or error.filename is None:
        terminal.print_error(f"the output could not be written: {reason}")
    else:
        terminal.print_error(f"{error.filename}: {reason}")
    return FAILED


def main() -> None:
    """Run the console script: handle signals, run one command, and exit with its code."""

    def stop(number: int, frame: object) -> None:
        raise Stopped

    terminal.prepare()
    signal.signal(signal.SIGTERM, stop)
    # Under nohup, SIGHUP is ignored already and must stay so.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, stop)
    code = run()
    if code in (INTERRUPTED, STOPPED):
        # A second signal must not interrupt the clean-up.
        for name in ("SIGHUP", "SIGINT", "SIGTERM"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
    sys.exit(code)
