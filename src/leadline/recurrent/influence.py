"""The influence matrix ‖dL_k/dh_t‖: how much the loss at timestep k tells the hidden state at timestep t."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from leadline.recurrent.cells import Record
from leadline.recurrent.sweep import Rows
from leadline.sounding import Sounding, Verdict

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

LN10 = float(np.log(10))


@dataclass(frozen=True, eq=False)
class LayerInfluence:
    """One recurrent layer in one direction. Row k is the loss term, column t the timestep."""

    name: str
    index: int
    direction: str
    call: int
    log_norms: Float[np.ndarray, "K T"]
    """ln of the norm of the whole batch's gradient, ``sqrt(sum_b ‖dL_k/dh_{b,t}‖²)``; ``-inf`` for none at all."""
    log_norms_per_sample: Float[np.ndarray, "B K T"] | None = None
    """The same for every sample alone, if it was asked for; NaN where a sample has no such timestep."""

    @property
    def norms(self) -> Float[np.ndarray, "K T"]:
        """‖dL_k/dh_t‖; what is below 1e-308 reads 0 here and as a number in ``log_norms``."""
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(self.log_norms)

    @property
    def title(self) -> str:
        """Name, layer, direction and call, as far as they are needed to tell layers apart."""
        parts = [f"{self.name}[{self.index}]"]
        parts += ["reverse"] if self.direction == "reverse" else []
        parts += [f"call {self.call + 1}"] if self.call else []
        return " ".join(parts)

    def lost_beyond(self, window: int) -> float:
        """Share of all gradient, by norm, that a truncation after ``window`` steps would cut off.

        Formula: ``sum_{|k - t| >= window} ‖dL_k/dh_t‖ / sum ‖dL_k/dh_t‖``.

        Args:
            window: how many timesteps back from the loss backpropagation would go, at least 1.
        """
        k, t = np.indices(self.log_norms.shape)
        top = self.log_norms.max()
        weights = np.exp(self.log_norms - (top if np.isfinite(top) else 0))
        return float(weights[abs(k - t) >= window].sum() / max(weights.sum(), np.finfo(float).tiny))

    def window_for(self, share: float = 0.99) -> int:
        """The shortest truncation window that keeps ``share`` of all gradient."""
        k, t = np.indices(self.log_norms.shape)
        top = self.log_norms.max()
        weights = np.exp(self.log_norms - (top if np.isfinite(top) else 0))
        by_distance = np.bincount(abs(k - t).ravel(), weights.ravel())
        kept = np.cumsum(by_distance) / max(by_distance.sum(), np.finfo(float).tiny)
        return int(np.searchsorted(kept, share)) + 1


@dataclass(frozen=True, eq=False)
class Influence(Sounding):
    """‖dL_k/dh_t‖ for every loss term k, timestep t and recurrent layer."""

    layers: tuple[LayerInfluence, ...]

    @property
    def verdict(self) -> Verdict:
        """How far back the terms reach, layer by layer."""
        parts = []
        for layer in self.layers:
            window, terms = layer.window_for(), len(layer.log_norms)
            parts.append(f"{layer.title}: 99 % of all gradient stays within {window} of {terms} timesteps of its loss")
        return Verdict("; ".join(parts))

    def table(self) -> "pd.DataFrame":
        """One row per layer, term and timestep; ``log10_norm`` is the base-10 logarithm of ‖dL_k/dh_t‖."""
        import pandas as pd

        frames = []
        for layer in self.layers:
            k, t = np.indices(layer.log_norms.shape)
            columns = {"k": k.ravel() + 1, "t": t.ravel() + 1, "log10_norm": layer.log_norms.ravel() / LN10}
            frames.append(pd.DataFrame({"layer": layer.title, **columns}))
        return pd.concat(frames, ignore_index=True)

    def figure(self, layer: int = -1) -> "go.Figure":
        """The matrix of one layer as a heat map on a logarithmic scale."""
        from leadline.recurrent.figure import influence_figure

        return influence_figure(self.layers[layer])


def summarise(log: Float[np.ndarray, "K T B"], per_sample: bool) -> dict[str, Any]:
    """The fields of a :class:`LayerInfluence` from the logarithms of every sample's norms."""
    present = np.where(np.isnan(log), -np.inf, log)
    with np.errstate(divide="ignore"):
        return {
            "log_norms": np.logaddexp.reduce(2 * present, axis=-1) / 2,
            "log_norms_per_sample": np.moveaxis(log, -1, 0).copy() if per_sample else None,
        }


