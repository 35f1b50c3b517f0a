"""Hand-written loops, compared with unrolled modules of PyTorch and with copies of every state."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from leadline import InputError, gradients
from tests.gradients.test_tracing import (
    HIDDEN,
    INPUTS,
    assert_same_state,
    draw,
    scripting,
    seeded,
    state_of,
)
from tests.gradients.unrolled import Oracle

MODULES: dict[str, tuple[Callable[..., Any], Callable[..., nn.RNNBase]]] = {
    "tanh": (nn.RNNCell, nn.RNN),
    "relu": (partial(nn.RNNCell, nonlinearity="relu"), partial(nn.RNN, nonlinearity="relu")),
    "lstm": (nn.LSTMCell, nn.LSTM),
    "gru": (nn.GRUCell, nn.GRU),
}


class Loop(nn.Module):
    """Layers of cells that advance together, with the outputs of ``nn.LSTM(batch_first=True)``."""

    def __init__(self, cell: str, layers: int = 1, bias: bool = True):
        super().__init__()
        make = MODULES[cell][0]
        self.cells = nn.ModuleList(
            make(INPUTS if i == 0 else HIDDEN, HIDDEN, bias=bias) for i in range(layers)
        )

    def forward(self, x: Tensor, states: list[Any] | None = None):
        states = [None for _ in self.cells] if states is None else list(states)
        output = []
        for below in x.unbind(1):
            for i, cell in enumerate(self.cells):
                states[i] = cell(below, states[i])
                below = hidden(states[i])
            output.append(below)
        return torch.stack(output, 1), states


def hidden(state: Any) -> Tensor:
    return state[0] if isinstance(state, tuple) else state


def same_module(loop: Loop, cell: str, bias: bool = True) -> nn.RNNBase:
    """Return the module of PyTorch that computes the same."""
    module = MODULES[cell][1](INPUTS, HIDDEN, len(loop.cells), batch_first=True, bias=bias).double()
    with torch.no_grad():
        for i, one in enumerate(loop.cells):
            for name, parameter in one.named_parameters():
                getattr(module, f"{name}_l{i}").copy_(parameter)
    return module


def loss_of(output: Tensor, last: list[Tensor], kind: str) -> Tensor:
    if kind == "last":
        return output[:, -1].square().sum()
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape)
    return (output * weights).sin().mean() + sum(
        (part.square().sum() for part in last), output.new_zeros(())
    )


@pytest.mark.parametrize("kind", ["everything", "last"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", MODULES)
def test_cells_in_a_loop_have_the_flow_of_the_equivalent_module(cell, layers, bias, kind):
    loop = seeded(lambda: Loop(cell, layers, bias)).double()
    module, x = seeded(lambda: same_module(loop, cell, bias)), draw(3, 5, INPUTS)
    oracle = Oracle(module)
    with gradients.trace(loop) as tape:
        output, states = loop(x)
        last = [
            part for state in states for part in (state if isinstance(state, tuple) else (state,))
        ]
        loss = loss_of(output, last, kind)
    flow = tape.gradient_flow(loss)
    again, ends = oracle.model(x)
    torch.testing.assert_close(output, again, rtol=1e-12, atol=1e-14)
    ends = [end[i] for i in range(layers) for end in (ends if isinstance(ends, tuple) else (ends,))]
    expected = oracle.expected(loss_of(again, ends, kind))
    assert [(layer.name, layer.index, layer.call) for layer in flow.layers] == [
        (f"cells.{i}", 0, 0) for i in range(layers)
    ]
    for layer, right in zip(flow.layers, expected, strict=True):
        pairs = {
            "total": (layer.total, right.total),
            "direct": (layer.direct, right.direct),
            "recurrent": (layer.recurrent, right.recurrent),
            "input": (np.exp(layer.log_input), right.input),
            "initial": (np.exp(layer.log_initial), right.initial),
            "hidden_norm": (layer.hidden_norm, right.hidden_norm),
        }
        if cell == "lstm":
            assert layer.cell_total is not None
            pairs["cell_total"] = (layer.cell_total, right.cell_total)
        else:
            assert layer.cell_total is None
        for name, (found, wanted) in pairs.items():
            np.testing.assert_allclose(
                found, wanted, rtol=1e-9, atol=1e-300, err_msg=f"{name} of {layer.title}"
            )


@pytest.mark.parametrize("cell", MODULES)
def test_a_loop_may_have_an_initial_state_and_no_batch_axis(cell):
    loop = seeded(lambda: Loop(cell)).double()
    one = loop.cells[0]
    h_0, c_0 = draw(2, HIDDEN, seed=1).requires_grad_(), draw(2, HIDDEN, seed=2)
    x = draw(2, 4, INPUTS)

    def run(x, h, c):
        state: Any = (h, c) if cell == "lstm" else h
        for x_t in x.unbind(-2):
            state = one(x_t, hx=state)
        return hidden(state).square().sum()

    with gradients.trace(loop) as tape:
        loss = run(x, h_0, c_0)
    (gradient,) = torch.autograd.grad(loss, h_0, retain_graph=True)
    (layer,) = tape.gradient_flow(loss).layers
    np.testing.assert_allclose(np.exp(layer.log_initial), gradient.norm(dim=-1), rtol=1e-9)
    for b in range(2):
        with gradients.trace(loop) as tape:
            alone = run(x[b], h_0[b], c_0[b])
        (single,) = tape.gradient_flow(alone).layers
        np.testing.assert_allclose(single.log_total[0], layer.log_total[b], rtol=1e-9)
        np.testing.assert_allclose(single.log_input[0], layer.log_input[b], rtol=1e-9)


def test_the_gradient_of_the_input_of_a_cell_equals_automatic_differentiation():
    loop, x = seeded(lambda: Loop("lstm")).double(), draw(2, 5, INPUTS).requires_grad_()
    with gradients.trace(loop) as tape:
        loss = loop(x)[0].square().sum()
    (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
    np.testing.assert_allclose(
        np.exp(tape.gradient_flow(loss).layers[0].log_input), gradient.norm(dim=-1), rtol=1e-9
    )


# One cell, several loops --------------------------------------------------------------------------


class Reused(nn.Module):
    """One cell in two loops: two interleaved layers, or an encoder and a decoder."""

    def __init__(self, cell: str):
        super().__init__()
        self.cell = MODULES[cell][0](HIDDEN, HIDDEN)

    def interleaved(
        self, x: Tensor, keep: Callable[[str, Any], Any] = lambda name, state: state
    ) -> Tensor:
        lower = upper = None
        for x_t in x.unbind(1):
            lower = keep("lower", self.cell(x_t, lower))
            upper = keep("upper", self.cell(hidden(lower), upper))
        return hidden(lower).sin().sum() + hidden(upper).square().sum()

    def translated(self, x: Tensor, is_joined: bool) -> Tensor:
        state, loss = None, x.new_zeros(())
        for x_t in x.unbind(1):
            state = self.cell(x_t, state)
        code = hidden(state)
        state = state if is_joined else None
        for _ in range(3):
            state = self.cell(code if not is_joined else hidden(state), state)
            loss = loss + hidden(state).square().sum()
        return loss


@pytest.mark.parametrize("cell", ["tanh", "lstm", "gru"])
def test_two_interleaved_loops_of_one_cell_are_separated_by_their_states(cell):
    model, x = seeded(lambda: Reused(cell)).double(), draw(2, 4, HIDDEN)
    with gradients.trace(model) as tape:
        loss = model.interleaved(x)
    flow = tape.gradient_flow(loss)
    kept: dict[str, list[Tensor]] = {"lower": [], "upper": []}

    def keep(name: str, state: Any) -> Any:
        kept[name].append(hidden(state))
        return state

    again = model.interleaved(x, keep)
    assert [(layer.name, layer.call, layer.total.shape) for layer in flow.layers] == [
        ("cell", 0, (2, 4)),
        ("cell", 1, (2, 4)),
    ]
    for layer, states in zip(flow.layers, kept.values(), strict=True):
        totals = torch.autograd.grad(again, states, retain_graph=True)
        np.testing.assert_allclose(layer.total.T, torch.stack(totals).norm(dim=-1), rtol=1e-9)


def test_a_decoder_with_the_encoders_cell_continues_its_loop_and_another_cell_begins_one():
    model, x = seeded(lambda: Reused("gru")).double(), draw(2, 4, HIDDEN)
    with gradients.trace(model) as tape:
        loss = model.translated(x, is_joined=True)
    assert [(one.call, one.total.shape) for one in tape.gradient_flow(loss).layers] == [(0, (2, 7))]
    with gradients.trace(model) as tape:
        loss = model.translated(x, is_joined=False)
    encoder, decoder = tape.gradient_flow(loss).layers
    assert (encoder.call, encoder.total.shape) == (0, (2, 4))
    assert (decoder.call, decoder.total.shape) == (1, (2, 3))
    assert (encoder.recurrent[:, -1] == 0).all(), (
        "what the decoder reads is not the encoder's own way back"
    )
    assert (encoder.direct[:, -1] > 0).all()


def test_a_second_forward_pass_and_a_detached_state_begin_new_loops():
    loop, x = seeded(lambda: Loop("lstm")).double(), draw(2, 3, INPUTS)
    with gradients.trace(loop) as tape:
        first, states = loop(x)
        second, _ = loop(x, [tuple(part.detach() for part in state) for state in states])
        loss = first.sum() + second.sum()
    flow = tape.gradient_flow(loss)
    assert [(layer.call, layer.total.shape) for layer in flow.layers] == [(0, (2, 3)), (1, (2, 3))]
    assert (flow.layers[0].recurrent[:, -1] == 0).all(), "nothing comes back over the cut"
    with gradients.trace(loop) as tape:
        ignored, _ = loop(x)
        loss = loop(x)[0].sum()
    (only,) = tape.gradient_flow(loss).layers
    assert only.call == 1
    assert ignored.requires_grad


# Marked states against explicit copies ------------------------------------------------------------


class Copies:
    """The oracle keeps each state, a copy for heads and other loops, and a copy for its loop."""

    def __init__(self):
        self.h: dict[str, list[Tensor]] = {}
        self.shown: dict[str, list[Tensor]] = {}
        self.on: dict[str, list[Tensor]] = {}

    def __call__(self, h: Tensor, name: str) -> tuple[Tensor, Tensor]:
        shown, on = h.clone(), h.clone()
        for kept, value in ((self.h, h), (self.shown, shown), (self.on, on)):
            kept.setdefault(name, []).append(value)
        return shown, on

    def norms(self, loss: Tensor, kind: str, name: str) -> np.ndarray:
        states = getattr(self, kind)[name]
        found = torch.autograd.grad(loss, states, retain_graph=True, allow_unused=True)
        filled = [
            torch.zeros_like(h) if g is None else g for g, h in zip(found, states, strict=True)
        ]
        return torch.stack(filled).flatten(2).norm(dim=-1).T.numpy()


def marked(h: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Mark a state as a user does."""
    h = gradients.record(h, name)
    return h, h


