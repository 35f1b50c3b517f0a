"""The tracer, compared with the unrolled oracle in all configurations of torch's modules."""

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from leadline import InputError, gradients, recurrent
from tests.gradients.unrolled import Expected, Oracle

INPUTS, HIDDEN, PROJECTED = 3, 4, 2

MODULES: dict[str, Callable[..., nn.RNNBase]] = {
    "tanh": partial(nn.RNN, nonlinearity="tanh"),
    "relu": partial(nn.RNN, nonlinearity="relu"),
    "lstm": nn.LSTM,
    "projected": partial(nn.LSTM, proj_size=PROJECTED),
    "gru": nn.GRU,
}
SEEDS = [("output",), ("h_n",), ("c_n",), ("output", "h_n", "c_n")]
REDUCTIONS = ["mean", "sum", "last_only", "per_step", "per_sample"]
"""Reductions to a scalar, or to terms of shape (T,) or (B, T)."""


@dataclass(frozen=True)
class Case:
    """One configuration of a module and its inputs."""

    cell: str = "lstm"
    layers: int = 1
    bidirectional: bool = False
    batch_first: bool = True
    bias: bool = True
    dropout: float = 0.0
    training: bool = True
    time: int = 5
    batch: int | None = 2
    """``None`` for a single sequence without a batch axis."""
    lengths: tuple[int, ...] | None = None
    """The lengths of packed sequences."""
    is_sorted: bool = False
    """True if the lengths decrease and the sequences are packed as sorted."""
    hx: bool = False
    seed: int = 0

    def __str__(self) -> str:
        return "-".join(
            f"{name}={value}" for name, value in vars(self).items() if value != getattr(Case, name)
        )

    @property
    def sizes(self) -> list[int]:
        """Return the sizes of h and c."""
        hidden = PROJECTED if self.cell == "projected" else HIDDEN
        return [hidden, HIDDEN] if self.is_lstm else [hidden]

    @property
    def is_lstm(self) -> bool:
        return self.cell in ("lstm", "projected")

    def module(self) -> nn.RNNBase:
        module = seeded(
            lambda: MODULES[self.cell](
                INPUTS,
                HIDDEN,
                self.layers,
                bias=self.bias,
                batch_first=self.batch_first,
                dropout=self.dropout,
                bidirectional=self.bidirectional,
            ),
            self.seed,
        )
        return module.double().train(self.training)

    def arguments(self) -> tuple[Any, Any]:
        """Return the input and the initial state."""
        batch = 1 if self.batch is None else self.batch
        if self.lengths is not None:
            batch = len(self.lengths)
            padded = draw(batch, max(self.lengths), INPUTS, seed=self.seed)
            x = packed(padded, self.lengths, self.is_sorted, self.batch_first)
        else:
            x = draw(batch, self.time, INPUTS, seed=self.seed)
            x = x if self.batch_first else x.transpose(0, 1)
            x = draw(self.time, INPUTS, seed=self.seed) if self.batch is None else x
        if not self.hx:
            return x, None
        count = self.layers * (2 if self.bidirectional else 1)
        states = [draw(count, batch, size, seed=self.seed + 1) for size in self.sizes]
        if self.batch is None and self.lengths is None:
            states = [state[:, 0] for state in states]
        return x, tuple(states) if self.is_lstm else states[0]


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    """Call ``make`` with torch's global generator seeded, and restore the generator."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def packed(
    padded: Tensor, lengths: Sequence[int], is_sorted: bool = False, batch_first: bool = True
) -> PackedSequence:
    """Pack a batch-first tensor."""
    padded = padded if batch_first else padded.transpose(0, 1)
    return pack_padded_sequence(
        padded, torch.tensor(lengths), batch_first, enforce_sorted=is_sorted
    )


def loss_of(
    returned: tuple[Any, Any], batch_first: bool, seeds: Sequence[str], reduction: str = "mean"
) -> Tensor:
    """Reduce squared distances from a ramp; h_n and c_n add to the last of several terms."""
    output, last = returned
    h_n, *c_n = last if isinstance(last, tuple) else (last,)
    lengths = None
    if isinstance(output, PackedSequence):
        padded, lengths = pad_packed_sequence(output)
    elif output.dim() == 2:
        padded, h_n, *c_n = (part.unsqueeze(1) for part in (output, h_n, *c_n))
    else:
        padded = output.transpose(0, 1) if batch_first else output
    batch = torch.arange(padded.shape[1])
    at_end = padded[-1] if lengths is None else padded[lengths - 1, batch]
    states = [
        part for name, part in zip(("h_n", "c_n"), (h_n, *c_n), strict=False) if name in seeds
    ]
    if reduction in ("per_step", "per_sample"):
        terms = squares(padded).sum(-1) if "output" in seeds else torch.zeros_like(padded[..., 0])
        for state in states:
            terms = torch.cat([terms[:-1], terms[-1:] + squares(state).sum((0, -1))])
        return terms.sum(1) if reduction == "per_step" else terms.T
    read = [at_end if reduction == "last_only" else padded] if "output" in seeds else []
    read += [state[-1] if reduction == "last_only" else state for state in states]
    total = h_n.new_zeros(())
    for value in read:
        total = total + (squares(value).mean() if reduction == "mean" else squares(value).sum())
    return total


def squares(value: Tensor) -> Tensor:
    return (
        value - torch.linspace(-1, 1, value.numel(), dtype=value.dtype).reshape(value.shape)
    ).square()


def assert_same_values(found: Any, expected: Any) -> None:
    """Compare tensors, packed sequences and nested tuples of them."""
    if isinstance(found, PackedSequence):
        assert torch.equal(found.batch_sizes, expected.batch_sizes)
        found, expected = found.data, expected.data
    if isinstance(found, Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
        return
    for one, other in zip(found, expected, strict=True):
        assert_same_values(one, other)


def assert_flow(
    flow: gradients.GradientFlow,
    expected: Sequence[Expected],
    rtol: float = 1e-9,
    atol: float = 1e-300,
    note: str = "",
) -> None:
    """Compare all parts of the flow except the gradients of cell states."""
    assert len(flow.layers) == len(expected)
    for layer, right in zip(flow.layers, expected, strict=True):
        scan = right.scan
        assert (layer.name, layer.index, layer.direction) == (scan.name, scan.index, scan.direction)
        assert layer.call == scan.call
        pairs = {
            "total": (layer.total, right.total),
            "direct": (layer.direct, right.direct),
            "recurrent": (layer.recurrent, right.recurrent),
            "input": (np.exp(layer.log_input), right.input),
            "initial": (np.exp(layer.log_initial), right.initial),
            "hidden_norm": (layer.hidden_norm, right.hidden_norm),
        }
        for name, (found, wanted) in pairs.items():
            np.testing.assert_allclose(
                found,
                wanted,
                rtol=rtol,
                atol=atol,
                equal_nan=True,
                err_msg=f"{name} of {layer.title} {note}",
            )
        total, direct, recurrent_part = (
            part[~np.isnan(part)] for part in (layer.total, layer.direct, layer.recurrent)
        )
        slack = 1e-6 * (direct + recurrent_part)
        assert (total <= direct + recurrent_part + slack).all()
        assert (total >= abs(direct - recurrent_part) - slack).all()


# The graph is retained, so one forward pass serves every reduction.
@lru_cache(maxsize=1)
def traced(case: Case) -> tuple[nn.RNNBase, gradients.Tape, Any, Oracle, Any]:
    """Return module, tape and output, and the oracle with its output."""
    module, (x, hx) = case.module(), case.arguments()
    with torch.random.fork_rng():
        torch.manual_seed(case.seed + 7)
        with gradients.trace(module) as tape:
            returned = module(x, hx)
        torch.manual_seed(case.seed + 7)
        oracle = Oracle(module, dropout_masks(case, x))
    answered = oracle.model(x, hx)
    assert_same_values(answered, returned)
    return module, tape, returned, oracle, answered


def dropout_masks(case: Case, x: Any) -> list[Tensor]:
    """Draw masks from the global generator in the module's order: packed data, or time first."""
    if not case.dropout or not case.training:
        return []
    width = case.sizes[0] * (2 if case.bidirectional else 1)
    masks = []
    for _ in range(case.layers - 1):
        if case.lengths is not None:
            ones = torch.ones(sum(case.lengths), width, dtype=torch.float64)
            dropped = nn.functional.dropout(ones, case.dropout)
            masks.append(pad_packed_sequence(x._replace(data=dropped))[0])
        else:
            ones = torch.ones(case.time, case.batch or 1, width, dtype=torch.float64)
            masks.append(nn.functional.dropout(ones, case.dropout))
    return masks


