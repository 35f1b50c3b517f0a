"""The page of the commands: exit codes, the form of errors, and the help of every command."""

import io
import os
from contextlib import redirect_stdout
from pathlib import Path

from leadline import cli

WIDTH = "88"
"""Width of the help in characters; a wider block would scroll on the page."""

INTRODUCTION = """\
Commands
========

``leadline --help`` lists the commands, and ``leadline COMMAND --help`` their options. Results go to
standard output, progress and errors to standard error.

Errors
------

An error begins with the option or argument that you typed and states its rule. The value, the cause
and the cure follow on their own lines, where they are known:

.. code-block:: text

   {error}

Exit codes
----------

All commands share these exit codes.

.. list-table::
   :header-rows: 1

   * - code
     - meaning
"""


def printed(*arguments: str) -> str:
    """Return what a command prints on standard output."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    output = io.StringIO()
    try:
        with redirect_stdout(output):
            cli.run(arguments)
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


def example_error() -> str:
    """Return the error of a command line with a wrong option."""
    from cyclopts import CycloptsError

    from leadline.cli._usage import usage_error

    try:
        arguments = ["worksheet", "--budget", "slow"]
        cli.app.parse_args(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return f"$ leadline {' '.join(arguments)}\nleadline: {usage_error(error)}"
    raise AssertionError("the command line must be wrong")


def indented(text: str) -> str:
    """Return a text as the content of a directive."""
    return "\n".join(f"   {line}".rstrip() for line in text.splitlines())


def page() -> str:
    """Return the page in reStructuredText."""
    lines = [INTRODUCTION.format(error=indented(example_error()).strip())]
    for code, meaning in cli.EXIT_CODES.items():
        lines += [f"   * - {code}", f"     - {meaning}"]
    for name in cli.app:
        if name.startswith("-"):
            continue
        title = f"leadline {name}"
        help_text = indented(printed(name, "--help"))
        lines += ["", title, "-" * len(title), "", ".. code-block:: text", "", help_text]
    return "\n".join(lines) + "\n"


def write(path: Path) -> None:
    """Write the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(), "utf-8")
