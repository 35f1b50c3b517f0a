"""How much gradient arrives at each timestep, layer by layer."""

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from leadline.recurrent.place import Placed
from leadline.sounding import Sounding, Verdict

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

LN10 = math.log(10)

FLOAT32 = tuple(math.log(float(limit)) for limit in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))
"""ln of the smallest and of the largest normal number of float32: 1.2e-38, below which digits are lost, and 3.4e38."""


@dataclass(frozen=True, eq=False)
class LayerFlow(Placed):
    """How much gradient arrives at each timestep of one recurrent layer in one direction, sample by sample.

    Logarithms are natural, of 2-norms; the properties without ``log`` are the norms themselves. ``-inf`` says that
    nothing arrives; NaN, that the sample has no such timestep (padding). Column t - 1 is timestep t.

    >>> zeros, initial = np.zeros((1, 3)), np.zeros(1)
    >>> total = np.array([[-4.0, -2.0, 0.0]])
    >>> layer = LayerFlow("lstm", 0, "forward", 0, total, total, total, zeros, initial, zeros)
    >>> layer.title, float(layer.slope()[0]), int(layer.horizon[0])
    ('lstm[0]', -2.0, 3)
    """

    log_total: Float[np.ndarray, "B T"]
    """ln ‖dL/dh_t‖."""
    log_direct: Float[np.ndarray, "B T"]
    """ln of the part that reaches h_t through the layers above alone, not through h_{t+1}."""
    log_recurrent: Float[np.ndarray, "B T"]
    """ln of the part that reaches h_t through h_{t+1}."""
    log_input: Float[np.ndarray, "B T"]
    """ln ‖dL/dx_t‖, x being the input of this layer."""
    log_initial: Float[np.ndarray, " B"]
    """ln ‖dL/dh_0‖, of the state before the first step."""
    hidden_norm: Float[np.ndarray, "B T"]
    """‖h_t‖."""
    log_cell_total: Float[np.ndarray, "B T"] | None = None
    """ln ‖dL/dc_t‖; ``None`` for a layer without cells."""

    @property
    def total(self) -> Float[np.ndarray, "B T"]:
        """‖dL/dh_t‖ in float64; what is below 1e-308 reads 0 here and as a number in ``log_total``."""
        return _exp(self.log_total)

    @property
    def direct(self) -> Float[np.ndarray, "B T"]:
        """The norm of the direct part; see ``log_direct``."""
        return _exp(self.log_direct)

    @property
    def recurrent(self) -> Float[np.ndarray, "B T"]:
        """The norm of the recurrent part; see ``log_recurrent``."""
        return _exp(self.log_recurrent)

    @property
    def cell_total(self) -> Float[np.ndarray, "B T"] | None:
        """‖dL/dc_t‖; ``None`` for a layer without cells."""
        return None if self.log_cell_total is None else _exp(self.log_cell_total)

    @property
    def float32_underflow(self) -> Int[np.ndarray, " B"]:
        """The timestep t, from 1, at which ‖dL/dh_t‖ leaves the range of float32 downwards; 0 where it stays above.

        On its way back from the loss the gradient gets there first, and an ordinary backward pass in float32 reads
        less than the truth from there on, soon zero. A gradient that is exactly zero has not underflowed.
        """
        return underflow(self.log_total, self.direction)

    @property
    def float32_overflow(self) -> Int[np.ndarray, " B"]:
        """The timestep t, from 1, at which ‖dL/dh_t‖ leaves the range of float32 upwards; 0 where it stays below."""
        return overflow(self.log_total, self.direction)

    @property
    def horizon(self) -> Int[np.ndarray, " B"]:
        """The effective horizon: how many timesteps have a norm above 1 % of the sample's largest finite one."""
        finite = np.where(np.isfinite(self.log_total), self.log_total, -np.inf)
        return (finite > finite.max(axis=1, initial=-np.inf, keepdims=True) - math.log(100)).sum(axis=1)

    def slope(self, first: int = 0, last: int | None = None) -> Float[np.ndarray, " B"]:
        """Growth of ln ‖dL/dh_t‖ per step of distance from the end, by least squares over t in [first, last).

        Positive where the gradient explodes on its way back, negative where it vanishes. What is zero, infinite or
        padding is left out.

        Args:
            first: index of the first timestep that counts, from 0.
            last: index behind the last one; without, the end of the sequence.

        Returns:
            Nats per timestep, one per sample; NaN where fewer than two timesteps are left.
        """
        t = np.arange(self.log_total.shape[1], dtype=float)[first:last]
        curves = np.where(np.isfinite(self.log_total), self.log_total, np.nan)[:, first:last]
        centred = np.where(np.isnan(curves), np.nan, t)
        with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a sample of which nothing is left
            centred = centred - np.nanmean(centred, axis=1, keepdims=True)
            slope = np.nansum(curves * centred, axis=1) / np.nansum(centred**2, axis=1)
        return slope if self.direction == "reverse" else -slope


