"""Small measurements of all twenty statements: enough to display, too small for conclusions."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

from leadline.recurrent import LSTM, RNN
from leadline.worksheet import STATEMENTS, Result, Setting, measure
from leadline.worksheet.measurements import cost, decoding
from leadline.worksheet.measurements.autoencoders import other_data, patches
from leadline.worksheet.measurements.recurrent import learning

SEEDS = (0, 1, 2)
EPOCHS = 10

REAL_TEXT = decoding.RealText(
    types=60,
    hidden=8,
    epochs=1,
    prompts=12,
    max_calls=3,
    widths=(1, 2, 5),
    max_length=4,
    characters=20_000,
)


def shrunk(value: Any) -> Any:
    """Return a smaller size in place of one from the quick budget."""
    if isinstance(value, tuple):
        return tuple(shrunk(item) for item in value)
    return min(value, EPOCHS) if value > EPOCHS else min(value, 2)


@contextmanager
def small_sizes() -> Iterator[None]:
    """Measure with three seeds, few epochs, few rows and short searches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Setting, "seeds", property(lambda self: SEEDS))
        patch.setattr(Setting, "pick", lambda self, *, quick, full: shrunk(quick))
        patch.setattr(other_data, "ROWS", 150)
        patch.setattr(other_data, "HELD_OUT", 30)
        patch.setattr(patches, "NUM", 400)
        patch.setattr(learning, "STEPS", {"quick": {RNN: EPOCHS, LSTM: EPOCHS}})
        patch.setattr(decoding, "REAL_TEXT", {"quick": REAL_TEXT})
        patch.setattr(
            cost, "SWEEP", {"lengths": (2, 4), "widths": (1, 2, 8), "vocabularies": (8, 60, 250)}
        )
        yield


@cache
def result_of(statement_id: str) -> Result:
    """Return the result of one statement, measured once per session."""
    with small_sizes():
        result = measure(STATEMENTS[statement_id], Setting("quick"))
    assert result.answer is not None, result.failure
    return result
