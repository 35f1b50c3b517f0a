"""The command line: thin commands over the library; each is imported only when it is called.

Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted (SIGINT), 141 the reader of the
output has closed the pipe, 143 stopped (SIGTERM or SIGHUP).
"""

import signal
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from leadline import __version__
from leadline.cli import _terminal as terminal

DONE = 0
FAILED = 1
BAD_USAGE = 2
INTERRUPTED = 130
READER_GONE = 141
STOPPED = 143


class Stopped(KeyboardInterrupt):
    """A termination signal was received.

    It is handled like an interruption: finished results are kept, and no worker process is left.
    """


HELP = """Measure deep networks: representations, gradients and decoders.

Which command answers my question?

- Is my representation better than the raw data? `represent`, then `encode`
- Where does the gradient of my recurrent network vanish or explode? `gradients`
- Was the decoder's answer the most likely one? `decode`
- Do twenty statements of a deep-learning course hold? `worksheet`
- Can I try it with sliders? `explore`
"""

app = App(
    name="leadline",
    help=HELP,
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
    help="Continue prompts by beam search, and prove whether a better answer exists.",
)
app.command(
    "leadline.cli._gradients:gradients",
    name="gradients",
    help="Trace your recurrent model, and show where its gradient vanishes or explodes.",
)
app.command(
    "leadline.cli._explore:explore",
    name="explore",
    help="Open interactive pages for the three instruments in a browser.",
)
app.command(
    "leadline.cli._represent:represent",
    name="represent",
    help="Pretrain autoencoders on your data, and compare their representations with the raw data.",
)
app.command(
    "leadline.cli._encode:encode",
    name="encode",
    help="Compute the codes of rows with a saved encoder.",
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. Errors are printed on standard error."""
    from leadline.errors import InputError, LeadlineError, describe

    if terminal.is_folder_gone():  # torch would end the process without a message
        terminal.complain(
            "the working directory was deleted; change to another folder and run the command again"
        )
        return FAILED
    try:
        screen = terminal.console()
        error_screen = terminal.console(stderr=True)
        code = app(arguments, exit_on_error=False, console=screen, error_console=error_screen)
        code = code or DONE
    except CycloptsError:
        code = BAD_USAGE  # cyclopts has already printed the error
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
            "there is not enough free memory; use smaller batches, fewer rows or smaller networks"
        )
        code = FAILED
    except OSError as error:
        # If the usage error itself could not be printed, the usage was still wrong.
        is_bad_usage = isinstance(error.__context__, CycloptsError)
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
            "the program that reads the output closed it before everything was written"
        )
        return READER_GONE
    reason = error.strerror or str(error) or type(error).__name__
    if failure is not None or error.filename is None:
        terminal.complain(f"the output could not be written: {reason}")
    else:
        terminal.complain(f"{error.filename}: {reason}")
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
