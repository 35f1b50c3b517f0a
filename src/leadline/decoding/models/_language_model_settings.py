"""Settings of the recurrent language model: its architecture and its training."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from leadline import checks
from leadline.errors import InputError, nearest

NAMES_OF_SCHEMA_1 = {
    "types": "vocabulary_size",
    "hidden": "hidden_size",
    "layers": "num_layers",
    "length": "window",
    "streams": "batch_size",
}
"""Settings that have another name since schema 2."""

LEAST_AND_MOST = {
    "vocabulary_size": (3, 1_000_000),
    "hidden_size": (1, 16_384),
    "num_layers": (1, 64),
    "epochs": (1, 100_000),
    "window": (1, 100_000),
    "batch_size": (1, 100_000),
}
"""The ranges of the whole numbers among the settings. Larger models do not fit into memory."""


@dataclass(frozen=True)
class LanguageModelSettings:
    """The architecture and the training of a :class:`RecurrentLM`.

    Raises:
        InputError: a setting has another type or is out of range.

    >>> LanguageModelSettings(cell="lstm").learning_rate
    0.006
    """

    level: Literal["word", "character"] = "word"
    """The kind of tokens."""
    cell: Literal["gru", "lstm"] = "gru"
    vocabulary_size: int = 3000
    """Number of tokens: the most frequent ones of the text, END and UNKNOWN included."""
    hidden_size: int = 128
    num_layers: int = 1
    epochs: int = 3
    window: int = 32
    """Tokens per training window; the state is carried from one window to the next."""
    batch_size: int = 24
    """Windows per training step."""
    learning_rate: float = 6e-3
    """The peak of a warm-up with cosine decay (Adam)."""
    dropout: float = 0.25
    """Probability of dropping an output of the last layer, in [0, 1)."""
    held_out: float = 0.08
    """Share of the paragraphs that are measured and not trained on, in (0, 1)."""
    seed: int = 0

    def __post_init__(self):
        plain: dict[str, Any] = {
            "level": checks.choice(self.level, "level", ("word", "character")),
            "cell": checks.choice(self.cell, "cell", ("gru", "lstm")),
            "learning_rate": checks.number(self.learning_rate, "learning_rate", above=0),
            "dropout": checks.number(self.dropout, "dropout", least=0, below=1),
            "held_out": checks.number(self.held_out, "held_out", above=0, below=1),
            "seed": checks.seed(self.seed),
        }
        for name, (least, most) in LEAST_AND_MOST.items():
            plain[name] = checks.whole_number(getattr(self, name), name, least=least, most=most)
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "LanguageModelSettings":
        """Return settings from names and values.

        Raises:
            InputError: a name is unknown, or a value is out of range.
        """
        known = [entry.name for entry in fields(cls)]
        for name in given:
            if name not in known:
                raise InputError(
                    f"RecurrentLM() has no setting {name}",
                    got=f"{name} = ...",
                    cure=nearest(name, known)[0],
                )
        return cls(**given)
