"""Stability of recurrent layers: rates from weights and Jacobians, and the measured slope."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from leadline import checks
from leadline.errors import InputError
from leadline.figures import Drawing
from leadline.gradients.soundings._flow import LayerFlow
from leadline.gradients.soundings._flow_verdict import KEEPS
from leadline.gradients.soundings._gradient_flow import GradientFlow
from leadline.gradients.soundings._layer import chosen_layer, out_of
from leadline.gradients.soundings._layer_stability import FROM_WEIGHTS, LayerStability
from leadline.gradients.soundings._lyapunov import lyapunov
from leadline.gradients.soundings._stability_drawing import stability_drawing
from leadline.gradients.soundings._stability_verdict import describe_stability, stability_notes
from leadline.gradients.tracing._replay import Pass
from leadline.gradients.tracing._single_layer import run_alone
from leadline.recurrent import Network, Record, Weights
from leadline.sounding import Protocol, Sounding, Verdict
from leadline.storage import record

if TYPE_CHECKING:
    import pandas as pd

MOST_EXPONENTS = 64
"""A state with at most this many numbers gets its whole Lyapunov spectrum by default."""

FEW_EXPONENTS = 16
"""Default number of exponents of a larger state."""

TRANSIENT_PART = 5
"""By default, the exponents leave out the first 1 / TRANSIENT_PART of the sequence."""

_REGIMES = {
    "vanishes": "vanishes",
    "explodes": "explodes",
    "stable": "is stable",
    "undecided": "may vanish or explode",
}


@record("gradients.Stability")
@dataclass(frozen=True, eq=False)
class Stability(Sounding):
    """Rates that predict whether the gradient vanishes or explodes, and its measured slope.

    :func:`measure_stability` makes it and shows an example.
    """

    layers: tuple[LayerStability, ...]
    """The recurrent layers, from the bottom up; the forward direction comes first."""

    @property
    def fastest_layer(self) -> int:
        """Index of the layer whose gradient changes fastest, by its largest Lyapunov exponent."""
        return int(np.argmax([abs(layer.spectrum[0]) for layer in self.layers]))

    @property
    def verdict(self) -> Verdict:
        """The regime of the layer whose gradient changes fastest, with its Lyapunov exponent."""
        layer = self.layers[self.fastest_layer]
        rank = out_of(len(self.layers), "fastest")
        return Verdict(f"{layer.title}: {describe_stability(layer)}{rank}")

    @property
    def notes(self) -> tuple[str, ...]:
        """The regime, weights, measured slope, lost samples and advice of every layer."""
        return tuple(
            f"{layer.title}: {note}"
            for layer in self.layers
            for note in (describe_stability(layer), *stability_notes(layer))
        )

    def table(self) -> "pd.DataFrame":
        """Return one row per layer, quantity and gate or rank.

        Columns: ``layer``, ``quantity``, ``of`` (the gate, or the exponent's rank from 1),
        ``nats_per_step`` (for an eigenvalue or singular value, its logarithm), ``error`` (in the
        same unit; NaN for none), ``samples`` (number of samples in the mean; 0 for a rate that
        depends on the weights alone).
        """
        import pandas as pd

        rows = []
        for layer in self.layers:
            for rate in layer.rates:
                ranks = [str(i + 1) for i in range(len(rate.values))]
                of = layer.gates if rate.name in FROM_WEIGHTS else ranks
                columns = zip(of, rate.values, rate.errors, rate.samples, strict=True)
                rows += [(layer.title, rate.name, *row) for row in columns]
        names = ["layer", "quantity", "of", "nats_per_step", "error", "samples"]
        return pd.DataFrame(rows, columns=names)

    def drawing(self, layer: int = -1) -> Drawing:
        """Return the eigenvalues beside the unit circle, and the predicted and measured rates.

        Args:
            layer: index of the layer; by default the last one. Negative numbers count from the end.

        Raises:
            InputError: ``layer`` is out of range.
        """
        chosen = chosen_layer(self.layers, layer)
        return stability_drawing(
            f"{chosen.title}: why the gradient {_REGIMES[chosen.regime]}",
            dict(zip(chosen.gates, chosen.eigenvalues, strict=True)),
            [(rate.name, rate.values, rate.errors) for rate in chosen.rates],
            least_range=2 * math.log(KEEPS) / chosen.time,
        )


def measure_stability(
    layer: nn.RNNBase | Network,
    x: Tensor | PackedSequence,
    flow: GradientFlow | None = None,
    *,
    hx: Tensor | tuple[Tensor, Tensor] | None = None,
    name: str | None = None,
    num_exponents: int | None = None,
    transient: int | None = None,
    seed: int = 0,
) -> Stability:
    """Measure why gradients vanish or explode in a recurrent layer.

    The Jacobians are those along the states that the inputs produce.

    The result compares four rates, in nats per timestep: the spectral radius of ``W_h``, its
    largest singular value times the steepest slope of the nonlinearity, the Lyapunov exponents of
    the whole state, and the measured slope of a gradient flow. For a loss at the last timestep and
    generic weights, the slope tends to the largest exponent. The first two rates depend on the
    weights alone.

    Args:
        layer: ``torch.nn.RNN``, ``LSTM``, ``GRU``, or a network of :mod:`leadline.recurrent`; it
            stays unchanged.
        x: inputs in the layout that the layer expects: (batch, time, inputs) for a network of
            :mod:`leadline.recurrent` or with ``batch_first=True``, otherwise (time, batch, inputs).
        flow: a gradient flow of a model that contains this layer; its slope is compared with the
            predictions.
        hx: initial states of torch's modules, each of shape (layers x directions, batch, size):
            h_0, or the pair (h_0, c_0) for an LSTM; zero by default.
        name: this layer's name in ``flow``; necessary if the flow contains several modules.
        num_exponents: number of Lyapunov exponents, from 1 to the size of the state; by default all
            of a state of up to 64 numbers, otherwise the 16 largest.
        transient: number of first timesteps that the exponents leave out, at least 0; by default a
            fifth of the sequence.
        seed: seed of the first tangent vectors.

    Returns:
        The rates of every layer and direction.

    Raises:
        InputError: ``layer`` is not a recurrent layer, the inputs have another width, the batch is
            empty, ``num_exponents`` exceeds the size of the state, ``transient`` leaves no
            timestep, or ``flow`` does not contain the layer exactly once.

    >>> from leadline import gradients, recurrent
    >>> network, x = recurrent.RNN.zero_radius_that_explodes(time=20)
    >>> (layer,) = gradients.measure_stability(network, x).layers
    >>> bool(layer.spectral_radius[0] < 1e-6), layer.regime, f"{math.exp(layer.spectrum[0]):.3f}"
    (True, 'explodes', '2.000')

    References: Pascanu, Mikolov & Bengio, *On the difficulty of training recurrent neural
    networks*, 2013 (its bound holds for the largest singular value, not for the largest
    eigenvalue); Engelken, Wolf & Abbott, *Lyapunov spectra of chaotic recurrent neural networks*,
    2023.
    """
    num_exponents = checks.optional_whole_number(num_exponents, "num_exponents", least=1)
    transient = checks.optional_whole_number(transient, "transient", least=0)
    seed = checks.seed(seed)
    if name is not None:
        name = checks.text(name, "name")
    if flow is not None:
        flow = checks.instance(flow, "flow", GradientFlow, cure="tape.gradient_flow(loss)")
    replayed = run_alone(layer, x, hx)
    passes = [part for parts in replayed.layers for part in parts]
    time = len(passes[0].record.h)
    state_size = passes[0].record.state_size
    if num_exponents is None:
        num_exponents = state_size if state_size <= MOST_EXPONENTS else FEW_EXPONENTS
    if num_exponents > state_size:
        raise InputError(
            "num_exponents must be at most the size of the state",
            got=f"num_exponents = {num_exponents}, state of {state_size}",
        )
    if not passes[0].record.h.shape[1]:
        raise InputError(
            "measure_stability() needs at least one sequence", got="x, a batch of 0 sequences"
        )
    if transient is None:
        transient = time // TRANSIENT_PART
    longest = time if replayed.lengths is None else int(replayed.lengths.max())
    if transient >= longest:
        raise InputError(
            "transient must leave at least one timestep",
            got=f"transient = {transient} of {time} timesteps",
        )
    padding = replayed.padding()
    layers = []
    for part in passes:
        spectrum = lyapunov(part.record, num_exponents, transient, replayed.lengths, seed=seed)
        measured = None if flow is None else _layer_of(flow, name, part)
        layers.append(
            LayerStability(
                name=name or (type(layer).__name__ if measured is None else measured.name),
                index=part.index,
                direction=part.direction,
                kind=part.record.cell.name,
                call=0,
                **_weight_rates(part.record.weights),
                exponents=spectrum.exponents,
                error=spectrum.error,
                state_size=state_size,
                time=time,
                passing=_pass_through(part.record, padding),
                measured_slope=None if measured is None else measured.slope(),
                is_last_only=measured is None or _enters_once(measured),
            )
        )
    settings = {
        "layer": type(layer).__name__,
        "time": time,
        "num_exponents": num_exponents,
        "transient": transient,
        "seed": seed,
    }
    return Stability(Protocol(settings, seeds=(seed,)), tuple(layers))


def _weight_rates(weights: Weights) -> dict[str, Any]:
    """Return eigenvalues and the largest singular value of each gate's matrix.

    An eigenvalue that rounding alone makes different from zero becomes zero.
    """
    matrices = _recurrences(weights)
    singular_value = torch.linalg.matrix_norm(matrices, 2).cpu().numpy()
    eigenvalues = torch.linalg.eigvals(matrices).cpu().numpy()
    rounding = np.finfo(float).eps * len(eigenvalues[0]) * singular_value[:, None]
    is_known = np.abs(eigenvalues) > rounding
    parts = np.stack([eigenvalues.real, eigenvalues.imag], -1) * is_known[..., None]
    return {"eigenvalue_parts": parts, "singular_value": singular_value}


def _recurrences(weights: Weights) -> Float[Tensor, "G P P"]:
    """Return each gate's square matrix in float64: ``W_h``, or ``W_p W_h`` with a projection."""
    gates = weights.W_h.double().unflatten(0, (weights.num_gates, -1))
    return gates if weights.W_p is None else weights.W_p.double() @ gates


def _pass_through(record: Record, padding: Tensor | None) -> float:
    """Return the mean factor that passes the state on; see ``LayerStability.passing``."""
    values = record.passing()
    return float(values.mean() if padding is None else values[~padding].mean())


def _layer_of(flow: GradientFlow, name: str | None, part: Pass) -> LayerFlow:
    """Return the flow of one layer and direction.

    Raises:
        InputError: the flow contains no such layer, or several.
    """
    matches = [
        layer
        for layer in flow.layers
        if (layer.index, layer.direction, layer.call) == (part.index, part.direction, 0)
        and name in (None, layer.name)
    ]
    if len(matches) == 1:
        return matches[0]
    cause = "several recurrent modules in one model"
    cure = "pass the module's name: measure_stability(..., name=)"
    if not matches:
        cause = "the flow of another model"
        cure = "trace a model that contains this layer"
    titles = ", ".join(layer.title for layer in flow.layers)
    raise InputError(
        "flow must contain the measured layer exactly once",
        got=f"layer {part.index}, {part.direction}; flow contains {titles}",
        cause=cause,
        cure=cure,
    )


def _enters_once(flow: LayerFlow) -> bool:
    """True if the loss enters each sample's sequence at one timestep at most."""
    return bool((np.isfinite(flow.log_direct).sum(axis=1) <= 1).all())
