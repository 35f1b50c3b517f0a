"""The interface of everything that a tape records: calls of recurrent modules, and loops."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from leadline.gradients.soundings._flow import LayerFlow
from leadline.gradients.soundings._influence import LayerInfluence
from leadline.gradients.soundings._weight_terms import LayerTerms
from leadline.gradients.tracing._missing_graph import MissingGraph
from leadline.recurrent import Record

Gradients = Sequence[Tensor | None]
"""The gradient of a loss with respect to each output of an entry; ``None`` for zero."""


class Readout(ABC):
    """The states of one entry, ready to be combined with the gradients of a loss."""

    @abstractmethod
    def names(self) -> list[dict[str, Any]]:
        """Return name, index, direction and call of each layer and direction."""

    @abstractmethod
    def flows(self, loss: Tensor, gradients: Gradients) -> list[LayerFlow]:
        """Return how much of a scalar loss arrives at each state of each layer."""

    @abstractmethod
    def totals(self, gradients: Gradients) -> list[tuple[LayerFlow, Bool[np.ndarray, "B T"]]]:
        """Return the flow of each layer without its parts, and a mask that is false for padding."""

    @abstractmethod
    def log_totals(self, gradients: Sequence[Gradients]) -> list[Float[np.ndarray, "K T B"]]:
        """Return the logarithm of the norm of the total gradients of K losses, for each layer."""

    @abstractmethod
    def weight_terms(self, gradients: Gradients) -> Iterator[LayerTerms]:
        """Yield what each timestep of each layer adds to the gradient of its weights.

        Raises:
            InputError: the weights of this entry cannot be separated by timestep.
        """

    def has_shared_sweep(self, num_terms: int) -> bool:
        """True if one sweep can follow all loss terms, with one term for each timestep."""
        return False

    def top_seeds(self, gradients: Gradients) -> Float[Tensor, "T B S"] | None:
        """Return the direct part of each state of the top layer; ``None`` if lower layers have one.

        Only called if :meth:`has_shared_sweep` is true.
        """
        raise NotImplementedError

    def sweep(self, seeds: Float[Tensor, "T B S"], per_sample: bool) -> list[LayerInfluence]:
        """Return the influence of all loss terms, from the seeds in the top layer.

        Only called if :meth:`has_shared_sweep` is true.
        """
        raise NotImplementedError

    def with_records(self, change: Callable[[Record], Record]) -> "Readout":
        """Return the same readout with changed records of its layers, if it has records."""
        return self


class Entry(ABC):
    """One recorded call of a recurrent module, or one recorded loop."""

    is_loop: bool = False
    """True if the entry is a loop of states."""
    without_graph: MissingGraph | None = None
    """The reason why nothing in the entry has a gradient; ``None`` if something has one."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The name of the entry in messages."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[Tensor, ...]:
        """The tensors through which a loss can reach the entry."""

    @abstractmethod
    def read(self, *, may_be_nan: bool = False, samples: Tensor | None = None) -> Readout:
        """Return the states of the entry.

        Args:
            may_be_nan: accept states that are not numbers.
            samples: indices of the samples to read, where an entry can leave samples out; all by
                default.

        Raises:
            InputError: a recorded tensor has changed, the states cannot be reproduced, or a state
                is not a number.
        """

    def spread_samples(self, count: int, gradients: Gradients) -> Tensor | None:
        """Return ``count`` samples, spread evenly over the batch, or ``None`` for all samples."""
        return None
