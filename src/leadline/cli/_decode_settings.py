"""Settings of ``leadline decode``: the search, the score, and the checks of each answer."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leadline.cli._options import check_at_least, errors_about, option_of
from leadline.errors import InputError

if TYPE_CHECKING:
    from leadline.cli._models import TextModel
    from leadline.decoding import BeamSettings, Score

LIBRARY_OPTIONS = {name: option_of(name) for name in ("width", "max_length", "num_return")}
"""Options by the names of their arguments in the library."""


@dataclass(frozen=True)
class DecodeSettings:
    """Settings of one run of ``leadline decode``, as the options give them.

    Raises:
        InputError: an option is out of range, or the score has another form.
    """

    width: int = 5
    max_length: int = 20
    num_return: int = 1
    score: str = "sum"
    exact: bool = False
    audit: bool = False
    max_calls: int = 1000

    def __post_init__(self):
        for name in ("width", "max_length", "num_return", "max_calls"):
            check_at_least(getattr(self, name), option_of(name))
        if self.num_return > self.width:
            raise InputError(
                "--num-return must be at most --width",
                got=f"--num-return {self.num_return} --width {self.width}",
                cure=f"--width {self.num_return}",
            )
        _parse_score(self.score)

    def beam(self) -> "BeamSettings":
        """Return the library's settings of the beam search, without end tokens.

        Raises:
            InputError: a setting is above the limits of the library.
        """
        from leadline.decoding import BeamSettings

        with errors_about("leadline decode", **LIBRARY_OPTIONS):
            return BeamSettings(
                width=self.width,
                max_length=self.max_length,
                num_return=self.num_return,
                score=self.score_function(),
            )

    def score_function(self) -> "Score":
        """Return the score that ranks the answers."""
        from leadline import decoding

        name, value = _parse_score(self.score)
        if name == "sum":
            return decoding.SumLogProb()
        kind = {
            "length": decoding.LengthNormalized,
            "gnmt": decoding.GNMT,
            "reward": decoding.WordReward,
        }[name]
        return kind(value)

    def record(self, model: "TextModel") -> dict[str, Any]:
        """Return everything that determines an answer, for JSON.

        Each answer contains it, so a resumed run never mixes answers of different settings.
        """
        budget = {"max_calls": self.max_calls} if self.exact or self.audit else {}
        return {
            "model": model.digest,
            "width": self.width,
            "max_length": self.max_length,
            "num_return": self.num_return,
            "score": self.score,
            "exact": self.exact,
            "audit": self.audit,
            **budget,
        }


def _parse_score(text: str) -> tuple[str, float]:
    """Return the name and the number of a score, such as ``length:1``."""
    name, _, value = text.partition(":")
    try:
        number = float(value) if value else math.nan
    except ValueError:
        number = math.nan
    is_sum = name == "sum" and not value
    has_number = name in ("length", "gnmt", "reward") and math.isfinite(number)
    if is_sum or has_number:
        return name, number
    raise InputError(
        "--score must be sum, length:A, gnmt:A or reward:R, with numbers A and R",
        got=f"--score {text}",
        cure="--score length:1, which ranks by the mean log-probability per token",
    )
