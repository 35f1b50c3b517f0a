"""Errors of the command-line parser, in the form of Leadline's other errors."""

from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from cyclopts import CycloptsError
from cyclopts.exceptions import (
    CoercionError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from leadline.errors import InputError

KINDS = {int: "a whole number", float: "a number"}
"""Types of options in words."""

SIMILARITY = 0.6
"""Least similarity of a name that is suggested; it is the default of ``get_close_matches``."""


def usage_error(error: CycloptsError) -> InputError:
    """Return an error that begins with what the user typed, and states rule, value and cure."""
    command = " ".join(["leadline", *(error.command_chain or ())])
    see_help = f"see {command} --help"
    match error:
        case UnknownOptionError():
            return _unknown_option(error, command, see_help)
        case UnknownCommandError():
            return _unknown_command(error)
        case CoercionError():
            return _wrong_value(error, see_help)
        case RepeatArgumentError():
            option = error.token.keyword
            return InputError(
                f"{option} must be given only once", got=f"{option} more than once", cure=see_help
            )
        case MissingArgumentError():
            return _missing_value(error, see_help)
        case UnusedCliTokensError() if error.unused_tokens:
            value = error.unused_tokens[0]
            return InputError(f"{value} is one argument too many for {command}", cure=see_help)
    error.verbose = False
    return InputError(f"{command}: {' '.join(str(error).split())}", cure=see_help)


def _unknown_option(error: UnknownOptionError, command: str, see_help: str) -> InputError:
    option = (error.token.keyword or error.token.value).partition("=")[0]
    known = [name for argument in error.argument_collection for name in argument.names]
    close = get_close_matches(option, known, n=1, cutoff=SIMILARITY)
    cure = f"use {close[0]}, or {see_help}" if close else see_help
    return InputError(f"{option} is not an option of {command}", cure=cure)


def _unknown_command(error: UnknownCommandError) -> InputError:
    name = error.unused_tokens[0] if error.unused_tokens else ""
    known = [other for other in error.app or () if not other.startswith("-")]
    close = get_close_matches(name, known, n=1, cutoff=SIMILARITY)
    cure = f"use leadline {close[0]}" if close else f"use one of {', '.join(known)}"
    return InputError(f"{name} is not a command of leadline", cure=cure)


def _wrong_value(error: CoercionError, see_help: str) -> InputError:
    value = error.token.value if error.token is not None else ""
    name = _name(error)
    rule = f"{name} must be {_kind_in_words(error.target_type)}"
    if error.target_type is bool:
        rule = f"{name} must be given without a value"
    return InputError(rule, got=f"{name} {value}".rstrip(), cure=see_help)


def _missing_value(error: MissingArgumentError, see_help: str) -> InputError:
    name = _name(error)
    was_typed = error.keyword or (error.argument is not None and error.argument.tokens)
    rule = f"{name} needs a value" if was_typed else f"{name} is required"
    return InputError(rule, cure=see_help)


def _name(error: Any) -> str:
    """Return the option as the user typed it, or the name of the argument."""
    token = getattr(error, "token", None)
    keyword = getattr(error, "keyword", None) or (token.keyword if token is not None else None)
    if keyword:
        return keyword
    return error.argument.name if error.argument is not None else "the value"


def _kind_in_words(kind: Any) -> str:
    """Return the values that a type allows, in words."""
    if get_origin(kind) is Literal:
        *names, last = [str(name) for name in get_args(kind)]
        return f"{', '.join(names)} or {last}" if names else last
    return KINDS.get(kind, f"a value of type {getattr(kind, '__name__', kind)}")
