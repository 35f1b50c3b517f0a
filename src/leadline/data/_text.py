"""Real text that needs no download: the manual inside CPython."""

import hashlib
from dataclasses import dataclass

from leadline import checks
from leadline.errors import InputError


@dataclass(frozen=True)
class Text:
    """A text and its hash."""

    text: str
    name: str
    sha256: str
    """Hash of the text in UTF-8, for protocols, because the text may differ from machine to machine."""

    def __post_init__(self):
        for name in ("text", "name", "sha256"):
            object.__setattr__(self, name, checks.text(getattr(self, name), name))

    @property
    def alphabet(self) -> tuple[str, ...]:
        """The characters that occur, sorted: a vocabulary for models of characters."""
        return tuple(sorted(set(self.text)))

    def __len__(self) -> int:
        return len(self.text)


def manual_text() -> Text:
    """The language reference that Python's ``help()`` shows: about 460,000 characters of English prose and code.

    The topics of ``pydoc_data.topics`` in the order of their names, each with its line breaks. The text differs by
    version of Python, so that its hash belongs into every protocol.

    Raises:
        InputError: this Python was installed without its manual.

    >>> manual = manual_text()
    >>> len(manual) > 300_000, len(manual.sha256)
    (True, 64)
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InputError(
            "the manual's text comes with Python, in pydoc_data",
            got="this Python has no pydoc_data.topics",
            cause="a stripped installation: some containers and embedded builds leave the manual out",
            cure="install Python's full standard library, or bring a text of your own",
        ) from error
    text = "\n".join(topics[name] for name in sorted(topics))
    return Text(text, "Python's manual", hashlib.sha256(text.encode()).hexdigest())
