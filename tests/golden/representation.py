"""Results of ``leadline.represent`` on a small table, and of ``leadline.statistics``."""

from typing import Any

import numpy as np

import leadline
from leadline import statistics
from tests.golden.names import call, field
from tests.golden.probing import table
from tests.golden.values import columns


def study() -> dict[str, Any]:
    """Pretrain two kinds with two seeds, choose one, and keep it."""
    X, y = table(90, 6)
    labels = np.where(np.arange(90) < 60, y, -1)
    found = call(
        leadline.represent,
        X,
        labels,
        kinds=["vanilla", "denoising"],
        seeds=2,
        labels=[12],
        num_subsets=1,
    )
    names = ("kinds", "chosen", "efficiency", "held_out", "ranks", "class_names")
    values = {name: field(found, name) for name in names}
    values["codes"] = found.encoder.encode(X[:5])
    values["accuracy"] = found.probe.accuracy
    values["strength"] = found.strength
    return {**values, "table": columns(found)}


def intervals() -> dict[str, Any]:
    """Compute intervals and agreements."""
    draw = np.random.default_rng(0)
    differences = draw.standard_normal(12) + 0.5
    measured = statistics.effect(differences, "gain", "points", comparisons=3, bounds=(-100, 100))
    return {
        "effect": measured,
        "paired": statistics.paired_interval(draw.standard_normal((8, 3)), 0.9),
        "detectable": statistics.smallest_detectable_effect(differences),
        "tau": statistics.kendall_tau(draw.standard_normal((4, 6)), draw.standard_normal((4, 6))),
        "crossing": statistics.zero_crossing(
            np.arange(5.0), draw.standard_normal((6, 5)) * 0.1 + np.linspace(-1, 1, 5)
        ),
    }


CASES = (study, intervals)