def underflow(log_total: Float[np.ndarray, "B T"], direction: str) -> Int[np.ndarray, " B"]:
    """Where float32 underflows on the way back from the loss; see :attr:`LayerFlow.float32_underflow`."""
    return _first(np.isfinite(log_total) & (log_total < FLOAT32[0]), direction)


def overflow(log_total: Float[np.ndarray, "B T"], direction: str) -> Int[np.ndarray, " B"]:
    """Where float32 overflows on the way back from the loss; see :attr:`LayerFlow.float32_overflow`."""
    return _first(log_total > FLOAT32[1], direction)


def _first(where: np.ndarray, direction: str) -> Int[np.ndarray, " B"]:
    """The timestep that the way back from the loss reaches first, by sample, from 1; 0 for none."""
    from_end = where.shape[1] - np.argmax(where[:, ::-1], axis=1)
    return np.where(where.any(axis=1), 1 + np.argmax(where, axis=1) if direction == "reverse" else from_end, 0)


def median(values: Float[np.ndarray, "B T"]) -> Float[np.ndarray, " T"]:
    """By timestep over the batch, leaving out padding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a timestep that no sample has
        return np.nanmedian(values, axis=0) if np.isnan(values).any() else np.median(values, axis=0)


def _exp(log: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(log)


@dataclass(frozen=True, eq=False)
class GradientFlow(Sounding):
    """|dL/dh_t| at every timestep of every recurrent layer, in the order of the forward pass.

    With the row vectors ``lambda_t = dL/dh_t``, ``e_t`` for the *direct* part, which reaches h_t through the layers
    above, and the Jacobians ``J_t = dh_t/dh_{t-1}``,

        lambda_t = e_t + lambda_{t+1} J_{t+1},

    whose second term is the *recurrent* part. The gradient of a layer's output tensor is the direct part only. Made by
    :meth:`Tape.gradient_flow`.

    >>> from leadline import recurrent
    >>> model = recurrent.Regression(recurrent.RNN(1, 4, nonlinearity="identity", seed=0), seed=0)
    >>> x, y = recurrent.running_average(8, 10, seed=0)
    >>> with recurrent.trace(model) as tape:
    ...     loss = recurrent.mse(model(x)[0], y, last_only=True)
    >>> flow = tape.gradient_flow(loss)
    >>> flow.layers[0].total.shape, len(flow.table())
    ((8, 10), 80)

    Reference: Pascanu, Mikolov & Bengio, *On the difficulty of training recurrent neural networks*, 2013.
    """

    layers: tuple[LayerFlow, ...]

    @property
    def verdict(self) -> Verdict:
        """Per layer, by how much the gradient changes per step on its way from the last timestep to the first."""
        return Verdict("; ".join(f"{layer.title}: {_tell(layer)}" for layer in self.layers))

    def table(self) -> "pd.DataFrame":
        """One row per layer, sample and timestep.

        Columns: ``layer``, ``sample``, ``t``, ``log10_total``, ``log10_direct``, ``log10_recurrent``,
        ``log10_input`` (base-10 logarithms of norms), ``hidden_norm``.
        """
        import pandas as pd

        frames = []
        for layer in self.layers:
            samples, time = layer.log_total.shape
            frames.append(
                pd.DataFrame(
                    {
                        "layer": layer.title,
                        "sample": np.repeat(np.arange(samples), time),
                        "t": np.tile(np.arange(1, time + 1), samples),
                        "log10_total": layer.log_total.ravel() / LN10,
                        "log10_direct": layer.log_direct.ravel() / LN10,
                        "log10_recurrent": layer.log_recurrent.ravel() / LN10,
                        "log10_input": layer.log_input.ravel() / LN10,
                        "hidden_norm": layer.hidden_norm.ravel(),
                    }
                )
            )
        return pd.concat(frames, ignore_index=True)

    def figure(self) -> "go.Figure":
        """Gradient norms and norms of the hidden states by timestep on logarithmic axes, the median over the batch."""
        import plotly.graph_objects as go

        return go.Figure(self.drawing())

    def drawing(self) -> dict[str, Any]:
        """The same as :meth:`figure`, as Plotly's JSON holds it."""
        from leadline.recurrent.figure import flow_drawing

        return flow_drawing(self)


