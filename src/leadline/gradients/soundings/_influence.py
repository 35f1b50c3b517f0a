"""The influence matrix ‖dL_k/dh_t‖: how much loss term k tells the hidden state at timestep t."""

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


@record("gradients.LayerInfluence")
@dataclass(frozen=True, eq=False)
class LayerInfluence(LayerMeasurement):
    """How much each loss term tells each state of one recurrent layer in one direction.

    Row k - 1 is loss term k, column t - 1 timestep t; both count from 1.

    >>> half = np.log(0.5) * np.array([[0.0, np.inf], [1.0, 0.0]])  # of h_2 the first term knows nothing
    >>> layer = LayerInfluence("lstm", 0, "forward", 0, half)
    >>> layer.norms.tolist()
    [[1.0, 0.0], [0.5, 1.0]]
    >>> layer.lost_beyond(1), layer.window_for(0.8)
    (0.2, 1)
    """

    log_norms: Float[np.ndarray, "K T"]
    """ln of the norm of the whole batch's gradient, ``sqrt(sum_b ‖dL_k/dh_{b,t}‖²)``; ``-inf`` for none at all."""
    log_norms_per_sample: Float[np.ndarray, "B K T"] | None = None
    """The same for every sample alone, if it was asked for; NaN where a sample has no such timestep."""
    offset: int | None = None
    """Term k enters at timestep k + ``offset``, where another layer of the same call has shown it."""

    @property
    def norms(self) -> Float[np.ndarray, "K T"]:
        """‖dL_k/dh_t‖; what is below 1e-308 reads 0 here and as a number in ``log_norms``."""
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(self.log_norms)

    @property
    def timestep_of_term(self) -> Int[np.ndarray, " K"] | None:
        """The timestep, from 1, at which each term enters; ``None`` where terms and states share no time axis.

        They share one where each term reaches one timestep more than the term before it, as a loss of every timestep
        does. Two losses of a whole sequence do not, and neither do a decoder's terms against an encoder's states.
        """
        offset = (
            entry_offset(self.log_norms, self.direction) if self.offset is None else self.offset
        )
        return None if offset is None else np.arange(1, 1 + len(self.log_norms)) + offset

    def lost_beyond(self, window: int) -> float:
        """Share of all gradient, by norm, that a truncation after ``window`` steps would cut off.

        Formula: ``sum_{|k - t| >= window} ‖dL_k/dh_t‖ / sum ‖dL_k/dh_t‖``, k being the timestep of a term.

        Args:
            window: how many timesteps back from the loss backpropagation would go, at least 1.

        Returns:
            A share from 0 to 1.

        Raises:
            InputError: a window below 1, or terms that are not losses of successive timesteps.
        """
        window = checks.whole_number(window, "window", least=1)
        by_distance = self._by_distance("lost_beyond()")
        return float(by_distance[window:].sum() / max(by_distance.sum(), np.finfo(float).tiny))

    def window_for(self, share: float = 0.99) -> int:
        """The shortest truncation window that keeps ``share`` of all gradient, by norm; see :meth:`lost_beyond`.

        Args:
            share: above 0 and at most 1.

        Returns:
            Timesteps, at least 1.

        Raises:
            InputError: a share out of range, or terms that are not losses of successive timesteps.
        """
        share = checks.number(share, "share", above=0, most=1)
        by_distance = self._by_distance("window_for()")
        kept = np.cumsum(by_distance) / max(by_distance.sum(), np.finfo(float).tiny)
        enough = np.flatnonzero(kept >= share * (1 - 1e-12))
        return int(enough[0]) + 1 if len(enough) else 1

    def timesteps_for(self, share: float = 0.99) -> int:
        """The fewest timesteps that hold ``share`` of all gradient, by norm, wherever they lie.

        Args:
            share: above 0 and at most 1.

        Raises:
            InputError: a share out of range.
        """
        share = checks.number(share, "share", above=0, most=1)
        by_timestep = np.sort(self._weights().sum(axis=0))[::-1]
        kept = np.cumsum(by_timestep) / max(by_timestep.sum(), np.finfo(float).tiny)
        enough = np.flatnonzero(kept >= share * (1 - 1e-12))
        return int(enough[0]) + 1 if len(enough) else 0

    def _by_distance(self, function: str) -> Float[np.ndarray, " D"]:
        """All gradient, by norm, by its distance in timesteps from where its term enters."""
        entries = self.timestep_of_term
        if entries is None:
            terms, steps = self.log_norms.shape
            raise InputError(
                f"{function} needs one loss term for each of several successive timesteps",
                got=f"{self.title}: {terms} terms against {steps} timesteps, which share no time axis",
                cause="losses of the whole sequence, the terms of a decoder, or a model that reads the future",
                cure="give the loss of each timestep: recurrent.mse(..., per_step=True); "
                "timesteps_for() needs no time axis",
            )
        t = np.arange(1, 1 + self.log_norms.shape[1])
        distance = abs(entries[:, None] - t)
        return np.bincount(distance.ravel(), self._weights().ravel())

    def _weights(self) -> Float[np.ndarray, "K T"]:
        """The norms, the largest being 1; beside infinite ones all others are nothing."""
        top = self.log_norms.max()
        if np.isneginf(top):
            return np.zeros_like(self.log_norms)
        return (
            np.exp(self.log_norms - top)
            if np.isfinite(top)
            else (self.log_norms == np.inf).astype(float)
        )


