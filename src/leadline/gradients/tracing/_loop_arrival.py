"""The gradients that arrive at the states of a hand-written loop.

If gradients are stopped at all states of a chain, the direct part still arrives at each of them. If
the totals are the seeds of the states, the recurrent part arrives from later states. The gradients
are those of autograd, within the range of the states' floating point; the flow marks gradients that
are too small for it.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from leadline.gradients.soundings._flow import LayerFlow
from leadline.gradients.tracing._chains import Chain, Gradients, State, flat
from leadline.gradients.tracing._replay import wide
from leadline.gradients.tracing._reproduction import check_reproduced
from leadline.gradients.tracing._sweep import Rows
from leadline.recurrent import Weights, cell_of, record_cell


def loop_flow(chain: Chain, loss: Tensor, totals: Gradients) -> LayerFlow:
    """Return how much of a loss arrives at each state, directly and through later states.

    Args:
        chain: the loop.
        loss: a scalar.
        totals: its gradients with respect to ``chain.outputs``; ``None`` for zero.
    """
    direct = _stopped(chain, [loss], [torch.ones_like(loss)])
    recurrent = _one_step_back(chain, totals)
    log_direct = _log(chain.rows(direct))
    lost = _lost(chain, totals, log_direct)
    return total_flow(
        chain, totals, lost, log_direct=log_direct, log_recurrent=_log(chain.rows(recurrent))
    )


def total_flow(
    chain: Chain, totals: Gradients, lost: np.ndarray | None = None, **parts: Any
) -> LayerFlow:
    """Return the flow of a loop; parts that are not given are NaN.

    Args:
        chain: the loop.
        totals: as for :func:`loop_flow`.
        lost: a mask of totals that are too small for the states' floating point, shape (B, T). By
            default it marks totals between zero and the smallest normal number.
        parts: logarithms of the parts.
    """
    total = chain.rows(totals)
    unknown = np.full(total.shape[1::-1], np.nan)
    log_total = _log(total)
    if lost is None:
        is_small = (log_total > -np.inf) & (log_total < _smallest(chain))
        lost = is_small if is_small.any() else None
    fields: dict[str, Any] = chain.naming() | {
        "log_total": log_total,
        "hidden_norm": np.exp(_log(chain.hidden())),
        "log_direct": unknown,
        "log_recurrent": unknown,
        "log_input": unknown,
        "log_initial": unknown[:, 0],
    }
    if chain.module is not None:
        fields |= _around_cell(chain, chain.module, totals)
    fields |= parts
    if lost is not None:
        for name in ("log_total", "log_recurrent", "log_cell_total"):
            if name in fields:
                fields[name] = np.where(lost, -np.inf, fields[name])
    precision = str(_dtype(chain)).removeprefix("torch.")
    return LayerFlow(**fields, lost=lost, precision=precision)


def log_totals(chain: Chain, totals: Gradients) -> np.ndarray:
    """Return logarithms of the norms of totals, shape (T, B); ``-inf`` below the normal numbers."""
    log = Rows.of(chain.rows(totals).double()).log.cpu().numpy()
    return np.where(log < _smallest(chain), -np.inf, log)


def _dtype(chain: Chain) -> torch.dtype:
    return chain.states[0].made[0].dtype


def _smallest(chain: Chain) -> float:
    """Return the logarithm of the smallest normal number of the states' floating point."""
    return math.log(torch.finfo(_dtype(chain)).tiny)


def _around_cell(chain: Chain, module: nn.RNNCellBase, totals: Gradients) -> dict[str, np.ndarray]:
    """Return the gradients of a cell's inputs, first state and c, by the adjoint of each step."""
    ranges = [
        _around_steps(chain, module, totals, first, last)
        for first, last in _with_the_same_weights(chain.states)
    ]
    whole = {name: np.concatenate([part[name] for part in ranges], 1) for name in ranges[0]}
    return whole | {"log_initial": whole["log_initial"][:, 0]}