class Handmade(nn.Module):
    """Two loops, of which the upper reads the lower.

    With ``feedback`` the lower loop reads the upper; with ``skip`` a step reads two steps back.
    """

    def __init__(self, feedback: bool = False, skip: bool = False, norm: bool = False):
        super().__init__()
        self.feedback, self.skip = feedback, skip
        self.W = nn.ParameterList(nn.Parameter(torch.randn(HIDDEN, HIDDEN) / 2) for _ in range(5))
        self.embed = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh())
        self.norm = nn.LayerNorm(HIDDEN) if norm else nn.Identity()

    def forward(
        self, x: Tensor, mark: Callable[[Tensor, str], tuple[Tensor, Tensor]] = marked
    ) -> Tensor:
        lower_on: list[Tensor] = [x.new_zeros(len(x), HIDDEN)] * 2
        upper_shown = upper_on = x.new_zeros(len(x), HIDDEN)
        terms = []
        for x_t in self.embed(x).unbind(1):
            a = x_t + lower_on[-1] @ self.W[0]
            a = (
                a
                + (lower_on[-2] @ self.W[1] if self.skip else 0)
                + (upper_shown @ self.W[2] if self.feedback else 0)
            )
            lower_shown, on = mark(self.norm(torch.tanh(a)), "lower")
            lower_on.append(on)
            upper_shown, upper_on = mark(
                torch.tanh(lower_shown @ self.W[3] + upper_on @ self.W[4]), "upper"
            )
            terms.append(
                upper_shown.square().sum() + (0 if self.feedback else lower_shown[:, 0].sin().sum())
            )
        return torch.stack(terms)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("feedback", [False, True])
