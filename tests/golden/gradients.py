"""Results of ``leadline.gradients`` and ``leadline.recurrent``, which were one package in 0.1."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from leadline import recurrent
from tests.golden.names import call, public
from tests.golden.values import columns

NETWORKS: dict[str, Any] = {
    "rnn": lambda: recurrent.RNN(1, 5, 2, seed=0),
    "relu": lambda: recurrent.RNN(1, 5, nonlinearity="relu", seed=1),
    "identity": lambda: recurrent.RNN(1, 5, nonlinearity="identity", seed=2),
    "lstm": lambda: recurrent.LSTM(1, 4, 2, seed=3),
    "gru": lambda: recurrent.GRU(1, 4, 2, seed=4),
}

LIBRARY: dict[str, Any] = {
    "nn.RNN": lambda: nn.RNN(2, 4, num_layers=2, batch_first=True),
    "nn.RNN bidirectional": lambda: nn.RNN(2, 3, nonlinearity="relu", bidirectional=True),
    "nn.LSTM": lambda: nn.LSTM(2, 4, num_layers=2, batch_first=True),
    "nn.LSTM bidirectional": lambda: nn.LSTM(2, 3, bidirectional=True, batch_first=True),
    "nn.GRU": lambda: nn.GRU(2, 4, num_layers=2, batch_first=True),
    "nn.LSTM projection": lambda: nn.LSTM(2, 5, proj_size=3, batch_first=True),
}


class Cells(nn.Module):
    """A loop over library cells, and a loop of a user's own."""

    def __init__(self, cell: nn.Module):
        super().__init__()
        self.cell = cell
        self.W = nn.Parameter(torch.empty(3, 3))

    def forward(self, x: Tensor) -> Tensor:
        mark = public("recurrent.record")
        h = x.new_zeros(len(x), 3)
        state: Any = (h, h) if isinstance(self.cell, nn.LSTMCell) else h
        own = h
        outputs = []
        for x_t in x.unbind(1):
            state = self.cell(x_t, state)
            h = state[0] if isinstance(state, tuple) else state
            own = mark(torch.tanh(own @ self.W + h), "own")
            outputs.append(own)
        return torch.stack(outputs, 1)


def filled(module: nn.Module, seed: int, dtype: torch.dtype) -> Any:
    """Draw all parameters from a generator."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.4 * drawn)
    return module.to(dtype)


def batch(features: int, dtype: torch.dtype, num: int = 3, time: int = 7) -> Tensor:
    """Draw inputs of shape (num, time, features)."""
    generator = torch.Generator().manual_seed(9)
    return torch.randn(num, time, features, generator=generator, dtype=torch.float64).to(dtype)


@contextmanager
def tape_of(model: nn.Module) -> Iterator[Any]:
    with public("recurrent.trace")(model) as tape:
        yield tape


def measured(model: nn.Module, outputs: Any, *, has_terms: bool = True) -> dict[str, Any]:
    """Measure flow, influence and weight terms of the losses of a model."""
    with tape_of(model) as tape:
        terms = outputs()
        flow = tape.gradient_flow(terms.sum())
        influence = tape.influence(terms)
        weights = tape.weight_terms(terms) if has_terms else None
    slopes = [layer.slope() for layer in flow.layers]
    horizons = [layer.horizon for layer in flow.layers]
    found = {"flow": flow, "influence": influence, "slopes": slopes, "horizons": horizons}
    if weights is not None:
        found["weight terms"] = weights
    return {**found, "tables": [columns(flow), columns(influence)]}


def networks() -> dict[str, Any]:
    """Measure the course's networks in both precisions."""
    found: dict[str, Any] = {}
    for name, make in NETWORKS.items():
        for dtype in (torch.float32, torch.float64):
            model = recurrent.Regression(make(), seed=5).to(dtype)
            x, y = (part.to(dtype) for part in recurrent.running_average(3, 8, seed=1))

            def losses(model=model, x=x, y=y) -> Tensor:
                return recurrent.mse(model(x)[0], y, per_step=True)

            found[f"{name} {str(dtype)[-2:]}"] = measured(model, losses)
    return found


