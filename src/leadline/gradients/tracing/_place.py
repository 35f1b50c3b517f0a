"""The place of a layer in a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from leadline import checks
from leadline.errors import InputError

Layer = TypeVar("Layer")


@dataclass(frozen=True, eq=False)
class Placed:
    """What is found of one recurrent layer in one direction, in one call of its module.

    >>> Placed("encoder.lstm", 1, "reverse", 2).title
    'encoder.lstm[1] reverse call 3'
    """

    name: str
    """The module's name inside the model."""
    index: int
    """Place in the stack, from 0 at the bottom."""
    direction: str
    """``"forward"``, or ``"reverse"`` where the sequence was read from its end; t is the place in the sequence."""
    call: int
    """0 for the first call of the module."""

    @property
    def place(self) -> str:
        """Name, layer and direction."""
        return f"{self.name}[{self.index}]" + (" reverse" if self.direction == "reverse" else "")

    @property
    def title(self) -> str:
        """Name, layer, direction and call, as far as they are needed to tell layers apart."""
        return self.place + (f" call {self.call + 1}" if self.call else "")


def chosen_layer(layers: Sequence[Layer], index: Any) -> Layer:
    """One of several layers, by its place; negative numbers count from the end.

    Raises:
        InputError: there is no such layer.
    """
    count = len(layers)
    if not count:
        raise InputError(
            "a figure shows one layer", got="no layer, since the loss has reached none"
        )
    return layers[checks.whole_number(index, "layer", least=-count, most=count - 1)]
