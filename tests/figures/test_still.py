"""Stills: every kind of drawing is rendered by matplotlib, completely and without side effects."""

import io
import subprocess
import sys
from typing import Any

import matplotlib
import matplotlib.text
import numpy as np
import pytest
from PIL import Image

from leadline import figures
from leadline.errors import InputError
from leadline.figures._known import TRACES
from leadline.figures._markup import lines_of

TEXTS: dict[str, Any] = {"title": "title", "x_label": "h<sub>t</sub>", "y_label": "R<sup>2</sup>"}
Y = np.array([0.5, 0.6, 0.7])


def strip() -> figures.Drawing:
    return figures.image_strip(
        {"input": np.ones((2, 3, 4)), "output": np.zeros((2, 3, 4))}, title=""
    )


def two_panels() -> figures.Drawing:
    drawing = figures.panels("two", [("left", "t", "norm"), ("right", "", "")], yaxis2_matches="y")
    traces = [
        figures.line([1, 2], [1, 3], name="a", dash="dash"),
        figures.markers([1, 2], [2, 4], symbol="x-thin-open", panel=2),
    ]
    return figures.extended(drawing, traces, **figures.rule(y=2, colour="#8a929c"))


def bars() -> figures.Drawing:
    bar = {"type": "bar", "x": ["a", "b"], "y": [1, 2], "error_y": {"array": [0.1, 0.2]}}
    return figures.extended(figures.new_drawing("bars"), [bar, figures.line(["a", "b"], [1, 2])])


def small_tree() -> figures.Drawing:
    return figures.tree(
        [-1, 0, 0],
        ["start", "<s>", "b"],
        ["", "-0.1", "-2.3"],
        title="",
        faint=[False, False, True],
        paths={"best": [0, 1]},
        marks={2: "lost"},
        columns=["", "step 1"],
    )


DRAWINGS = {
    "bands": lambda: figures.bands([1, 2, 9], {"raw": (Y, Y - 0.1, Y + 0.1)}, **TEXTS, log_x=True),
    "bars": bars,
    "empty": lambda: figures.new_drawing(""),
    "heat map": lambda: figures.heat_map(np.eye(3), **TEXTS, scale_label="s", power_of_ten=True),
    "image strip": strip,
    "log lines": lambda: figures.log_lines(
        np.arange(3), {"h": np.array([0, -np.inf, np.inf])}, **TEXTS
    ),
    "matrix": lambda: figures.matrix(
        np.array([[1.0, np.nan]]),
        [["+1", ""]],
        rows=["r"],
        columns=["c", "d"],
        **TEXTS,
        scale_label="",
    ),
    "panels": two_panels,
    "scatter": lambda: figures.scatter(
        {"a": figures.Cloud(Y, Y, ["a", "b", "c"], Y, np.array([0.1, np.nan, 0]))}, **TEXTS
    ),
    "tree": small_tree,
}


def texts(figure: Any) -> set[str]:
    """Return every visible text of a figure."""
    found = {text.get_text() for text in figure.findobj(matplotlib.text.Text)}
    return found - {""}


@pytest.mark.parametrize("style", ["light", "dark", "neutral"])
@pytest.mark.parametrize("name", DRAWINGS)
def test_every_kind_of_drawing_has_a_still(name, style):
    drawing = DRAWINGS[name]()
    figure = figures.still(drawing, style=style)
    height = drawing["layout"]["height"]
    assert figure.get_size_inches()[1] == pytest.approx(height / 100)
    image = Image.open(io.BytesIO(figures.encoded(drawing, "png", style=style)))
    assert image.mode == "RGBA"
    background = image.getpixel((0, image.height - 1))
    expected = {
        "light": (255, 255, 255, 255),
        "dark": (20, 25, 31, 255),
        "neutral": (255,) * 3 + (0,),
    }
    assert background == expected[style]


def test_texts_legend_and_ticks_are_in_the_still():
    shown = texts(figures.still(DRAWINGS["bands"]()))
    assert {"title", "raw", "1", "2", "9"} <= shown
    assert r"h${}_{\mathregular{t}}$" in shown
    assert {"start", "<s>", "−0.1".replace("−", "-"), "lost", "step 1", "best"} <= texts(
        figures.still(small_tree())
    )


