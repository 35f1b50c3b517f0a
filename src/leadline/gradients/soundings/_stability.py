"""Why the gradient dies or explodes: what the weights predict, what the Jacobians do, and what the flow shows."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from leadline import checks
from leadline.errors import InputError
from leadline.figures import Drawing
from leadline.gradients.soundings._advice import PASSES, Cure, Regime, cures
from leadline.gradients.soundings._flow import LayerFlow
from leadline.gradients.soundings._flow_verdict import KEEPS, fold
from leadline.gradients.soundings._gradient_flow import GradientFlow
from leadline.gradients.soundings._lyapunov import lyapunov, mean_of_kept
from leadline.gradients.soundings._stability_drawing import stability_drawing
from leadline.gradients.tracing._place import chosen_layer
from leadline.gradients.tracing._replay import Pass
from leadline.gradients.tracing._single_layer import run_alone
from leadline.recurrent import Network, Record, Weights
from leadline.sounding import Protocol, Sounding, Verdict, decimals
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

GATES = {"lstm": ("i", "f", "g", "o"), "gru": ("r", "z", "n")}
SLOPE_BOUND = {"i": 0.25, "f": 0.25, "o": 0.25, "r": 0.25, "z": 0.25, "g": 1.0, "n": 1.0, "": 1.0}
"""The steepest slope of each gate's nonlinearity: 1/4 for the logistic function, 1 for tanh, ReLU and identity."""

_REGIMES = {
    "vanishes": "vanishes",
    "explodes": "explodes",
    "stable": "is stable",
    "undecided": "may vanish or explode",
}

OF_WEIGHTS = ("spectral radius", "largest singular value × slope")
"""What weights alone can say, gate by gate."""


