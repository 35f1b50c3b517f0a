"""The errors that Leadline raises, and functions that add context to them.

A good message has four parts: the rule that was broken, the value that broke it (with its name and
index), the likely cause, and the cure. :class:`InputError` takes each part as a named argument.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class LeadlineError(Exception):
    """Base class of all errors that Leadline raises on purpose."""


class InputError(LeadlineError, ValueError):
    """An argument or an input file breaks a rule. Raised before any work starts.

    Args:
        rule: the rule, as one sentence.
        got: the offending value with its name and index.
        cause: the likely cause.
        cure: the way to fix the problem.

    >>> print(InputError("width must be at least 1", got="width = 0", cure="use width=1"))
    width must be at least 1
      got:   width = 0
      cure:  use width=1
    """

    def __init__(
        self,
        rule: str,
        *,
        got: str | None = None,
        cause: str | None = None,
        cure: str | None = None,
    ):
        parts = (("got", got), ("cause", cause), ("cure", cure))
        super().__init__(
            "\n".join([rule] + [f"  {name + ':':<7}{text}" for name, text in parts if text])
        )
        self.rule = rule
        self.got = got
        self.cause = cause
        self.cure = cure

    def __reduce__(self):
        """Support pickling, so that a worker process can send the error and its notes back."""
        state = {"__notes__": self.__notes__} if hasattr(self, "__notes__") else {}
        return (_rebuild, (type(self), self.rule, self.got, self.cause, self.cure), state)


class SaveError(LeadlineError, OSError):
    """A file could not be written or read back. An earlier file is left unchanged."""


def _rebuild(
    kind: type[InputError], rule: str, got: str | None, cause: str | None, cure: str | None
) -> InputError:
    return kind(rule, got=got, cause=cause, cure=cure)


@contextmanager
def context(where: str) -> Iterator[None]:
    """Add the note ``where`` to every Leadline error that is raised inside the block.

    >>> try:
    ...     with context("while reading labels.csv"):
    ...         raise InputError("labels need at least two classes")
    ... except InputError as error:
    ...     print(describe(error))
    labels need at least two classes
      where: while reading labels.csv
    """
    try:
        yield
    except LeadlineError as error:
        error.add_note(f"  where: {where}")
        raise


def describe(error: BaseException) -> str:
    """Return the message of an error, followed by the notes that :func:`context` added."""
    return "\n".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])


def nearest(given: str, known: list[str]) -> list[str]:
    """Return all ``known`` names, sorted by similarity to ``given``, the most similar first.

    Messages about an unknown name use it to suggest alternatives.

    >>> nearest("beam.x", ["ae.a", "beam.a", "rnn.a"])
    ['beam.a', 'ae.a', 'rnn.a']
    """
    close = get_close_matches(given, known, n=len(known), cutoff=0.3)
    return close + [name for name in known if name not in close]
