"""The common part of all measurements of one recurrent layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from leadline import checks
from leadline.checks import ShortRepr
from leadline.errors import InputError

Layer = TypeVar("Layer")


@dataclass(frozen=True, eq=False)
class LayerMeasurement(ShortRepr):
    """A measurement of one recurrent layer in one direction, during one call of its module.

    >>> LayerMeasurement("encoder.lstm", 1, "reverse", 2).title
    'encoder.lstm[1] reverse call 3'
    """

    name: str
    """Name of the recurrent module inside the model."""
    index: int
    """Place of the layer in the module's stack, from 0 at the bottom."""
    direction: str
    """``"forward"``, or ``"reverse"`` if the layer reads the sequence from its end."""
    call: int
    """Number of the module's call, from 0."""

    @property
    def place(self) -> str:
        """Name, index and direction as text."""
        return f"{self.name}[{self.index}]" + (" reverse" if self.direction == "reverse" else "")

    @property
    def title(self) -> str:
        """Name, index, direction and, after the first call, the number of the call as text."""
        return self.place + (f" call {self.call + 1}" if self.call else "")


def chosen_layer(layers: Sequence[Layer], index: Any) -> Layer:
    """Return one layer by its index; negative numbers count from the end.

    Raises:
        InputError: the index is out of range, or there are no layers.
    """
    count = len(layers)
    if not count:
        raise InputError(
            "figure() needs at least one layer", got="no layers, since the loss reaches none"
        )
    return layers[checks.whole_number(index, "layer", least=-count, most=count - 1)]


def out_of(count: int, rank: str) -> str:
    """Return the words after a verdict about one of several layers, or nothing for a single layer.

    >>> out_of(4, "largest change"), out_of(1, "largest change")
    (' (largest change of 4 layers)', '')
    """
    return f" ({rank} of {count} layers)" if count > 1 else ""
