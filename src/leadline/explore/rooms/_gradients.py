"""The gradient room: a recurrent network with sliders, and the flow of its gradient."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from leadline import gradients, recurrent
from leadline.explore.page._room import Card, Room
from leadline.explore.page._settings import Between, Draw, Label
from leadline.recurrent import Nonlinearity
from leadline.sounding import Sounding

BATCH = 8
"""Number of sequences in a batch; the figures show the median over the batch."""

NonlinearityName = Literal["none", "tanh", "ReLU"]


@dataclass(frozen=True)
class Settings:
    """Settings of a recurrent network, its input and its loss."""

    cell: Literal["RNN", "LSTM", "GRU"] = "RNN"
    """Kind of recurrent cell. RNN: h_t = σ(W_h h_{t-1} + W_x x_t + b). LSTM and GRU have gates."""
    nonlinearity: NonlinearityName = "tanh"
    """Activation function σ of the RNN. LSTM and GRU have fixed activation functions."""
    compare_with: Literal["nothing", "none", "tanh", "ReLU"] = "nothing"
    """Activation function of a second RNN with the same weights. The first figure shows both."""
    hidden_size: Annotated[int, Between(1, 64)] = 16
    """Number of units H in a hidden state."""
    time: Annotated[int, Between(5, 200), Label("timesteps")] = 50
    """Length T of each input sequence."""
    layers: Annotated[int, Between(1, 4)] = 1
    """Number of recurrent layers. Each layer reads the states of the layer below. Stability and
    influence are shown for the top layer."""
    start: Annotated[Literal["uniform", "orthogonal", "nilpotent"], Label("initial W_h")] = (
        "uniform"
    )
    """Initialization of W_h. uniform: entries in ±1/√H. orthogonal: every eigenvalue has magnitude
    1. nilpotent: a ReLU network of two units; every eigenvalue is 0, but the gradient explodes."""
    recurrent_scale: Annotated[float, Between(0, 5, 0.05), Label("scale of W_h")] = 1.0
    """Factor that multiplies W_h only, in every layer."""
    weight_scale: Annotated[float, Between(-5, 5, 0.05), Label("scale of W_h and W_x")] = 1.0
    """Factor that multiplies W_h and W_x, in every layer."""
    bias_scale: Annotated[float, Between(-5, 5, 0.05), Label("scale of the biases")] = 1.0
    """Factor that multiplies all biases."""
    gate_bias: Annotated[float, Between(-2, 6, 0.1)] = 0.0
    """Number added to the bias of the LSTM's forget gate or of the GRU's update gate. A large value
    opens the gate, so the cell keeps its state."""
    loss: Annotated[Literal["last", "all"], Label("loss at timestep")] = "last"
    """Timesteps that enter the loss. last: the squared error at the last timestep. all: the mean
    over all timesteps."""
    sample: Annotated[int, Draw("new sample"), Label("input seed")] = 0
    """Seed of the random input sequences."""
    weights: Annotated[int, Draw("new weights"), Label("weight seed")] = 0
    """Seed of the random weights."""


SIGMA: dict[str, Nonlinearity] = {"none": "identity", "tanh": "tanh", "ReLU": "relu"}
"""Names of the activation functions in the library, by the names on the page."""


def soundings(settings: Settings) -> Iterator[tuple[str, Sounding]]:
    """Yield the gradient flow, the stability of the top layer, and the influence of loss terms."""
    model, x, y = _model_and_data(settings, settings.nonlinearity)
    last_only = settings.loss == "last"
    with gradients.trace(model) as tape:
        predictions, _ = model(x)
    flow = tape.gradient_flow(recurrent.mse(predictions, y, last_only))
    if _has_comparison(settings):
        other, _, _ = _model_and_data(settings, settings.compare_with)
        both = nn.ModuleDict(dict(zip(_names(settings), (model, other), strict=True)))
        with gradients.trace(both) as tape_of_both:
            losses = [recurrent.mse(network(x)[0], y, last_only) for network in both.values()]
        yield "flow", tape_of_both.gradient_flow(torch.stack(losses).sum())
    else:
        yield "flow", flow
    yield "stability", gradients.measure_stability(model.network, x, flow, seed=settings.weights)
    yield "influence", tape.influence(recurrent.mse(predictions, y, per_step=True))


def _has_comparison(settings: Settings) -> bool:
    """True if the first figure shows a second network."""
    return settings.compare_with != "nothing" and "compare_with" not in silent(settings)


def _names(settings: Settings) -> tuple[str, str]:
    """Return the names of the two compared networks."""
    first, second = (
        "identity" if name == "none" else name
        for name in (settings.nonlinearity, settings.compare_with)
    )
    return first, second if second != first else f"{second} again"


def _model_and_data(
    settings: Settings, nonlinearity: str
) -> tuple[recurrent.Regression, Tensor, Tensor]:
    """Return a network for the running average, its inputs and its targets, in float64."""
    s = settings
    if s.start == "nilpotent":
        network, x = recurrent.RNN.zero_radius_that_explodes(s.time)
        y = torch.zeros_like(x)
    else:
        x, y = (part.double() for part in recurrent.running_average(BATCH, s.time, seed=s.sample))
        if s.cell == "RNN":
            network = recurrent.RNN(1, s.hidden_size, s.layers, SIGMA[nonlinearity], seed=s.weights)
        else:
            network = {"LSTM": recurrent.LSTM, "GRU": recurrent.GRU}[s.cell](
                1, s.hidden_size, s.layers, seed=s.weights
            )
    model = recurrent.Regression(network, seed=s.weights).double()
    draw = torch.Generator().manual_seed(s.weights)
    with torch.no_grad():
        for layer in network.layers:
            if s.start == "orthogonal":
                for gate in layer.W_h.split(layer.hidden_size):
                    nn.init.orthogonal_(gate, generator=draw)
            layer.W_h.mul_(s.recurrent_scale * s.weight_scale)
            layer.W_x.mul_(s.weight_scale)
            layer.b.mul_(s.bias_scale)
            gate = layer.cell.keeping_gate
            if gate is not None:
                layer.b.chunk(layer.cell.num_gates)[gate.position].add_(s.gate_bias)
    return model, x, y


def code(settings: Settings) -> str:
    """Return Python code that makes the same soundings."""
    s = settings
    is_fixed_network = settings.start == "nilpotent"
    lines = ["import torch", "from leadline import gradients, recurrent", "", ""]
    lines += [
        "def regression(network):",
        f"    model = recurrent.Regression(network, seed={s.weights}).double()",
    ]
    if s.start == "orthogonal":
        lines.append(f"    draw = torch.Generator().manual_seed({s.weights})")
    lines += ["    with torch.no_grad():", "        for layer in network.layers:"]
    if s.start == "orthogonal":
        lines += [
            "            for gate in layer.W_h.split(layer.hidden_size):",
            "                torch.nn.init.orthogonal_(gate, generator=draw)",
        ]
    lines += [
        f"            layer.W_h.mul_({s.recurrent_scale} * {s.weight_scale})",
        f"            layer.W_x.mul_({s.weight_scale})",
        f"            layer.b.mul_({s.bias_scale})",
    ]
    if s.cell != "RNN" and not is_fixed_network:
        gate = "forget" if s.cell == "LSTM" else "update"
        gate_biases = "layer.b[layer.hidden_size : 2 * layer.hidden_size]"
        lines.append(f"            {gate_biases} += {s.gate_bias}  # of the {gate} gate")
    lines += ["    return model", "", ""]
    if is_fixed_network:
        lines += [
            f"network, x = recurrent.RNN.zero_radius_that_explodes({s.time})",
            "y = torch.zeros_like(x)",
            "model = regression(network)",
        ]
    else:
        data = f"recurrent.running_average({BATCH}, {s.time}, seed={s.sample})"
        lines += [
            f"x, y = (part.double() for part in {data})",
            f"model = regression({_network_code(s, s.nonlinearity)})",
        ]
    last = ", last_only=True" if s.loss == "last" else ""
    lines += [
        "with gradients.trace(model) as tape:",
        "    predictions, _ = model(x)",
        f"flow = tape.gradient_flow(recurrent.mse(predictions, y{last}))",
        "influence = tape.influence(recurrent.mse(predictions, y, per_step=True))",
        f"stability = gradients.measure_stability(model.network, x, flow, seed={s.weights})",
    ]
    if _has_comparison(s):
        first, second = _names(s)
        other = f"regression({_network_code(s, s.compare_with)})"
        lines += [
            "",
            f'both = torch.nn.ModuleDict({{"{first}": model, "{second}": {other}}})',
            "with gradients.trace(both) as tape:",
            f"    losses = [recurrent.mse(network(x)[0], y{last}) for network in both.values()]",
            "flow = tape.gradient_flow(torch.stack(losses).sum())",
        ]
    lines += ["", "for sounding in (flow, stability, influence):", "    print(sounding)"]
    return "\n".join(lines) + "\n"


def _network_code(s: Settings, nonlinearity: str) -> str:
    """Return the Python expression that makes the network."""
    if s.cell != "RNN":
        return f"recurrent.{s.cell}(1, {s.hidden_size}, {s.layers}, seed={s.weights})"
    sizes = f"1, {s.hidden_size}, {s.layers}"
    return f'recurrent.RNN({sizes}, "{SIGMA[nonlinearity]}", seed={s.weights})'


def silent(settings: Settings) -> Collection[str]:
    """Return the settings that have no effect on this network."""
    if settings.start == "nilpotent":
        return {
            "cell",
            "nonlinearity",
            "compare_with",
            "hidden_size",
            "layers",
            "gate_bias",
            "sample",
        }
    return {"gate_bias"} if settings.cell == "RNN" else {"nonlinearity", "compare_with"}


def fixed_layout(*axes: str) -> dict[str, Any]:
    """Return a layout with fixed margins and few labels for the named axes.

    Plotly needs much time for automatic margins, and a figure would move when its margins change.
    """
    axis = {"automargin": False, "ticklabeloverflow": "allow", "nticks": 5, "ticks": ""}
    return {"margin": {"l": 70, "r": 12, "t": 28, "b": 84}} | {
        f"{name[0]}axis{name[1:]}": axis for name in axes
    }


def _all_notes(sounding: Any) -> str:
    """Return the notes of a sounding on all layers; the first note is the verdict."""
    return "; ".join(sounding.notes)


ROOM = Room(
    name="gradients",
    title="Where does the gradient vanish or explode?",
    lead="A recurrent network predicts the running average of its inputs. Move the sliders, and "
    "see how much of the loss gradient arrives at each timestep, and why.",
    settings=Settings,
    cards={
        "flow": Card(
            "Gradient that arrives at each timestep",
            360,
            wide=True,
            words=_all_notes,
            layout=fixed_layout("x", "y", "x2", "y2"),
        ),
        "stability": Card(
            "Cause: the Jacobians of the recurrent layer",
            380,
            lines=4,
            wide=True,
            words=_all_notes,
            layout=fixed_layout("x", "y", "x2", "y2"),
        ),
        "influence": Card(
            "Influence: gradient of the loss at step k with respect to the state at step t",
            420,
            wide=True,
            layout=fixed_layout("x", "y"),
        ),
    },
    soundings=soundings,
    code=code,
    presets={
        "vanishing": Settings(),
        "exploding": Settings(nonlinearity="none", recurrent_scale=2.5),
        "stable": Settings(nonlinearity="none", start="orthogonal"),
        "ReLU against tanh": Settings(compare_with="ReLU", start="orthogonal", recurrent_scale=1.3),
        "spectral radius zero, yet exploding": Settings(start="nilpotent", time=30),
        "the LSTM's cell path": Settings(cell="LSTM", gate_bias=3.0),
        "loss at every step": Settings(loss="all"),
        "the course's notebook, 1.D": Settings(time=10, hidden_size=16),
    },
    groups={
        "Network": ("cell", "nonlinearity", "compare_with", "hidden_size", "layers", "weights"),
        "Weights": ("start", "recurrent_scale", "weight_scale", "bias_scale", "gate_bias"),
        "Task": ("time", "sample", "loss"),
    },
    silent=silent,
)