@record("gradients.LayerStability")
@dataclass(frozen=True, eq=False)
class LayerStability:
    """One recurrent layer in one direction; rates are in nats per timestep, above 0 where gradients grow."""

    name: str
    index: int
    direction: str
    kind: str
    """``"tanh"``, ``"relu"``, ``"identity"``, ``"lstm"`` or ``"gru"``."""
    eigenvalue_parts: Float[np.ndarray, "G N 2"]
    """Real and imaginary parts of the eigenvalues of each gate's ``W_h``; of ``W_p W_h`` where an LSTM projects."""
    singular_value: Float[np.ndarray, " G"]
    """The largest singular value of the same matrices."""
    exponents: Float[np.ndarray, "B K"]
    """The largest Lyapunov exponents of every sample, of the whole state: h, and c for the LSTM.

    ``-inf`` for a direction that a step loses altogether, NaN for a packed sample that ends before the transient.
    """
    error: Float[np.ndarray, " K"]
    """Finite-size error of the mean over the samples that keep the direction."""
    state_size: int
    time: int
    """Timesteps of the longest sequence."""
    passing: float
    """Mean of what passes a step: the nonlinearity's slope, the LSTM's forget gate, the GRU's update gate."""
    measured_slope: Float[np.ndarray, " B"] | None = None
    """Growth of ln ‖dL/dh_t‖ per step back, from a gradient flow."""
    is_last_only: bool = True
    """Whether that flow's loss enters at one timestep alone; only then is its slope one of the recurrence."""

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates' names in the order of their rows in ``W_h``; one empty name for a layer without."""
        return GATES.get(self.kind, ("",))

    @property
    def eigenvalues(self) -> Complex[np.ndarray, "G N"]:
        """Eigenvalues of each gate's ``W_h``."""
        return self.eigenvalue_parts[..., 0] + 1j * self.eigenvalue_parts[..., 1]

    @property
    def spectral_radius(self) -> Float[np.ndarray, " G"]:
        """The largest absolute eigenvalue of each gate's ``W_h``.

        It says how ``W_h^n`` grows in the end. Unless ``W_h`` is normal it bounds no step and no finite product; of the
        nonlinearity it knows nothing.
        """
        return np.abs(self.eigenvalues).max(axis=1)

    @property
    def gain_bound(self) -> Float[np.ndarray, " G"]:
        """The largest singular value times the steepest slope.

        For a layer without gates it bounds every step, ``‖J_t‖ <= gamma sigma_max(W_h)``: below 1, the gradient has to
        vanish. For a gate it bounds what passes through that gate's argument.
        """
        return self.singular_value * np.array([SLOPE_BOUND[gate] for gate in self.gates])

    @property
    def samples(self) -> int:
        """How many samples outlast the transient."""
        return int((~np.isnan(self.exponents[:, 0])).sum())

    @property
    def kept(self) -> Int[np.ndarray, " K"]:
        """How many samples keep each direction: in the others, a step loses it altogether."""
        return np.isfinite(self.exponents).sum(axis=0)

    @property
    def dead(self) -> int:
        """How many samples have a step that nothing survives."""
        return self.samples - int(self.kept[0])

    @property
    def spectrum(self) -> Float[np.ndarray, " K"]:
        """Lyapunov exponents, largest first: the mean over the samples that keep the direction.

        ``-inf`` where more than half of the samples lose it; :attr:`kept` counts the others.
        """
        return mean_of_kept(self.exponents)

    @property
    def mean_slope(self) -> tuple[float, float]:
        """The measured slope, mean over the samples that have one, and its standard error; NaN for none."""
        known = (
            np.zeros(0)
            if self.measured_slope is None
            else self.measured_slope[np.isfinite(self.measured_slope)]
        )
        if not len(known):
            return math.nan, math.nan
        return float(known.mean()), float(known.std(ddof=1) / math.sqrt(len(known))) if len(
            known
        ) > 1 else math.nan

    @property
    def rates(self) -> tuple[tuple[str, Float[np.ndarray, " N"], Float[np.ndarray, " N"]], ...]:
        """All in nats per timestep: what it is, its values by gate or by rank, and their errors, NaN for none."""
        with np.errstate(divide="ignore"):
            of_weights = np.log([self.spectral_radius, self.gain_bound])
        rows = [
            (name, values, np.full(len(values), np.nan))
            for name, values in zip(OF_WEIGHTS, of_weights, strict=True)
        ]
        rows.append(("Lyapunov exponents", self.spectrum, self.error))
        if self.measured_slope is not None:
            slope, error = self.mean_slope
            rows.append(("measured slope", np.array([slope]), np.array([error])))
        return tuple(rows)

    @property
    def counts(self) -> dict[str, list[int]]:
        """How many samples each measured rate is the mean of, by its name in :attr:`rates`."""
        found = {"Lyapunov exponents": [int(count) for count in self.kept]}
        if self.measured_slope is not None:
            found["measured slope"] = [int(np.isfinite(self.measured_slope).sum())]
        return found

    @property
    def regime(self) -> Regime:
        """What the largest Lyapunov exponent says of this length: the interval of ± 2 errors has to say so entirely.

        The exponent is that of the samples that keep it; :attr:`dead` counts the others.
        """
        rate, margin, limit = self.spectrum[0], 2 * self.error[0], math.log(KEEPS) / self.time
        if rate + margin < -limit:
            return "vanishes"
        if rate - margin > limit:
            return "explodes"
        return "stable" if abs(rate) + margin <= limit else "undecided"

    @property
    def cures(self) -> tuple[Cure, ...]:
        """What is likely to help, each with the number that suggests it; nothing where nothing is wrong."""
        rate = float(self.spectrum[0])
        return cures(self.kind, self.regime, rate, passing=self.passing, time=self.time)

    @property
    def title(self) -> str:
        """Name, layer and direction."""
        return f"{self.name}[{self.index}]" + (" reverse" if self.direction == "reverse" else "")


@record("gradients.Stability")
@dataclass(frozen=True, eq=False)
class Stability(Sounding):
    """What predicts the fate of the gradient, side by side with what happens to it. Made by :func:`stability`."""

    layers: tuple[LayerStability, ...]

    @property
    def verdict(self) -> Verdict:
        """Per layer: the regime, the exponent, what the weights alone would have said, the slope, and likely cures."""
        return Verdict("; ".join(f"{layer.title}: {_description(layer)}" for layer in self.layers))

    def table(self) -> "pd.DataFrame":
        """One row per layer and quantity.

        Columns: ``layer``, ``quantity``, ``of`` (the gate, or the exponent's rank), ``nats_per_step`` (of the spectral
        radius and of the singular value, their logarithm), ``error`` (in the same unit; NaN for none), ``samples`` (how
        many the mean was taken over; 0 for what comes of the weights alone).
        """
        import pandas as pd

        rows = []
        for layer in self.layers:
            for name, values, errors in layer.rates:
                of = layer.gates if name in OF_WEIGHTS else [str(i + 1) for i in range(len(values))]
                samples = layer.counts.get(name, [0] * len(values))
                rows += [
                    (layer.title, name, *row)
                    for row in zip(of, values, errors, samples, strict=True)
                ]
        return pd.DataFrame(
            rows, columns=["layer", "quantity", "of", "nats_per_step", "error", "samples"]
        )

    def drawing(self, layer: int = -1) -> Drawing:
        """Return the eigenvalues beside the unit circle, and the predicted and measured rates."""
        chosen = chosen_layer(self.layers, layer)
        return stability_drawing(
            f"{chosen.title}: why the gradient {_REGIMES[chosen.regime]}",
            dict(zip(chosen.gates, chosen.eigenvalues, strict=True)),
            chosen.rates,
            least_range=2 * math.log(KEEPS) / chosen.time,
        )


