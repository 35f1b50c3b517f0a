"""The influence matrix ‖dL_k/dh_t‖: how strongly loss term k pulls on the state at timestep t."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from leadline import checks
from leadline.errors import InputError
from leadline.figures import Drawing, heat_map
from leadline.gradients.soundings._flow import LN10
from leadline.gradients.soundings._layer import LayerMeasurement, chosen_layer, out_of
from leadline.sounding import Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 1e-12
"""Relative rounding error of a share, which must not lengthen a window by a timestep."""


@record("gradients.LayerInfluence")
@dataclass(frozen=True, eq=False)
class LayerInfluence(LayerMeasurement):
    """The influence of each loss term on each state of one recurrent layer in one direction.

    Row k - 1 is loss term k and column t - 1 is timestep t; both count from 1.

    In this example, the first loss term does not depend on the second state:

    >>> half = np.log(0.5) * np.array([[0.0, np.inf], [1.0, 0.0]])
    >>> layer = LayerInfluence("lstm", 0, "forward", 0, half)
    >>> layer.norms.tolist()
    [[1.0, 0.0], [0.5, 1.0]]
    >>> layer.lost_beyond(1), layer.window_for(0.8)
    (0.2, 1)
    """

    log_norms: Float[np.ndarray, "K T"]
    """ln of the norm over the batch, ``sqrt(sum_b ‖dL_k/dh_{b,t}‖²)``; ``-inf`` for zero."""
    log_norms_per_sample: Float[np.ndarray, "B K T"] | None = None
    """ln of the norm of each sample, if ``per_sample`` was set; NaN for padding."""
    offset: int | None = None
    """Term k enters at timestep k + ``offset``; ``None`` if no layer of the call shows it."""

    @property
    def norms(self) -> Float[np.ndarray, "K T"]:
        """The norms ‖dL_k/dh_t‖; a norm below 1e-308 is 0 here and finite in ``log_norms``."""
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(self.log_norms)

    @property
    def timestep_of_term(self) -> Int[np.ndarray, " K"] | None:
        """The timestep, from 1, at which each term enters; ``None`` without a common time axis.

        Terms and states share a time axis if each term reaches one timestep more than the term
        before it, for example if the loss has one term per timestep. Two losses of a whole sequence
        share no axis with the states, and the terms of a decoder share none with the states of an
        encoder.
        """
        offset = (
            entry_offset(self.log_norms, self.direction) if self.offset is None else self.offset
        )
        return None if offset is None else np.arange(1, 1 + len(self.log_norms)) + offset

    def lost_beyond(self, window: int) -> float:
        """Return the share of the gradient, by norm, that truncation after ``window`` steps loses.

        Formula: ``sum_{|k - t| >= window} ‖dL_k/dh_t‖ / sum ‖dL_k/dh_t‖``, where k is the timestep
        of a term.

        Args:
            window: number of timesteps that backpropagation goes back from the loss, at least 1.

        Returns:
            A share from 0 to 1.

        Raises:
            InputError: ``window`` is below 1, or the terms are not losses of successive timesteps.
        """
        window = checks.whole_number(window, "window", least=1)
        by_distance = self._by_distance("lost_beyond()")
        return float(by_distance[window:].sum() / max(by_distance.sum(), np.finfo(float).tiny))

    def window_for(self, share: float = 0.99) -> int:
        """Return the shortest truncation window that keeps a share of the gradient, by norm.

        Args:
            share: the share to keep, above 0 and at most 1; see :meth:`lost_beyond`.

        Returns:
            The window in timesteps, at least 1.

        Raises:
            InputError: ``share`` is out of range, or the terms are not losses of successive
                timesteps.
        """
        share = checks.number(share, "share", above=0, most=1)
        by_distance = self._by_distance("window_for()")
        kept = np.cumsum(by_distance) / max(by_distance.sum(), np.finfo(float).tiny)
        enough = np.flatnonzero(kept >= share * (1 - ROUNDING))
        return int(enough[0]) + 1 if len(enough) else 1

    def timesteps_for(self, share: float = 0.99) -> int:
        """Return the smallest number of timesteps that hold a share of the gradient, by norm.

        The timesteps need not be neighbours.

        Args:
            share: the share to hold, above 0 and at most 1.

        Returns:
            The number of timesteps; 0 if no gradient arrives.

        Raises:
            InputError: ``share`` is out of range.
        """
        share = checks.number(share, "share", above=0, most=1)
        by_timestep = np.sort(self._weights().sum(axis=0))[::-1]
        kept = np.cumsum(by_timestep) / max(by_timestep.sum(), np.finfo(float).tiny)
        enough = np.flatnonzero(kept >= share * (1 - ROUNDING))
        return int(enough[0]) + 1 if len(enough) else 0

    def _by_distance(self, function: str) -> Float[np.ndarray, " D"]:
        """Return the sum of the norms by distance, in timesteps, from the entry of the term."""
        entries = self.timestep_of_term
        if entries is None:
            terms, steps = self.log_norms.shape
            raise InputError(
                f"{function} needs one loss term for each of several successive timesteps",
                got=f"{self.title}: {terms} terms against {steps} timesteps, which share no time "
                "axis",
                cause="losses of the whole sequence, the terms of a decoder, or a model that reads "
                "the future",
                cure="give the loss of each timestep: recurrent.mse(..., per_step=True); "
                "timesteps_for() needs no time axis",
            )
        t = np.arange(1, 1 + self.log_norms.shape[1])
        distance = abs(entries[:, None] - t)
        return np.bincount(distance.ravel(), self._weights().ravel())

    def _weights(self) -> Float[np.ndarray, "K T"]:
        """Return the norms divided by the largest; if any is infinite, 1 for it and 0 otherwise."""
        top = self.log_norms.max()
        if np.isneginf(top):
            return np.zeros_like(self.log_norms)
        return (
            np.exp(self.log_norms - top)
            if np.isfinite(top)
            else (self.log_norms == np.inf).astype(float)
        )


def entry_offset(log_norms: Float[np.ndarray, "K T"], direction: str) -> int | None:
    """Return the timestep at which term k enters, minus k; ``None`` without a common time axis.

    Term k enters at the latest timestep that it reaches, in the order in which the layer reads. On
    a common axis, no term reaches a timestep after its own, and more than half of the terms reach
    their own.
    """
    reached = log_norms > -np.inf
    terms = np.flatnonzero(reached.any(axis=1))
    if len(log_norms) == 1 == log_norms.shape[1] and len(terms):
        return 0
    if len(terms) < 2:
        return None
    if direction == "reverse":
        latest = np.argmax(reached[terms], axis=1)
        offsets = latest - terms
        offset = offsets.min()
    else:
        latest = log_norms.shape[1] - 1 - np.argmax(reached[terms][:, ::-1], axis=1)
        offsets = latest - terms
        offset = offsets.max()
    is_common = 2 * (offsets == offset).sum() > len(terms)
    return int(offset) if is_common else None


def with_shared_offsets(layers: "Sequence[LayerInfluence]") -> "list[LayerInfluence]":
    """Return the layers, where all layers of a call have the offset that one of them shows."""
    known: dict[tuple[str, int], int] = {}
    for layer in layers:
        offset = (
            entry_offset(layer.log_norms, layer.direction) if layer.offset is None else layer.offset
        )
        if offset is not None:
            known.setdefault((layer.name, layer.call), offset)
    return [
        dataclasses.replace(layer, offset=known.get((layer.name, layer.call))) for layer in layers
    ]


@record("gradients.Influence")
@dataclass(frozen=True, eq=False)
class Influence(Sounding):
    """‖dL_k/dh_t‖ for every loss term k, timestep t and recurrent layer.

    The gradient includes all paths from the state to the loss term. If the head is local in time,
    row k follows from its seed, with ``J_t = dh_t/dh_{t-1}``:

        dL_k/dh_t = dL_k/dh_k J_k J_{k-1} ... J_{t+1}.

    As vectors, the rows sum to the gradient flow. :meth:`Tape.influence` returns this object.

    >>> from leadline import gradients, recurrent
    >>> model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0)
    >>> x, y = recurrent.running_average(8, 10, seed=0)
    >>> with gradients.trace(model) as tape:
    ...     terms = recurrent.mse(model(x)[0], y, per_step=True)
    >>> influence = tape.influence(terms)
    >>> influence.layers[0].norms.shape, len(influence.table())
    ((10, 10), 100)

    Reference: Madsen, *Visualizing memorization in RNNs*, 2019, which draws the influence of inputs
    on predictions.
    """

    layers: tuple[LayerInfluence, ...]

    @property
    def shortest_layer(self) -> int:
        """Index of the layer in which the loss terms reach the fewest timesteps."""
        return int(np.argmin([_num_reached(layer) for layer in self.layers]))

    @property
    def verdict(self) -> Verdict:
        """The reach of the loss terms, in the layer with the shortest reach."""
        layer = self.layers[self.shortest_layer]
        rank = out_of(len(self.layers), "shortest")
        return Verdict(f"{layer.title}: {_reach(layer)}{rank}")

    @property
    def notes(self) -> tuple[str, ...]:
        """The reach of the loss terms in every layer."""
        return tuple(f"{layer.title}: {_reach(layer)}" for layer in self.layers)

    def table(self) -> "pd.DataFrame":
        """Return one row per layer, term and timestep.

        Columns: ``layer``, ``k``, ``t`` and ``log10_norm``, the base-10 logarithm of ‖dL_k/dh_t‖.
        """
        import pandas as pd

        frames = []
        for layer in self.layers:
            k, t = np.indices(layer.log_norms.shape)
            columns = {
                "k": k.ravel() + 1,
                "t": t.ravel() + 1,
                "log10_norm": layer.log_norms.ravel() / LN10,
            }
            frames.append(pd.DataFrame({"layer": layer.title, **columns}))
        return pd.concat(frames, ignore_index=True)

    def drawing(self, layer: int = -1) -> Drawing:
        """Return the matrix of one layer as a heat map of powers of ten.

        Args:
            layer: index of the layer; by default the last one. Negative numbers count from the end.

        Raises:
            InputError: ``layer`` is out of range.
        """
        chosen = chosen_layer(self.layers, layer)
        return heat_map(
            chosen.log_norms / LN10,
            title=f"{chosen.title}: influence of loss term k on the state at timestep t",
            x_label="timestep t",
            y_label="loss term k",
            scale_label="‖dL<sub>k</sub>/dh<sub>t</sub>‖",
            power_of_ten=True,
        )


def _num_reached(layer: LayerInfluence) -> int:
    """Return the number of timesteps that hold 99 % of the gradient.

    Return 0 if no gradient or an infinite gradient arrives.
    """
    if np.isneginf(layer.log_norms).all() or np.isposinf(layer.log_norms).any():
        return 0
    return layer.timesteps_for() if layer.timestep_of_term is None else layer.window_for()


def _reach(layer: LayerInfluence) -> str:
    """Describe the reach of the terms; without a time axis, the number of timesteps reached."""
    terms, time = layer.log_norms.shape
    if np.isneginf(layer.log_norms).all():
        return "no gradient of any loss term arrives"
    num_infinite = int(np.isposinf(layer.log_norms).any(axis=1).sum())
    if num_infinite:
        return f"the gradient is infinite in {num_infinite} of {terms} loss terms"
    reached = f"{_num_reached(layer)} of {time} timesteps"
    if layer.timestep_of_term is None:
        return f"99 % of the gradient of {terms} loss terms lies in {reached}"
    return f"backpropagation through {reached} keeps 99 % of the gradient"
