from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from leadline import figures
from leadline.figures._theme import INK


def traces(figure: Any) -> list[Any]:
    return list(figure.data)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.1)."""

    def luminance(colour: str) -> float:
        channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("ground", ["#ffffff", "#14191f"])
def test_the_first_colours_can_be_seen_on_light_and_dark(ground):
    assert all(contrast(colour, ground) >= 2.4 for colour in figures.COLOURS[:4])
    assert contrast(INK, "#ffffff") > 12


def test_zeros_infinities_and_nan_are_marked_not_dropped():
    values = np.array([0.0, -np.inf, -3.0, np.inf, np.nan])
    figure = figures.log_lines(np.arange(5), {"h": values}, title="", x_label="t", y_label="norm")
    line, *marks = traces(figure)
    assert np.isnan(np.asarray(line.y)).tolist() == [False, True, False, True, True]
    assert {mark.hovertemplate: np.asarray(mark.x).tolist() for mark in marks} == {
        "zero": [1],
        "infinite": [3],
        "not a number": [4],
    }
    low, high, _ = (float(np.asarray(mark.y)[0]) for mark in marks)
    assert low < -3.0 < 0.0 < high


def test_a_figure_of_nothing_but_zeros_can_be_drawn():
    figure = figures.log_lines(
        np.arange(3), {"h": np.full(3, -np.inf)}, title="", x_label="t", y_label="norm"
    )
    assert len(traces(figure)) == 2
    assert figure.to_dict()["layout"]["yaxis"]["showticklabels"] is False, "no height is a number"


def test_a_long_run_of_zeros_is_a_line_with_some_marks_and_every_place_told():
    values = np.concatenate([np.full(40, -np.inf), [0.0]])
    (_, run) = figures.log_traces(np.arange(41), {"h": values})
    assert len(run["x"]) == 40
    assert (run["mode"], run["marker"]["maxdisplayed"]) == ("lines+markers", 8)
    values[20] = -1.0
    (_, gap) = figures.log_traces(np.arange(41), {"h": values})
    assert gap["mode"] == "markers"
    assert "maxdisplayed" not in gap["marker"]


def test_each_curve_has_its_band_and_baselines_are_grey():
    y = np.array([0.5, 0.6])
    curves = {"raw": (y, y - 0.1, y + 0.1), "ours": (y + 0.1, y, y + 0.2)}
    figure: Any = figures.bands(
        [10, 100],
        curves,
        title="",
        x_label="labels",
        y_label="accuracy",
        log_x=True,
        baselines=["raw"],
    )
    band, line, _, ours = traces(figure)
    assert np.asarray(band.y).tolist() == pytest.approx([0.6, 0.7, 0.5, 0.4])
    assert (line.line.color, line.line.dash) == (figures.NEUTRAL, "dash")
    assert ours.line.color == figures.ACCENT
    assert list(figure.layout.xaxis.ticktext) == ["10", "100"]


HOSTILE = "<s> & </s>"
SHOWN = "&lt;s> &amp; &lt;/s>"


def test_text_is_drawn_as_it_stands_and_labels_of_axes_are_markup():
    y = np.array([0.5, 0.6])
    labels: dict[str, Any] = {
        "title": HOSTILE,
        "x_label": "h<sub>t</sub>",
        "y_label": "R<sup>2</sup>",
    }
    drawn: list[Any] = [
        figures.bands([1, 2], {HOSTILE: (y, y, y)}, **labels),
        figures.log_lines(np.arange(2), {HOSTILE: np.array([0, -np.inf])}, **labels),
        go.Figure(figures.heat_map(np.eye(2), scale_label="h<sub>t</sub>", **labels)),
    ]
    for figure in drawn:
        assert figure.layout.title.text == SHOWN
        assert figure.layout.xaxis.title.text == "h<sub>t</sub>"
    assert [trace.name for figure in drawn for trace in traces(figure)] == [
        None,
        SHOWN,
        SHOWN,
        f"{SHOWN}: zero",
        None,
    ]
    panels: Any = figures.panels(HOSTILE, [(HOSTILE, "h<sub>t</sub>", "")])
    assert (panels.layout.title.text, panels.layout.annotations[0].text) == (
        SHOWN,
        f"<b>{SHOWN}</b>",
    )


def test_every_text_of_a_tree_is_plain_and_a_cut_goes_through_no_entity():
    labels = ["<s>", "</s>", "&" * 60]
    figure: Any = figures.tree(
        np.array([-1, 0, 1]),
        labels,
        ["", "<note>", ""],
        title=HOSTILE,
        paths={HOSTILE: [0, 1]},
        marks={2: "<lost>"},
        columns=["<a>", "", ""],
    )
    texts = [annotation.text for annotation in figure.layout.annotations]
    assert texts[0] == "<b>&lt;s></b>"
    assert texts[1] == "<b>&lt;/s></b><br><span style='font-size:11px'>&lt;note></span>"
    assert texts[2] == "&amp;" * 34 + "…"
    assert texts[3:5] == ["&lt;lost>", "&lt;a>"]
    assert [annotation.hovertext for annotation in figure.layout.annotations][:2] == [
        "&lt;s>",
        "&lt;/s>",
    ]
    assert [trace.name for trace in traces(figure)] == [SHOWN]


def test_a_tree_asks_for_the_width_that_its_boxes_need():
    def width(label: str, depth: int) -> int:
        labels = [label] * (depth + 1)
        figure: Any = figures.tree(np.arange(-1, depth), labels, [""] * len(labels), title="")
        return figure.layout.meta["min_width"]

    assert width("a", 3) < width("network", 3) < width("network", 6)


def test_clouds_have_a_colour_and_a_shape_each():
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


def test_a_matrix_is_pale_at_zero_and_blank_where_nothing_was_measured():
    values = np.array([[1.0, np.nan], [-3.0, 0.0]])
    texts = [["+1", ""], ["-3", "0"]]
    labels = {"title": HOSTILE, "x_label": "", "y_label": "", "scale_label": ""}
    figure: Any = figures.matrix(values, texts, rows=["a", HOSTILE], columns=["c", "d"], **labels)
    (heat,) = traces(figure)
    assert (heat.zmin, heat.zmax) == (-3, 3)
    assert np.isnan(heat.z[0][1])
    assert list(heat.y) == ["a", SHOWN]
    assert figure.layout.yaxis.autorange == "reversed"
