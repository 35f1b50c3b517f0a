import base64
import dataclasses
import importlib
import json
import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import leadline
from leadline import Interval, decoding, figures, gradients, recurrent
from leadline.checks import ShortRepr
from leadline.figures import _notebook as notebook
from leadline.sounding import Sounding, decimals
from leadline.storage import _registry

numbers = st.floats(-10, 10)


@given(numbers, st.floats(0, 5), st.floats(0, 5), numbers)
def test_comparisons_are_three_valued_and_consistent(estimate, down, up, threshold):
    interval = Interval(estimate, estimate - down, estimate + up)
    above, below = interval.above(threshold), interval.below(threshold)
    assert not (above and below)
    if above:
        assert below is False
    if below:
        assert above is False
    if above is None and threshold not in (interval.low, interval.high):
        assert interval.low < threshold < interval.high


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(0, -0.04, 0.04), True),
        (Interval(0, -0.06, 0.04), None),
        (Interval(1, 0.5, 1.5), False),
    ],
)
def test_effects_are_equivalent_inside_the_margin(interval, verdict):
    assert interval.within(-0.05, 0.05) is verdict


@given(
    st.floats(-1e6, 1e6),
    st.sampled_from([".0f", ".1f", "+.1f", "+.2f", ".3g", "g", ".0%", "+.1e", "8.1f"]),
)
def test_a_number_that_rounds_to_zero_has_no_sign(value, spec):
    text = decimals(value, spec)
    number = float(text.strip().removesuffix("%").strip())
    assert number != 0 or not text.strip().startswith(("-", "+"))
    if number != 0:
        assert text == format(value, spec)


def test_intervals_print_no_negative_zero():
    assert f"{Interval(-0.04, -0.01, 0.02):+.1f}" == "0.0 [0.0, 0.0]"
    assert str(Interval(-0.0, -0.0, 0.0)) == "0 [0, 0]"
    assert str(Interval(-0.001, -0.2, 0.2)) == "0.00 [-0.20, 0.20]"


def test_infinite_numbers_keep_their_sign():
    assert [decimals(value, ".1f") for value in (-float("inf"), float("inf"), float("nan"))] == [
        "-inf",
        "inf",
        "nan",
    ]


def test_a_notebook_shows_the_verdict_and_a_figure_without_a_button_to_send_it():
    shown = trained()._repr_html_()
    assert "&lt;b&gt;" in shown.split("</p>")[0]
    assert '"modebar":{"remove":["sendChartToCloud"]}' in shown


def test_importing_leadline_is_cheap_and_complete():
    heavy = "{'torch', 'plotly', 'pandas', 'sklearn', 'numpy', 'scipy'}"
    code = f"import sys, leadline; assert not {heavy} & set(sys.modules); leadline.InputError"
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in leadline.__all__:
        assert getattr(leadline, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'soundings'"):
        _ = leadline.soundings  # pyright: ignore[reportAttributeAccessIssue]


def trained() -> decoding.Decoded:
    table = decoding.Table({(): {"<b>": -0.5}})
    return decoding.beam_search(*table.problem(), width=1, max_length=1, trace=True)


def test_still_and_export_draw_the_same_as_figure(tmp_path):
    decoded = trained()
    texts = [text.get_text() for text in decoded.still(0).axes[0].texts]
    assert "<b>" in texts
    for ending in ("svg", "pdf", "png"):
        decoded.export(tmp_path / f"tree.{ending}", item=0)
        assert (tmp_path / f"tree.{ending}").stat().st_size > 1000
    with pytest.raises(leadline.InputError, match="item"):
        decoded.export(tmp_path / "tree.png", 7)


def test_figure_still_and_export_cannot_be_overridden():
    for name in ("figure", "still", "export"):
        assert getattr(Sounding, name).__final__


def test_the_repr_of_a_sounding_is_its_verdict_and_shapes():
    text = repr(trained())
    assert text.startswith("Decoded('beam search returns “<b>”")
    assert "tokens=(1, 1, 1) int64" in text
    assert len(text) <= 300


def test_records_of_arrays_have_a_short_repr():
    flow = long_flow()
    for record in (flow, flow.layers[0], trained().trace, trained().certificate):
        assert "array(" not in repr(record)
        assert len(repr(record)) <= 300
    assert repr(flow.layers[0]).startswith("LayerFlow(name='network', index=0")


def long_flow() -> gradients.GradientFlow:
    model = recurrent.Regression(recurrent.LSTM(1, 4, seed=0), seed=0)
    x, y = recurrent.running_average(8, 100, seed=0)
    with gradients.trace(model) as tape:
        loss = recurrent.mse(model(x)[0], y, last_only=True)
    return tape.gradient_flow(loss)


def records_of_arrays() -> list[type]:
    """Return the dataclasses of Leadline that can be saved and that have a field of arrays."""
    for module in pkgutil.walk_packages(leadline.__path__, "leadline."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = []
    for kind in _registry._NAMES:
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        if any("ndarray" in str(field.type) for field in fields):
            found.append(kind)
    return found


def test_every_saved_record_of_arrays_has_a_short_repr():
    assert [kind for kind in records_of_arrays() if not issubclass(kind, ShortRepr)] == []


def test_a_notebook_gets_a_figure_a_picture_and_the_verdict():
    bundle = long_flow()._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "image/png", notebook.PLOTLY}
    assert sum(len(str(part)) for part in bundle.values()) < 300_000
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert len(bundle[notebook.PLOTLY]["data"]) >= 4
    json.dumps(bundle, allow_nan=False)


def test_a_figure_too_large_for_a_cell_is_a_picture():
    values = np.random.default_rng(0).standard_normal((400, 400))
    heat_map = figures.heat_map(values, title="", x_label="", y_label="", scale_label="")
    bundle = notebook.notebook_bundle(heat_map, "large")
    assert notebook.PLOTLY not in bundle
    assert "<script>" not in bundle["text/html"]
    assert sum(map(len, bundle.values())) < 300_000


def test_a_figure_that_has_no_still_is_interactive_only():
    pie = {"data": [{"type": "pie", "values": [1, 2]}], "layout": {}}
    bundle = notebook.notebook_bundle(pie, "a pie")
    assert set(bundle) == {"text/html", notebook.PLOTLY}
    assert "<img" not in bundle["text/html"]
