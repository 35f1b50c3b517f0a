"""A function of the user's that is named on the command line: found, called, and what it says when it fails."""

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
    """Module and name.

    Raises:
        InputError: it is not written as ``module:function``.
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
            "a factory is named by its module and its name: module:function",
            got=factory,
            cause="a file's path instead of a module's name" if looks_like_file else None,
            cure=f"leadline gradients {dotted or 'module'}:{name or 'factory'}",
        )
    return module, name


@contextmanager
def working_directory_on_path() -> Iterator[None]:
    """As ``python -m`` has it; the console script has not."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def resolve(module: str, name: str) -> Callable[..., Any]:
    """The function.

    Raises:
        InputError: the module cannot be imported, or has no such function.
    """
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        is_missing = isinstance(error, ModuleNotFoundError) and str(error.name) in (
            module,
            module.split(".")[0],
        )
        raise InputError(
            "the factory's module must be importable",
            got=f"{module}: {_said(error)}",
            cause=f"no {module.replace('.', '/')}.py in {Path.cwd()}"
            if is_missing
            else _where(error),
            cure="run the command from the folder that holds the module"
            if is_missing
            else "import it in Python first",
        ) from error
    make = getattr(found, name, None)
    if not callable(make):
        functions = [
            key
            for key, value in vars(found).items()
            if getattr(value, "__module__", "") == module and callable(value)
        ]
        raise InputError(
            "the factory is a function of its module",
            got=f"{module} has no {name}"
            if make is None
            else f"{module}:{name} is a {type(make).__name__}",
            cure=f"it has {', '.join(nearest(name, functions)[:5])}" if functions else None,
        )
    return make


def call(what: str, function: Callable[..., Any], *arguments: Any, given: str) -> Any:
    """Call what the user wrote; its failure is told with the line that it comes from.

    Args:
        what: how the function is called in messages.
        function: the user's.
        arguments: what it is called with.
        given: what that is, in words.

    Raises:
        InputError: it takes other arguments, it raised anything, or wanted to exit.
    """
    try:
        takes = inspect.signature(function)
    except (TypeError, ValueError):  # of some that are written in C
        takes = inspect.signature(lambda *_: None)
    try:
        takes.bind(*arguments)
    except TypeError as error:
        raise InputError(
            f"{what} is called with {given}",
            got=f"it takes {takes}: {error}",
            cure=_DATA if not arguments else None,
        ) from None
    try:
        return function(*arguments)
    except LeadlineError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{what} must run to its end",
            got=_said(error),
            cause=_where(error),
            cure="call it in Python first",
        ) from error


_DATA = "give --data batch.npz to a factory that takes arrays"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _where(error: BaseException) -> str | None:
    """The last line on the way to an error that is not of an installed package."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_installed(frame.filename)]
    return f"{own[-1].filename}, line {own[-1].lineno}: {own[-1].line}" if own else None


def _is_installed(filename: str) -> bool:
    """True for a file of Python, of an installed package or of Leadline, and for code that is no file."""
    if filename.startswith("<"):
        return True
    parents = Path(filename).parents
    libraries = (Path(sysconfig.get_path("stdlib")), Path(sys.prefix), Path(__file__).parents[1])
    is_in_a_library = any(library in parents for library in libraries)
    return is_in_a_library or any(
        parent.name in ("site-packages", "dist-packages") for parent in parents
    )
