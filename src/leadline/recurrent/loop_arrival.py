"""What a loss tells the states of a loop that was written by hand.

With the gradients stopped at all copies of a chain, what still arrives at one is the direct part; with the totals as
seeds of the states themselves, it is the recurrent part. Neither is a difference. Gradients are those of autograd,
within the range of the states' floating point.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from leadline.recurrent import cells
from leadline.recurrent.flow import LayerFlow
from leadline.recurrent.loops import Cell, Chain, Gradients, flat
from leadline.recurrent.replay import check_reproduced, wide
from leadline.recurrent.sweep import Rows


def loop_flow(chain: Chain, loss: Tensor, totals: Gradients) -> LayerFlow:
    """How much of a loss arrives at each state, by which way.

    Args:
        chain: the loop.
        loss: a scalar.
        totals: its gradients with respect to ``chain.outputs``; ``None`` for zero.
    """
    shown = chain.outputs
    direct = _stopped([loss], [torch.ones_like(loss)], shown)
    pairs = zip(chain.made, totals, strict=True)
    seeded = [(made, total) for made, total in pairs if total is not None and made.grad_fn is not None]
    recurrent = _stopped([made for made, _ in seeded], [total for _, total in seeded], shown)
    return total_flow(chain, totals, log_direct=_log(chain.rows(direct)), log_recurrent=_log(chain.rows(recurrent)))


def total_flow(chain: Chain, totals: Gradients, **parts: Any) -> LayerFlow:
    """The flow without its parts, which are NaN if they are not given."""
    total = chain.rows(totals)
    unknown = np.full(total.shape[1::-1], np.nan)
    found: dict[str, Any] = chain.naming() | {"log_total": _log(total), "hidden_norm": np.exp(_log(chain.hidden()))}
    found |= {"log_direct": unknown, "log_recurrent": unknown, "log_input": unknown, "log_initial": unknown[:, 0]}
    if chain.module is not None:
        found |= _around_cell(chain, totals)
    return LayerFlow(**(found | parts))


def log_totals(chain: Chain, totals: Gradients) -> np.ndarray:
    """Logarithms of the norms of the total gradients, shape (T, B)."""
    return Rows.of(chain.rows(totals).double()).log.cpu().numpy()


def _around_cell(chain: Chain, totals: Gradients) -> dict[str, np.ndarray]:
    """What reaches a cell's inputs, its first state and its c: by the adjoint, each step as a sequence of its own."""
    assert chain.module is not None
    weights = _weights(chain.module)
    time, hidden = len(chain.states), chain.hidden()

    def together(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([flat(tensor) for tensor in tensors]).to(weights.W_x)

    x = together([cast("Tensor", state.x) for state in chain.states]).unsqueeze(0)
    zeros = tuple(torch.zeros_like(part) for part in chain.states[0].made)
    before = [together(part) for part in zip(*(state.before or zeros for state in chain.states), strict=True)]
    h = hidden.flatten(0, 1).to(weights.W_x).unsqueeze(0)
    with torch.no_grad():
        record = cells.record(weights, x, h, *before)
        check_reproduced(chain.title, record.h, h, chain.states[0].dtype)
        parts = [chain.rows(totals, part).to(weights.W_x) for part in range(len(zeros))]
        rows = torch.cat(parts, -1).flatten(0, 1).unsqueeze(0)

        def by_sample(values: Tensor) -> np.ndarray:
            return _log(values.unflatten(1, (time, -1)).squeeze(0))

        first = record.pull_back(0, rows[0])[: hidden.shape[1], : hidden.shape[-1]]
        found = {"log_input": by_sample(record.to_input(rows)), "log_initial": _log(first.unsqueeze(0))[:, 0]}
        return found | ({"log_cell_total": by_sample(record.to_cells(rows))} if weights.kind == "lstm" else {})


def _weights(module: Cell) -> cells.Weights:
    """The parameters of a cell."""
    if isinstance(module, nn.LSTMCell):
        kind: cells.Kind = "lstm"
    else:
        kind = "gru" if isinstance(module, nn.GRUCell) else cast("cells.Kind", module.nonlinearity)
    b_x, b_h = (0.0 if bias is None else wide(bias) for bias in (module.bias_ih, module.bias_hh))
    return cells.Weights(kind, wide(module.weight_ih), wide(module.weight_hh), b_x, b_h)


def _stopped(roots: Sequence[Tensor], seeds: Sequence[Tensor], states: Sequence[Tensor]) -> list[Tensor | None]:
    """What arrives at each state without having passed through another of them."""
    arrived: list[Tensor | None] = [None] * len(states)
    if not roots:
        return arrived

    def stop(index: int):
        def hook(gradient: Tensor) -> Tensor:
            arrived[index] = gradient
            return torch.zeros_like(gradient)

        return hook

    handles = [state.register_hook(stop(index)) for index, state in enumerate(states)]
    try:
        torch.autograd.grad(roots, states, seeds, retain_graph=True, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return arrived


def _log(rows: Tensor) -> np.ndarray:
    """Logarithms of norms, from (T, B, H) to (B, T)."""
    return Rows.of(rows.double()).log.T.cpu().numpy()