def test_marked_states_have_the_gradients_of_explicit_copies(feedback, skip, norm):
    model, x = seeded(lambda: Handmade(feedback, skip, norm)).double(), draw(2, 6, INPUTS)
    with gradients.trace(model) as tape:
        terms = model(x)
    copies = Copies()
    again = model(x, copies).sum()
    torch.testing.assert_close(terms.sum(), again, rtol=1e-14, atol=0)
    flow = tape.gradient_flow(terms)
    assert [layer.name for layer in flow.layers] == ["lower", "upper"]
    for layer in flow.layers:
        np.testing.assert_allclose(layer.total, copies.norms(again, "h", layer.name), rtol=1e-9)
        # With feedback, a path through the other loop is neither direct nor through the own copy.
        if not feedback:
            np.testing.assert_allclose(
                layer.direct, copies.norms(again, "shown", layer.name), rtol=1e-9
            )
            np.testing.assert_allclose(
                layer.recurrent, copies.norms(again, "on", layer.name), rtol=1e-9
            )
        assert np.isnan(layer.log_input).all()
        assert np.isnan(layer.log_initial).all()
        assert layer.cell_total is None


def test_gradient_through_another_loop_counts_as_recurrent():
    """The direct part passes through no later state of the loop, also with feedback."""
    model, x = seeded(lambda: Handmade(feedback=True)).double(), draw(2, 5, INPUTS)
    with gradients.trace(model) as tape:
        terms = model(x)
    lower, _ = tape.gradient_flow(terms).layers
    time = 5
    for t in range(time):
        # The same forward pass again; every later state of the lower loop is a constant.
        count, kept = iter(range(time)), []

        def cut(h: Tensor, name: str, t=t, count=count, kept=kept) -> tuple[Tensor, Tensor]:
            if name == "lower":
                place = next(count)
                h = h.detach() if place > t else h.clone()
                kept.append(h)
            return h, h

        (gradient,) = torch.autograd.grad(model(x, cut).sum(), kept[t])
        np.testing.assert_allclose(lower.direct[:, t], gradient.norm(dim=-1), rtol=1e-9)


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 6), st.booleans(), st.booleans(), st.integers(0, 100))
def test_the_parts_obey_the_triangle_inequality_and_the_last_total_is_direct(
    batch, time, feedback, skip, seed
):
    model = seeded(lambda: Handmade(feedback, skip), seed).double()
    with gradients.trace(model) as tape:
        terms = model(draw(batch, time, INPUTS, seed=seed))
    for layer in tape.gradient_flow(terms).layers:
        assert layer.total.shape == (batch, time)
        np.testing.assert_array_less(
            layer.total, (layer.direct + layer.recurrent) * (1 + 1e-9) + 1e-300
        )
        np.testing.assert_array_less(
            abs(layer.direct - layer.recurrent), layer.total * (1 + 1e-9) + 1e-12
        )
        np.testing.assert_array_equal(layer.total[:, -1], layer.direct[:, -1])
        assert (layer.log_recurrent[:, -1] == -np.inf).all()


