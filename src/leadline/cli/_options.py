"""Options that the commands share, and errors that name what the user typed."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from cyclopts import Group, Parameter

from leadline.errors import InputError

Switch = Annotated[bool, Parameter(negative=(), show_default=False)]
"""A boolean option that has no ``--no-`` form."""

INPUT = Group("Input", sort_key=1)
METHOD = Group("Method", sort_key=2)
RUN = Group("Run", sort_key=3)
OUTPUT = Group("Output", sort_key=4)
"""Groups of options in the help of a command, in this order."""

OutputSwitch = Annotated[bool, Parameter(negative=(), show_default=False, group=OUTPUT)]
"""A :data:`Switch` in the group of output options."""


def option_of(name: str) -> str:
    """Return the option of an argument.

    >>> option_of("max_length")
    '--max-length'
    """
    return f"--{name.replace('_', '-')}"


def check_at_least(value: int, option: str, least: int = 1) -> None:
    """Refuse a whole number below ``least``."""
    if value < least:
        raise InputError(
            f"{option} must be a whole number of at least {least}",
            got=f"{option} {value}",
            cure=f"{option} {least}, or more",
        )


@contextmanager
def errors_about(typed: str, **options: str) -> Iterator[None]:
    """Make the errors of the library begin with what the user typed.

    Args:
        typed: an argument or option with its value, such as ``"--data rows.csv"``. It is put before
            every rule that does not begin with an argument of the library.
        options: the option for each argument of the library, such as ``seeds="--seeds"``.

    >>> with errors_about("DATA rows.csv", seeds="--seeds"):
    ...     raise InputError("seeds must be at least 2", got="seeds = 1", cure="seeds=12")
    Traceback (most recent call last):
    leadline.errors.InputError: --seeds must be at least 2
      got:   --seeds 1
      cure:  --seeds 12
    >>> with errors_about("DATA rows.csv"):
    ...     raise InputError("labels need at least two classes")
    Traceback (most recent call last):
    leadline.errors.InputError: DATA rows.csv: labels need at least two classes
    """
    try:
        yield
    except InputError as error:
        renamed = _renamed(error, typed, options)
        for note in getattr(error, "__notes__", ()):
            renamed.add_note(note)
        raise renamed from error


def _renamed(error: InputError, typed: str, options: dict[str, str]) -> InputError:
    """Return the error with options in place of the arguments of the library."""
    rule = f"{typed}: {error.rule}"
    for argument, option in options.items():
        if re.match(rf"{argument}\b", error.rule):
            rule = re.sub(r"^\w+(\[\d+\])?", option, error.rule)
    details = []
    for text in (error.got, error.cause, error.cure):
        for argument, option in options.items():
            assignment = rf"\b{argument}(\[\d+\])?(?: = |=)"
            text = re.sub(assignment, f"{option} ", text) if text else text
        details.append(text)
    got, cause, cure = details
    return InputError(rule, got=got, cause=cause, cure=cure)
