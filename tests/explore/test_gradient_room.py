"""The gradient room, tested in Python and in a browser."""

import dataclasses

import numpy as np
import plotly.graph_objects as go
import pytest
from playwright.sync_api import expect

from leadline.explore.page._settings import Between, fields_of, to_query
from leadline.explore.rooms._gradients import ROOM, Settings
from leadline.explore.server._server import Server
from leadline.gradients import GradientFlow
from tests.explore.browser import Visitor, chromium, needs_chromium, settled, words

OTHERS = {
    "gru": Settings(cell="GRU", gate_bias=2.0, layers=2, time=12, hidden_size=5, weight_scale=-1.5),
    "lstm, all": Settings(
        cell="LSTM", loss="all", time=7, start="orthogonal", bias_scale=0.0, sample=3, weights=4
    ),
    "relu": Settings(
        nonlinearity="ReLU", compare_with="none", time=9, layers=3, recurrent_scale=0.35
    ),
    "nilpotent": Settings(start="nilpotent", cell="LSTM", gate_bias=1.0, time=8),
}


@pytest.mark.parametrize(
    "settings", [*ROOM.presets.values(), *OTHERS.values()], ids=[*ROOM.presets, *OTHERS]
)
def test_the_code_makes_the_same_soundings(settings, capsys):
    settings = dataclasses.replace(settings, time=min(settings.time, 30))
    there: dict = {}
    exec(compile(ROOM.code(settings), "code", "exec"), there)
    taken = ROOM.take(settings)
    for name in ROOM.cards:
        mine, theirs = taken[name].table(), there[name].table()
        assert list(mine.columns) == list(theirs.columns)
        for column in mine:
            assert np.array_equal(
                mine[column], theirs[column], equal_nan=mine[column].dtype.kind == "f"
            ), column
    assert all(str(sounding) in capsys.readouterr().out for sounding in [taken["flow"]])


def test_each_preset_gives_the_verdict_of_its_name():
    def verdict(name: str) -> str:
        return ROOM.cards["stability"].words(ROOM.take(ROOM.presets[name])["stability"])

    assert "the gradient vanishes" in verdict("vanishing")
    assert "the gradient explodes" in verdict("exploding")
    assert "the gradient is stable" in verdict("stable")
    zero = verdict("spectral radius zero, yet exploding")
    assert "the gradient explodes, growing 2-fold per step back" in zero
    assert "the spectral radius is 0.000, but the gradient need not vanish" in zero
    assert "the gradient is stable" in verdict("the LSTM's cell path")
    flow = str(ROOM.take(ROOM.presets["the LSTM's cell path"])["flow"])
    assert "the gradient keeps its size" in flow
    without_bias = dataclasses.replace(ROOM.presets["the LSTM's cell path"], gate_bias=0.0)
    assert "the gradient vanishes" in str(ROOM.take(without_bias)["stability"])


def test_the_comparison_shows_tanh_and_relu():
    flow = ROOM.take(ROOM.presets["ReLU against tanh"])["flow"]
    assert isinstance(flow, GradientFlow)
    assert [layer.title for layer in flow.layers] == ["tanh.network[0]", "ReLU.network[0]"]


@pytest.mark.parametrize("time", [5, 200])
@pytest.mark.parametrize("scale", [-5.0, 0.0, 5.0])
@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
def test_soundings_work_at_the_ends_of_all_sliders(cell, scale, time):
    sigma = "none" if cell == "RNN" else "tanh"
    settings = Settings(
        cell=cell,
        nonlinearity=sigma,
        time=time,
        weight_scale=scale,
        recurrent_scale=abs(scale),
        bias_scale=scale,
    )
    for sounding in ROOM.take(settings).values():
        assert str(sounding)
        figure = sounding.figure()
        assert figure.data
        go.Figure(figure.to_dict())  # Plotly validates the figure


@pytest.fixture(scope="module")
def visitor():
    with chromium() as browser:
        server = Server([ROOM], port=0).start()
        one = Visitor(browser, server)
        yield one
        one.leave()
        server.stop()


@pytest.fixture(scope="module")
def page(visitor):
    """One page for all tests; every test sets the controls that it needs."""
    return visitor.open("gradients?time=23")


@needs_chromium
@pytest.mark.parametrize("name", ROOM.presets)
def test_one_click_sets_each_preset(page, name):
    page.get_by_role("button", name=name, exact=True).click()
    settled(page, ROOM, to_query(ROOM.presets[name]))
    taken = ROOM.take(ROOM.presets[name])
    for card, sounding in taken.items():
        expect(words(page, ROOM, card)).to_have_text(ROOM.cards[card].words(sounding))


SLIDERS = [field.name for field in fields_of(Settings) if isinstance(field.kind, Between)]


@needs_chromium
@pytest.mark.parametrize("name", SLIDERS)
def test_arrow_keys_move_each_slider(page, name):
    page.get_by_role("button", name="reset").click()
    settled(page, ROOM, "")
    slider = page.locator(f"#gradients-{name}")
    slider.focus()
    before = float(slider.input_value())
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    after = float(slider.input_value())
    assert after > before
    expect(page.locator(f"#gradients-{name}-shown")).to_have_text(f"{after:g}")
    settled(page, ROOM, f"?{name}={after:g}")
