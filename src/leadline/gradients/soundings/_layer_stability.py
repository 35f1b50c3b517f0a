"""The numbers that predict the fate of a gradient in one recurrent layer."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float, Int

from leadline.gradients.cures import Regime, Trend, advice
from leadline.gradients.soundings._flow_verdict import KEEPS
from leadline.gradients.soundings._layer import LayerMeasurement
from leadline.gradients.soundings._lyapunov import mean_of_kept
from leadline.recurrent import cell_named, keeping_gate_of
from leadline.storage import record

FROM_WEIGHTS = ("spectral radius", "largest singular value × slope")
"""Rates that depend on the weights alone, gate by gate."""

EXPONENTS = "Lyapunov exponents"
"""Name of the row of Lyapunov exponents."""

MEASURED = "measured slope"
"""Name of the row of the measured slope."""


@dataclass(frozen=True, eq=False)
class Rate:
    """Several rates of one quantity, in nats per timestep."""

    name: str
    values: Float[np.ndarray, " N"]
    """One rate per gate or per rank."""
    errors: Float[np.ndarray, " N"]
    """Errors of the rates; NaN if there is none."""
    samples: tuple[int, ...]
    """Number of samples in each mean; 0 for a rate that depends on the weights alone."""


@record("gradients.LayerStability")
@dataclass(frozen=True, eq=False, kw_only=True)
class LayerStability(LayerMeasurement):
    """The numbers that predict the gradient's fate in one recurrent layer and direction.

    Rates are in nats per timestep. A positive rate means that gradients grow on their way back.
    """

    call: int = 0
    kind: str
    """Name of the cell: ``"tanh"``, ``"relu"``, ``"identity"``, ``"lstm"`` or ``"gru"``."""
    eigenvalue_parts: Float[np.ndarray, "G N 2"]
    """Real and imaginary parts of the eigenvalues of each gate's ``W_h``; for an LSTM with a
    projection, of ``W_p W_h``.
    """
    singular_value: Float[np.ndarray, " G"]
    """The largest singular value of the same matrices."""
    exponents: Float[np.ndarray, "B K"]
    """The K largest Lyapunov exponents of each sample, for the whole state: h, and c of an LSTM.

    ``-inf`` for a direction that one step loses, NaN for a packed sample that ends before the
    transient does.
    """
    error: Float[np.ndarray, " K"]
    """Finite-size error of the mean exponent over the samples that keep the direction."""
    state_size: int
    """Numbers in the state of one sample."""
    time: int
    """Timesteps of the longest sequence."""
    passing: float
    """Mean factor that passes the state on, from 0 to 1: the slope of the nonlinearity, the forget
    gate of an LSTM or the update gate of a GRU.
    """
    measured_slope: Float[np.ndarray, " B"] | None = None
    """Growth of ln ‖dL/dh_t‖ per step back in each sample of a gradient flow, if one was given."""
    is_last_only: bool = True
    """True if the flow's loss enters each sample at one timestep only. Only then does the measured
    slope depend on the recurrence alone.
    """

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the gates, in the order of their rows in ``W_h``.

        A layer without gates has one empty name.
        """
        return cell_named(self.kind).gate_names

    @property
    def keeping_gate(self) -> str | None:
        """Name of the gate that passes the state on; ``None`` for a layer without such a gate."""
        return keeping_gate_of(self.kind)

    @property
    def eigenvalues(self) -> Complex[np.ndarray, "G N"]:
        """Eigenvalues of each gate's ``W_h``."""
        return self.eigenvalue_parts[..., 0] + 1j * self.eigenvalue_parts[..., 1]

    @property
    def spectral_radius(self) -> Float[np.ndarray, " G"]:
        """The largest absolute eigenvalue of each gate's ``W_h``.

        It gives the growth of ``W_h^n`` for large n. Unless ``W_h`` is normal, it bounds no single
        step and no finite product. It does not depend on the nonlinearity.
        """
        return np.abs(self.eigenvalues).max(axis=1)

    @property
    def gain_bound(self) -> Float[np.ndarray, " G"]:
        """The largest singular value times the steepest slope of the nonlinearity.

        For a layer without gates it bounds every step, ``‖J_t‖ <= gamma sigma_max(W_h)``: below 1,
        the gradient must vanish. For a gate it bounds the part that passes through this gate.
        """
        return self.singular_value * np.array(cell_named(self.kind).steepest_slopes)

    @property
    def num_samples(self) -> int:
        """Number of samples that are longer than the transient."""
        return int((~np.isnan(self.exponents[:, 0])).sum())

    @property
    def num_kept(self) -> Int[np.ndarray, " K"]:
        """Number of samples that keep each direction; in the others, one step loses it."""
        return np.isfinite(self.exponents).sum(axis=0)

    @property
    def num_dead(self) -> int:
        """Number of samples in which one step loses the whole gradient."""
        return self.num_samples - int(self.num_kept[0])

    @property
    def spectrum(self) -> Float[np.ndarray, " K"]:
        """Lyapunov exponents, largest first: means over the samples that keep the direction.

        ``-inf`` if more than half of the samples lose the direction; see :attr:`num_kept`.
        """
        return mean_of_kept(self.exponents)

    @property
    def mean_slope(self) -> tuple[float, float]:
        """Mean and standard error of the measured slope over the samples with a slope, or NaN."""
        if self.measured_slope is None:
            return math.nan, math.nan
        known = self.measured_slope[np.isfinite(self.measured_slope)]
        mean = float(known.mean()) if len(known) else math.nan
        error = float(known.std(ddof=1) / math.sqrt(len(known))) if len(known) > 1 else math.nan
        return mean, error

    @property
    def rates(self) -> tuple[Rate, ...]:
        """All rates that predict or measure the gradient's growth, in nats per timestep."""
        with np.errstate(divide="ignore"):
            from_weights = np.log([self.spectral_radius, self.gain_bound])
        no_error = np.full(len(self.gates), np.nan)
        no_samples = (0,) * len(self.gates)
        rates = [
            Rate(name, values, no_error, no_samples)
            for name, values in zip(FROM_WEIGHTS, from_weights, strict=True)
        ]
        num_kept = tuple(int(count) for count in self.num_kept)
        rates.append(Rate(EXPONENTS, self.spectrum, self.error, num_kept))
        if self.measured_slope is not None:
            slope, error = self.mean_slope
            count = int(np.isfinite(self.measured_slope).sum())
            rates.append(Rate(MEASURED, np.array([slope]), np.array([error]), (count,)))
        return tuple(rates)

    @property
    def regime(self) -> Regime:
        """The fate of the gradient in sequences of this length.

        It is ``"vanishes"``, ``"explodes"``, ``"stable"`` or ``"undecided"``.

        The largest Lyapunov exponent ± 2 errors decides. It is the mean over the samples that do
        not lose the gradient; :attr:`num_dead` counts the others.
        """
        rate = self.spectrum[0]
        margin = 2 * self.error[0]
        limit = math.log(KEEPS) / self.time
        if rate + margin < -limit:
            return "vanishes"
        if rate - margin > limit:
            return "explodes"
        return "stable" if abs(rate) + margin <= limit else "undecided"

    @property
    def advice(self) -> dict[str, str]:
        """Advice of each cure that may help, by its name; empty if the gradient is stable."""
        rate = float(self.spectrum[0])
        return advice(Trend(self.regime, self.kind, rate, self.passing, self.time))