def library() -> dict[str, Any]:
    """Measure torch's recurrent layers in both precisions."""
    found: dict[str, Any] = {}
    for name, make in LIBRARY.items():
        for dtype in (torch.float32, torch.float64):
            model = filled(make(), 3, dtype)
            x = batch(2, dtype)
            x = x if model.batch_first else x.transpose(0, 1)
            dimension = 1 if model.batch_first else 0

            def losses(model=model, x=x, keep=dimension) -> Tensor:
                output = model(x)[0].square()
                return output.mean([axis for axis in range(3) if axis != keep])

            has_terms = "projection" not in name
            found[f"{name} {str(dtype)[-2:]}"] = measured(model, losses, has_terms=has_terms)
    return found


def loops() -> dict[str, Any]:
    """Measure loops over cells, with a state that is marked."""
    found: dict[str, Any] = {}
    cells = {"RNNCell": nn.RNNCell, "LSTMCell": nn.LSTMCell, "GRUCell": nn.GRUCell}
    for name, cell in cells.items():
        model = filled(Cells(cell(2, 3)), 4, torch.float64)
        x = batch(2, torch.float64, time=5)
        with tape_of(model) as tape:
            terms = model(x).square().mean((0, 2))
            flow = tape.gradient_flow(terms.sum())
            influence = tape.influence(terms)
        found[name] = {"flow": flow, "influence": influence}
    return found


def stability() -> dict[str, Any]:
    """Measure stability, with and without a flow."""
    found: dict[str, Any] = {}
    for name, make in NETWORKS.items():
        network = make().double()
        x = batch(1, torch.float64, num=2, time=12)
        measured = call("recurrent.stability", network, x, seed=0)
        found[name] = measured
        found[f"{name} regimes"] = [layer.regime for layer in measured.layers]
        found[f"{name} table"] = columns(measured)
    layer = filled(nn.LSTM(2, 4, batch_first=True), 6, torch.float64)
    x = batch(2, torch.float64, time=12)
    with tape_of(layer) as tape:
        flow = tape.gradient_flow(layer(x)[0][:, -1].square().mean())
    found["with flow"] = call("recurrent.stability", layer, x, flow, vectors=3, transient=2)
    return found


def remedies() -> dict[str, Any]:
    """Measure all remedies of two models."""
    found: dict[str, Any] = {}
    for name in ("rnn", "lstm"):
        model = recurrent.Regression(NETWORKS[name](), seed=5).double()
        x, y = (part.double() for part in recurrent.running_average(3, 12, seed=1))

        def loss(model: Any, x=x, y=y) -> Tensor:
            return recurrent.mse(model(x)[0], y, last_only=True)

        after = call("recurrent.remedies", model, loss, window=4, seed=0)
        found[name] = {"before": after.before, "after": [remedy.flow for remedy in after.after]}
        found[f"{name} table"] = columns(after)
    return found


def training() -> dict[str, Any]:
    """Train networks of each cell, and compute the task."""
    found: dict[str, Any] = {}
    for name in ("rnn", "lstm", "gru"):
        models = [recurrent.Regression(NETWORKS[name](), seed=seed) for seed in range(2)]
        trained = call(
            "recurrent.train",
            models,
            seeds=[0, 1],
            time=6,
            steps=12,
            batch=8,
            lr=1e-2,
            evaluate_every=4,
        )
        found[name] = trained
        found[f"{name} weights"] = [dict(model.state_dict()) for model in models]
        found[f"{name} predictions"] = models[0](recurrent.running_average(2, 5, seed=3)[0])[0]
    owner = getattr(recurrent, "presets", recurrent.RNN)  # presets until 0.1
    network, x = owner.zero_radius_that_explodes(time=6)
    return {**found, "task": recurrent.running_average(2, 5, seed=3), "preset": [network, x]}


CASES = (networks, library, loops, stability, remedies, training)
