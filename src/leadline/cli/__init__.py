"""The command line: thin commands over the library, resolved only when they are called.

Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted, 141 the reader of the output went away, 143 told to stop.
"""

import signal
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from leadline import __version__
from leadline.cli import _terminal as terminal

DONE, FAILED, BAD_USAGE, INTERRUPTED, READER_GONE, STOPPED = 0, 1, 2, 130, 141, 143


class Stopped(KeyboardInterrupt):
    """A termination signal: handled as an interruption, so that what is done is kept and no process is left behind."""


app = App(
    name="leadline",
    help="Soundings of deep networks: what a representation is worth, where the gradient dies, what the decoder "
    "missed.",
    version=__version__,
    version_flags=["--version"],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.command(
    "leadline.cli._worksheet:worksheet",
    name="worksheet",
    help="Measure the twenty statements of the course and write a page about them.",
)
app.command(
    "leadline.cli._decode:decode",
    name="decode",
    help="Continue prompts by beam search, and say whether there was a better answer.",
)
app.command(
    "leadline.cli._gradients:gradients",
    name="gradients",
    help="Trace a recurrent model of yours, and tell where its gradient dies or explodes.",
)
app.command(
    "leadline.cli._explore:explore",
    name="explore",
    help="Open the instruments behind sliders, in a browser.",
)
app.command(
    "leadline.cli._represent:represent",
    name="represent",
    help="Pretrain autoencoders on your own data, and tell what their representations are worth.",
)
app.command(
    "leadline.cli._encode:encode",
    name="encode",
    help="Turn rows into codes with a saved encoder.",
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors are printed in a few lines on standard error."""
    from leadline.errors import InputError, LeadlineError, describe

    if terminal.is_folder_gone():  # torch ends the process where it cannot find the folder
        terminal.complain(
            "the working directory was deleted; change to another folder and run the command again"
        )
        return FAILED
    try:
        screen = terminal.console()
        code = (
            app(
                arguments,
                exit_on_error=False,
                console=screen,
                error_console=terminal.console(stderr=True),
            )
            or DONE
        )
    except CycloptsError:
        code = BAD_USAGE  # it has printed what was wrong
    except InputError as error:
        terminal.complain(describe(error))
        code = BAD_USAGE
    except LeadlineError as error:
        terminal.complain(describe(error))
        code = FAILED
    except Stopped:
        terminal.complain("stopped")
        code = STOPPED
    except KeyboardInterrupt:
        terminal.complain("interrupted")
        code = INTERRUPTED
    except MemoryError:
        terminal.complain(
            "the free memory does not suffice; ask for less at once, or for smaller networks"
        )
        code = FAILED
    except OSError as error:
        is_bad_usage = isinstance(
            error.__context__, CycloptsError
        )  # it could not be printed on standard error
        return BAD_USAGE if is_bad_usage else _failed(error)
    failure = terminal.failure_of_stdout()
    if failure is not None and code == DONE:
        return _failed(failure)
    return code


def _failed(error: OSError) -> int:
    """Print the reason of a failed system call, and return the exit code."""
    failure = terminal.failure_of_stdout()
    if isinstance(error, BrokenPipeError):
        terminal.complain(
            "the program that reads the output went away before everything was written"
        )
        return READER_GONE
    reason = error.strerror or str(error) or type(error).__name__
    if failure is not None or error.filename is None:
        terminal.complain(f"the output could not be written: {reason}")
    else:
        terminal.complain(f"{error.filename}: {reason}")
    return FAILED


def main() -> None:
    """The console script."""

    def stop(number: int, frame: object) -> None:
        raise Stopped

    terminal.prepare()
    signal.signal(signal.SIGTERM, stop)
    if (
        hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    ):  # nohup ignores it
        signal.signal(signal.SIGHUP, stop)
    code = run()
    if code in (INTERRUPTED, STOPPED):
        for name in (
            "SIGHUP",
            "SIGINT",
            "SIGTERM",
        ):  # an impatient second signal must not break the cleaning up
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
    sys.exit(code)
