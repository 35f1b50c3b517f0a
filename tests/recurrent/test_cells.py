"""The derivatives of every cell, compared with finite differences of a step written by hand."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

from leadline.recurrent import Weights, record_cell
from leadline.recurrent._gru import GRUCell
from leadline.recurrent._lstm import LSTMCell
from leadline.recurrent._rnn import RNNCell
from tests.gradients.unrolled import Step, gru_step, lstm_step, rnn_step

INPUTS, HIDDEN, PROJECTED = 3, 4, 2


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def step_and_weights(cell: str) -> tuple[Step, Weights]:
    gates = {"lstm": 4, "projected": 4, "gru": 3}.get(cell, 1)
    P = PROJECTED if cell == "projected" else HIDDEN
    W_x, W_h = draw(gates * HIDDEN, INPUTS, seed=1), draw(gates * HIDDEN, P, seed=2) / 2
    b_x, b_h = draw(2, gates * HIDDEN, seed=3)
    W_p = draw(P, HIDDEN, seed=4) if cell == "projected" else None
    if cell in ("lstm", "projected"):
        return lstm_step(W_x, W_h, b_x, b_h, W_p), Weights(LSTMCell(), W_x, W_h, b_x, b_h, W_p)
    if cell == "gru":
        return gru_step(W_x, W_h, b_x, b_h), Weights(GRUCell(), W_x, W_h, b_x, b_h)
    sigma = {"tanh": torch.tanh, "relu": torch.relu, "identity": lambda a: a}[cell]
    kind: Any = cell
    return rnn_step(sigma, W_x, W_h, b_x, b_h), Weights(RNNCell(kind), W_x, W_h, b_x, b_h)


def jacobian(function: Callable[[Tensor], Tensor], at: Tensor, width: float = 1e-6) -> Tensor:
    """Return the Jacobian by central differences."""
    columns = [
        (function(at + e) - function(at - e)) / (2 * width)
        for e in width * torch.eye(len(at)).double()
    ]
    return torch.stack(columns, 1)


@pytest.mark.parametrize("cell", ["tanh", "relu", "identity", "lstm", "projected", "gru"])
def test_derivatives_of_cells_equal_finite_differences(cell):
    step, weights = step_and_weights(cell)
    P, time, batch = weights.W_h.shape[1], 4, 2
    has_cell = weights.cell.parts > 1
    x, h_0, c_0 = (
        draw(time, batch, INPUTS, seed=5),
        draw(batch, P, seed=6),
        draw(batch, HIDDEN, seed=7),
    )
    states = [
        list(accumulate(x[:, b], lambda state, x_t: step(x_t, *state), initial=(h_0[b], c_0[b])))
        for b in range(batch)
    ]
    h = torch.stack([torch.stack([one[0] for one in sequence[1:]]) for sequence in states], 1)
    made = record_cell(weights, x, h, h_0, c_0 if has_cell else None)
    torch.testing.assert_close(made.h, h, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(made.h_before, torch.cat([h_0[None], h[:-1]]))
    assert made.state_size == P + HIDDEN * has_cell

    def whole(state: tuple[Tensor, Tensor]) -> Tensor:
        return torch.cat(state) if has_cell else state[0]

    rows = draw(3, time, batch, made.state_size, seed=8)
    for t in range(time):
        for b in range(batch):
            before, x_t = states[b][t], x[t, b]

            def from_state(s: Tensor, before=before, x_t=x_t) -> Tensor:
                return whole(step(x_t, s[:P], s[P:] if has_cell else before[1]))

            def from_input(v: Tensor, before=before) -> Tensor:
                return whole(step(v, *before))

            expected = rows[:, t, b] @ jacobian(from_state, whole(before))
            torch.testing.assert_close(
                made.pull_back(t, rows[:, t])[:, b], expected, rtol=1e-7, atol=1e-8
            )
            expected = rows[0, t, b] @ jacobian(from_input, x_t)
            torch.testing.assert_close(made.to_input(rows[0])[t, b], expected, rtol=1e-7, atol=1e-8)
            tangents = torch.eye(made.state_size, dtype=torch.float64).expand(batch, -1, -1)
            pushed = made.push_forward(t, tangents)[b].mT
            torch.testing.assert_close(
                pushed, jacobian(from_state, whole(before)), rtol=1e-7, atol=1e-8
            )