def check(case: Case, losses: Iterable[tuple[Sequence[str], str]]) -> None:
    """Compare the flows of several losses of one forward pass."""
    _, tape, returned, oracle, answered = traced(case)
    for seeds, reduction in losses:
        if seeds != ("c_n",) or case.is_lstm:
            loss, same = (
                loss_of(one, case.batch_first, seeds, reduction) for one in (returned, answered)
            )
            assert_flow(
                tape.gradient_flow(loss), oracle.expected(same), note=f"by {seeds}, {reduction}"
            )
            if reduction in ("per_step", "per_sample"):
                terms = same if reduction == "per_step" else same.sum(0)
                assert_influence(tape.influence(loss), [oracle.expected(term) for term in terms])


def assert_influence(
    influence: gradients.Influence, expected: Sequence[Sequence[Expected]]
) -> None:
    """Compare every row with the gradients of its term alone."""
    for layer, rows in zip(influence.layers, zip(*expected, strict=True), strict=True):
        norms = [np.sqrt(np.nansum(row.total**2, axis=0)) for row in rows]
        np.testing.assert_allclose(layer.norms, norms, rtol=1e-9, atol=1e-300, err_msg=layer.title)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("direction", ["forward", "both"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", MODULES)
def test_flow_equals_automatic_differentiation(cell, layers, direction, reduction):
    # Terms of the output alone are swept together; terms of all outputs take single sweeps.
    seeds = {"mean": SEEDS, "per_step": SEEDS[:1]}.get(reduction, SEEDS[-1:])
    check(Case(cell, layers, direction == "both", time=4), [(own, reduction) for own in seeds])


SPECIAL = [
    *(Case(cell, 2, True, bias=False) for cell in MODULES),
    *(
        Case(cell, layers, both, batch_first=False)
        for cell in MODULES
        for layers in (1, 3)
        for both in (False, True)
    ),
    *(Case(cell, 2, True, batch_first=False, hx=True) for cell in MODULES),
    *(Case(cell, 2, True, time=1) for cell in MODULES),
    *(Case(cell, 2, False, time=1, hx=True) for cell in MODULES),
    *(Case(cell, 2, True, batch=1) for cell in MODULES),
    *(Case(cell, 2, True, batch=None, hx=hx) for cell in MODULES for hx in (False, True)),
    *(Case(cell, 2, True, batch_first=False, batch=None) for cell in MODULES),
    *(
        Case(cell, 2, bidirectional, lengths=(2, 5, 1))
        for cell in MODULES
        for bidirectional in (False, True)
    ),
    *(
        Case(cell, 2, True, batch_first=False, lengths=(5, 3, 3), is_sorted=True)
        for cell in MODULES
    ),
    *(Case(cell, 2, True, lengths=(1, 4, 2), hx=True) for cell in MODULES),
    *(Case(cell, 3, True, dropout=0.4) for cell in MODULES),
    *(Case(cell, 3, dropout=0.4, batch_first=False) for cell in MODULES),
    *(Case(cell, 3, dropout=0.4, batch=None) for cell in MODULES),
    *(Case(cell, 3, True, dropout=0.4, lengths=(2, 5, 3)) for cell in MODULES),
    *(Case(cell, 2, True, dropout=0.4, training=False) for cell in MODULES),
    Case("lstm", 2, dropout=1.0),
    Case("gru", 1, lengths=(1, 1)),
]


@pytest.mark.parametrize("case", SPECIAL, ids=str)
def test_flow_equals_automatic_differentiation_in_special_configurations(case):
    check(case, [(SEEDS[-1], "mean"), *([(("output",), "per_step")] if case.dropout else [])])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    layers = draw(st.integers(1, 3))
    lengths = draw(st.none() | st.lists(st.integers(1, 5), min_size=1, max_size=3))
    is_sorted = draw(st.booleans())
    if lengths and is_sorted:
        lengths.sort(reverse=True)
    return Case(
        cell=draw(st.sampled_from(list(MODULES))),
        layers=layers,
        bidirectional=draw(st.booleans()),
        batch_first=draw(st.booleans()),
        bias=draw(st.booleans()),
        dropout=draw(st.sampled_from([0.0, 0.3])) if layers > 1 else 0.0,
        training=draw(st.booleans()),
        time=draw(st.integers(1, 5)),
        batch=draw(st.none() | st.integers(1, 3)),
        lengths=tuple(lengths) if lengths else None,
        is_sorted=is_sorted,
        hx=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )


@settings(max_examples=40)
@given(cases(), st.sampled_from(SEEDS), st.sampled_from(REDUCTIONS))
def test_flow_equals_automatic_differentiation_in_random_configurations(case, seeds, reduction):
    check(case, [(seeds, reduction)])


@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize(
    "case",
    [
        Case(cell, 2, True, lengths=lengths)
        for cell in ("lstm", "projected")
        for lengths in (None, (2, 4, 1))
    ],
    ids=str,
)
def test_gradients_of_cell_states_equal_automatic_differentiation(case, seeds):
    _, tape, returned, oracle, answered = traced(case)
    flow = tape.gradient_flow(loss_of(returned, True, seeds))
    for layer, right in zip(
        flow.layers, oracle.expected(loss_of(answered, True, seeds)), strict=True
    ):
        assert layer.cell_total is not None
        np.testing.assert_allclose(layer.cell_total, right.cell_total, rtol=1e-9, equal_nan=True)


def test_only_an_lstm_has_gradients_of_cell_states():
    for cell in MODULES:
        case = Case(cell)
        _, tape, returned, _, _ = traced(case)
        (layer,) = tape.gradient_flow(loss_of(returned, True, ["output"])).layers
        assert (layer.log_cell_total is not None) == case.is_lstm
        assert (layer.cell_total is not None) == case.is_lstm


def test_gradient_of_the_input_goes_through_both_directions():
    module, x = Case("gru", bidirectional=True).module(), draw(2, 5, INPUTS).requires_grad_()
    with gradients.trace(module) as tape:
        loss = loss_of(module(x), True, ["output"])
    (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
    for layer in tape.gradient_flow(loss).layers:
        np.testing.assert_allclose(np.exp(layer.log_input), gradient.norm(dim=-1), rtol=1e-9)


@pytest.mark.parametrize("cell", MODULES)
def test_padding_is_nan_and_each_sequence_has_the_flow_it_has_alone(cell):
    lengths, padded = (3, 6, 1), draw(3, 6, INPUTS)
    module = Case(cell, 2, True).module()

    def flow_of(x):
        with gradients.trace(module) as tape:
            output, last = module(x)
        h_n = last[0] if isinstance(last, tuple) else last
        data = output.data if isinstance(output, PackedSequence) else output
        return tape.gradient_flow(data.square().sum() + h_n.sin().sum())

    together = flow_of(packed(padded, lengths))
    alone = [flow_of(one[None, :length]) for one, length in zip(padded, lengths, strict=True)]
    for index, layer in enumerate(together.layers):
        arrays = [
            "log_total",
            "log_direct",
            "log_recurrent",
            "log_input",
            "hidden_norm",
            "total",
            "direct",
            "recurrent",
        ]
        arrays += ["log_cell_total", "cell_total"] if layer.log_cell_total is not None else []
        for name in arrays:
            values = getattr(layer, name)
            for sample, length in enumerate(lengths):
                assert np.isnan(values[sample, length:]).all(), name
                single = getattr(alone[sample].layers[index], name)[0]
                np.testing.assert_allclose(
                    values[sample, :length], single, rtol=1e-9, atol=1e-12, err_msg=name
                )
        initial = np.concatenate([one.layers[index].log_initial for one in alone])
        np.testing.assert_allclose(layer.log_initial, initial, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cell", MODULES)
def test_the_gradient_of_an_initial_state_equals_automatic_differentiation(cell):
    case = Case(cell, 2, True, hx=True)
    module, (x, hx) = case.module(), case.arguments()
    h_0 = hx[0] if case.is_lstm else hx
    h_0.requires_grad_()
    with gradients.trace(module) as tape:
        loss = loss_of(module(x, hx), True, ["output"])
    (gradient,) = torch.autograd.grad(loss, h_0, retain_graph=True)
    flow = tape.gradient_flow(loss)
    for layer, right in zip(flow.layers, gradient, strict=True):
        np.testing.assert_allclose(np.exp(layer.log_initial), right.norm(dim=-1), rtol=1e-9)
    assert h_0.grad is None


@pytest.mark.parametrize("cell", MODULES)
def test_direct_part_of_the_top_layer_is_the_gradient_of_the_output_tensor(cell):
    module = Case(cell, 2).module()
    with gradients.trace(module) as tape:
        output, _ = module(draw(2, 5, INPUTS))
        loss = output.square().mean()
    (gradient,) = torch.autograd.grad(loss, output, retain_graph=True)
    top = tape.gradient_flow(loss).layers[-1]
    np.testing.assert_allclose(top.direct, gradient.norm(dim=-1), rtol=1e-12)
    assert (top.recurrent[:, :-1] > 0).all()
    assert (top.recurrent[:, -1] == 0).all()
    assert (top.log_recurrent[:, -1] == -np.inf).all()


class Head(nn.Module):
    """A layer and a head that reads only h_n."""

    def __init__(self):
        super().__init__()
        self.network = nn.LSTM(INPUTS, HIDDEN, 2, batch_first=True)
        self.read = nn.Linear(HIDDEN, 2)

    def forward(self, x):
        _, (h_n, _) = self.network(x)
        return self.read(h_n[-1])


class Mixed(nn.Module):
    """An LSTM, a linear layer, a GRU and a linear layer, called with keywords."""

    def __init__(self):
        super().__init__()
        self.lower = nn.LSTM(INPUTS, HIDDEN, bidirectional=True)
        self.between = nn.Linear(2 * HIDDEN, 5)
        self.upper = nn.ModuleDict({"gru": nn.GRU(5, HIDDEN, 2)})
        self.read = nn.Linear(HIDDEN, 2)

    def forward(self, x):
        states, _ = self.lower(x.transpose(0, 1))
        states, _ = self.upper["gru"](self.between(states).tanh())
        return self.read(states)


class Translator(nn.Module):
    """An encoder whose last state starts the decoder."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(INPUTS, HIDDEN, 2, batch_first=True)
        self.decoder = nn.GRU(INPUTS, HIDDEN, 2, batch_first=True)
        self.read = nn.Linear(HIDDEN, 2)

    def forward(self, x):
        _, last = self.encoder(x)
        states, _ = self.decoder(x.flip(1)[:, :3], hx=last)
        return self.read(states)


class Shared(nn.Module):
    """One module that is called twice, as encoder and as decoder."""

    def __init__(self):
        super().__init__()
        self.network = nn.LSTM(INPUTS, HIDDEN, 2, batch_first=True)
        self.read = nn.Linear(HIDDEN, 2)

    def forward(self, x):
        _, last = self.network(x)
        states, _ = self.network(x.flip(1)[:, :3], last)
        return self.read(states)


@pytest.mark.parametrize("kind", [Head, Mixed, Translator, Shared])
def test_layers_inside_larger_models_are_traced(kind):
    model, x = seeded(kind).double(), draw(2, 5, INPUTS)
    with gradients.trace(model) as tape:
        predictions = model(x)
    oracle = Oracle(model)
    again = oracle.model(x)
    assert_same_values(again, predictions)
    flow = tape.gradient_flow(predictions.sin().mean())
    assert_flow(flow, oracle.expected(again.sin().mean()))
    called = {
        Head: [("network", 0, 0), ("network", 1, 0)],
        Mixed: [("lower", 0, 0), ("lower", 0, 0), ("upper.gru", 0, 0), ("upper.gru", 1, 0)],
        Translator: [("encoder", 0, 0), ("encoder", 1, 0), ("decoder", 0, 0), ("decoder", 1, 0)],
        Shared: [("network", 0, 0), ("network", 1, 0), ("network", 0, 1), ("network", 1, 1)],
    }
    assert [(layer.name, layer.index, layer.call) for layer in flow.layers] == called[kind]


def test_a_head_on_h_n_seeds_only_the_last_timestep():
    model = seeded(Head).double()
    with gradients.trace(model) as tape:
        loss = model(draw(2, 5, INPUTS)).square().mean()
    lower, upper = tape.gradient_flow(loss).layers
    assert (upper.direct[:, :-1] == 0).all()
    assert (upper.direct[:, -1] > 0).all()
    assert (upper.total > 0).all()
    assert (lower.direct > 0).all()


@pytest.mark.parametrize("hx", [False, True])
def test_arguments_may_be_keywords(hx):
    case = Case("lstm", 2, hx=hx)
    module, (x, state) = case.module(), case.arguments()
    flows = []
    for call in (lambda: module(x, state), lambda: module(input=x, hx=state)):
        with gradients.trace(module) as tape:
            loss = loss_of(call(), True, ["output"])
        flows.append(tape.gradient_flow(loss).layers[0].log_total)
    np.testing.assert_array_equal(*flows)


def test_an_initial_state_may_be_a_list():
    """nn.LSTM accepts a list."""
    case = Case("lstm", 2, hx=True)
    module, (x, hx) = case.module(), case.arguments()
    with gradients.trace(module) as tape:
        loss = loss_of(module(x, list(hx)), True, ["output"])
    with gradients.trace(module) as other:
        same = loss_of(module(x, hx), True, ["output"])
    found, right = tape.gradient_flow(loss), other.gradient_flow(same)
    np.testing.assert_array_equal(found.layers[0].log_total, right.layers[0].log_total)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", ["tanh", "relu", "lstm", "gru"])
def test_networks_of_leadline_equal_those_of_torch(cell, layers):
    module, x = Case(cell, layers).module(), draw(2, 5, INPUTS)
    own: Any = {
        "lstm": lambda: recurrent.LSTM(INPUTS, HIDDEN, layers, seed=0),
        "gru": lambda: recurrent.GRU(INPUTS, HIDDEN, layers, seed=0),
        "tanh": lambda: recurrent.RNN(INPUTS, HIDDEN, layers, "tanh", seed=0),
        "relu": lambda: recurrent.RNN(INPUTS, HIDDEN, layers, "relu", seed=0),
    }[cell]()
    own = own.double()
    with torch.no_grad():
        for index, layer in enumerate(own.layers):
            layer.W_x.copy_(getattr(module, f"weight_ih_l{index}"))
            layer.W_h.copy_(getattr(module, f"weight_hh_l{index}"))
            b_ih, b_hh = getattr(module, f"bias_ih_l{index}"), getattr(module, f"bias_hh_l{index}")
            # A network of Leadline has one bias, so the bias inside the reset gate must be zero.
            if cell == "gru":
                b_hh[2 * HIDDEN :] = 0
            layer.b.copy_(b_ih + b_hh)
    flows = []
    results = []
    for network in (own, module):
        with gradients.trace(network) as tape:
            results.append(network(x))
        flows.append(tape.gradient_flow(loss_of(results[-1], True, ["output", "h_n", "c_n"])))
    assert_same_values(results[0], results[1])
    for one, other in zip(flows[0].layers, flows[1].layers, strict=True):
        names = [
            "log_total",
            "log_direct",
            "log_recurrent",
            "log_input",
            "log_initial",
            "hidden_norm",
        ]
        for name in [*names, *(["log_cell_total"] if cell == "lstm" else [])]:
            np.testing.assert_allclose(
                getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-9, err_msg=name
            )
    oracle = Oracle(module)
    assert_flow(flows[1], oracle.expected(loss_of(oracle.model(x), True, ["output", "h_n", "c_n"])))


def functions_behind(tensor: Tensor) -> set[str]:
    """Return the names of the nodes of the graph."""
    open_nodes: list[Any] = [tensor.grad_fn]
    names = set()
    while open_nodes:
        node = open_nodes.pop()
        if node is not None:
            names.add(node.name())
            open_nodes += [other for other, _ in node.next_functions]
    return names


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("lengths", [None, (2, 6, 3)])
@pytest.mark.parametrize("cell", MODULES)
def test_the_flow_in_single_precision_is_close_to_double_precision(cell, lengths, dropout):
    """nn.LSTM without projection runs as one oneDNN node, which hides its steps from autograd."""
    case = Case(cell, 2, True, time=6, lengths=lengths, dropout=dropout)
    module, (x, _) = case.module().float(), case.arguments()
    single = x._replace(data=x.data.float()) if isinstance(x, PackedSequence) else x.float()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        with gradients.trace(module) as tape:
            returned = module(single)
        torch.manual_seed(3)
        oracle = Oracle(module, dropout_masks(case, x))
    same = oracle.model(x)
    data = [value[0].data if lengths else value[0] for value in (returned, same)]
    torch.testing.assert_close(data[0].double(), data[1], rtol=1e-4, atol=1e-5)
    if cell == "lstm" and lengths is None and torch.backends.mkldnn.is_available():
        assert any("Mkldnn" in name for name in functions_behind(data[0]))
    for seeds in (SEEDS[0], SEEDS[-1]):
        flow = tape.gradient_flow(loss_of(returned, True, seeds))
        assert_flow(
            flow, oracle.expected(loss_of(same, True, seeds)), rtol=1e-4, atol=1e-6, note=str(seeds)
        )


@pytest.mark.parametrize("is_autocast", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("cell", ["tanh", "relu", "lstm", "gru"])
def test_calls_in_half_precision_are_replayed_in_single_precision(cell, dropout, is_autocast):
    """A call in bfloat16 is replayed in float32, even if autocast is still on."""
    case = Case(cell, 2, True, time=6, dropout=dropout)
    module, (x, _) = case.module().float(), case.arguments()
    right, x = module, x.float()
    if not is_autocast:
        module, x = seeded(lambda: copy.deepcopy(module)).bfloat16(), x.bfloat16()
    if cell == "lstm" and is_autocast:
        try:
            with torch.random.fork_rng(), torch.autocast("cpu", torch.bfloat16):
                module(x)
        # oneDNN has this kernel for some processors only.
        except RuntimeError as error:
            pytest.skip(f"PyTorch itself cannot run this here: {error}")

    def flow_of(model, x, is_autocast):
        with torch.random.fork_rng(), torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
            torch.manual_seed(3)
            with gradients.trace(model) as tape:
                returned = model(x)
            return tape.gradient_flow(returned[0].float().square().mean())

    found, expected = flow_of(module, x, is_autocast), flow_of(right, x.float(), False)
    for one, other in zip(found.layers, expected.layers, strict=True):
        np.testing.assert_allclose(one.total, other.total, rtol=0.2, atol=5e-3)


@pytest.mark.parametrize("compile_what", ["model", "module"])
def test_a_compiled_model_runs_uncompiled_inside_the_block(compile_what):
    model, x = seeded(Translator).double(), draw(2, 5, INPUTS)
    with gradients.trace(model) as tape:
        expected = tape.gradient_flow(model(x).square().mean())
    if compile_what == "model":
        called: Any = torch.compile(model, backend="eager")
    else:
        called = model
        model.encoder.compile(backend="eager")
    called(x)
    with gradients.trace(called) as tape:
        loss = called(x).square().mean()
    for one, other in zip(tape.gradient_flow(loss).layers, expected.layers, strict=True):
        np.testing.assert_array_equal(one.log_total, other.log_total)


@pytest.mark.parametrize("cell", ["tanh", "relu", "lstm", "gru"])
def test_gradients_below_single_precision_stay_on_the_line(cell):
    """At a fixed point all steps have the same Jacobian, so the gradient has a constant factor."""
    module = seeded(lambda: MODULES[cell](1, 1, 2, batch_first=True))
    # With these biases, the old state fades.
    gates = {"lstm": [0.5, -3.0, 0.5, 0.5], "gru": [0.5, -3.0, 0.5]}.get(cell, [0.5])
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.fill_(0.15 if "weight_hh" in name else 0.7)
            if "bias_ih" in name:
                parameter.copy_(torch.tensor(gates))
            if "bias_hh" in name:
                parameter.zero_()
    with gradients.trace(module) as tape:
        output, _ = module(torch.zeros(1, 300, 1))
    for layer in tape.gradient_flow(output[:, -1].sum()).layers:
        line = layer.log_total[0]
        assert np.isfinite(line).all()
        assert line[0] < 4 * math.log(torch.finfo(torch.float32).tiny), (
            "far below what float32 holds"
        )
        steps = np.diff(line[:-100])
        np.testing.assert_allclose(steps[20:], steps[100], atol=0.02)
        assert np.isfinite(layer.log_input).all()
        assert np.isfinite(layer.log_initial).all()


def state_of(model: nn.Module) -> dict[str, Any]:
    """Return everything that tracing could change."""
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
        "_state_dict_hooks",
    )
    hooks += (
        "_forward_hooks_with_kwargs",
        "_forward_pre_hooks_with_kwargs",
        "_forward_hooks_always_called",
    )
    return {
        "parameters": {name: value.detach().clone() for name, value in model.state_dict().items()},
        "grad": {
            name: None if value.grad is None else value.grad.clone()
            for name, value in model.named_parameters()
        },
        "identity": {
            name: (id(value), value.requires_grad) for name, value in model.named_parameters()
        },
        "mode": [module.training for module in model.modules()],
        "hooks": [dict(getattr(module, name)) for module in model.modules() for name in hooks],
        "tensor hooks": [value._backward_hooks for value in model.parameters()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "flags": (
            torch.backends.mkldnn.enabled,
            torch.backends.cudnn.enabled,
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            torch.backends.mkldnn.deterministic,
        ),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def assert_same_state(found: Any, expected: Any) -> None:
    if isinstance(found, dict):
        assert found.keys() == expected.keys()
        for name in found:
            assert_same_state(found[name], expected[name])
    elif isinstance(found, Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "make", [lambda: nn.LSTM(INPUTS, HIDDEN, 3, dropout=0.5, bidirectional=True), Translator]
)
def test_tracing_changes_neither_the_model_nor_torch(make, training):
    model, x = seeded(make).train(training), draw(2, 5, INPUTS).float().requires_grad_()
    model.register_forward_hook(noted := lambda *_: None)
    for parameter in list(model.parameters())[::2]:
        parameter.grad = torch.ones_like(parameter)
    before = state_of(model)

    def forward():
        returned = model(x)
        return (returned if isinstance(returned, Tensor) else returned[0]).square().mean()

    with torch.random.fork_rng():
        torch.manual_seed(5)
        plain, after_plain = forward(), torch.get_rng_state()
        torch.manual_seed(5)
        with gradients.trace(model) as tape:
            loss = forward()
        assert torch.equal(torch.get_rng_state(), after_plain), "tracing draws nothing"
        assert torch.equal(loss, plain)
        torch.manual_seed(99)
        drawn = torch.get_rng_state()
        flow = tape.gradient_flow(loss)
        assert torch.equal(torch.get_rng_state(), drawn), "asking draws nothing"
    assert_same_state(state_of(model), before)
    assert list(model._forward_hooks.values()) == [noted]
    assert x.grad is None

    again = tape.gradient_flow(loss)
    for one, other in zip(flow.layers, again.layers, strict=True):
        np.testing.assert_array_equal(one.log_total, other.log_total)
    loss.backward()
    assert x.grad is not None
    assert all(
        parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad
    )


def test_a_failure_inside_the_block_leaves_no_hooks():
    model = seeded(Translator)
    before = state_of(model)
    with (
        pytest.raises(InputError, match="last axis has the length input_size"),
        gradients.trace(model),
    ):
        model(torch.zeros(2, 5, INPUTS + 1))
    assert_same_state(state_of(model), before)


def test_a_pass_after_the_block_is_not_recorded():
    model, x = seeded(Translator), torch.zeros(2, 5, INPUTS)
    with gradients.trace(model) as tape:
        loss = model(x).sum()
    model(x)
    assert len(tape.calls) == 2
    assert len(tape.gradient_flow(loss).layers) == 4


def test_frozen_weights_are_traced_through_the_input():
    module, x = Case("gru", 2).module().requires_grad_(False), draw(2, 5, INPUTS).requires_grad_()
    with gradients.trace(module) as tape:
        loss = loss_of(module(x), True, ["output"])
    (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
    flow = tape.gradient_flow(loss)
    np.testing.assert_allclose(np.exp(flow.layers[0].log_input), gradient.norm(dim=-1), rtol=1e-9)


def test_a_model_without_recurrent_layers_is_refused():
    model = seeded(lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    with pytest.raises(InputError) as caught, gradients.trace(model):
        pass
    text = str(caught.value)
    assert "torch.nn.RNN, LSTM or GRU" in text
    assert "Linear, ReLU, Sequential" in text


def test_a_tape_without_a_forward_pass_is_refused():
    model, x = seeded(Translator), torch.zeros(2, 5, INPUTS)
    loss = model(x).sum()
    with gradients.trace(model) as tape:
        pass
    with pytest.raises(
        InputError, match=r"no recurrent layer of the model .Translator. ran inside the block"
    ):
        tape.gradient_flow(loss)


def test_a_loss_from_another_forward_pass_is_refused():
    model, x = seeded(Translator), torch.zeros(2, 5, INPUTS)
    with gradients.trace(model) as tape:
        model(x)
    with pytest.raises(InputError, match="depends on no recorded state"):
        tape.gradient_flow(model(x).sum())


@pytest.mark.parametrize(
    "where",
    [
        "everything",
        "the recurrent layers",
    ],
)
def test_a_forward_pass_without_a_graph_is_refused(where):
    network, read = Case("gru", 2).module(), seeded(lambda: nn.Linear(HIDDEN, 2)).double()
    with gradients.trace(network) as tape, torch.no_grad():
        states, _ = network(draw(2, 5, INPUTS))
    loss = states.sum() if where == "everything" else read(states).sum()
    with pytest.raises(InputError, match=r"that keeps its graph\n.*\n.*under torch.no_grad\(\)"):
        tape.gradient_flow(loss)


@pytest.mark.parametrize("lengths", [None, (2, 5, 4)])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", MODULES)
def test_activations_that_are_nan_are_refused_with_their_timestep(cell, bidirectional, lengths):
    module, x = Case(cell, 2, bidirectional).module(), draw(3, 5, INPUTS)
    x[1, 3, 0] = torch.nan
    with gradients.trace(module) as tape:
        loss = loss_of(module(x if lengths is None else packed(x, lengths)), True, ["output"])
    with pytest.raises(InputError) as caught:
        tape.gradient_flow(loss)
    assert "layer 0: NaN from timestep 4 on" in str(caught.value)


def test_the_refusal_of_nan_names_the_layer():
    model = seeded(Translator).double()
    with torch.no_grad():
        model.decoder.weight_hh_l1[0, 0] = torch.nan
    with gradients.trace(model) as tape:
        loss = model(draw(2, 5, INPUTS)).sum()
    with pytest.raises(InputError, match="decoder, layer 1: NaN from timestep 1 on"):
        tape.gradient_flow(loss)


@contextmanager
def scripting():
    """Ignore the deprecation warning of torch.jit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@pytest.mark.parametrize("outer", [False, True])
def test_a_scripted_module_is_refused(outer):
    with scripting():
        scripted: Any = torch.jit.script(seeded(lambda: nn.GRU(INPUTS, HIDDEN)))
    model = nn.Sequential(scripted) if outer else scripted
    with (
        pytest.raises(InputError, match="cannot see the layers of a scripted module"),
        gradients.trace(model),
    ):
        pass


@pytest.mark.parametrize(
    "make",
    [
        Head,
        Translator,
        lambda: nn.GRU(INPUTS, HIDDEN, 2),
    ],
    ids=["head", "two", "bare"],
)
def test_weights_that_changed_before_the_query_are_refused(make):
    model, x = seeded(make).double(), draw(2, 5, INPUTS)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    with gradients.trace(model) as tape:
        returned = model(x)
        loss = (returned if isinstance(returned, Tensor) else returned[0]).square().mean()
    loss.backward(retain_graph=True)
    optimiser.step()
    with pytest.raises(
        InputError, match=r"queried before the weights change\n.*weight_ih_l0 was changed"
    ) as caught:
        tape.gradient_flow(loss)
    assert "before the optimiser steps" in str(caught.value)


def test_an_output_changed_in_place_is_refused():
    module = Case("gru").module()
    with gradients.trace(module) as tape:
        output, _ = module(draw(2, 5, INPUTS))
        loss = nn.functional.relu(output, inplace=True).sum()
    with pytest.raises(InputError, match="GRU: its output was changed in place"):
        tape.gradient_flow(loss)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("packed", [False, True])
def test_the_refusal_of_inputs_of_another_width_names_the_layer(kind, packed):
    model = nn.ModuleDict({"reader": seeded(partial(kind, 3, 5, batch_first=True))})
    x = torch.zeros(2, 7, 4)
    x = nn.utils.rnn.pack_padded_sequence(x, [7, 6], batch_first=True) if packed else x
    with pytest.raises(InputError, match="reader needs inputs") as refused, gradients.trace(model):
        model["reader"](x)
    assert "length 4, input_size = 3" in str(refused.value)
    assert not model["reader"]._forward_pre_hooks
    assert not model["reader"]._forward_hooks


@pytest.mark.parametrize(
    ("kind", "states", "message"),
    [
        (nn.RNN, lambda: torch.zeros(1, 2, 6), "(1, 2, 6), states of 5 numbers"),
        (nn.GRU, lambda: torch.zeros(1, 2, 4), "(1, 2, 4), states of 5 numbers"),
        (
            nn.LSTM,
            lambda: (torch.zeros(1, 2, 5), torch.zeros(1, 2, 6)),
            "(1, 2, 6), states of 5 numbers",
        ),
        (
            partial(nn.LSTM, proj_size=2),
            lambda: (torch.zeros(1, 2, 5),) * 2,
            "(1, 2, 5), states of 2 numbers",
        ),
        (nn.GRUCell, lambda: torch.zeros(2, 6), "(2, 6), states of 5 numbers"),
        (
            nn.LSTMCell,
            lambda: (torch.zeros(2, 4), torch.zeros(2, 5)),
            "(2, 4), states of 5 numbers",
        ),
    ],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_the_refusal_of_initial_states_of_another_size_names_the_layer(
    kind, states, message, by_name
):
    model = nn.ModuleDict({"reader": seeded(partial(kind, 3, 5))})
    x, hx = (
        torch.zeros(*([] if isinstance(model["reader"], nn.RNNCellBase) else [7]), 2, 3),
        states(),
    )
    with (
        pytest.raises(InputError, match="reader needs an initial state") as refused,
        gradients.trace(model),
    ):
        _ = model["reader"](x, hx=hx) if by_name else model["reader"](x, hx)
    assert message in str(refused.value)


def test_networks_of_leadline_refuse_inputs_of_another_width():
    model = recurrent.Regression(recurrent.LSTM(2, 3, seed=0), seed=0)
    with (
        pytest.raises(InputError, match=r"network needs inputs.*\n.*length 1, input_size = 2"),
        gradients.trace(model),
    ):
        model(torch.zeros(4, 6, 1))


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_the_refusal_of_an_initial_state_of_another_batch_names_the_layer(kind):
    model = nn.ModuleDict({"reader": seeded(partial(kind, 3, 4))})
    is_cell = issubclass(kind, nn.RNNCellBase)
    state = torch.zeros(*([] if is_cell else [1]), 5, 4)
    hx = (state, state) if kind in (nn.LSTM, nn.LSTMCell) else state
    x = torch.zeros(*([] if is_cell else [7]), 2, 3)
    with (
        gradients.trace(model),
        pytest.raises(
            InputError, match=r"reader needs an initial state for each sample\n.*2 samples"
        ),
    ):
        model["reader"](x, hx)


def test_an_initial_state_that_does_not_fit_packed_sequences_is_refused():
    model = nn.ModuleDict({"reader": seeded(partial(nn.GRU, 3, 4))})
    x = nn.utils.rnn.pack_sequence([torch.zeros(3, 3), torch.zeros(2, 3)])
    with gradients.trace(model), pytest.raises(InputError, match="2 samples"):
        model["reader"](x, torch.zeros(1, 3, 4))
