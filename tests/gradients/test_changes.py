"""Tensors and weights count as they were at the call, and reading them changes nothing."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from leadline import InputError, gradients, recurrent


def seeded(make: Callable[[], nn.Module]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Changes in place ---------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[Tensor], object]] = {
    "mul_": lambda x: x.mul_(0.1),
    "ReLU": nn.ReLU(inplace=True),
    "a view": lambda x: x[-1].mul_(0.1),
    "a flat view": lambda x: x.flatten()[:3].zero_(),
    "detach_": lambda x: x.detach_(),
    "copy_": lambda x: x.copy_(torch.zeros_like(x)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("kind", "which"), [("lstm", "output"), ("lstm", "h_n"), ("lstm", "c_n"), ("gru", "h_n")]
)
def test_the_refusal_of_an_output_changed_in_place_names_it(kind, which, change):
    module, x = seeded(lambda: (nn.LSTM if kind == "lstm" else nn.GRU)(3, 4, 2)), draw(5, 2, 3)
    with gradients.trace(module) as tape:
        output, last = module(x)
        returned = {"output": output, "h_n": last[0] if kind == "lstm" else last, "c_n": last[-1]}
        CHANGES[change](returned[which])
        loss = torch.stack([part.sum() for part in returned.values() if part.requires_grad]).sum()
    for ask in (
        tape.gradient_flow,
        lambda loss: tape.influence(loss.reshape(1)),
        tape.weight_terms,
    ):
        with pytest.raises(
            InputError, match=f"{kind.upper()}: its .*{which} .*was changed in place"
        ):
            ask(loss)


@pytest.mark.parametrize("which", ["input", "initial state h", "initial state c"])
def test_the_refusal_of_an_input_changed_in_place_names_it(which):
    module, x = seeded(lambda: nn.LSTM(3, 4)), draw(5, 2, 3)
    given = {"input": x, "initial state h": draw(1, 2, 4), "initial state c": draw(1, 2, 4, seed=1)}
    with gradients.trace(module) as tape:
        loss = module(x, (given["initial state h"], given["initial state c"]))[0].sum()
        given[which].add_(1)
    with pytest.raises(InputError, match=f"its {which} was changed in place"):
        tape.gradient_flow(loss)


def test_the_monitor_refuses_changes_in_place_too():
    module, x = seeded(lambda: nn.LSTM(3, 4)), draw(5, 2, 3)
    monitor = gradients.GradientMonitor(module, write=lambda *_: None)

    def look() -> None:
        with monitor.step():
            _, (h_n, _) = module(x)
            h_n.mul_(0.1).sum().backward()

    with pytest.raises(InputError, match="its h_n was changed in place"):
        look()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "make", [lambda: nn.GRU(3, 4), lambda: nn.RNNCell(3, 4), lambda: recurrent.GRU(3, 4, seed=0)]
)
def test_changed_weights_are_refused_in_every_precision(make, dtype):
    module, x = seeded(make).to(dtype), draw(2, 3).to(dtype)
    x = x if isinstance(module, nn.RNNCell) else x.expand(2, 2, 3)
    with gradients.trace(module) as tape:
        returned = module(x)
        loss = (returned[0] if isinstance(returned, tuple) else returned).float().sum()
    (weight,) = [p for name, p in module.named_parameters() if "W_h" in name or "weight_hh" in name]
    with torch.no_grad():
        weight *= -1
    with pytest.raises(InputError, match="queried before the weights change"):
        tape.gradient_flow(loss)


# Weights as they were at the call -----------------------------------------------------------------


class WeightDrop(nn.Module):
    """A layer as in AWD-LSTM: each call applies dropout to the recurrent weights."""

    def __init__(self, module: nn.Module, name: str):
        super().__init__()
        self.module, self.name = module, name
        raw = getattr(module, name)
        del module._parameters[name]
        module.register_parameter(f"{name}_raw", nn.Parameter(raw.data))

    def forward(self, *given):
        raw = getattr(self.module, f"{self.name}_raw")
        setattr(self.module, self.name, nn.functional.dropout(raw, 0.5, training=True))
        return self.module(*given)


@pytest.mark.parametrize("is_cell", [False, True])
def test_weights_with_dropout_are_those_of_the_call(is_cell):
    make = (lambda: nn.RNNCell(3, 4)) if is_cell else (lambda: nn.RNN(3, 4))
    name = "weight_hh" if is_cell else "weight_hh_l0"
    model, x = seeded(lambda: WeightDrop(make(), name)), draw(6, 2, 3)
    used: list[Tensor] = []
    with torch.random.fork_rng():
        torch.manual_seed(3)
        with gradients.trace(model) as tape:
            losses = []
            for _ in range(2):
                if is_cell:
                    h: Any = None
                    for x_t in x:
                        h = model(x_t, h) if h is not None else model(x_t)
                        used.append(getattr(model.module, name))
                else:
                    h = model(x)[0][-1]
                    used.append(getattr(model.module, name))
                losses.append(h.square().sum())
            loss = losses[0] + 2 * losses[1]
    flow = tape.gradient_flow(loss)
    assert [layer.call for layer in flow.layers] == [0, 1]
    suffix = "" if is_cell else "_l0"
    W_ih, b_ih, b_hh = (
        getattr(model.module, f"{part}{suffix}") for part in ("weight_ih", "bias_ih", "bias_hh")
    )
    for call, (layer, factor) in enumerate(zip(flow.layers, (1, 2), strict=True)):
        states, inputs = [], [x_t.clone().requires_grad_() for x_t in x]
        h = x.new_zeros(2, 4)
        for t, x_t in enumerate(inputs):
            W_hh = used[call * 6 + t] if is_cell else used[call]
            h = torch.tanh(x_t @ W_ih.T + b_ih + h @ W_hh.detach().T + b_hh)
            states.append(h)
        arrived = torch.autograd.grad(factor * h.square().sum(), [*states, *inputs])
        norms = [gradient.norm(dim=-1) for gradient in arrived]
        np.testing.assert_allclose(layer.total.T, torch.stack(norms[:6]), rtol=1e-9)
        np.testing.assert_allclose(np.exp(layer.log_input).T, torch.stack(norms[6:]), rtol=1e-9)


def test_weights_of_a_functional_call_are_used():
    module, x = seeded(lambda: nn.GRUCell(3, 4)), draw(5, 2, 3)
    weights = {name: (2 * p).detach().requires_grad_() for name, p in module.named_parameters()}
    with gradients.trace(module) as tape:
        h = x.new_zeros(2, 4)
        for x_t in x:
            h = torch.func.functional_call(module, weights, (x_t, h))
        flow = tape.gradient_flow(h.square().sum())
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(weights[name])
    with gradients.trace(module) as tape:
        h = x.new_zeros(2, 4)
        for x_t in x:
            h = module(x_t, h)
        right = tape.gradient_flow(h.square().sum())
    np.testing.assert_allclose(flow.layers[0].log_total, right.layers[0].log_total, rtol=1e-12)
    np.testing.assert_allclose(flow.layers[0].log_input, right.layers[0].log_input, rtol=1e-12)


# Parametrizations: watching changes nothing -------------------------------------------------------


class Counted(nn.Module):
    """A parametrization whose buffer counts how often it is read."""

    def __init__(self):
        super().__init__()
        self.register_buffer("reads", torch.zeros(()))

    def forward(self, W):
        self.reads += 1
        return W * (1 + 0.01 * self.reads)


class Noisy(nn.Module):
    """A parametrization that draws from the global generator."""

    def forward(self, W):
        return W + 0.01 * torch.randn_like(W)


PARAMETRIZE: dict[str, Callable[[nn.Module, str], object]] = {
    "spectral_norm": parametrizations.spectral_norm,
    "weight_norm": parametrizations.weight_norm,
    "orthogonal": lambda module, name: parametrizations.orthogonal(module, name),
    "counted": lambda module, name: nn.utils.parametrize.register_parametrization(
        module, name, Counted()
    ),
    "noisy": lambda module, name: nn.utils.parametrize.register_parametrization(
        module, name, Noisy()
    ),
    "old spectral_norm": lambda module, name: nn.utils.spectral_norm(module, name),
}


class Loop(nn.Module):
    def __init__(self, cell: nn.Module):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        state = None
        for x_t in x:
            state = self.cell(x_t, state)
        return state[0] if isinstance(state, tuple) else state


class Whole(nn.Module):
    def __init__(self, rnn: nn.Module):
        super().__init__()
        self.rnn = rnn

    def forward(self, x):
        return self.rnn(x)[0][-1]


MODELS: dict[str, Callable[[], tuple[nn.Module, nn.Module, str]]] = {
    "lstm": lambda: (lambda rnn: (Whole(rnn), rnn, "weight_hh_l0"))(nn.LSTM(3, 4)),
    "rnn": lambda: (lambda rnn: (Whole(rnn), rnn, "weight_ih_l0"))(nn.RNN(3, 4)),
    "lstm cell": lambda: (lambda cell: (Loop(cell), cell, "weight_hh"))(nn.LSTMCell(3, 4)),
    "gru cell": lambda: (lambda cell: (Loop(cell), cell, "weight_hh"))(nn.GRUCell(3, 4)),
    "own": lambda: (lambda rnn: (Whole(rnn), rnn.layers[0], "W_h"))(recurrent.RNN(3, 4, seed=0)),
}


def parametrized(model: str, how: str) -> Any:
    def make() -> nn.Module:
        whole, inner, name = MODELS[model]()
        with warnings.catch_warnings():
            # The old spectral_norm is deprecated.
            warnings.simplefilter("ignore", FutureWarning)
            PARAMETRIZE[how](inner, name)
        return whole

    return seeded(make)


def trained(model: nn.Module, watch: str) -> dict[str, Tensor]:
    """The state of a model after three steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = gradients.GradientMonitor(model, every=1, write=lambda *_: None)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for step in range(3):
            x = draw(6, 2, 3, seed=step)
            optimizer.zero_grad()
            if watch == "monitor":
                with monitor.step():
                    model(x).square().sum().backward()
            elif watch == "tape":
                with gradients.trace(model) as tape:
                    loss = model(x).square().sum()
                tape.gradient_flow(loss)
                tape.influence(loss.reshape(1))
                loss.backward()
            else:
                model(x).square().sum().backward()
            optimizer.step()
        state = {name: value.clone() for name, value in model.state_dict().items()}
        return state | {"generator": torch.get_rng_state()}


