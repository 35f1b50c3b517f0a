"""A harness that passes every bad value to every parameter of every public function.

The test file of a package gives one good call for each public name in ``__all__``: for each
function, for each class that users construct, and for each public method. The harness replaces one
argument at a time with a bad value. The call must either succeed, because some values happen to be
allowed, or raise a :class:`LeadlineError`. Any other error, a warning or a call that does not end
is a fault.
"""

import inspect
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import GeneratorType, ModuleType
from typing import Any

import jaxtyping
import numpy as np
import pandas as pd
import torch

from leadline.errors import LeadlineError
from leadline.sounding import Interval, Sounding

BAD_VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "-1": lambda: -1,
    "numpy -3": lambda: np.int64(-3),
    "0": lambda: 0,
    "2.5": lambda: 2.5,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "10**30": lambda: 10**30,
    "text": lambda: "?!",
    "bytes": lambda: b"\xff",
    "empty list": list,
    "ragged list": lambda: [[1, 2], [3]],
    "dictionary": lambda: {"a": 1},
    "set": lambda: {1, 2},
    "object": object,
    "class": lambda: dict,
    "array with nan": lambda: np.array([[1.5, np.nan]]),
    "masked array": lambda: np.ma.masked_array([[1.0, 2.0]], mask=[[True, False]]),
    "sparse bf16 tensor": lambda: torch.ones(2, 2, dtype=torch.bfloat16).to_sparse(),
    "meta tensor": lambda: torch.ones(2, 2, device="meta"),
    "complex tensor": lambda: torch.ones(2, dtype=torch.complex64),
    "data frame of text": lambda: pd.DataFrame({"a": ["x", "y"]}),
    "generator": lambda: (i for i in range(2)),
    "module": torch.nn.Identity,
    "interval": lambda: Interval(1.0, 0.0, 2.0),
}
"""Functions that create values that are wrong for most parameters, by name."""

SECONDS = 20
"""Time limit of a call in seconds."""


@dataclass(frozen=True)
class Call:
    """One good call: a callable and its arguments by name."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any]


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    """Return a good call of a function with these arguments."""
    return Call(function, inspect.signature(function).bind(*args, **kwargs).arguments)


@dataclass(frozen=True)
class Room:
    """One public package and a good call for each of its public names.

    Args:
        module: the package; its ``__all__`` lists the public names.
        calls: for each name (``"beam_search"``, ``"RecurrentLM.fit"``) a function that builds a
            fresh good call.
        results: public classes that only Leadline creates. Their methods are tested, their
            constructors are not.
        reached: classes that users reach only as attributes of results. They are tested like
            ``results``.
    """

    module: ModuleType
    calls: Mapping[str, Callable[[], Call]]
    results: frozenset[str] = field(default_factory=frozenset)
    reached: frozenset[str] = field(default_factory=frozenset)

    def cases(self) -> list[tuple[str, str]]:
        """Return all pairs of a public name and one of its parameters."""
        return [
            (name, parameter)
            for name in self.public_names()
            for parameter in self._parameters(name)
        ]

    def cases_of(self, name: str) -> list[tuple[str, str]]:
        """Return all pairs of this name and one of its parameters."""
        return [(name, parameter) for parameter in self._parameters(name)]

    def public_names(self) -> list[str]:
        """Return the public functions, the classes that users construct, and all public methods."""
        return list(self._public_names())

    def _public_names(self) -> Iterator[str]:
        listed = getattr(self.module, "__all__")  # noqa: B009  a module's type does not know it
        for name in [*listed, *sorted(self.reached)]:
            value = getattr(self.module, name)
            if inspect.isclass(value):
                if name not in self.results | self.reached:
                    yield name
                yield from (f"{name}.{method}" for method in _methods(value))
            elif inspect.isroutine(value):
                yield name
        # Names for Leadline's own packages are tested, too, if there is a call.
        for name in self.calls:
            if name.partition(".")[0] not in {*listed, *self.reached}:
                yield name

    def _parameters(self, name: str) -> list[str]:
        first, _, method = name.partition(".")
        value = getattr(self.module, first)
        if method:
            value = inspect.getattr_static(value, method)
            value = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        names = list(inspect.signature(value).parameters)
        return names[1:] if names[:1] in (["self"], ["cls"]) else names

    def without_a_call(self) -> list[str]:
        """Return the public names with parameters that have no good call. It must be empty."""
        return [
            name
            for name in self.public_names()
            if self._parameters(name) and name not in self.calls
        ]

    def check_good(self, name: str) -> None:
        """Check that the good call succeeds, also with NumPy's numbers in place of Python's."""
        with _quiet():
            _run(self.calls[name]())
            for parameter, value in self.calls[name]().arguments.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    fresh = self.calls[name]()
                    number = np.int64(value) if isinstance(value, int) else np.float64(value)
                    _run(Call(fresh.function, {**fresh.arguments, parameter: number}))

    def check_bad(self, name: str, parameter: str) -> None:
        """Replace one argument by every bad value. An AssertionError lists all faults."""
        faults = []
        for title, make in BAD_VALUES.items():
            fresh = self.calls[name]()
            arguments = {**fresh.arguments, parameter: make()}
            try:
                with _quiet(), _time_limit():
                    _run(Call(fresh.function, arguments), bad=parameter)
            except LeadlineError:
                continue
            except BaseException as error:  # Any other error is a fault.
                faults.append(f"{name}({parameter}={title}): {type(error).__name__}: {error}")
        assert not faults, "\n".join(faults)


def _methods(kind: type) -> list[str]:
    names = [name for name in dir(kind) if not name.startswith("_")]
    # These methods are final and pass their arguments to drawing(), which is tested with every bad
    # value.
    if issubclass(kind, Sounding):
        names = [name for name in names if name not in ("figure", "still", "export")]
    methods = [name for name in names if _is_defined_by_leadline(kind, name)]
    return [name for name in methods if _is_method(inspect.getattr_static(kind, name))]


def _is_method(value: Any) -> bool:
    return inspect.isfunction(value) or isinstance(value, (classmethod, staticmethod))


def _is_defined_by_leadline(kind: type, name: str) -> bool:
    owners = [base for base in kind.__mro__ if name in vars(base)]
    return bool(owners) and owners[0].__module__.partition(".")[0] == "leadline"


def _run(one: Call, bad: str | None = None) -> None:
    positional, named = [], {}
    parameters = inspect.signature(one.function).parameters
    reached_gap = False
    for name, parameter in parameters.items():
        if name not in one.arguments:
            reached_gap = True
            continue
        value = one.arguments[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += [value] if name == bad else list(value)
        elif parameter.kind is parameter.VAR_KEYWORD:
            named |= {"nonsense": value} if name == bad else value
        elif parameter.kind is parameter.KEYWORD_ONLY or reached_gap:
            named[name] = value
        else:
            positional.append(value)
    result = one.function(*positional, **named)
    if isinstance(result, GeneratorType):
        list(result)
    elif isinstance(result, AbstractContextManager) and not isinstance(
        result, torch.nn.Module | Path
    ):
        with result:
            pass


@contextmanager
def _quiet() -> Iterator[None]:
    """Disable the run-time checks of shapes, which users do not have."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"the call did not end within {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