def _tell(layer: LayerFlow) -> str:
    """What the gradient of one layer does on its way back, the median sample speaking for the batch."""
    reading = layer.log_total if layer.direction == "forward" else layer.log_total[:, ::-1]
    start, end = ("first", "last") if layer.direction == "forward" else ("last", "first")
    present = ~np.isnan(reading)
    if not np.isfinite(reading).any():
        return "nothing of the loss arrives" if (reading[present] == -np.inf).all() else "the gradient is infinite"
    steps = present.sum(axis=1)
    typical_steps = int(np.median(steps))
    infinite = np.median((reading == np.inf).sum(axis=1))
    if infinite >= 1:
        return f"the gradient is infinite at {int(infinite)} of {typical_steps} timesteps"
    # How many of the far steps, from the far end on without a gap, receive exactly nothing.
    begins, is_nothing = np.argmax(present, axis=1), (reading == -np.inf) | ~present
    dead = np.where(is_nothing.all(axis=1), steps, np.argmin(is_nothing, axis=1) - begins)
    if np.median(dead) >= 1:
        return f"the gradient dies: of {typical_steps} timesteps the {start} {int(np.median(dead))} get none"
    reached = int(np.median(np.isfinite(reading).sum(axis=1)))
    if reached < 2 <= typical_steps:
        return f"the loss reaches {reached} of {typical_steps} timesteps, which tells no change"
    sample = np.arange(len(reading))
    near, far = reading[sample, begins + steps - 1], reading[sample, begins]
    sizes = f"from {_power(near)} at the {end} timestep to {_power(far)} at the {start}"
    slopes = layer.slope()
    slopes = slopes[np.isfinite(slopes)]
    if typical_steps < 2 or not len(slopes):
        return f"how the gradient changes cannot be told from {typical_steps} timestep; {sizes}"
    slope = float(np.median(slopes))
    change = f"{'grows' if slope > 0 else 'shrinks'} {math.exp(min(abs(slope), 700)):.3g}-fold per step back"
    is_larger = bool(np.median(far) > np.median(near))
    if is_larger != (slope > 0):  # a few steps beside an end weigh little in the line
        change += f" by the line of best fit, though it is {'larger' if is_larger else 'smaller'} in the end"
    change = _turn(layer, near, far) or ("keeps its size" if abs(slope) < 0.01 else change)
    is_fed = change == "keeps its size" and (np.isfinite(layer.log_direct).sum(axis=1) > steps / 2).any()
    # A sum over terms keeps its size even where each of them dies within a few steps.
    fed = ", being fed at every timestep: how far one loss term reaches, the influence tells" if is_fed else ""
    return f"the gradient {change}, {sizes}{_leaving(layer)}{fed}"


def _power(log: np.ndarray) -> str:
    return f"10^{round(float(np.median(log)) / LN10, 1) + 0.0:.1f}"  # + 0.0 makes -0.0 a zero


def _turn(layer: LayerFlow, near: np.ndarray, far: np.ndarray) -> str | None:
    """Where the gradient is much smaller, or much larger, than at both ends: its way is no straight line."""
    told = np.isfinite(near) & np.isfinite(far)
    if not told.any():
        return None
    finite = np.where(np.isfinite(layer.log_total), layer.log_total, np.nan)
    finite, near, far = finite[told], near[told], far[told]
    low, high = np.nanmin(finite, axis=1), np.nanmax(finite, axis=1)
    turns = (("dips", low, np.minimum(near, far) - low), ("swells", high, high - np.maximum(near, far)))
    for what, extreme, beyond in turns:
        if np.median(beyond) > max(LN10, np.median(abs(far - near))):
            t = int(np.median(np.argmax(finite == extreme[:, None], axis=1))) + 1
            return f"{what} to {_power(extreme)} around timestep {t}"
    return None


def _leaving(layer: LayerFlow) -> str:
    """Where float32 loses the median gradient."""
    told, typical = "", median(layer.log_total)[None]
    for what, find in (("underflows", underflow), ("overflows", overflow)):
        (t,) = find(typical, layer.direction)
        told += f", and float32 {what} at timestep {t}" if t else ""
    return told
