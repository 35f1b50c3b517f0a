"""Bad input to the drawing vocabulary: every parameter of every function."""

from typing import Any

import numpy as np
import pytest

from leadline import figures
from tests.bad_input.harness import Room, call

TEXTS: dict[str, Any] = {"title": "t", "x_label": "x", "y_label": "y"}
Y = np.array([0.5, 0.6, 0.7])
CURVES = {"raw": (Y, Y - 0.1, Y + 0.1)}
LAYOUT = {"height": 300, "margin_t": 64}
CALLS = {
    "bands": lambda: call(
        figures.bands,
        [1, 2, 3],
        dict(CURVES),
        **TEXTS,
        log_x=True,
        baselines=["raw"],
        height=300,
        margin_t=64,
    ),
    "export": lambda: call(
        figures.export, figures.new_drawing("t"), "figure.svg", style="dark", width=400
    ),
    "heat_map": lambda: call(
        figures.heat_map, np.eye(2), **TEXTS, scale_label="s", power_of_ten=True, height=300
    ),
    "image_strip": lambda: call(
        figures.image_strip, {"input": np.ones((2, 3, 4))}, title="t", height=300
    ),
    "log_lines": lambda: call(
        figures.log_lines, np.arange(3), {"h": np.log10(Y)}, **TEXTS, dashed=("h",), margin_t=64
    ),
    "log_ticks": lambda: call(figures.log_ticks, np.log10(Y), np.zeros(2)),
    "log_traces": lambda: call(
        figures.log_traces,
        np.arange(3),
        {"h": np.log10(Y)},
        colours=["#2878b5"],
        dashed=("h",),
        dotted=("g",),
        among=[Y],
        showlegend=False,
    ),
    "matrix": lambda: call(
        figures.matrix,
        np.eye(2),
        [["a", "b"], ["c", "d"]],
        rows=["r", "s"],
        columns=["c", "d"],
        **TEXTS,
        scale_label="s",
        height=300,
    ),
    "mean_and_range": lambda: call(figures.mean_and_range, np.ones((2, 3))),
    "merged": lambda: call(figures.merged, {"margin": {"t": 40}}, {"margin": {"t": 64}}),
    "extended": lambda: call(
        figures.extended, figures.new_drawing("t"), [{"type": "scatter"}], shapes=[], height=300
    ),
    "interactive": lambda: call(figures.interactive, figures.new_drawing("t")),
    "new_drawing": lambda: call(figures.new_drawing, "t", "x", "y", height=300),
    "panels": lambda: call(
        figures.panels, "t", [("h", "x", "y")] * 2, height=300, yaxis2={"range": [0, 1]}
    ),
    "plain": lambda: call(figures.plain, "a"),
    "scatter": lambda: call(
        figures.scatter, {"a": figures.Cloud(Y, Y, ["a", "b", "c"], Y, Y)}, **TEXTS, height=300
    ),
    "still": lambda: call(figures.still, figures.new_drawing("t"), style="dark", width=400),
    "stacked": lambda: call(figures.stacked, figures.panels("t", [("h", "x", "y")] * 2)["layout"]),
    "tree": lambda: call(
        figures.tree,
        np.array([-1, 0, 0]),
        ["start", "a", "b"],
        ["", "1", "2"],
        title="t",
        faint=[False, False, True],
        paths={"best": [0, 1]},
        marks={2: "lost"},
        columns=["", "step 1"],
        hidden=[False, False, False],
        height=300,
    ),
    "Cloud": lambda: call(figures.Cloud, Y, Y, ["a", "b", "c"], Y, Y),
}
ROOM = Room(figures, CALLS)
CASES = ROOM.cases()


def test_every_public_name_has_a_good_call():
    assert ROOM.without_a_call() == []


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", CALLS)
def test_a_good_call_succeeds_with_numbers_of_any_kind(name):
    ROOM.check_good(name)


@pytest.mark.parametrize(("name", "parameter"), CASES)
def test_bad_values_are_refused_kindly(name, parameter):
    ROOM.check_bad(name, parameter)