def test_each_point_line_and_box_is_drawn():
    axes = figures.still(two_panels()).axes
    assert [line.get_linestyle() for line in axes[0].lines] == ["--"]
    assert axes[1].lines[0].get_marker() == "x"
    assert axes[0].get_ylim() == axes[1].get_ylim()
    tree = figures.still(small_tree()).axes[0]
    assert len(tree.patches) == 3 + 2, "three boxes and two edges"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": [{"type": "pie"}]}, "traces of type scatter, heatmap, bar and image"),
        ({"data": [{"type": "scatter", "x": [1], "y": [1], "stackgroup": "a"}]}, "stackgroup"),
        ({"data": [figures.markers([1], [1], symbol="bowtie")]}, "bowtie"),
        ({"data": [{"x": [1], "y": [1], "line": {"dash": "5px"}}]}, "5px"),
        ({"data": [{"x": [1], "y": [1], "fill": "tozeroy"}]}, "tozeroy"),
        ({"data": [figures.line([1], [1], name="<i>a</i>")] * 2}, "knows the tags"),
        ({"layout": {"xaxis": {"rangeslider": {"visible": True}}}}, "rangeslider.visible of xaxis"),
        ({"layout": {"shapes": [{"type": "path", "path": "Q 1,2 3,4"}]}}, "commands M, L, C and Z"),
        ({"layout": {"polar": {"hole": 0.5}}}, "polar.hole of the layout"),
    ],
)  # fmt: skip
def test_what_a_still_cannot_show_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        figures.still({"data": [], "layout": {}, **change})


def test_the_legend_shows_what_plotly_shows():
    hidden = figures.line([1, 2], [1, 2], name="hidden", showlegend=False)
    lines = [figures.line([1], [1], name="a"), hidden, figures.line([1], [1], name="b")]
    drawing = figures.extended(figures.new_drawing(""), lines)
    assert {"a", "b"} <= texts(figures.still(drawing))
    assert "hidden" not in texts(figures.still(drawing))
    alone = figures.extended(figures.new_drawing(""), lines[:1])
    assert "a" not in texts(figures.still(alone))
    assert "a" in texts(figures.still(figures.extended(alone, showlegend=True)))


@pytest.mark.parametrize(
    ("markup", "lines"),
    [
        ("W<sub>h</sub><sup>n</sup>", [r"W${}_{\mathregular{h}}$${}^{\mathregular{n}}$"]),
        ("a &lt;s> &amp; $5", [r"a <s> & \$5"]),
        ("one<br>two", ["one", "two"]),
        ("x<sub>a_b c</sub>", [r"x${}_{\mathregular{a\_b\ c}}$"]),
    ],
)
def test_markup_becomes_text_of_matplotlib(markup, lines):
    assert [line.text for line in lines_of(markup)] == lines


def test_bold_text_and_sizes_are_kept():
    first, second = lines_of("<b>x</b><br><span style='font-size:11px'>y</span>")
    assert (first.is_bold, first.size) == (True, None)
    assert (second.is_bold, second.size) == (False, 11)


def test_every_trace_type_of_the_house_is_known_to_plotly():
    for kind in TRACES:
        figures.interactive({"data": [{"type": kind}], "layout": {}})


@pytest.mark.parametrize("ending", ["svg", "pdf", "png", "PNG"])
def test_export_writes_the_format_of_the_ending(tmp_path, ending):
    path = tmp_path / f"figure.{ending}"
    figures.export(bars(), path)
    begins = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[ending.lower()]
    first = path.read_bytes()
    assert first.startswith(begins)
    figures.export(bars(), path)
    assert path.read_bytes() == first, "equal drawings have equal files"


def test_export_refuses_another_ending(tmp_path):
    with pytest.raises(InputError, match=r"export\(\) writes .svg, .pdf and .png files"):
        figures.export(bars(), tmp_path / "figure.jpg")


def test_a_still_leaves_matplotlib_as_it_was():
    with matplotlib.rc_context():
        matplotlib.rcParams["font.family"] = ["monospace"]
        before = dict(matplotlib.rcParams)
        figures.encoded(bars(), "svg")
        assert dict(matplotlib.rcParams) == before


def test_a_still_needs_no_pyplot_and_drawing_needs_no_matplotlib():
    code = """
import sys
from leadline import figures
drawing = figures.new_drawing("")
assert "matplotlib" not in sys.modules
figures.encoded(drawing, "png")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
