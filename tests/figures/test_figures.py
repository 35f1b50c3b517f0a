from typing import Any

import numpy as np
import pytest

from leadline import figures
from leadline.figures._theme import INK


def traces(figure: Any) -> list[Any]:
    """Return the traces of a drawing or of a figure, after all of Plotly's checks."""
    checked = figures.interactive(figure) if isinstance(figure, dict) else figure
    return list(checked.data)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.1)."""

    def luminance(colour: str) -> float:
        channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("ground", ["#ffffff", "#14191f"])
def test_the_first_colours_have_contrast_on_light_and_on_dark(ground):
    assert all(contrast(colour, ground) >= 2.4 for colour in figures.COLOURS[:4])
    assert contrast(INK, "#ffffff") > 12


def test_zeros_infinities_and_nan_are_marked_not_dropped():
    values = np.array([0.0, -np.inf, -3.0, np.inf, np.nan])
    drawing = figures.log_lines(np.arange(5), {"h": values}, title="", x_label="t", y_label="norm")
    line, *marks = traces(drawing)
    assert np.isnan(np.asarray(line.y)).tolist() == [False, True, False, True, True]
    assert {mark.hovertemplate: np.asarray(mark.x).tolist() for mark in marks} == {
        "zero": [1],
        "infinite": [3],
        "not a number": [4],
    }
    low, high, _ = (float(np.asarray(mark.y)[0]) for mark in marks)
    assert low < -3.0 < 0.0 < high


def test_a_curve_of_zeros_only_can_be_drawn():
    drawing = figures.log_lines(
        np.arange(3), {"h": np.full(3, -np.inf)}, title="", x_label="t", y_label="norm"
    )
    assert len(traces(drawing)) == 2
    assert drawing["layout"]["yaxis"]["showticklabels"] is False, "no height is a number"


def test_a_long_run_of_zeros_is_a_line_with_some_marks():
    values = np.concatenate([np.full(40, -np.inf), [0.0]])
    (_, run) = figures.log_traces(np.arange(41), {"h": values})
    assert len(run["x"]) == 40
    assert (run["mode"], run["marker"]["maxdisplayed"]) == ("lines+markers", 8)
    values[20] = -1.0
    (_, gap) = figures.log_traces(np.arange(41), {"h": values})
    assert gap["mode"] == "markers"
    assert "maxdisplayed" not in gap["marker"]


def test_each_curve_has_a_band_and_baselines_are_grey():
    y = np.array([0.5, 0.6])
    curves = {"raw": (y, y - 0.1, y + 0.1), "ours": (y + 0.1, y, y + 0.2)}
    drawing = figures.bands(
        [10, 100],
        curves,
        title="",
        x_label="labels",
        y_label="accuracy",
        log_x=True,
        baselines=["raw"],
    )
    band, line, _, ours = traces(drawing)
    assert np.asarray(band.y).tolist() == pytest.approx([0.6, 0.7, 0.5, 0.4])
    assert (line.line.color, line.line.dash) == (figures.NEUTRAL, "dash")
    assert ours.line.color == figures.ACCENT
    assert drawing["layout"]["xaxis"]["ticktext"] == ["10", "100"]


HOSTILE = "<s> & </s>"
SHOWN = "&lt;s> &amp; &lt;/s>"


def test_texts_are_plain_and_labels_of_axes_are_markup():
    y = np.array([0.5, 0.6])
    labels: dict[str, Any] = {
        "title": HOSTILE,
        "x_label": "h<sub>t</sub>",
        "y_label": "R<sup>2</sup>",
    }
    drawn = [
        figures.bands([1, 2], {HOSTILE: (y, y, y)}, **labels),
        figures.log_lines(np.arange(2), {HOSTILE: np.array([0, -np.inf])}, **labels),
        figures.heat_map(np.eye(2), scale_label="h<sub>t</sub>", **labels),
    ]
    for drawing in drawn:
        assert drawing["layout"]["title"]["text"] == SHOWN
        assert drawing["layout"]["xaxis"]["title"]["text"] == "h<sub>t</sub>"
    assert [trace.name for drawing in drawn for trace in traces(drawing)] == [
        None,
        SHOWN,
        SHOWN,
        f"{SHOWN}: zero",
        None,
    ]
    layout = figures.panels(HOSTILE, [(HOSTILE, "h<sub>t</sub>", "")])["layout"]
    assert layout["title"]["text"] == SHOWN
    assert layout["annotations"][0]["text"] == f"<b>{SHOWN}</b>"


def test_texts_of_a_tree_are_plain_and_are_cut_between_characters():
    labels = ["<s>", "</s>", "&" * 60]
    drawing = figures.tree(
        np.array([-1, 0, 1]),
        labels,
        ["", "<note>", ""],
        title=HOSTILE,
        paths={HOSTILE: [0, 1]},
        marks={2: "<lost>"},
        columns=["<a>", "", ""],
    )
    annotations = drawing["layout"]["annotations"]
    texts = [annotation["text"] for annotation in annotations]
    assert texts[0] == "<b>&lt;s></b>"
    assert texts[1] == "<b>&lt;/s></b><br><span style='font-size:11px'>&lt;note></span>"
    assert texts[2] == "&amp;" * 34 + "…"
    assert texts[3:5] == ["&lt;lost>", "&lt;a>"]
    assert [annotation["hovertext"] for annotation in annotations[:2]] == ["&lt;s>", "&lt;/s>"]
    assert [trace.name for trace in traces(drawing)] == [SHOWN]


def test_a_tree_states_the_width_that_its_boxes_need():
    def width(label: str, depth: int) -> int:
        labels = [label] * (depth + 1)
        drawing = figures.tree(np.arange(-1, depth), labels, [""] * len(labels), title="")
        return drawing["layout"]["meta"]["min_width"]

    assert width("a", 3) < width("network", 3) < width("network", 6)


def test_each_cloud_has_its_own_colour_and_symbol():
    x, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    clouds = {
        HOSTILE: figures.Cloud(x, y, [HOSTILE, "b"], 0 * x, y),
        "other": figures.Cloud(x, y, ["c", "d"], x, y),
    }
    one, other = traces(figures.scatter(clouds, title="", x_label="loss", y_label="accuracy"))
    assert (one.name, one.text[0]) == (SHOWN, SHOWN)
    assert one.marker.symbol != other.marker.symbol
    assert one.marker.color != other.marker.color
    assert np.asarray(one.error_y.array).tolist() == [3.0, 4.0]


def test_a_matrix_is_pale_at_zero_and_blank_at_nan():
    values = np.array([[1.0, np.nan], [-3.0, 0.0]])
    texts = [["+1", ""], ["-3", "0"]]
    labels = {"title": HOSTILE, "x_label": "", "y_label": "", "scale_label": ""}
    drawing = figures.matrix(values, texts, rows=["a", HOSTILE], columns=["c", "d"], **labels)
    (heat,) = traces(drawing)
    assert (heat.zmin, heat.zmax) == (-3, 3)
    assert np.isnan(heat.z[0][1])
    assert list(heat.y) == ["a", SHOWN]
    assert drawing["layout"]["yaxis"]["autorange"] == "reversed"


def test_a_drawing_is_plain_data_and_shares_no_part_with_the_next():
    first = figures.new_drawing("", margin_t=64)
    assert first["layout"]["margin"] == {"l": 8, "r": 8, "t": 64, "b": 8}
    first["layout"]["font"]["color"] = "red"
    assert figures.new_drawing("")["layout"]["font"]["color"] == INK


def test_extended_keeps_the_shapes_and_notes_of_the_drawing():
    first = figures.extended(figures.new_drawing(""), **figures.rule(x=1, colour="#123456"))
    note = {"text": "limit"}
    both = figures.extended(first, **figures.rule(y=2, colour="#123456", note=note), height=200)
    assert len(first["layout"]["shapes"]) == 1
    assert [shape["y0"] for shape in both["layout"]["shapes"]] == [0, 2]
    assert [note["text"] for note in both["layout"]["annotations"]] == ["limit"]
    assert (first["layout"]["height"], both["layout"]["height"]) == (380, 200)


def test_lines_and_markers_are_traces_that_plotly_knows():
    drawn = [
        figures.line([1, 2], [3.0, np.nan], name="a", colour="#123456", dash="dot", width=1),
        figures.markers(["x", "y"], [3, 4], symbol="x", size=9, opacity=0.5, panel=2),
    ]
    one, other = traces({"data": drawn, "layout": {}})
    assert (one.mode, one.line.dash) == ("lines", "dot")
    assert (other.mode, other.yaxis, list(other.x)) == ("markers", "y2", ["x", "y"])


def test_the_house_knows_every_short_name_of_a_layout():
    drawing = figures.new_drawing("", xaxis_title_font_size=20, paper_bgcolor="white")
    assert drawing["layout"]["xaxis"]["title"]["font"] == {"size": 20}
    assert drawing["layout"]["paper_bgcolor"] == "white"
