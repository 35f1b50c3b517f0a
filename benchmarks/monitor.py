"""Benchmark of the gradient monitor: its cost for observed and for unobserved training steps."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from leadline import gradients

Row = dict[str, Any]

EVERY = 100


class Network(nn.Module):
    """Two LSTM layers with a linear head."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(16, 128, 2, batch_first=True)
        self.head = nn.Linear(128, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0])


def measure(rounds: int = 40) -> list[Row]:
    """Return one row: the share of training time that the monitor takes.

    It is computed from pairs of steps in turn, and from many empty blocks.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Network()
    draw = torch.Generator().manual_seed(1)
    x, y = (torch.randn(32, 100, n, generator=draw) for n in (16, 1))
    optimizer = torch.optim.Adam(model.parameters())
    measuring = gradients.GradientMonitor(model, every=1, max_norm=1.0, write=lambda *_: None)
    waiting = gradients.GradientMonitor(model, every=10**9, max_norm=1.0, write=lambda *_: None)

    def passes() -> None:
        (model(x) - y).square().mean().backward()

    def plain() -> None:
        optimizer.zero_grad()
        passes()
        optimizer.step()

    def measured() -> None:
        optimizer.zero_grad()
        with measuring.step():
            passes()
        optimizer.step()

    def idle() -> None:
        with waiting.step(1):
            pass

    for step in (plain, measured, idle):
        step()
    pairs = [(seconds(plain), seconds(measured)) for _ in range(rounds)]
    step = statistics.median(without for without, _ in pairs)
    extra = statistics.median(with_monitor - without for without, with_monitor in pairs)
    block = statistics.median(seconds(idle) for _ in range(1000))
    share = (extra + (EVERY - 1) * block) / (EVERY * step)
    return [
        {
            "work": f"monitor at every={EVERY}, two-layer LSTM, H=128, T=100, B=32, Adam: share of "
            "training time",
            "measured": f"{100 * share:.2f} % (a step {1e3 * step:.0f} ms, a measurement "
            f"{1e3 * extra:.0f} ms more, an empty block {1e6 * block:.0f} µs)",
            "bar": "at most 1 %",
            "met": share <= 0.01,
        }
    ]


def seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    for row in measure():
        print(row)
