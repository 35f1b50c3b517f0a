"""Recorded loops, and what can be read from them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from leadline.gradients.soundings._flow import LayerFlow
from leadline.gradients.soundings._weight_terms import LayerTerms, inseparable_weights
from leadline.gradients.tracing._chains import Chain
from leadline.gradients.tracing._entry import Entry, Gradients, Readout
from leadline.gradients.tracing._loop_arrival import log_totals, loop_flow, total_flow


class RecordedLoop(Chain, Entry, Readout):
    """One loop, as an entry of a tape. Autograd sees its states, so nothing has to be replayed."""

    is_loop = True

    def read(self, *, may_be_nan: bool = False, samples: Tensor | None = None) -> Readout:
        """Check the states; all samples are read."""
        self.check(may_be_nan)
        return self

    def names(self) -> list[dict[str, Any]]:
        """Return the name of the loop."""
        return [self.naming()]

    def flows(self, loss: Tensor, gradients: Gradients) -> list[LayerFlow]:
        """Return the flow of the loop."""
        return [loop_flow(self, loss, gradients)]

    def totals(self, gradients: Gradients) -> list[tuple[LayerFlow, np.ndarray]]:
        """Return the totals of the loop, which has no padding."""
        flow = total_flow(self, gradients)
        return [(flow, np.ones_like(flow.log_total, dtype=bool))]

    def log_totals(self, gradients: Sequence[Gradients]) -> list[np.ndarray]:
        """Return the totals of K losses."""
        return [np.stack([log_totals(self, of_loss) for of_loss in gradients])]

    def weight_terms(self, gradients: Gradients) -> Iterator[LayerTerms]:
        """Refuse: the steps of a loop share weights that only the loop itself knows.

        Raises:
            InputError: always.
        """
        raise inseparable_weights("a loop written by hand")
