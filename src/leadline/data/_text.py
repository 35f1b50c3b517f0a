"""English text that needs no download: the manual inside CPython."""

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
    """SHA-256 of the text in UTF-8, for protocols: the text can differ between machines."""

    def __post_init__(self):
        for name in ("text", "name", "sha256"):
            object.__setattr__(self, name, checks.text(getattr(self, name), name))

    @property
    def alphabet(self) -> tuple[str, ...]:
        """The characters of the text in sorted order: a vocabulary for models of characters."""
        return tuple(sorted(set(self.text)))

    def __len__(self) -> int:
        return len(self.text)


def manual_text() -> Text:
    """Return the language reference of Python's ``help()``, about 460,000 characters.

    The text is English prose and code: the topics of ``pydoc_data.topics``, sorted by name, with
    their line breaks. It depends on the version of Python, so a protocol should record its hash.

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
            "manual_text() needs pydoc_data, a part of Python",
            got="this Python has no pydoc_data.topics",
            cause="a stripped installation: some containers and embedded builds leave the manual "
            "out",
            cure="install Python's full standard library, or use a text of your own",
        ) from error
    text = "\n".join(topics[name] for name in sorted(topics))
    return Text(text, "Python's manual", hashlib.sha256(text.encode()).hexdigest())
