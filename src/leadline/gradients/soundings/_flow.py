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

FLOAT32 = tuple(
    math.log(float(limit)) for limit in (np.finfo(np.float32).tiny, np.finfo(np.float32).max)
)
"""ln of the smallest and of the largest normal number of float32: 1.2e-38, below which digits are lost, and 3.4e38."""


@record("gradients.LayerFlow")
@dataclass(frozen=True, eq=False)
class LayerFlow(LayerMeasurement):
    """How much gradient arrives at each timestep of one recurrent layer in one direction, sample by sample.

    Logarithms are natural, of 2-norms; the properties without ``log`` are the norms themselves. ``-inf`` says that
    nothing arrives, or, where ``lost`` is true, less than the loop's own precision can hold; NaN says that the sample
    has no such timestep (padding). Column t - 1 is timestep t.

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
    lost: Bool[np.ndarray, "B T"] | None = None
    """True where the gradient of a loop written by hand is too small for the loop's precision, such as float32;
    ``log_total`` reads ``-inf`` there. ``None`` for nowhere.
    """
    precision: str | None = None
    """The floating point that bounds the gradients of a loop written by hand; ``None`` for a layer without bounds."""

    @property
    def total(self) -> Float[np.ndarray, "B T"]:
        """‖dL/dh_t‖ in float64; what is below 1e-308 reads 0 here and as a number in ``log_total``."""
        return _exp(self.log_total)

    @property
    def log_known(self) -> Float[np.ndarray, "B T"]:
        """``log_total``, NaN where it was lost."""
        return self.log_total if self.lost is None else np.where(self.lost, np.nan, self.log_total)

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
        return underflow(self.log_total, self.direction, self.lost)

    @property
    def float32_overflow(self) -> Int[np.ndarray, " B"]:
        """The timestep t, from 1, at which ‖dL/dh_t‖ leaves the range of float32 upwards; 0 where it stays below."""
        return overflow(self.log_total, self.direction)

    @property
    def horizon(self) -> Int[np.ndarray, " B"]:
        """The effective horizon: how many timesteps have a norm above 1 % of the sample's largest finite one."""
        finite = np.where(np.isfinite(self.log_total), self.log_total, -np.inf)
        return (finite > finite.max(axis=1, initial=-np.inf, keepdims=True) - math.log(100)).sum(
            axis=1
        )

    def slope(self, first: int = 0, last: int | None = None) -> Float[np.ndarray, " B"]:
        """Growth of ln ‖dL/dh_t‖ per step of distance from the end, by least squares over t in [first, last).

        Positive where the gradient explodes on its way back, negative where it vanishes. What is zero, infinite, lost
        or padding is left out.

        Args:
            first: index of the first timestep that counts, from 0.
            last: index behind the last one; without, the end of the sequence.

        Returns:
            Nats per timestep, one per sample; NaN where fewer than two timesteps are left.

        Raises:
            InputError: an index that is not a whole number.
        """
        first = checks.whole_number(first, "first")
        last = checks.optional_whole_number(last, "last")
        t = np.arange(self.log_total.shape[1], dtype=float)[first:last]
        curves = np.where(np.isfinite(self.log_known), self.log_known, np.nan)[:, first:last]
        centred = np.where(np.isnan(curves), np.nan, t)
        with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a sample of which nothing is left
            centred = centred - np.nanmean(centred, axis=1, keepdims=True)
            slope = np.nansum(curves * centred, axis=1) / np.nansum(centred**2, axis=1)
        return slope if self.direction == "reverse" else -slope


def underflow(
    log_total: Float[np.ndarray, "B T"], direction: str, lost: Bool[np.ndarray, "B T"] | None = None
) -> Int[np.ndarray, " B"]:
    """Where float32 underflows on the way back from the loss; see :attr:`LayerFlow.float32_underflow`."""
    is_below = np.isfinite(log_total) & (log_total < FLOAT32[0])
    return _first(is_below if lost is None else is_below | lost, direction)


def overflow(log_total: Float[np.ndarray, "B T"], direction: str) -> Int[np.ndarray, " B"]:
    """Where float32 overflows on the way back from the loss; see :attr:`LayerFlow.float32_overflow`."""
    return _first(log_total > FLOAT32[1], direction)


def _first(where: np.ndarray, direction: str) -> Int[np.ndarray, " B"]:
    """The timestep that the way back from the loss reaches first, by sample, from 1; 0 for none."""
    from_end = where.shape[1] - np.argmax(where[:, ::-1], axis=1)
    return np.where(
        where.any(axis=1), 1 + np.argmax(where, axis=1) if direction == "reverse" else from_end, 0
    )


def median(values: Float[np.ndarray, "B T"]) -> Float[np.ndarray, " T"]:
    """By timestep over the batch, leaving out padding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a timestep that no sample has
        return np.nanmedian(values, axis=0) if np.isnan(values).any() else np.median(values, axis=0)


def _exp(log: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", under="ignore"):
        return np.exp(log)
