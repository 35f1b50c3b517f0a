"""The gradient that arrives at each timestep of one recurrent layer."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from leadline import checks
from leadline.gradients.soundings._layer import LayerMeasurement
from leadline.storage import record

LN10 = math.log(10)

HORIZON = 100
"""A timestep is within the horizon if its norm exceeds 1 / HORIZON of the largest, which is 1 %."""

FLOAT32 = tuple(
    math.log(float(limit)) for limit in (np.finfo(np.float32).tiny, np.finfo(np.float32).max)
)
"""ln of the smallest and of the largest normal number of float32, 1.2e-38 and 3.4e38.

Smaller numbers lose digits; larger ones are infinite.
"""


@record("gradients.LayerFlow")
@dataclass(frozen=True, eq=False)
class LayerFlow(LayerMeasurement):
    """The gradient that arrives at each timestep of one recurrent layer, in one direction.

    Fields have one row per sample; column t - 1 is timestep t. Logarithms are natural logarithms of
    2-norms; properties without ``log`` are the norms. ``-inf`` means that no gradient arrives or,
    where ``lost`` is true, that the gradient is too small for the floating point of a hand-written
    loop. NaN means that the sample has no such timestep (padding).

    >>> zeros, initial = np.zeros((1, 3)), np.zeros(1)
    >>> total = np.array([[-4.0, -2.0, 0.0]])
    >>> layer = LayerFlow("lstm", 0, "forward", 0, total, total, total, zeros, initial, zeros)
    >>> layer.title, float(layer.slope()[0]), int(layer.horizon[0])
    ('lstm[0]', -2.0, 3)
    """

    log_total: Float[np.ndarray, "B T"]
    """ln ‖dL/dh_t‖."""
    log_direct: Float[np.ndarray, "B T"]
    """ln of the norm of the direct part, which reaches h_t through the layers above."""
    log_recurrent: Float[np.ndarray, "B T"]
    """ln of the norm of the recurrent part, which reaches h_t through h_{t+1}."""
    log_input: Float[np.ndarray, "B T"]
    """ln ‖dL/dx_t‖ for the input x of this layer."""
    log_initial: Float[np.ndarray, " B"]
    """ln ‖dL/dh_0‖ for the state before the first step."""
    hidden_norm: Float[np.ndarray, "B T"]
    """‖h_t‖."""
    log_cell_total: Float[np.ndarray, "B T"] | None = None
    """ln ‖dL/dc_t‖; ``None`` for a layer without cells."""
    lost: Bool[np.ndarray, "B T"] | None = None
    """True where the gradient of a hand-written loop is too small for the loop's floating point.

    ``log_total`` is ``-inf`` there. ``None`` if no gradient is lost.
    """
    precision: str | None = None
    """Floating point that limits the gradients of a hand-written loop, for example ``"float32"``.

    ``None`` for a layer whose gradients have no such limit.
    """

    @property
    def total(self) -> Float[np.ndarray, "B T"]:
        """‖dL/dh_t‖ in float64. A norm below 1e-308 is 0 here and finite in ``log_total``."""
        return _exp(self.log_total)

    @property
    def log_known(self) -> Float[np.ndarray, "B T"]:
        """``log_total`` with NaN where the gradient is lost."""
        return self.log_total if self.lost is None else np.where(self.lost, np.nan, self.log_total)

    @property
    def direct(self) -> Float[np.ndarray, "B T"]:
        """Norm of the direct part; see ``log_direct``."""
        return _exp(self.log_direct)

    @property
    def recurrent(self) -> Float[np.ndarray, "B T"]:
        """Norm of the recurrent part; see ``log_recurrent``."""
        return _exp(self.log_recurrent)

    @property
    def cell_total(self) -> Float[np.ndarray, "B T"] | None:
        """‖dL/dc_t‖; ``None`` for a layer without cells."""
        return None if self.log_cell_total is None else _exp(self.log_cell_total)

    @property
    def float32_underflow(self) -> Int[np.ndarray, " B"]:
        """The timestep t, from 1, at which ‖dL/dh_t‖ falls below the range of float32; 0 for none.

        It is the first such timestep on the way back from the loss. From there on, a backward pass
        in float32 gives less than the truth, and soon zero. A gradient that is exactly zero does
        not count as an underflow.
        """
        return underflow(self.log_total, self.direction, self.lost)

    @property
    def float32_overflow(self) -> Int[np.ndarray, " B"]:
        """The timestep t, from 1, at which ‖dL/dh_t‖ exceeds the range of float32; 0 for none."""
        return overflow(self.log_total, self.direction)

    @property
    def horizon(self) -> Int[np.ndarray, " B"]:
        """The effective horizon: the number of timesteps with a norm above 1 % of the largest.

        The largest finite norm of each sample counts.
        """
        finite = np.where(np.isfinite(self.log_total), self.log_total, -np.inf)
        largest = finite.max(axis=1, initial=-np.inf, keepdims=True)
        return (finite > largest - math.log(HORIZON)).sum(axis=1)

    def slope(self, first: int = 0, last: int | None = None) -> Float[np.ndarray, " B"]:
        """Return the growth of ln ‖dL/dh_t‖ per step back, by least squares over first <= t < last.

        The slope is positive if the gradient explodes on its way back, and negative if it vanishes.
        Timesteps that are zero, infinite, lost or padding are left out.

        Args:
            first: index of the first timestep, from 0.
            last: index after the last timestep; by default the end of the sequence.

        Returns:
            Nats per timestep, one per sample; NaN if fewer than two timesteps are left.

        Raises:
            InputError: ``first`` or ``last`` is not a whole number.
        """
        first = checks.whole_number(first, "first")
        last = checks.optional_whole_number(last, "last")
        t = np.arange(self.log_total.shape[1], dtype=float)[first:last]
        curves = np.where(np.isfinite(self.log_known), self.log_known, np.nan)[:, first:last]
        centred = np.where(np.isnan(curves), np.nan, t)
        with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            # A sample without a finite timestep has no mean.
            warnings.simplefilter("ignore", RuntimeWarning)
            centred = centred - np.nanmean(centred, axis=1, keepdims=True)
            slope = np.nansum(curves * centred, axis=1) / np.nansum(centred**2, axis=1)
        return slope if self.direction == "reverse" else -slope


def underflow(
    log_total: Float[np.ndarray, "B T"], direction: str, lost: Bool[np.ndarray, "B T"] | None = None
) -> Int[np.ndarray, " B"]:
    """Return the timestep of the float32 underflow; see :attr:`LayerFlow.float32_underflow`."""
    is_below = np.isfinite(log_total) & (log_total < FLOAT32[0])
    return _first(is_below if lost is None else is_below | lost, direction)


def overflow(log_total: Float[np.ndarray, "B T"], direction: str) -> Int[np.ndarray, " B"]:
    """Return the timestep of the float32 overflow; see :attr:`LayerFlow.float32_overflow`."""
    return _first(log_total > FLOAT32[1], direction)


def median(values: Float[np.ndarray, "B T"]) -> Float[np.ndarray, " T"]:
    """Return the median over the batch by timestep, without padding."""
    with warnings.catch_warnings():
        # A timestep that no sample has gives NaN.
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(values, axis=0) if np.isnan(values).any() else np.median(values, axis=0)


def median_range(layer: LayerFlow) -> tuple[float, float]:
    """Return the logarithms of the smallest and the largest norm of the median sample.

    Timesteps after the latest one that receives gradient are left out, since the loss does not read
    them. Both are ``-inf`` if no gradient arrives.
    """
    if not layer.log_total.size:
        return -math.inf, -math.inf
    total = median(layer.log_known)
    arrives = np.flatnonzero(total > -np.inf)
    if not len(arrives):
        return -math.inf, -math.inf
    if layer.direction == "reverse":
        read = total[arrives[0] :]
    else:
        read = total[: arrives[-1] + 1]
    return float(np.nanmin(read)), float(np.nanmax(read))


def spread(layer: LayerFlow) -> float:
    """Return ln of the ratio of the largest to the smallest norm of the median sample.

    The spread is infinite if a timestep receives no gradient, or if the gradient is infinite.
    """
    low, high = median_range(layer)
    return high - low if np.isfinite(high) else math.inf


def median_slope(layer: LayerFlow) -> float:
    """Return the median slope of the samples, in nats per step back; NaN if none has a slope."""
    slopes = layer.slope()
    slopes = slopes[np.isfinite(slopes)]
    return float(np.median(slopes)) if len(slopes) else math.nan


def _first(where: np.ndarray, direction: str) -> Int[np.ndarray, " B"]:
    """Return the first true timestep on the way back from the loss, from 1; 0 for none."""
    if direction == "reverse":
        timestep = 1 + np.argmax(where, axis=1)
    else:
        timestep = where.shape[1] - np.argmax(where[:, ::-1], axis=1)
    return np.where(where.any(axis=1), timestep, 0)


def _exp(log: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(log)
