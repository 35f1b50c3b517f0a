"""The command line: thin commands over the library, resolved only when they are called.

Exit codes: 0 done, 1 failed, 2 bad usage, 130 interrupted, 143 told to stop.
"""

import signal
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from leadline import __version__

DONE, FAILED, BAD_USAGE, INTERRUPTED, STOPPED = 0, 1, 2, 130, 143


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
    "leadline.cli.worksheet:worksheet",
    name="worksheet",
    help="Measure the twenty statements of the course and write a page about them.",
)
app.command(
    "leadline.cli.decode:decode",
    name="decode",
    help="Continue prompts by beam search, and say whether there was a better answer.",
)
app.command(
    "leadline.cli.gradients:gradients",
    name="gradients",
    help="Trace a recurrent model of yours, and tell where its gradient dies or explodes.",
)
app.command(
    "leadline.cli.explore:explore",
    name="explore",
    help="Open the instruments behind sliders, in a browser.",
)
app.command(
    "leadline.cli.represent:represent",
    name="represent",
    help="Pretrain autoencoders on your own data, and tell what their representations are worth.",
)
app.command(
    "leadline.cli.encode:encode",
    name="encode",
    help="Turn rows into codes with a saved encoder.",
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors are told in a few lines on standard error."""
    from leadline.errors import InputError, LeadlineError, describe

    try:
        return app(arguments, exit_on_error=False) or DONE
    except CycloptsError:
        return BAD_USAGE  # it has printed what was wrong
    except InputError as error:
        print(f"leadline: {describe(error)}", file=sys.stderr)
        return BAD_USAGE
    except LeadlineError as error:
        print(f"leadline: {describe(error)}", file=sys.stderr)
        return FAILED
    except Stopped:
        print("leadline: stopped", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("leadline: interrupted", file=sys.stderr)
        return INTERRUPTED


def main() -> None:
    """The console script."""

    def stop(number: int, frame: object) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # nohup ignores it
        signal.signal(signal.SIGHUP, stop)
    sys.exit(run())