def test_the_flow_of_a_linear_loop_equals_the_closed_form():
    """h_t = rho h_{t-1} + x_t, the loss on the last: rho^(T-t)."""
    rho, time = 0.5, 40

    class Leaky(nn.Module):
        def forward(self, x):
            h = x.new_zeros(x.shape[1:])
            for x_t in x:
                h = gradients.record(rho * h + x_t)
            return h

    model = Leaky()
    with gradients.trace(model) as tape:
        loss = model(torch.ones(time, 3, 2, dtype=torch.float64, requires_grad=True))[:, 0].sum()
    (layer,) = tape.gradient_flow(loss).layers
    assert layer.name == "state"
    np.testing.assert_allclose(
        layer.total, np.tile(rho ** np.arange(time - 1, -1.0, -1), (3, 1)), rtol=1e-12
    )
    assert (layer.log_direct[:, :-1] == -np.inf).all()
    np.testing.assert_allclose(layer.slope(), np.log(rho), rtol=1e-9)


def test_a_mask_between_steps_keeps_one_loop():
    """A loop over sequences of different lengths, which holds the states of finished sequences."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(INPUTS, HIDDEN)

        def forward(self, x, lengths, keep=lambda h: h):
            h = x.new_zeros(len(x), HIDDEN)
            for t, x_t in enumerate(x.unbind(1)):
                new = keep(self.cell(x_t, h))
                h = torch.where((t < lengths).unsqueeze(1), new, h)
            return h

    model, x, lengths = seeded(Masked).double(), draw(3, 5, INPUTS), torch.tensor([5, 2, 4])
    with gradients.trace(model) as tape:
        loss = model(x, lengths).square().sum()
    (layer,) = tape.gradient_flow(loss).layers
    kept: list[Tensor] = []
    again = model(x, lengths, lambda h: kept.append(h) or h).square().sum()
    totals = torch.stack(torch.autograd.grad(again, kept)).norm(dim=-1).T
    np.testing.assert_allclose(layer.total, totals, rtol=1e-9)
    assert (layer.total[1, 2:] == 0).all(), "a step that was masked out receives nothing"


def test_states_may_have_several_axes():
    class Volume(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolve = nn.Conv1d(2, 2, 3, padding=1)

        def forward(self, x, mark=marked):
            h = x.new_zeros(x.shape[1:])
            for x_t in x:
                _, h = mark(torch.tanh(self.convolve(h) + x_t), "volume")
            return h.square().sum()

    model, x = seeded(Volume).double(), draw(4, 3, 2, 5)
    with gradients.trace(model) as tape:
        loss = model(x)
    copies = Copies()
    again = model(x, copies)
    (layer,) = tape.gradient_flow(loss).layers
    np.testing.assert_allclose(layer.total, copies.norms(again, "h", "volume"), rtol=1e-9)


# Influence ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 4, 32])
def test_rows_of_the_influence_are_the_flows_of_single_terms(chunk):
    model, x = seeded(lambda: Handmade(feedback=True)).double(), draw(2, 6, INPUTS)
    with gradients.trace(model) as tape:
        terms = model(x)
    influence = tape.influence(terms, per_sample=True, chunk=chunk)
    flows = [tape.gradient_flow(term) for term in terms]
    for i, layer in enumerate(influence.layers):
        by_term = []
        # A loop that a term does not depend on has no flow.
        for flow in flows:
            found = [one.total for one in flow.layers if one.name == layer.name]
            by_term.append(found[0] if found else np.zeros((2, 6)))
        expected = np.stack(by_term, 1)
        np.testing.assert_allclose(layer.norms, np.sqrt((expected**2).sum(0)), rtol=1e-9)
        assert layer.log_norms_per_sample is not None
        np.testing.assert_allclose(
            np.exp(layer.log_norms_per_sample), expected, rtol=1e-6, atol=1e-300
        )
        assert (np.triu(layer.norms, 1) == 0).all(), (
            f"no term reaches what comes after it, layer {i}"
        )


def test_a_loop_and_a_module_in_one_model_both_have_an_influence():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.lower = nn.LSTM(INPUTS, HIDDEN, batch_first=True)
            self.upper = Loop("gru")
            self.upper.cells[0] = nn.GRUCell(HIDDEN, HIDDEN)

        def forward(self, x):
            return self.upper(self.lower(x)[0])[0]

    model, x = seeded(Both).double(), draw(2, 5, INPUTS)
    with gradients.trace(model) as tape:
        output = model(x)
        terms = output.square().mean((0, 2))
    flow, influence = tape.gradient_flow(terms), tape.influence(terms)
    assert [layer.title for layer in flow.layers] == ["lower[0]", "upper.cells.0[0]"]
    assert [layer.title for layer in influence.layers] == ["lower[0]", "upper.cells.0[0]"]
    for i, layer in enumerate(influence.layers):
        rows = [np.sqrt((tape.gradient_flow(term).layers[i].total ** 2).sum(0)) for term in terms]
        np.testing.assert_allclose(layer.norms, rows, rtol=1e-9, atol=1e-300)
    # The direct part of the lower module is the gradient of its output.
    direct = torch.autograd.grad(terms.sum(), tape.calls[0].outputs[0], retain_graph=True)[0]
    np.testing.assert_allclose(flow.layers[0].direct, direct.norm(dim=-1), rtol=1e-9)


# Tracing changes nothing --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [lambda: Loop("lstm", 2), lambda: Loop("gru"), lambda: Handmade(norm=True)]
)
def test_tracing_changes_neither_the_model_nor_torch(make):
    model, x = seeded(make), draw(2, 5, INPUTS).float().requires_grad_()
    for parameter in list(model.parameters())[::2]:
        parameter.grad = torch.ones_like(parameter)
    before = state_of(model)

    def forward() -> Tensor:
        returned = model(x)
        return (returned if isinstance(returned, Tensor) else returned[0]).square().mean()

    plain, generator = forward(), torch.get_rng_state()
    with gradients.trace(model) as tape:
        loss = forward()
    assert torch.equal(loss, plain)
    flow = tape.gradient_flow(loss)
    tape.influence(loss.reshape(1))
    assert torch.equal(torch.get_rng_state(), generator)
    assert_same_state(state_of(model), before)
    assert x.grad is None
    again = tape.gradient_flow(loss)
    for one, other in zip(flow.layers, again.layers, strict=True):
        np.testing.assert_array_equal(one.log_direct, other.log_direct)
    traced = torch.autograd.grad(
        loss, list(model.parameters()), retain_graph=True, allow_unused=True
    )
    expected = torch.autograd.grad(plain, list(model.parameters()), allow_unused=True)
    for one, other in zip(traced, expected, strict=True):
        assert one is other is None or torch.equal(one, other)


def test_record_is_the_identity_outside_a_trace():
    h = draw(2, 3)
    assert gradients.record(h) is h
    model = seeded(lambda: nn.GRU(INPUTS, HIDDEN))
    with pytest.raises(KeyError), gradients.trace(model):
        raise KeyError
    assert gradients.record(h) is h


def test_both_of_two_nested_traces_record_the_states():
    model, x = seeded(Handmade).double(), draw(2, 4, INPUTS)
    with gradients.trace(model) as outer, gradients.trace(model) as inner:
        loss = model(x).sum()
    found = [tape.gradient_flow(loss).layers for tape in (outer, inner)]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one.total, other.total, rtol=1e-12)


@pytest.mark.parametrize("cell", MODULES)
def test_loops_under_autocast_are_traced(cell):
    loop, x = seeded(lambda: Loop(cell)), draw(2, 6, INPUTS).float()
    with gradients.trace(loop) as tape, torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loop(x)[0].float().square().mean()
        flow = tape.gradient_flow(loss)
    with gradients.trace(loop) as tape:
        right = tape.gradient_flow(loop(x)[0].square().mean())
    np.testing.assert_allclose(flow.layers[0].total, right.layers[0].total, rtol=0.1, atol=2e-3)


def test_a_compiled_loop_runs_uncompiled_inside_the_block():
    loop, x = seeded(lambda: Loop("gru")).double(), draw(2, 4, INPUTS)
    compiled = torch.compile(loop, backend="eager")
    compiled(x)
    with gradients.trace(loop) as tape:
        loss = compiled(x)[0].sum()
    with gradients.trace(loop) as other:
        same = loop(x)[0].sum()
    one, right = tape.gradient_flow(loss).layers[0], other.gradient_flow(same).layers[0]
    np.testing.assert_array_equal(one.log_total, right.log_total)


# Refusals -----------------------------------------------------------------------------------------


def run_marked(step: Callable[[int, Tensor], Tensor], name: str = "state", time: int = 3) -> Tensor:
    h = torch.zeros(2, 3, requires_grad=True)
    for t in range(time):
        h = gradients.record(step(t, h), name)
    return h.sum()


@pytest.mark.parametrize(
    "step", [lambda t, h: h[: 2 - t] + 1, lambda t, h: torch.cat([h, h[:, :1]], 1)]
)
def test_a_shape_that_changes_within_a_loop_is_refused(step):
    with (
        pytest.raises(InputError, match="needs states of one shape in each loop") as caught,
        gradients.trace(nn.Identity()),
    ):
        run_marked(step)
    assert "state, timestep 2: " in str(caught.value)


def test_a_batch_that_shrinks_in_a_loop_of_cells_is_refused():
    cell = seeded(lambda: nn.GRUCell(INPUTS, HIDDEN))
    with (
        gradients.trace(cell),
        pytest.raises(InputError, match=r"timestep 2: \(1, 4\) after \(2, 4\)"),
    ):
        cell(torch.zeros(1, INPUTS), cell(torch.zeros(2, INPUTS))[:1])


@pytest.mark.parametrize("feedback", [False, True])
def test_a_loop_that_continues_with_the_unmarked_state_is_traced(feedback):
    def forgetful(h: Tensor, name: str) -> tuple[Tensor, Tensor]:
        gradients.record(h, name)
        return h, h

    model, x = seeded(lambda: Handmade(feedback)).double(), draw(2, 5, INPUTS)
    with gradients.trace(model) as tape:
        found = tape.gradient_flow(model(x, forgetful).sum())
    with gradients.trace(model) as tape:
        right = tape.gradient_flow(model(x).sum())
    assert [layer.title for layer in found.layers] == [layer.title for layer in right.layers]
    for one, other in zip(found.layers, right.layers, strict=True):
        np.testing.assert_allclose(one.total, other.total, rtol=1e-9)
        np.testing.assert_allclose(one.direct, other.direct, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(one.recurrent, other.recurrent, rtol=1e-9, atol=1e-14)


def test_states_that_do_not_follow_one_another_are_refused():
    model, x = seeded(Handmade).double(), draw(2, 3, INPUTS)
    with gradients.trace(model) as tape:
        loss = model(x, lambda h, name: (gradients.record(h, name), h.detach())).sum()
    with pytest.raises(
        InputError, match=r"3 states 'lower', none of them computed from another"
    ) as caught:
        tape.gradient_flow(loss)
    assert "h = gradients.record(h)" in str(caught.value)


def test_two_loops_under_one_name_are_refused():
    model, x = seeded(Handmade).double(), draw(2, 3, INPUTS)
    with (
        pytest.raises(InputError, match="computed from the previous state alone") as caught,
        gradients.trace(model),
    ):
        model(x, lambda h, name: marked(h, "state"))
    assert "gradients.record(h, 'lower')" in str(caught.value)


@pytest.mark.parametrize(
    ("h", "text"),
    [
        ((torch.zeros(2, 3), torch.zeros(2, 3)), "a pair"),
        (torch.zeros(()), r"shape \(\)"),
        (torch.zeros(2, 3, dtype=torch.int64), "int64"),
        (None, "h = None"),
    ],
)
def test_record_refuses_a_value_that_is_no_state_inside_and_outside_a_trace(h, text):
    with pytest.raises(InputError, match=text):
        gradients.record(h)


@pytest.mark.parametrize("change", [lambda h: h.mul_(2), lambda h: h.detach_()])
def test_a_state_that_is_changed_in_place_is_refused(change):
    cell, x = seeded(lambda: nn.GRUCell(INPUTS, HIDDEN)).double(), draw(2, INPUTS)
    with gradients.trace(cell) as tape:
        first = cell(x)
        second = cell(x, first)
        loss = second.sum()
        change(first)
    with pytest.raises(InputError, match="GRUCell: the state of timestep 1 was changed in place"):
        tape.gradient_flow(loss)


def test_a_loop_without_a_graph_is_refused():
    loop, x = seeded(lambda: Loop("gru")), torch.zeros(2, 3, INPUTS)
    with gradients.trace(loop) as tape, torch.no_grad():
        output, _ = loop(x)
    loss = (output * torch.ones((), requires_grad=True)).sum()
    with pytest.raises(InputError, match=r"a forward pass under torch.no_grad\(\)"):
        tape.gradient_flow(loss)


def test_a_loss_that_depends_on_no_state_is_refused():
    loop, x = seeded(lambda: Loop("gru")), torch.zeros(2, 3, INPUTS)
    with gradients.trace(loop) as tape:
        loop(x)
    with pytest.raises(InputError, match="depends on no recorded state"):
        tape.gradient_flow(loop(x)[0].sum())


def test_a_freed_graph_is_refused():
    loop, x = seeded(lambda: Loop("gru")), torch.zeros(2, 3, INPUTS)
    with gradients.trace(loop) as tape:
        loss = loop(x)[0].square().sum()
    loss.backward()
    with pytest.raises(InputError, match=r"retain_graph=True"):
        tape.gradient_flow(loss)


def test_weights_that_changed_before_the_query_are_refused():
    loop, x = seeded(lambda: Loop("tanh")).double(), draw(2, 3, INPUTS)
    with gradients.trace(loop) as tape:
        loss = loop(x)[0].square().sum()
    with torch.no_grad():
        loop.cells[0].bias_ih += 1
    with pytest.raises(
        InputError, match=r"cells\.0: bias_ih was changed in place after timestep 1"
    ):
        tape.gradient_flow(loss)


@pytest.mark.parametrize("make", [lambda: Loop("lstm"), Handmade])
def test_states_that_are_nan_are_refused_with_their_timestep(make):
    model, x = seeded(make).double(), draw(2, 5, INPUTS)
    x[1, 2] = torch.nan
    with gradients.trace(model) as tape:
        returned = model(x)
    loss = (returned if isinstance(returned, Tensor) else returned[0]).sum()
    with pytest.raises(InputError, match=r"(cells.0|lower): NaN from timestep 3 on"):
        tape.gradient_flow(loss)


def test_a_model_that_marks_nothing_is_refused():
    model = seeded(lambda: nn.Sequential(nn.Linear(2, 3), nn.ReLU()))
    with pytest.raises(InputError) as caught, gradients.trace(model):
        model(torch.zeros(1, 2))
    text = str(caught.value)
    assert "recurrent layers, or with a loop that marks its states" in text
    assert "Linear, ReLU, Sequential, and no state was marked" in text
    assert "gradients.record(h)" in text


def test_a_scripted_cell_is_refused():
    with scripting():
        scripted: Any = torch.jit.script(seeded(lambda: nn.LSTMCell(INPUTS, HIDDEN)))
    model = nn.ModuleDict({"open": seeded(lambda: nn.GRUCell(INPUTS, HIDDEN)), "closed": scripted})
    with pytest.raises(InputError, match="closed, a scripted LSTMCell"), gradients.trace(model):
        pass