REPRODUCIBLE_IN_A_LOOP = ("weight_norm", "orthogonal")
"""Parametrizations that give a loop the same weight in every step."""

WATCHED = [
    (model, how)
    for model in MODELS
    for how in PARAMETRIZE
    if model != "own" or how in REPRODUCIBLE_IN_A_LOOP
]


@pytest.mark.parametrize("watch", ["monitor", "tape"])
@pytest.mark.parametrize(("model", "how"), WATCHED)
@pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk")
def test_a_monitor_does_not_change_training(model, how, watch):
    one, other = parametrized(model, how), parametrized(model, how)
    found, expected = trained(one, watch), trained(other, "nothing")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("how", ["spectral_norm", "weight_norm", "orthogonal", "counted"])
@pytest.mark.parametrize("model", ["lstm", "lstm cell", "gru cell"])
def test_parametrized_weights_are_those_that_the_call_used(model, how):
    """Return the gradients of the input by automatic differentiation of the same call."""
    network, x = parametrized(model, how), draw(6, 2, 3).requires_grad_()
    with gradients.trace(network) as tape:
        loss = network(x).square().sum()
    (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
    (layer,) = tape.gradient_flow(loss).layers
    np.testing.assert_allclose(np.exp(layer.log_input).T, gradient.norm(dim=-1), rtol=1e-9)


@pytest.mark.parametrize("how", ["spectral_norm", "counted"])
def test_stability_does_not_change_the_buffers_of_a_parametrization(how):
    network = parametrized("lstm", how)
    before = copy.deepcopy(network.state_dict())
    buffers = [buffer for _, buffer in network.named_buffers()]
    gradients.measure_stability(network.rnn, draw(6, 2, 3))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(
        one is other for one, (_, other) in zip(buffers, network.named_buffers(), strict=True)
    )
