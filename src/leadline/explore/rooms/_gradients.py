"""The gradient room: an interactive recurrent network and the flow of its gradient."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from leadline import gradients, recurrent
from leadline.explore.page._room import Card, Room
from leadline.explore.page._settings import Between, Draw
from leadline.recurrent import Nonlinearity
from leadline.sounding import Sounding

BATCH = 8
"""Number of sequences in a batch; figures show the median over them."""

Sigma = Literal["none", "tanh", "ReLU"]


@dataclass(frozen=True)
class Settings:
    """Settings of a recurrent network, its input and its loss."""

    cell: Literal["RNN", "LSTM", "GRU"] = "RNN"
    """RNN: h_t = σ(W_h h_{t-1} + W_x x_t + b). LSTM and GRU have gates."""
    nonlinearity: Sigma = "tanh"
    """σ of the RNN; the gated cells have their own."""
    compare_with: Literal["nothing", "none", "tanh", "ReLU"] = "nothing"
    """The same RNN with another nonlinearity, drawn into the same figure."""
    hidden_size: Annotated[int, Between(1, 64)] = 16
    """H, numbers in a hidden state."""
    time: Annotated[int, Between(5, 200)] = 50
    """T, timesteps of a sequence."""
    layers: Annotated[int, Between(1, 4)] = 1
    """Recurrent layers, each reading the states of the one below; the top one's influence and stability are shown."""
    start: Literal["uniform", "orthogonal", "nilpotent"] = "uniform"
    """How W_h is made: uniform in ±1/√H; orthogonal, so that every eigenvalue has magnitude 1; or the ReLU network of
    two units whose eigenvalues are all 0 (recurrent.RNN.zero_radius_that_explodes)."""
    recurrent_scale: Annotated[float, Between(0, 5, 0.05)] = 1.0
    """Factor of W_h alone."""
    weight_scale: Annotated[float, Between(-5, 5, 0.05)] = 1.0
    """Factor of W_h and of W_x, in every layer."""
    bias_scale: Annotated[float, Between(-5, 5, 0.05)] = 1.0
    """Factor of the biases."""
    gate_bias: Annotated[float, Between(-2, 6, 0.1)] = 0.0
    """Added to the bias of the gate that keeps the past: the LSTM's forget gate, the GRU's update gate."""
    loss: Literal["last", "all"] = "last"
    """The mean squared error at the last timestep only, or its mean over all of them."""
    sample: Annotated[int, Draw("new sample")] = 0
    """Seed of the input sequences."""
    weights: Annotated[int, Draw("new weights")] = 0
    """Seed of the weights."""


SIGMA: dict[str, Nonlinearity] = {"none": "identity", "tanh": "tanh", "ReLU": "relu"}


def soundings(settings: Settings) -> Iterator[tuple[str, Sounding]]:
    """Yield the gradient flow, the stability of the top layer, and the influence of loss terms."""
    model, x, y = _built(settings, settings.nonlinearity)
    last_only = settings.loss == "last"
    with gradients.trace(model) as tape:
        predictions, _ = model(x)
    own = flow = tape.gradient_flow(recurrent.mse(predictions, y, last_only))
    if settings.compare_with != "nothing" and "compare_with" not in silent(settings):
        rival, _, _ = _built(settings, settings.compare_with)
        both = nn.ModuleDict(dict(zip(_names(settings), (model, rival), strict=True)))
        with gradients.trace(both) as tape_of_both:
            losses = [recurrent.mse(one(x)[0], y, last_only) for one in both.values()]
        flow = tape_of_both.gradient_flow(torch.stack(losses).sum())
    yield "flow", flow
    yield "stability", gradients.measure_stability(model.network, x, own, seed=settings.weights)
    yield "influence", tape.influence(recurrent.mse(predictions, y, per_step=True))


def _names(settings: Settings) -> tuple[str, str]:
    """Return the names of the two compared networks."""
    one, other = (
        "identity" if name == "none" else name
        for name in (settings.nonlinearity, settings.compare_with)
    )
    return one, other if other != one else f"{other} again"


