"""What Leadline says when it cannot go on, and how context is added on the way out.

A good message has four parts: the rule that was broken, the value that broke it (with its name and index), the likely
cause, and the cure. :class:`InputError` asks for them by name, so that none is forgotten.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class LeadlineError(Exception):
    """Every error that Leadline raises on purpose is one of these."""


class InputError(LeadlineError, ValueError):
    """Something that the caller gave breaks a rule; raised before any work starts.

    Args:
        rule: what must hold, as one sentence.
        got: the offending value with its name and index.
        cause: what usually leads here.
        cure: what to do about it.

    >>> print(InputError("width must be at least 1", got="width = 0", cure="ask for greedy search with width=1"))
    width must be at least 1
      got:   width = 0
      cure:  ask for greedy search with width=1
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
        self.rule, self.got, self.cause, self.cure = rule, got, cause, cure

    def __reduce__(self):
        """Survive the trip home from a worker process, notes included."""
        state = {"__notes__": self.__notes__} if hasattr(self, "__notes__") else {}
        return (_rebuild, (type(self), self.rule, self.got, self.cause, self.cure), state)


class SaveError(LeadlineError, OSError):
    """A file could not be written or read back; what was there before is untouched."""


def _rebuild(
    kind: type[InputError], rule: str, got: str | None, cause: str | None, cure: str | None
) -> InputError:
    return kind(rule, got=got, cause=cause, cure=cure)


@contextmanager
def context(where: str) -> Iterator[None]:
    """Add ``where`` to any Leadline error that passes through: the cause says what, the caller says where.

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
    """The message of an error with the context that was added on its way out."""
    return "\n".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])


def nearest(given: str, known: list[str]) -> list[str]:
    """All ``known`` names, those closest to ``given`` first: for messages about a name that does not exist.

    >>> nearest("beam.x", ["ae.a", "beam.a", "rnn.a"])
    ['beam.a', 'ae.a', 'rnn.a']
    """
    close = get_close_matches(given, known, n=len(known), cutoff=0.3)
    return close + [name for name in known if name not in close]
