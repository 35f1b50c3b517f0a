"""Benchmarks of the influence matrix and of the totals.

They are compared with automatic differentiation, with bare matrix products, and with a memory
limit. The peer gets every advantage: its network is unrolled, so its hidden states are available,
and it computes gradients with respect to the states only. Its forward pass is timed only if ours is
timed. Both include the norms.
"""

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.pairs import Row, paired, row
from leadline import gradients, recurrent

ROWS: dict[str, Callable[[int], list[Row]]] = {
    "one": lambda rounds: influence("tanh RNN, T=256, H=64, B=1", nn.RNN, 64, 1, rounds, faster=50),
    "batch": lambda rounds: influence(
        "tanh RNN, T=256, H=128, B=32",
        nn.RNN,
        128,
        32,
        max(3, rounds // 2),
        faster=11,
        over_bare=1.35,
    ),
    "lstm": lambda rounds: influence(
        "LSTM, T=256, H=128, B=8", nn.LSTM, 128, 8, max(3, rounds // 2), faster=20
    ),
    "totals": lambda rounds: [totals(rounds)],
    "memory": lambda rounds: [memory()],
}
"""Parts by name. ``python -m benchmarks.gradients batch totals`` measures only these two."""


def measure(rounds: int = 7, names: Iterable[str] = ROWS) -> list[Row]:
    """Measure the given parts, or all parts. The ratios are medians over pairs."""
    return [one for name in names for one in ROWS[name](rounds)]


class Model(nn.Module):
    """A recurrent layer of PyTorch and a linear head.

    ``states`` unrolls the same network by hand.
    """

    def __init__(self, kind: type[nn.RNN] | type[nn.LSTM], hidden: int):
        super().__init__()
        self.recurrent = kind(8, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0])

    def states(self, x: Tensor) -> list[Tensor]:
        """Return the hidden states as one tensor per timestep, as in a hand-written network."""
        W_x, W_h, b_x, b_h = self.recurrent.parameters()
        h = x.new_zeros(len(x), self.recurrent.hidden_size)
        driven = (x @ W_x.T + b_x + b_h).unbind(1)
        if isinstance(self.recurrent, nn.RNN):
            return _scan(driven, lambda a, h: (a + h @ W_h.T).tanh(), h)
        c, found = torch.zeros_like(h), []
        for a in driven:
            i, f, g, o = (a + h @ W_h.T).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            found.append(h)
        return found


def _scan(
    driven: tuple[Tensor, ...], cell: Callable[[Tensor, Tensor], Tensor], h: Tensor
) -> list[Tensor]:
    found = []
    for a in driven:
        h = cell(a, h)
        found.append(h)
    return found


def _model(
    kind: type[nn.RNN] | type[nn.LSTM], hidden: int, batch: int, time: int
) -> tuple[Model, Tensor, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model(kind, hidden), torch.randn(batch, time, 8), torch.randn(batch, time, 1)


def influence(
    name: str,
    kind: type[nn.RNN] | type[nn.LSTM],
    hidden: int,
    batch: int,
    rounds: int,
    *,
    faster: float,
    over_bare: float | None = None,
    time: int = 256,
) -> list[Row]:
    """Compare the whole matrix with one autograd call per loss term, and with bare products."""
    model, x, y = _model(kind, hidden, batch, time)
    with gradients.trace(model) as tape:
        terms = recurrent.mse(model(x), y, per_step=True)
    states = model.states(x)
    unrolled = torch.stack(
        [(model.head(h) - y[:, t]).square().mean() / time for t, h in enumerate(states)]
    )

    def ours() -> Tensor:
        return torch.from_numpy(tape.influence(terms).layers[0].norms)

    def autograd() -> Tensor:
        norms = torch.zeros(time, time)
        for k in range(time):
            found = torch.autograd.grad(unrolled[k], states[: k + 1], retain_graph=True)
            norms[k, : k + 1] = torch.stack(found).norm(dim=(1, 2))
        return norms

    W_h = list(model.recurrent.parameters())[1].detach()
    wide, narrow = torch.randn(time * batch, len(W_h)), torch.empty(time * batch, hidden)

    def bare() -> None:
        for t in range(time - 1, 0, -1):
            first = t * batch
            torch.mm(wide[first:], W_h, out=narrow[first:])

    assert torch.allclose(ours().float(), autograd(), rtol=1e-2, atol=1e-12), "the two do not agree"
    mine, theirs = paired(ours, autograd, rounds=rounds)
    rows = [
        row(
            f"influence matrix, {name}: faster than T calls of autograd",
            mine,
            theirs,
            faster,
            peer_over_ours=True,
        )
    ]
    if over_bare is not None:
        mine, products = paired(ours, bare, rounds=3 * rounds)
        rows.append(
            row(
                f"influence matrix, {name}: over bare products",
                mine,
                products,
                over_bare,
                peer_over_ours=False,
            )
        )
    return rows


def totals(rounds: int, time: int = 1000, hidden: int = 128) -> Row:
    """Compare ‖dL/dh_t‖ for one loss with an unrolled network that retains its gradients.

    The forward pass is included.
    """
    model, x, y = _model(nn.RNN, hidden, 1, time)

    def ours() -> Tensor:
        with gradients.trace(model) as tape:
            loss = (model(x) - y).square().mean()
        return torch.from_numpy(tape.gradient_flow(loss).layers[0].total[0])

    def autograd() -> Tensor:
        states = model.states(x)
        for h in states:
            h.retain_grad()
        loss = (model.head(torch.stack(states, 1)) - y).square().mean()
        model.zero_grad()
        loss.backward()
        return torch.stack([h.grad for h in states if h.grad is not None]).norm(dim=(1, 2))

    assert torch.allclose(ours().float(), autograd(), rtol=1e-2, atol=1e-12), "the two do not agree"
    mine, theirs = paired(ours, autograd, rounds=3 * rounds)
    name = (
        f"totals for one loss, T={time}, H={hidden}, B=1: faster than retained gradients of an "
        "unrolled network"
    )
    return row(name, mine, theirs, 2, peer_over_ours=True)


def memory(limit: float = 600.0) -> Row:
    """Measure the peak memory of a separate process, above its memory before the forward pass."""
    command = [sys.executable, "-c", "from benchmarks.gradients import peak; print(peak())"]
    peak_mb = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {
        "work": "memory of the influence matrix, T=2000, H=64, B=8, forward pass included",
        "measured": f"{peak_mb:.0f} MB above baseline",
        "bar": f"under {limit:.0f} MB",
        "met": peak_mb < limit,
    }


def peak(time: int = 2000) -> float:
    """Return the peak memory minus the memory before, in MB.

    A small run comes first, so that lazily loaded libraries do not count.
    """

    def once(time: int) -> None:
        model, x, y = _model(nn.RNN, 64, 8, time)
        with gradients.trace(model) as tape:
            terms = recurrent.mse(model(x), y, per_step=True)
        tape.influence(terms)

    once(10)
    before = _resident("VmRSS")
    once(time)
    return _resident("VmHWM") - before


def _resident(kind: str) -> float:
    """Return the current memory (VmRSS) or the peak memory (VmHWM) of the process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(kind))


if __name__ == "__main__":
    for one in measure(names=sys.argv[1:] or ROWS):
        print(one)