def _with_the_same_weights(states: Sequence[State]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of steps that used the same weights, as (first, last + 1)."""
    first = 0
    for t in range(1, len(states) + 1):
        if t == len(states) or not _are_equal(states[first].weights, states[t].weights):
            yield first, t
            first = t


def _are_equal(weights: Sequence[Tensor | None], others: Sequence[Tensor | None]) -> bool:
    pairs = zip(weights, others, strict=True)
    return all(a is b or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


def _around_steps(
    chain: Chain, module: nn.RNNCellBase, totals: Gradients, first: int, last: int
) -> dict[str, np.ndarray]:
    """Return the gradients around the steps from ``first`` to ``last``, each of shape (B, T)."""
    states = chain.states[first:last]
    weights = _weights(module, states[0])
    hidden = chain.hidden()[first:last]

    def rows_of(tensors: Sequence[Tensor]) -> Tensor:
        """Return the rows of all steps below one another, in the precision of the weights."""
        return torch.cat([flat(tensor) for tensor in tensors]).to(weights.W_x)

    x = rows_of([cast("Tensor", state.x) for state in states]).unsqueeze(0)
    zeros = tuple(torch.zeros_like(part) for part in states[0].made)
    before = [
        rows_of(part) for part in zip(*(state.before or zeros for state in states), strict=True)
    ]
    h = hidden.flatten(0, 1).to(weights.W_x).unsqueeze(0)
    with torch.no_grad():
        record = record_cell(weights, x, h, *before)
        check_reproduced(chain.title, record.h, h, states[0].dtype, module)
        parts = [chain.rows(totals, part)[first:last].to(weights.W_x) for part in range(len(zeros))]
        rows = torch.cat(parts, -1).flatten(0, 1).unsqueeze(0)

        def by_sample(values: Tensor) -> np.ndarray:
            """Return logarithms of norms, shape (B, T), of rows of shape (1, T x B, H)."""
            return _log(values.unflatten(1, (last - first, -1)).squeeze(0))

        to_before = record.pull_back(0, rows[0])[..., : hidden.shape[-1]]
        fields = {
            "log_input": by_sample(record.to_input(rows)),
            "log_initial": by_sample(to_before.unsqueeze(0)),
        }
        if weights.cell.parts > 1:
            fields["log_cell_total"] = by_sample(record.to_cells(rows))
        return fields


def _weights(module: nn.RNNCellBase, state: State) -> Weights:
    """Return the parameters that a step of a cell used."""
    W_x, W_h, *biases = state.weights
    assert W_x is not None
    assert W_h is not None
    b_x, b_h = (0.0 if bias is None else wide(bias) for bias in biases)
    return Weights(cell_of(module), wide(W_x), wide(W_h), b_x, b_h)


def _one_step_back(chain: Chain, seeds: Gradients) -> list[Tensor | None]:
    """Return the gradient of each state that comes directly from later states with these seeds."""
    usable = [
        None if made.grad_fn is None else seed for made, seed in zip(chain.made, seeds, strict=True)
    ]
    pairs = [
        (made, seed) for made, seed in zip(chain.made, usable, strict=True) if seed is not None
    ]
    return _stopped(chain, [made for made, _ in pairs], [seed for _, seed in pairs], usable)


def _stopped(
    chain: Chain,
    roots: Sequence[Tensor],
    seeds: Sequence[Tensor],
    seeds_of_states: Gradients | None = None,
) -> list[Tensor | None]:
    """Return the gradient of each state that does not pass through another state.

    Args:
        chain: the states.
        roots: tensors that are differentiated.
        seeds: their gradients.
        seeds_of_states: the seed of each state, if the states themselves are the roots. They
            propagate, but do not count.
    """
    arrived: list[Tensor | None] = [None] * len(chain.shown)
    if not roots:
        return arrived

    def add(index: int, gradient: Tensor) -> None:
        """Add a gradient that arrives at a state; several paths may lead to it."""
        earlier = arrived[index]
        arrived[index] = gradient if earlier is None else earlier + gradient

    def stop(index: int):
        """Return a hook that adds the gradient of a copy and stops it there."""

        def hook(gradient: Tensor) -> Tensor:
            add(index, gradient)
            return torch.zeros_like(gradient)

        return hook

    def stop_before_mark(index: int):
        """Return a hook that adds the gradient of a state without its seed, and passes the seed."""
        seed = None if seeds_of_states is None else seeds_of_states[index]

        def hook(gradient: Tensor) -> Tensor:
            to_pass = torch.zeros_like(gradient) if seed is None else seed
            # The difference is exactly zero unless something has read the state before its mark.
            add(index, gradient - to_pass)
            return to_pass

        return hook

    stops = list(chain.shown)
    handles = [state.register_hook(stop(index)) for index, state in enumerate(chain.shown)]
    if chain.module is None:
        stops += chain.made
        handles += [
            state.register_hook(stop_before_mark(index)) for index, state in enumerate(chain.made)
        ]
    try:
        torch.autograd.grad(roots, stops, seeds, retain_graph=True, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    return arrived


def _lost(chain: Chain, totals: Gradients, log_direct: np.ndarray) -> np.ndarray | None:
    """Return a mask of totals that the states' dtype cannot hold; ``None`` if there is none.

    Below the smallest normal number digits are lost. A total of zero was lost if a gradient of norm
    1 at the next state does not vanish at this one. A total that comes from a lost gradient is lost
    too, until a direct part outweighs it. The mask has the shape (B, T).
    """
    parts = [chain.rows(totals, part).double() for part in range(len(chain.states[0].made))]
    size = torch.cat(parts, -1).norm(dim=-1)
    is_zero = size == 0
    is_small = (size > 0) & (size < torch.finfo(_dtype(chain)).tiny)
    may_be_lost = is_zero[:-1] & ~is_zero[1:]
    if not bool(is_small.any() | may_be_lost.any()):
        return None
    arrives = torch.ones_like(is_zero)
    if bool(may_be_lost.any()):
        scale = torch.where(is_zero, 1, size).unsqueeze(-1)
        units = [unit for part in parts for unit in part / scale]
        seeds = [
            unit.reshape(made.shape).to(made.dtype)
            for unit, made in zip(units, chain.made, strict=True)
        ]
        back = _one_step_back(chain, seeds)
        arrives = torch.stack(
            [(chain.rows(back, part) != 0).any(-1) for part in range(len(parts))]
        ).any(0)
    direct = torch.from_numpy(log_direct.T).to(size.device)
    # The direct part is below half of the total.
    is_from_later = direct < size.log() - math.log(2)
    lost = is_small
    for t in range(len(size) - 2, -1, -1):
        is_underflow = is_zero[t] & ~is_zero[t + 1] & arrives[t]
        is_from_lost = lost[t + 1] & (is_zero[t] | is_from_later[t])
        lost[t] |= is_underflow | is_from_lost
    return lost.T.cpu().numpy() if bool(lost.any()) else None


def _log(rows: Tensor) -> np.ndarray:
    """Return logarithms of norms, from (T, B, H) to (B, T)."""
    return Rows.of(rows.double()).log.T.cpu().numpy()