def _description(layer: LayerStability) -> str:
    """The regime, the numbers side by side, and the cures."""
    rate, error = layer.spectrum[0], layer.error[0]
    number = f"Lyapunov exponent {decimals(rate, '+.3f')} ± {error:.3f} nats per timestep"
    if np.isneginf(rate):
        number = "Lyapunov exponent minus infinity"
    match layer.regime:
        case "vanishes":
            shrinking = f", shrinking {fold(-rate)}-fold per step back"
            said = "the gradient vanishes" + ("" if np.isneginf(rate) else shrinking)
        case "explodes":
            said = f"the gradient explodes, {fold(rate)}-fold per step back"
        case "stable":
            said = f"the gradient is stable: it changes less than {KEEPS:.0f}-fold over {layer.time} timesteps"
        case _:
            said = "undecided, since the error leaves it open; a longer sequence or more samples would tell"
    if layer.dead and layer.dead < layer.samples:
        largest = layer.exponents[:, 0]
        others = (
            f"the others have exponent {decimals(largest[np.isfinite(largest)].mean(), '+.3f')}"
        )
        others = others if np.isneginf(rate) else f"in the others {said}"
        said = f"in {layer.dead} of {layer.samples} samples nothing survives a step; {others}"
    parts = [f"{said} ({number}", *([] if layer.kind in PASSES else [_of_radius(layer)])]
    if layer.measured_slope is not None:
        slope, of_slope = layer.mean_slope
        spread = "" if math.isnan(of_slope) else f" ± {of_slope:.3f}"
        other = "" if layer.is_last_only else ", of a loss that enters at many timesteps"
        told = (
            "the flow has no slope here"
            if math.isnan(slope)
            else f"the flow's slope is {decimals(slope, '+.3f')}{spread}{other}"
        )
        parts.append(told)
    cures = f". What may help: {'; '.join(map(str, layer.cures))}" if layer.cures else ""
    return ", ".join(parts) + ")" + cures


def _of_radius(layer: LayerStability) -> str:
    """What weights alone would have said, and where that is wrong, why."""
    radius, bound = float(layer.spectral_radius[0]), float(layer.gain_bound[0])
    number = f"spectral radius {radius:.3f}"
    if layer.regime == "vanishes" and bound < 1:
        return f"{number}, and {bound:.3f}-fold at most in any step"
    if layer.regime == "explodes" and radius < 1:
        return f"{number}, which is no reason to vanish: W_h is not normal and a step can grow {bound:.3g}-fold"
    if layer.regime == "vanishes" and radius > 1:
        return f"{number}, which is no reason to explode: the slope of {layer.kind} averages {layer.passing:.2g}"
    return number


