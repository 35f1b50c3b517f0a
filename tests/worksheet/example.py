"""Statements for tests of the runner and the page; their measurements count, crash or stop."""

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leadline import InputError, Protocol
from leadline.gradients import GradientFlow, LayerFlow
from leadline.statistics import effect
from leadline.worksheet import STATEMENTS, Answer, Fact, Holds, Statement

RUNS = "LEADLINE_TEST_RUNS"
"""Environment variable with the path of a file that gets one line per measurement."""


def flow(values: np.ndarray) -> GradientFlow:
    """Return a sounding for an answer."""
    curves = values[None, :]
    layer = LayerFlow(
        "layer", 0, "forward", 0, curves, curves, curves, curves, values[:1], np.exp(curves)
    )
    return GradientFlow(Protocol(), (layer,))


def answer(statement_id: str, gain: float = 5.0, spread: float = 1.0) -> Answer:
    """Return an answer to ``ae.f`` or ``beam.a`` with invented numbers."""
    noise = np.random.default_rng(0).standard_normal((2, 12)) * spread
    facts = {
        "beam_after_step_1": Fact(
            "beam after step 1", gain > 0, "`neural`, `network`", "`neural`, `network`"
        )
    }
    effects = {
        "gain_at_fewest": effect(gain + noise[0], "gain at 10 labels", "points"),
        "gain_at_fewest_minus_most": effect(
            gain + noise[1], "gain at 10 minus gain at 300 labels", "points"
        ),
    }
    return Answer(
        Protocol({"rows": 3}, seeds=tuple(range(12))),
        statement_id,
        f"the gain is {gain:.1f} points & <b>not bold</b>.",
        {"flow": flow(noise[0])},
        effects if statement_id == "ae.f" else {},
        facts if statement_id == "beam.a" else {},
        ("a finding with `code`.",),
    )


def made_up(statement_id: str, settings: Mapping[str, Any]) -> Answer:
    """Return an answer to any statement: each named effect is near zero, and each fact holds."""
    noise = np.random.default_rng(0).standard_normal(12)
    leaves = STATEMENTS[statement_id].criterion.leaves()
    return Answer(
        Protocol(settings, seeds=tuple(range(12))),
        statement_id,
        "nothing was measured.",
        {"flow": flow(noise)},
        {
            leaf.effect: effect(noise, leaf.effect, "points")
            for leaf in leaves
            if not isinstance(leaf, Holds)
        },
        {leaf.fact: Fact(leaf.fact, True, "1", "1") for leaf in leaves if isinstance(leaf, Holds)},
    )


def _count(name: str) -> None:
    if RUNS in os.environ:
        with Path(os.environ[RUNS]).open("a") as file:
            file.write(f"{name} {torch.get_num_threads()}\n")


def works(setting):
    _count("works")
    return answer("ae.f")


def works_too(setting):
    _count("works_too")
    return answer("beam.a")


def crashes(setting):
    raise ZeroDivisionError("a defect")


def refuses(setting):
    raise InputError("labels need at least two classes", got="y = all 3")


def returns_nothing(setting):
    return None


def lacks_an_effect(setting):
    return replace(answer("ae.f"), effects={})


def lacks_a_figure(setting):
    return replace(answer("ae.f"), soundings={})


def exits(setting):
    raise SystemExit(3)


def dies(setting):
    os.kill(os.getpid(), signal.SIGKILL)


def never_ends(setting):
    _count("never_ends")
    threading.Event().wait(600)


def is_interrupted(setting):
    raise KeyboardInterrupt


def statement(statement_id: str, function: str) -> Statement:
    return replace(STATEMENTS[statement_id], measure=f"tests.worksheet.example:{function}")