def influence_sweep(records: Sequence[Record], seeds: Float[Tensor, "T B S"], per_sample: bool) -> list[dict[str, Any]]:
    """All loss terms in one sweep, for a stack that is read forwards, with seeds in its top layer.

    At timestep t the rows of the terms k >= t are stacked: each step is one elementwise stage and one matrix product,
    G T (T - 1) B H² floating-point operations for a layer of G gates, which is the least that any method needs that
    forms these vectors. Beside the matrix itself, one row per term is kept.

    Args:
        records: the layers' forward passes, bottom first.
        seeds: dL_k/dh_k in the top layer, shape (T, B, S).
        per_sample: as in :class:`LayerInfluence`.

    Returns:
        The summary of each layer, bottom first.
    """
    layers = [_Rows(record, len(seeds), per_sample) for record in records]
    start = Rows.of(seeds)
    for t in range(len(seeds) - 1, -1, -1):
        above = None
        for rows in reversed(layers):
            rows.step_back(t)
            if above is None:
                rows.begin(t, start[t])
            else:
                rows.receive(t, above)
            rows.observe(t)
            above = rows
    return [rows.summary() for rows in layers]


class _Rows:
    """The rows dL_k/ds_t of one layer for all k >= t at the current t, row k on the scale ``exp(log[k])``.

    Scales follow the rows before they leave [1e-4, 1e4], so that one more step can shrink a row in float32 some 1e15
    times before it reads zero.
    """

    def __init__(self, record: Record, time: int, per_sample: bool):
        batch, self.record = record.h.shape[1], record
        self.unit = record.h.new_zeros(time, batch, record.state_size)
        self.log = torch.zeros(time, batch, dtype=torch.float64, device=record.h.device)
        self.da = record.scratch(self.unit)
        self.log_norms = np.full((time, time), -np.inf)
        self.per_sample = np.full((batch, time, time), -np.inf, dtype=np.float32) if per_sample else None

    def step_back(self, t: int) -> None:
        """From t + 1 to t, for the terms beyond t."""
        if t + 1 < len(self.unit):
            self.record.back(t + 1, self.unit[t + 1 :], self.da[t + 1 :])

    def begin(self, t: int, seed: Rows) -> None:
        """The term at t enters."""
        self.unit[t], self.log[t] = seed.unit, torch.where(seed.log.isneginf(), 0, seed.log)

    def receive(self, t: int, above: "_Rows") -> None:
        """What the layer above hands down from its inputs at t, for all terms from t on."""
        self.log[t] = above.log[t]
        size = self.record.h.shape[-1]
        handed = above.da[t:] @ above.record.weights.W_x
        factor = (above.log[t:] - self.log[t:]).exp().to(handed.dtype).unsqueeze(-1)
        is_far = bool((factor > 1e4).any())
        if is_far:  # the layer above is much larger: its scale is taken over
            top = torch.maximum(above.log[t:], self.log[t:])
            self.unit[t:] *= (self.log[t:] - top).exp().to(handed.dtype).unsqueeze(-1)
            factor = (above.log[t:] - top).exp().to(handed.dtype).unsqueeze(-1)
            self.log[t:] = top
        self.unit[t:, :, :size].add_(handed.mul_(factor))

    def observe(self, t: int) -> None:
        """Note the norms at t, mend the scales, and prepare the next step back."""
        rows, log, size = self.unit[t:], self.log[t:], self.record.h.shape[-1]
        whole = torch.linalg.vector_norm(rows, dim=-1)
        hidden = whole if size == rows.shape[-1] else torch.linalg.vector_norm(rows[..., :size], dim=-1)
        found = hidden.double().log_().add_(log)
        self.log_norms[t:, t] = (0.5 * torch.logsumexp(2 * found, -1)).cpu().numpy()
        if self.per_sample is not None:
            self.per_sample[:, t:, t] = found.T.cpu().numpy()
        present = torch.where(whole > 0, whole, 1)
        low, high = torch.aminmax(present)
        if low < 1e-4 or high > 1e4:
            rows.div_(present.unsqueeze(-1))
            log.add_(present.double().log_())
        self.record.arguments(t, rows, self.da[t:])

    def summary(self) -> dict[str, Any]:
        """The fields of a :class:`LayerInfluence`."""
        return {"log_norms": self.log_norms, "log_norms_per_sample": self.per_sample}
