"""Timing of functions in turn within one process, and comparison of the median ratio with a bar."""

import statistics
import time
from collections.abc import Callable
from typing import Any

Row = dict[str, Any]


def paired(ours: Callable[[], Any], *peers: Callable[[], Any], rounds: int) -> list[list[float]]:
    """Time the callables in turn, and return one list of seconds per callable."""
    callables = (ours, *peers)
    for function in callables:
        function()
    seconds: list[list[float]] = [[] for _ in callables]
    for _ in range(rounds):
        for spent, function in zip(seconds, callables, strict=True):
            started = time.perf_counter()
            function()
            spent.append(time.perf_counter() - started)
    return seconds


def row(
    name: str, ours: list[float], peer: list[float], bar: float, *, peer_over_ours: bool
) -> Row:
    """Return a row that compares the median of the pairs' ratios with its bar."""
    pairs = zip(peer, ours, strict=True) if peer_over_ours else zip(ours, peer, strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    met = ratio >= bar if peer_over_ours else ratio <= bar
    relation = "at least" if peer_over_ours else "at most"
    times = (
        f"{1e3 * statistics.median(ours):.3g} ms, the other {1e3 * statistics.median(peer):.3g} ms"
    )
    return {
        "work": name,
        "measured": f"{ratio:.2f} ({times})",
        "bar": f"{relation} {bar}",
        "met": met,
    }