def entry_offset(log_norms: Float[np.ndarray, "K T"], direction: str) -> int | None:
    """The timestep at which term k enters, less k; ``None`` where terms and states share no time axis.

    Term k enters at the latest timestep that it reaches, in the order in which the layer reads. On a common axis no
    term reaches beyond its own timestep, and more than half of them reach it.
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
    """The same layers; what one layer shows of the time axis holds for all layers of its call."""
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
    """‖dL_k/dh_t‖ for every loss term k, timestep t and recurrent layer, by every way from the one to the other.

    Where the head is local in time and ``J_t = dh_t/dh_{t-1}``, row k follows from its own seed:

        dL_k/dh_t = dL_k/dh_k J_k J_{k-1} ... J_{t+1}.

    The rows sum to the gradient flow, as vectors. Made by :meth:`Tape.influence`.

    >>> from leadline import gradients, recurrent
    >>> model = recurrent.Regression(recurrent.RNN(1, 4, seed=0), seed=0)
    >>> x, y = recurrent.running_average(8, 10, seed=0)
    >>> with gradients.trace(model) as tape:
    ...     terms = recurrent.mse(model(x)[0], y, per_step=True)
    >>> influence = tape.influence(terms)
    >>> influence.layers[0].norms.shape, len(influence.table())
    ((10, 10), 100)

    Reference: Madsen, *Visualizing memorization in RNNs*, 2019, which draws it for predictions and inputs.
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
        """One row per layer, term and timestep; ``log10_norm`` is the base-10 logarithm of ‖dL_k/dh_t‖."""
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
        """Return the matrix of one layer as a heat map of powers of ten."""
        chosen = chosen_layer(self.layers, layer)
        return heat_map(
            chosen.log_norms / LN10,
            title=f"{chosen.title}: how much loss term k tells the state at t",
            x_label="timestep t",
            y_label="loss term k",
            scale_label="‖dL<sub>k</sub>/dh<sub>t</sub>‖",
            power_of_ten=True,
        )


def _num_reached(layer: LayerInfluence) -> int:
    """Return the number of timesteps that hold 99 % of the gradient; 0 if none or infinite gradient arrives."""
    if np.isneginf(layer.log_norms).all() or np.isposinf(layer.log_norms).any():
        return 0
    return layer.timesteps_for() if layer.timestep_of_term is None else layer.window_for()


def _reach(layer: LayerInfluence) -> str:
    """Describe the reach of the terms; without a common time axis, the timesteps that they reach."""
    terms, time = layer.log_norms.shape
    if np.isneginf(layer.log_norms).all():
        return "no gradient of any loss term arrives"
    num_infinite = int(np.isposinf(layer.log_norms).any(axis=1).sum())
    if num_infinite:
        return f"the gradient is infinite in {num_infinite} of {terms} loss terms"
    reached = f"{_num_reached(layer)} of {time} timesteps"
    if layer.timestep_of_term is None:
        return f"99 % of the gradient of {terms} loss terms lies in {reached}"
    return f"99 % of the gradient stays within {reached} of its loss term"