def stability(
    layer: nn.RNNBase | Network,
    x: Tensor | PackedSequence,
    flow: GradientFlow | None = None,
    *,
    hx: Tensor | tuple[Tensor, Tensor] | None = None,
    name: str | None = None,
    vectors: int | None = None,
    transient: int | None = None,
    seed: int = 0,
) -> Stability:
    """Why gradients vanish or explode in a recurrent layer, along the states that inputs drive it through.

    Side by side, in nats per timestep: the spectral radius of ``W_h``, its largest singular value times the
    nonlinearity's steepest slope, the Lyapunov spectrum of the whole state, and the measured slope of a gradient flow.
    For a loss at the last timestep and generic weights, the slope tends to the largest exponent; the other two are what
    weights alone can say.

    Args:
        layer: ``torch.nn.RNN``, ``LSTM``, ``GRU``, or one of :mod:`leadline.recurrent`; nothing of it changes.
        x: inputs, laid out as the layer takes them.
        flow: a gradient flow of a model with this layer, whose slope is set beside the predictions.
        hx: initial states, for torch's modules; zero without.
        name: this layer's name in ``flow``, where the flow knows several modules.
        vectors: how many exponents; without, the whole spectrum of up to 64 numbers of state, else the 16 largest.
        transient: first timesteps that are left out of the exponents; without, a fifth of the sequence.
        seed: draws the first tangent vectors.

    Raises:
        InputError: no recurrent layer, inputs of another width, an empty batch, more vectors than the state has
            numbers, a transient that leaves no timestep, or a flow in which the layer is not found.

    >>> from leadline import gradients, recurrent
    >>> network, x = recurrent.presets.zero_radius_that_explodes(time=20)
    >>> (found,) = gradients.stability(network, x).layers
    >>> bool(found.spectral_radius[0] < 1e-6), found.regime, f"{math.exp(found.spectrum[0]):.3f}"
    (True, 'explodes', '2.000')

    References: Pascanu, Mikolov & Bengio, *On the difficulty of training recurrent neural networks*, 2013 (its bound
    holds with the largest singular value, not with the largest eigenvalue); Engelken, Wolf & Abbott, *Lyapunov spectra
    of chaotic recurrent neural networks*, 2023.
    """
    vectors = checks.optional_whole_number(vectors, "vectors", least=1)
    transient = checks.optional_whole_number(transient, "transient", least=0)
    seed = checks.seed(seed)
    name = None if name is None else checks.text(name, "name")
    flow = (
        None
        if flow is None
        else checks.instance(flow, "flow", GradientFlow, cure="tape.gradient_flow(loss)")
    )
    replayed = run_alone(layer, x, hx)
    passes = [one for found in replayed.layers for one in found]
    time = len(passes[0].record.h)
    size = passes[0].record.state_size
    vectors = (size if size <= 64 else 16) if vectors is None else vectors
    transient = time // 5 if transient is None else transient
    if vectors > size:
        raise InputError(
            "there are as many exponents as numbers of state",
            got=f"vectors = {vectors}, state of {size}",
        )
    if not passes[0].record.h.shape[1]:
        raise InputError(
            "stability is judged along at least one sequence", got="a batch of no sequences"
        )
    longest = time if replayed.lengths is None else int(replayed.lengths.max())
    if transient >= longest:
        raise InputError(
            "the transient leaves at least one timestep",
            got=f"transient = {transient} of {time} timesteps",
        )
    padding, layers = replayed.padding(), []
    for one in passes:
        spectrum = lyapunov(one.record, vectors, transient, replayed.lengths, seed=seed)
        measured = None if flow is None else _of_flow(flow, name, one)
        layers.append(
            LayerStability(
                name=name or (type(layer).__name__ if measured is None else measured.name),
                index=one.index,
                direction=one.direction,
                kind=one.record.cell.name,
                **_of_weights(one.record.weights),
                exponents=spectrum.exponents,
                error=spectrum.error,
                state_size=size,
                time=time,
                passing=_passing(one.record, padding),
                measured_slope=None if measured is None else measured.slope(),
                is_last_only=measured is None or _is_last_only(measured),
            )
        )
    settings = {
        "layer": type(layer).__name__,
        "time": time,
        "vectors": vectors,
        "transient": transient,
        "seed": seed,
    }
    return Stability(Protocol(settings, seeds=(seed,)), tuple(layers))


def _of_weights(weights: Weights) -> dict[str, np.ndarray]:
    """Eigenvalues and the largest singular value of each gate's matrix; what rounding makes of zero is zero."""
    matrices = _recurrences(weights)
    singular_value = torch.linalg.matrix_norm(matrices, 2).cpu().numpy()
    eigenvalues = torch.linalg.eigvals(matrices).cpu().numpy()
    rounding = np.finfo(float).eps * len(eigenvalues[0]) * singular_value[:, None]
    parts = (
        np.stack([eigenvalues.real, eigenvalues.imag], -1)
        * (np.abs(eigenvalues) > rounding)[..., None]
    )
    return {"eigenvalue_parts": parts, "singular_value": singular_value}


def _recurrences(weights: Weights) -> Float[Tensor, "G P P"]:
    """The square matrix of each gate, in float64: ``W_h``, or ``W_p W_h`` where the output is projected."""
    gates = weights.W_h.double().unflatten(0, (weights.gates, -1))
    return gates if weights.W_p is None else weights.W_p.double() @ gates


def _passing(record: Record, padding: Tensor | None) -> float:
    values = record.passing()
    return float(values.mean() if padding is None else values[~padding].mean())


def _of_flow(flow: GradientFlow, name: str | None, one: Pass) -> LayerFlow:
    found = [
        layer
        for layer in flow.layers
        if (layer.index, layer.direction, layer.call) == (one.index, one.direction, 0)
        and name in (None, layer.name)
    ]
    if len(found) != 1:
        raise InputError(
            "the flow shows this layer once",
            got=f"layer {one.index}, {one.direction}, in a flow of {', '.join(layer.title for layer in flow.layers)}",
            cause="the flow of another model"
            if not found
            else "several recurrent modules in one model",
            cure="trace a model that holds this layer"
            if not found
            else "tell the module's name: stability(..., name=)",
        )
    return found[0]


def _is_last_only(flow: LayerFlow) -> bool:
    """Whether the loss enters each sample's sequence at one timestep."""
    return bool((np.isfinite(flow.log_direct).sum(axis=1) <= 1).all())