def _built(settings: Settings, nonlinearity: str) -> tuple[recurrent.Regression, Tensor, Tensor]:
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
            if layer.cell.keeping_gate is not None:
                layer.b.chunk(layer.cell.num_gates)[layer.cell.keeping_gate.position] += s.gate_bias
    return model, x, y


def code(settings: Settings) -> str:
    """Return Python code that makes the same soundings."""
    s = settings
    fixed = settings.start == "nilpotent"

    def made(nonlinearity: str) -> str:
        if s.cell != "RNN":
            return f"recurrent.{s.cell}(1, {s.hidden_size}, {s.layers}, seed={s.weights})"
        return f'recurrent.RNN(1, {s.hidden_size}, {s.layers}, "{SIGMA[nonlinearity]}", seed={s.weights})'

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
    if s.cell != "RNN" and not fixed:
        gate = "forget" if s.cell == "LSTM" else "update"
        lines.append(
            f"            layer.b[layer.hidden_size : 2 * layer.hidden_size] += {s.gate_bias}  # of the {gate} gate"
        )
    lines += ["    return model", "", ""]
    if fixed:
        lines += [
            f"network, x = recurrent.RNN.zero_radius_that_explodes({s.time})",
            "y = torch.zeros_like(x)",
            "model = regression(network)",
        ]
    else:
        lines += [
            f"x, y = (part.double() for part in recurrent.running_average({BATCH}, {s.time}, seed={s.sample}))",
            f"model = regression({made(s.nonlinearity)})",
        ]
    last = ", last_only=True" if s.loss == "last" else ""
    lines += [
        "with gradients.trace(model) as tape:",
        "    predictions, _ = model(x)",
        f"flow = tape.gradient_flow(recurrent.mse(predictions, y{last}))",
        "influence = tape.influence(recurrent.mse(predictions, y, per_step=True))",
        f"stability = gradients.measure_stability(model.network, x, flow, seed={s.weights})",
    ]
    if s.compare_with != "nothing" and "compare_with" not in silent(s):
        one, other = _names(s)
        names = f'"{one}": model, "{other}": regression({made(s.compare_with)})'
        lines += [
            "",
            f"both = torch.nn.ModuleDict({{{names}}})",
            "with gradients.trace(both) as tape:",
            f"    losses = [recurrent.mse(one(x)[0], y{last}) for one in both.values()]",
            "flow = tape.gradient_flow(torch.stack(losses).sum())",
        ]
    lines += ["", "for sounding in (flow, stability, influence):", "    print(sounding)"]
    return "\n".join(lines) + "\n"


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


def still(*axes: str) -> dict[str, Any]:
    """Return a layout with fixed margins and few labels for the named axes.

    Plotly spends much time on automatic margins, and the figure would move when they change.
    """
    axis = {"automargin": False, "ticklabeloverflow": "allow", "nticks": 5, "ticks": ""}
    return {"margin": {"l": 70, "r": 12, "t": 28, "b": 84}} | {
        f"{name[0]}axis{name[1:]}": axis for name in axes
    }


def _all_notes(sounding: Any) -> str:
    """Return the notes of a sounding on every layer; the first notes contain the verdict."""
    return "; ".join(sounding.notes)


ROOM = Room(
    name="gradients",
    title="Where does the gradient die?",
    lead="A recurrent network predicts the running average of what it reads. Move what it is made of, and see how much "
    "of the loss's gradient arrives at each timestep, and why.",
    settings=Settings,
    cards={
        "flow": Card(
            "How much gradient arrives",
            360,
            wide=True,
            words=_all_notes,
            layout=still("x", "y", "x2", "y2"),
        ),
        "stability": Card(
            "Why", 380, lines=4, wide=True, words=_all_notes, layout=still("x", "y", "x2", "y2")
        ),
        "influence": Card(
            "What the loss at k tells the state at t", 420, wide=True, layout=still("x", "y")
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
