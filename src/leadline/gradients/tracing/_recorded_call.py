"""Recorded calls of recurrent modules, and what can be read from them."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline.gradients.soundings._flow import LayerFlow
from leadline.gradients.soundings._influence import LayerInfluence
from leadline.gradients.soundings._weight_terms import LayerTerms, terms_of
from leadline.gradients.tracing._arrival import Arrived, arrive, top_seeds
from leadline.gradients.tracing._entry import Entry, Gradients, Readout
from leadline.gradients.tracing._influence_sweep import influence_sweep
from leadline.gradients.tracing._replay import Call, Replayed, replay
from leadline.gradients.tracing._sweep import Rows
from leadline.recurrent import Record


class RecordedCall(Call, Entry):
    """One call of a recurrent module, as an entry of a tape."""

    def read(self, *, may_be_nan: bool = False, samples: Tensor | None = None) -> Readout:
        """Run the call again, layer by layer."""
        return CallReadout(replay(self, may_be_nan=may_be_nan, samples=samples))

    def spread_samples(self, count: int, gradients: Gradients) -> Tensor | None:
        """Return spread samples; ``None`` if the batch is small or a number is not finite."""
        if self.batch <= count:
            return None
        tensors = [tensor for tensor in (*self.outputs, *gradients) if tensor is not None]
        # Sums are fast. If a sum of finite numbers overflows, all samples are read, which only
        # takes longer.
        if not all(math.isfinite(float(tensor.sum())) for tensor in tensors):
            return None
        return torch.linspace(0, self.batch - 1, count, dtype=torch.float64).round().long()


@dataclass(frozen=True, eq=False)
class CallReadout(Readout):
    """The states of every layer and direction of one call."""

    replayed: Replayed

    def names(self) -> list[dict[str, Any]]:
        """Return the names of the layers, bottom layer first."""
        return [
            self.replayed.naming(index, direction)
            for index, layer in enumerate(self.replayed.layers)
            for direction in range(len(layer))
        ]

    def flows(self, loss: Tensor, gradients: Gradients) -> list[LayerFlow]:
        """Return the flow of each layer and direction."""
        return [self._flow(arrived) for arrived in arrive(self.replayed, [gradients])]

    def totals(self, gradients: Gradients) -> list[tuple[LayerFlow, np.ndarray]]:
        """Return the totals of each layer and direction."""
        flows = [self._total(arrived) for arrived in arrive(self.replayed, [gradients])]
        padding = self.replayed.padding()
        if padding is None:
            is_present = np.ones_like(flows[0].log_total, dtype=bool)
        else:
            is_present = ~padding.T.cpu().numpy()
        return [(flow, is_present) for flow in flows]

    def log_totals(self, gradients: Sequence[Gradients]) -> list[np.ndarray]:
        """Return the totals of K losses for each layer and direction."""
        return [
            arrived.log_norm(arrived.hidden(arrived.total))
            for arrived in arrive(self.replayed, gradients)
        ]

    def weight_terms(self, gradients: Gradients) -> Iterator[LayerTerms]:
        """Yield the terms of each layer and direction."""
        return terms_of(self.replayed, gradients)

    def has_shared_sweep(self, num_terms: int) -> bool:
        """True for one direction without padding, with one term for each timestep."""
        bottom = self.replayed.layers[0]
        if len(bottom) != 1 or self.replayed.lengths is not None:
            return False
        return num_terms == len(bottom[0].record.h)

    def top_seeds(self, gradients: Gradients) -> Tensor | None:
        """Return the direct part of each state of the top layer."""
        return top_seeds(self.replayed, gradients)

    def sweep(self, seeds: Tensor, per_sample: bool) -> list[LayerInfluence]:
        """Return the influence on each layer."""
        layers = [layer[0] for layer in self.replayed.layers]
        records = [layer.record for layer in layers]
        masks = [layer.mask for layer in layers]
        summaries = influence_sweep(records, masks, seeds, per_sample)
        return [
            LayerInfluence(**self.replayed.naming(index), **summary, offset=0)
            for index, summary in enumerate(summaries)
        ]

    def with_records(self, change: Callable[[Record], Record]) -> "CallReadout":
        """Return the same readout with changed records."""
        layers = tuple(
            tuple(dataclasses.replace(scan, record=change(scan.record)) for scan in layer)
            for layer in self.replayed.layers
        )
        return CallReadout(dataclasses.replace(self.replayed, layers=layers))

    def _total(self, arrived: Arrived) -> LayerFlow:
        """Return the flow of one layer without its parts, which are NaN."""
        log_total = _by_sample(arrived, arrived.hidden(arrived.total))
        unknown = np.full_like(log_total, np.nan)
        direction = int(arrived.scan.direction == "reverse")
        states = Rows.of(arrived.scan.record.h.unsqueeze(1))
        return LayerFlow(
            **self.replayed.naming(arrived.scan.index, direction),
            log_total=log_total,
            log_direct=unknown,
            log_recurrent=unknown,
            log_input=unknown,
            log_initial=unknown[:, 0],
            hidden_norm=np.exp(_by_sample(arrived, states)),
        )

    def _flow(self, arrived: Arrived) -> LayerFlow:
        """Return the flow of one layer with all its parts."""
        record = arrived.scan.record
        total = arrived.total[:, 0]
        before_first = Rows.of(record.pull_back(0, total.unit[0]), total.log[0])
        log_cell_total = None
        if record.cell.parts > 1:
            log_cell_total = _by_sample(arrived, arrived.to_cells())
        return dataclasses.replace(
            self._total(arrived),
            log_direct=_by_sample(arrived, arrived.hidden(arrived.direct)),
            log_recurrent=_by_sample(arrived, arrived.hidden(arrived.recurrent)),
            log_cell_total=log_cell_total,
            log_input=_by_sample(arrived, arrived.to_input),
            log_initial=arrived.hidden(before_first).log.cpu().numpy(),
        )


def _by_sample(arrived: Arrived, rows: Rows) -> np.ndarray:
    """Return logarithms of norms for the only loss that was followed, shape (B, T)."""
    return arrived.log_norm(rows)[0].T
