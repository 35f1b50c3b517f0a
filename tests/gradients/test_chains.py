"""The separation of hand-written loops, compared with automatic differentiation of a copy."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from leadline import InputError, gradients

WIDTH = 4
Mark = Callable[..., Tensor]


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().double()


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Layer(nn.Module):
    """A tanh layer with its own loop; ``collect`` joins its states."""

    def __init__(self, collect: str = "stack", mix: bool = False):
        super().__init__()
        self.W = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.U = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.collect, self.mix = collect, mix
        self.mark: Mark = gradients.record

    def forward(self, x, h=None):
        h = torch.zeros(2, WIDTH, dtype=torch.float64) if h is None else h
        states, buffer = [], torch.zeros(len(x), 2, WIDTH, dtype=torch.float64)
        for t in range(len(x)):
            h = self.mark(torch.tanh(h @ self.W + x[t] @ self.U))
            states.append(h)
            buffer[t] = h
        found = {
            "stack": lambda: torch.stack(states),
            "cat": lambda: torch.cat([h.unsqueeze(0) for h in states]),
            "buffer": lambda: buffer,
            "list": lambda: states,
        }[self.collect]()
        # Every timestep reads all other timesteps, as in a normalisation over time.
        if self.mix:
            found = found - found.mean(0)
        return found


def last_of(found) -> Tensor:
    return found[-1].square().sum() + found[0].sin().sum()


def check(
    model: nn.Module,
    loss_of: Callable[[], Tensor],
    lengths: list[int],
    titles: list[str] | None = None,
):
    """Check that each chain has the totals of its own states, in the order of computation."""
    with gradients.trace(model) as tape:
        loss = loss_of()
    kept: list[Tensor] = []

    def keep(h: Tensor, name: str = "state") -> Tensor:
        kept.append(h)
        return h

    layers: list[Any] = [module for module in model.modules() if hasattr(module, "mark")]
    for layer in layers:
        layer.mark = keep
    again = loss_of()
    for layer in layers:
        layer.mark = gradients.record
    arrived = torch.autograd.grad(again, kept, allow_unused=True)
    rows = [torch.zeros_like(h) if g is None else g for g, h in zip(arrived, kept, strict=True)]
    norms = torch.stack(rows).flatten(2).norm(dim=-1).T.numpy()
    flow = tape.gradient_flow(loss)
    assert [layer.total.shape[1] for layer in flow.layers] == lengths
    if titles is not None:
        assert [layer.title for layer in flow.layers] == titles
    first = 0
    for layer, length in zip(flow.layers, lengths, strict=True):
        np.testing.assert_allclose(
            layer.total, norms[:, first : first + length], rtol=1e-9, atol=1e-300
        )
        first += length
    return flow


@pytest.mark.parametrize("time", [1, 2, 3, 25])
@pytest.mark.parametrize("mix", [False, True])
@pytest.mark.parametrize("collect", ["stack", "cat", "buffer", "list"])
def test_each_of_several_stacked_layers_is_one_loop(collect, mix, time):
    if mix and collect == "list":
        return
    model, x = (
        seeded(lambda: nn.Sequential(Layer(collect, mix), Layer(collect))),
        draw(time, 2, WIDTH),
    )
    flow = check(model, lambda: last_of(model(x)), [time, time], ["0.state[0]", "1.state[0]"])
    # The states of the lower layer reach the loss through the upper layer,
    # which is the direct part.
    if not mix and time > 1:
        assert (flow.layers[0].direct > 0).all()


@pytest.mark.parametrize("time", [2, 3, 25])
@pytest.mark.parametrize("mix", [False, True])
@pytest.mark.parametrize("collect", ["stack", "cat", "buffer", "list"])
def test_one_layer_that_is_called_twice_makes_two_loops(collect, mix, time):
    if mix and collect == "list":
        return
    model, x = seeded(lambda: Layer(collect, mix)), draw(time, 2, WIDTH)
    check(model, lambda: last_of(model(model(x))), [time, time], ["state[0]", "state[0] call 2"])


def test_two_alternating_blocks_keep_their_loops():
    model, x = seeded(lambda: nn.ModuleList([Layer(), Layer()])), draw(6, 2, WIDTH)

    def loss_of() -> Tensor:
        y = x
        for _ in range(2):
            for layer in model:
                y = layer(y)
        return last_of(y)

    check(
        model,
        loss_of,
        [6] * 4,
        ["0.state[0]", "1.state[0]", "0.state[0] call 2", "1.state[0] call 2"],
    )


def test_a_parent_that_loops_over_layers_makes_one_loop_for_each_layer():
    class Parent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(Layer() for _ in range(3))
            self.norm = nn.LayerNorm(WIDTH)

        def forward(self, x):
            for layer in self.layers:
                x = x + self.norm(layer(x))
            return x

    model, x = seeded(Parent), draw(5, 2, WIDTH)
    check(model, lambda: last_of(model(x)), [5] * 3, [f"layers.{i}.state[0]" for i in range(3)])


class Step(nn.Module):
    """One timestep of a loop that belongs to the parent module."""

    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.mark: Mark = gradients.record

    def forward(self, x, h):
        return self.mark(torch.tanh(h @ self.W + x))


class InStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.lower, self.upper = Step(), Step()

    def forward(self, x, attends: bool = False):
        lower = upper = x.new_zeros(2, WIDTH)
        seen = []
        for x_t in x:
            context = torch.stack(seen).mean(0) if attends and seen else 0
            lower = self.lower(x_t + context, lower)
            upper = self.upper(lower, upper)
            seen.append(lower)
        return lower, upper


@pytest.mark.parametrize("attends", [False, True])
def test_steps_that_a_parent_calls_make_one_loop(attends):
    model, x = seeded(InStep), draw(6, 2, WIDTH)
    with gradients.trace(model) as tape:
        lower, upper = model(x, attends)
        loss = lower.sin().sum() + upper.square().sum()
    flow = tape.gradient_flow(loss)
    assert [(layer.title, layer.total.shape) for layer in flow.layers] == [
        ("lower.state[0]", (2, 6)),
        ("upper.state[0]", (2, 6)),
    ]


def test_a_loop_in_chunks_is_one_loop():
    model, x = seeded(Layer), draw(7, 2, WIDTH)

    def by_last_state() -> Tensor:
        return last_of(model(x[3:], model(x[:3])[-1]))

    check(model, by_last_state, [7], ["state[0]"])
    model.collect = "list"
    check(model, by_last_state, [7], ["state[0]"])


def test_a_second_forward_pass_in_one_block_is_a_second_loop():
    model, x = seeded(Layer), draw(4, 2, WIDTH)
    check(
        model,
        lambda: last_of(model(x)) + last_of(model(x.flip(0))),
        [4, 4],
        ["state[0]", "state[0] call 2"],
    )


class Functional(nn.Module):
    """Two loops without modules, whose states have the same name, in one forward pass."""

    def __init__(self, attends_every: int = 0, window: int = 0):
        super().__init__()
        self.W = nn.ParameterList(nn.Parameter(torch.randn(WIDTH, WIDTH)) for _ in range(2))
        self.mark: Mark = gradients.record
        self.attends_every, self.window = attends_every, window

    def run(self, x, W):
        h, states = torch.zeros(2, WIDTH, dtype=torch.float64), []
        for t, x_t in enumerate(x):
            a = x_t + h @ W
            if self.window and states:
                a = x_t + torch.cat(states[-self.window :], 1).sum(1, keepdim=True) @ W[:1]
            if self.attends_every and t and t % self.attends_every == 0:
                a = a + torch.stack(states).mean(0)
            h = self.mark(torch.tanh(a))
            states.append(h)
        return torch.stack(states)

    def forward(self, x):
        for W in self.W:
            x = self.run(x, W)
        return x


@pytest.mark.parametrize("time", [2, 3, 4, 9])
def test_layers_without_modules_in_one_forward_pass_are_separate_loops(time):
    model, x = seeded(Functional), draw(time, 2, WIDTH)
    check(model, lambda: last_of(model(x)), [time, time], ["state[0]", "state[0] call 2"])


@pytest.mark.parametrize(
    "options", [{"attends_every": 3}, {"attends_every": 1}, {"window": 2}, {"window": 3}]
)
def test_a_loop_that_reads_many_of_its_states_is_one_loop(options):
    model, x = seeded(lambda: Functional(**options)), draw(8, 2, WIDTH)
    check(model, lambda: last_of(model.run(x, model.W[0])), [8], ["state[0]"])


class MambaBlock(nn.Module):
    """A selective scan as in mamba-minimal, whose state is computed in a method of the block."""

    def __init__(self):
        super().__init__()
        self.A = nn.Parameter(-torch.rand(WIDTH, 3))
        self.to_B = nn.Linear(WIDTH, 3)
        self.mark: Mark = gradients.record

    def selective_scan(self, u):
        B = self.to_B(u)
        x, ys = torch.zeros(u.shape[0], WIDTH, 3, dtype=u.dtype), []
        for t in range(u.shape[1]):
            x = self.mark(torch.exp(self.A) * x + u[:, t, :, None] * B[:, t, None])
            ys.append((x * B[:, t, None]).sum(-1))
        return torch.stack(ys, dim=1)

    def forward(self, u):
        return u + self.selective_scan(u)


def test_blocks_like_mambas_with_the_default_name_are_separate_loops():
    model, x = seeded(lambda: nn.Sequential(*(MambaBlock() for _ in range(3)))), draw(2, 6, WIDTH)
    check(
        model, lambda: model(x)[:, -1].square().sum(), [6] * 3, [f"{i}.state[0]" for i in range(3)]
    )


def test_parametrized_layers_are_named_by_their_paths():
    model, x = seeded(lambda: nn.Sequential(Layer(), Layer())), draw(4, 2, WIDTH)
    for layer in model:
        nn.utils.parametrizations.orthogonal(layer, "W")
    check(model, lambda: last_of(model(x)), [4, 4], ["0.state[0]", "1.state[0]"])


# States before their mark -------------------------------------------------------------------------


class ReadsBefore(nn.Module):
    """A loop whose states are read by a head and a second loop before their marks."""

    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.V = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.mark: Mark = gradients.record

    def forward(self, x, next_reads_raw: bool = False):
        h = torch.zeros(2, WIDTH, dtype=torch.float64)
        rate, terms = h, []
        for x_t in x:
            raw = torch.tanh(h @ self.W + (rate @ self.V if next_reads_raw else 0) + x_t)
            rate = torch.relu(raw)
            h = self.mark(raw)
            terms.append((rate @ self.V).square().sum())
        return torch.stack(terms)


@pytest.mark.parametrize("next_reads_raw", [False, True])
def test_a_use_of_a_state_before_its_mark_counts(next_reads_raw):
    model, x = seeded(ReadsBefore), draw(6, 2, WIDTH)
    flow = check(model, lambda: model(x, next_reads_raw).sum(), [6])
    (layer,) = flow.layers
    assert (layer.total[:, -1] > 0).all()
    # The oracle of the parts: the direct part is the gradient of h_t if later states are constants.
    for t in range(6):
        kept: list[Tensor] = []
        model.mark = lambda h, t=t, kept=kept: kept.append(h) or h
        terms = model(x, next_reads_raw)
        (direct,) = torch.autograd.grad(terms[t], kept[t], retain_graph=True)
        (total,) = torch.autograd.grad(terms.sum(), kept[t])
        np.testing.assert_allclose(layer.direct[:, t], direct.norm(dim=-1), rtol=1e-9)
        np.testing.assert_allclose(
            layer.recurrent[:, t], (total - direct).norm(dim=-1), rtol=1e-9, atol=1e-14
        )
    model.mark = gradients.record


def test_influence_and_monitor_count_uses_of_a_state_before_its_mark():
    model, x = seeded(ReadsBefore), draw(5, 2, WIDTH)
    with gradients.trace(model) as tape:
        terms = model(x)
    (layer,) = tape.influence(terms).layers
    kept: list[Tensor] = []
    model.mark = lambda h: kept.append(h) or h
    again = model(x)
    for k in range(5):
        arrived = torch.autograd.grad(again[k], kept, retain_graph=True, allow_unused=True)
        norms = [0.0 if g is None else float(g.norm()) for g in arrived]
        np.testing.assert_allclose(layer.norms[k], norms, rtol=1e-9, atol=1e-300)
    model.mark = gradients.record
    looks: list[dict[str, float]] = []
    monitor = gradients.GradientMonitor(
        model, every=1, write=lambda _, scalars: looks.append(scalars)
    )
    with monitor.step():
        model(x).sum().backward()
    with gradients.trace(model) as tape:
        right = tape.gradient_flow(model(x).sum()).layers[0]
    assert looks[0]["state[0]/slope"] == pytest.approx(float(np.median(right.slope())), rel=1e-9)


# h and c of an LSTM -------------------------------------------------------------------------------


def test_h_and_c_marked_separately_have_the_gradients_of_torchs_lstm():
    lstm, x = seeded(lambda: nn.LSTM(3, WIDTH)), draw(7, 2, 3)

    class ByHand(nn.Module):
        def forward(self, x):
            h, c = x.new_zeros(2, WIDTH), x.new_zeros(2, WIDTH)
            states = []
            for x_t in x:
                a = (
                    x_t @ lstm.weight_ih_l0.T
                    + lstm.bias_ih_l0
                    + h @ lstm.weight_hh_l0.T
                    + lstm.bias_hh_l0
                )
                i, f, g, o = a.chunk(4, -1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                h, c = gradients.record(h, "h"), gradients.record(c, "c")
                states.append(h)
            return torch.stack(states), c

    model = ByHand()
    with gradients.trace(model) as tape:
        states, c = model(x)
        flow = tape.gradient_flow(states.sin().sum() + c.square().sum())
    with gradients.trace(lstm) as tape:
        states, (_, c) = lstm(x)
        (right,) = tape.gradient_flow(states.sin().sum() + c.square().sum()).layers
    h, cell = flow.layers
    assert (h.name, cell.name) == ("h", "c")
    np.testing.assert_allclose(h.total, right.total, rtol=1e-9)
    assert right.cell_total is not None
    np.testing.assert_allclose(cell.total, right.cell_total, rtol=1e-9)


# Beyond the loop's precision ----------------------------------------------------------------------


class Cells(nn.Module):
    """A loop of cells with the weights of a torch.nn.GRU or LSTM."""

    def __init__(self, module: nn.RNNBase, cell: nn.RNNCellBase):
        super().__init__()
        self.cell = cell
        with torch.no_grad():
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(cell, name).copy_(getattr(module, f"{name}_l0"))

    def forward(self, x):
        state = None
        for x_t in x:
            state = self.cell(x_t, state)
        return state[0] if isinstance(state, tuple) else state


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_gradients_too_small_for_float32_are_lost_and_not_dead(kind, tmp_path):
    module = seeded(lambda: (nn.GRU if kind == "gru" else nn.LSTM)(2, 8)).float()
    with torch.no_grad():
        module.weight_hh_l0 *= 0.1
    loop = seeded(
        lambda: Cells(module, (nn.GRUCell if kind == "gru" else nn.LSTMCell)(2, 8))
    ).float()
    x = draw(300, 3, 2).float()
    with gradients.trace(module) as tape:
        (right,) = tape.gradient_flow(module(x)[0][-1].square().sum()).layers
    with gradients.trace(loop) as tape:
        flow = tape.gradient_flow(loop(x).square().sum())
    (layer,) = flow.layers
    assert layer.lost is not None
    assert layer.lost.any(axis=1).all()
    assert (right.log_total[layer.lost] < np.log(1e-37)).all(), "only what is too small is lost"
    np.testing.assert_allclose(
        layer.log_total[~layer.lost], right.log_total[~layer.lost], rtol=1e-3
    )
    assert (abs(layer.float32_underflow - right.float32_underflow) <= 1).all()
    np.testing.assert_allclose(layer.slope(200), right.slope(200), rtol=1e-3)
    verdict = str(flow)
    assert "dies" not in verdict
    assert "until float32 loses it before timestep" in verdict
    assert any("float32 cannot hold the gradient of the first" in note for note in flow.notes)
    assert "underflows" in str(flow.figure().to_json())
    assert flow.table().query("lost").log10_total.eq(-np.inf).all()
    flow.save(tmp_path)
    loaded = gradients.GradientFlow.load(tmp_path).layers[0]
    np.testing.assert_array_equal(loaded.lost, layer.lost)
    assert loaded.precision == "float32"


def test_gradients_that_die_in_a_loop_are_not_called_lost():
    class Dies(nn.Module):
        def forward(self, x):
            h = x.new_zeros(2, WIDTH).float()
            for t, x_t in enumerate(x):
                h = h * (0 if t == 20 else 0.5)
                h = gradients.record(h + x_t)
            return h

    x = draw(40, 2, WIDTH).float().requires_grad_()
    with gradients.trace(nn.Identity()) as tape:
        loss = Dies()(x).sum()
    flow = tape.gradient_flow(loss)
    assert flow.layers[0].lost is None
    assert "dies: the first 20 of 40 timesteps get none" in str(flow)


def test_a_loop_in_float64_is_not_lost_where_float32_would_be():
    class Leaky(nn.Module):
        def forward(self, x):
            h = x.new_zeros(2, WIDTH)
            for x_t in x:
                h = gradients.record(0.1 * h + x_t)
            return h

    x = draw(60, 2, WIDTH).requires_grad_()
    with gradients.trace(nn.Identity()) as tape:
        flow = tape.gradient_flow(Leaky()(x).sum())
    (layer,) = flow.layers
    np.testing.assert_allclose(layer.slope(), np.log(0.1), rtol=1e-9)
    assert layer.lost is None
    assert any("float32 underflows at timestep" in note for note in flow.notes)


# Refusals -----------------------------------------------------------------------------------------


def test_a_tree_is_refused_as_a_tree():
    def climb() -> None:
        with gradients.trace(nn.Identity()):
            leaves = [gradients.record(torch.ones(2, 3, requires_grad=True) * i) for i in range(2)]
            gradients.record(leaves[0] + leaves[1])

    with pytest.raises(InputError, match="a tree, in which a state follows several others"):
        climb()


def test_a_loop_in_another_thread_is_refused():
    x = draw(4, 2, WIDTH)
    model = seeded(Layer)
    with gradients.trace(model) as tape:
        thread = threading.Thread(target=lambda: model(x))
        thread.start()
        thread.join()
        with pytest.raises(InputError, match="another thread"):
            tape.gradient_flow(model.W.sum())
        # This pass lets the block end without an error.
        model(x)
    found: list[InputError] = []
    try:
        with gradients.trace(model):
            thread = threading.Thread(target=lambda: model(x))
            thread.start()
            thread.join()
    except InputError as error:
        found.append(error)
    assert "in the thread that runs the model" in str(found[0])


def test_a_buffer_that_is_written_before_the_mark_is_refused():
    with gradients.trace(nn.Identity()) as tape:
        h, buffer = draw(2, WIDTH).requires_grad_(), torch.zeros(3, 2, WIDTH, dtype=torch.float64)
        for t in range(3):
            buffer[t] = torch.tanh(h)
            h = gradients.record(buffer[t])
        loss = buffer.sum()
    with pytest.raises(InputError, match="record a state before it is stored"):
        tape.gradient_flow(loss)


def test_a_layer_above_both_directions_is_a_separate_loop():
    x = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    W = torch.eye(4, dtype=torch.float64, requires_grad=True)

    def states_of(inputs):
        h = torch.zeros(2, 4, dtype=torch.float64)
        states = []
        for x_t in inputs:
            h = gradients.record(torch.tanh(h @ W + x_t))
            states.append(h)
        return torch.stack(states)

    with gradients.trace(nn.Identity()) as tape:
        both = torch.cat([states_of(x), states_of(x.flip(0)).flip(0)], -1)
        top = states_of(both.unflatten(-1, (2, 4)).sum(-2))
    assert [layer.total.shape for layer in tape.gradient_flow(top.sum()).layers] == [(2, 6)] * 3
