"""Import and call a function that the user names on the command line; explain its failures."""

import importlib
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from leadline.errors import InputError, LeadlineError, nearest


def parse(factory: str) -> tuple[str, str]:
    """Split ``module:function`` into the names of the module and of the function.

    Raises:
        InputError: the text has another form.
    """
    module, _, name = factory.partition(":")
    if (
        not module
        or not name.isidentifier()
        or not all(part.isidentifier() for part in module.split("."))
    ):
        looks_like_file = module.endswith(".py") or "/" in module
        dotted = module.removesuffix(".py").strip("./").replace("/", ".")
        raise InputError(
            "FACTORY must have the form module:function",
            got=f"FACTORY {factory}",
            cause="a file path instead of a module name" if looks_like_file else None,
            cure=f"leadline gradients {dotted or 'module'}:{name or 'factory'}",
        )
    return module, name


@contextmanager
def working_directory_on_path() -> Iterator[None]:
    """Put the working directory on ``sys.path``, as ``python -m`` does."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def resolve(module: str, name: str) -> Callable[..., Any]:
    """Import the module and return the function.

    Raises:
        InputError: the module cannot be imported, or it has no such function.
    """
    try:
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the user's module may raise any error
        is_missing = isinstance(error, ModuleNotFoundError) and str(error.name) in (
            module,
            module.split(".")[0],
        )
        raise InputError(
            "FACTORY must be a function of a module that can be imported",
            got=f"{module}: {_one_line(error)}",
            cause=f"no {module.replace('.', '/')}.py in {Path.cwd()}"
            if is_missing
            else _where(error),
            cure="run the command from the folder that holds the module"
            if is_missing
            else "import it in Python first",
        ) from error
    function = getattr(imported, name, None)
    if not callable(function):
        functions = [
            key
            for key, value in vars(imported).items()
            if getattr(value, "__module__", "") == module and callable(value)
        ]
        raise InputError(
            "FACTORY must name a function of its module",
            got=f"{module} has no {name}"
            if function is None
            else f"{module}:{name} is a {type(function).__name__}",
            cure=f"use one of {', '.join(nearest(name, functions)[:5])}" if functions else None,
        )
    return function


def call(name: str, function: Callable[..., Any], *arguments: Any, given: str) -> Any:
    """Call a function of the user. An error names the user's line from which it comes.

    Args:
        name: name of the function in error messages.
        function: the function to call.
        arguments: its arguments.
        given: the arguments in words, for error messages.

    Raises:
        InputError: the function takes other arguments, raises an error or exits.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C have no signature
        signature = inspect.signature(lambda *_: None)
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise InputError(
            f"{name} must accept {given}",
            got=f"a function of {signature}: {error}",
            cure=_DATA if not arguments else None,
        ) from None
    try:
        return function(*arguments)
    except LeadlineError:
        raise
    except (Exception, SystemExit) as error:  # the user's function may raise any error
        raise InputError(
            f"{name} must run without an error",
            got=_one_line(error),
            cause=_where(error),
            cure="call it in Python first",
        ) from error


_DATA = "add --data batch.npz, if the factory takes arrays"


def _one_line(error: BaseException) -> str:
    """Return the type and the message of an error."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _where(error: BaseException) -> str | None:
    """Return the last line of the traceback that lies outside installed packages."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    user_frames = [frame for frame in frames if not _is_installed(frame.filename)]
    if not user_frames:
        return None
    last = user_frames[-1]
    return f"{last.filename}, line {last.lineno}: {last.line}"


def _is_installed(filename: str) -> bool:
    """True for code of Python, of installed packages and of Leadline."""
    if filename.startswith("<"):
        return True
    parents = Path(filename).parents
    libraries = (Path(sysconfig.get_path("stdlib")), Path(sys.prefix), Path(__file__).parents[1])
    is_in_a_library = any(library in parents for library in libraries)
    return is_in_a_library or any(
        parent.name in ("site-packages", "dist-packages") for parent in parents
    )
