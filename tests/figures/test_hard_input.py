"""Hard input to figures: values that are not finite, single, constant, huge or out of order."""

import base64
import io
from fractions import Fraction
from itertools import pairwise
from typing import Any

import jaxtyping
import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from leadline import figures
from leadline.errors import InputError

TEXTS: dict[str, Any] = {"title": "", "x_label": "x", "y_label": "y"}
AXES = [("", "", "")]
INF = np.inf
NAN = np.nan


@pytest.fixture
def users_have_no_shape_checks():
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def drawn(drawing: Any) -> list[Any]:
    """Return the traces, after all of Plotly's checks."""
    return list(figures.interactive(drawing).data)


def segments(trace: Any) -> list[tuple[list[float], list[float]]]:
    """Return the parts of a trace between its gaps."""
    x, y = np.asarray(trace.x, float), np.asarray(trace.y, float)
    cuts = np.flatnonzero(np.isnan(x))
    return [
        (a.tolist(), b.tolist()) for a, b in zip(np.split(x, cuts), np.split(y, cuts), strict=True)
    ]


# Trees.

TREE: dict[str, Any] = {"labels": ["a", "b", "c"], "notes": ["", "", ""], "title": ""}


@pytest.mark.parametrize(
    "parent",
    [
        [-1, 2, 1],
        [0, -1, -1],
        [1, 0, 0],
        [-1, 1, 0],
        [-1, 0, 3],
        [-1, 0, -2],
        [-1, 0, 1.5],
        [2, -1, 0],
        [],
    ],
)
def test_a_tree_with_a_cycle_or_a_node_that_does_not_exist_is_refused(parent):
    with pytest.raises(InputError, match=r"^parent"):
        figures.tree(np.array(parent), **TREE)


def test_a_forest_and_a_single_node_are_drawn():
    forest = figures.tree(np.array([-1, -1, 1]), **TREE)
    assert len(forest["layout"]["shapes"]) == 3 + 1, "three boxes and an edge"
    single = figures.tree([-1], ["a"], [""], title="")
    assert len(single["layout"]["shapes"]) == 1
    assert len(drawn(single)) == 0


def test_descendants_of_a_hidden_node_are_hidden():
    drawing = figures.tree(
        [-1, 0, 1, 2, 0], list("abcde"), [""] * 5, title="", hidden=[False, True] + [False] * 3
    )
    assert [note["hovertext"] for note in drawing["layout"]["annotations"]] == ["a", "e"]
    assert len(drawing["layout"]["shapes"]) == 2 + 1


def test_headings_beyond_the_deepest_node_have_room():
    drawing = figures.tree([-1, 0, 0], **TREE, columns=["", "step 1", "step 2"])
    assert drawing["layout"]["xaxis"]["range"][1] > 2


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["a", "b"]},
        {"notes": ["", "", 3]},
        {"faint": [True]},
        {"paths": {"p": [3]}},
        {"paths": {"p": [-1]}},
        {"paths": {str(i): [0] for i in range(8)}},
        {"marks": {3: "x"}},
        {"marks": {0: 1}},
        {"hidden": [0, 1, 0]},
    ],
)
def test_parts_of_a_tree_that_do_not_fit_are_refused(change):
    with pytest.raises(InputError):
        figures.tree([-1, 0, 0], **{**TREE, **change})


def test_a_tree_of_more_than_2000_nodes_is_refused():
    num = 2001
    with pytest.raises(InputError, match="at most 2,000 nodes"):
        figures.tree(np.arange(-1, num - 1), ["a"] * num, [""] * num, title="")


# Curves with bands.


def test_a_band_has_gaps_where_an_interval_is_not_finite():
    y = np.array([1.0, 2.0, NAN, 4.0, 5.0, 6.0])
    low = y - 1
    high = np.array([2.0, 3.0, NAN, 5.0, INF, 7.0])
    band, line = drawn(figures.bands(np.arange(6), {"a": (y, low, high)}, **TEXTS))
    (first_x, first_y), (second_x, second_y), (third_x, third_y) = segments(band)
    assert (first_x, first_y) == ([0, 1, 1, 0], [2, 3, 1, 0])
    assert (second_x[1:], second_y[1:]) == ([3, 3], [5, 3])
    assert (third_x[1:], third_y[1:]) == ([5, 5], [7, 5])
    assert np.isnan(line.y).tolist() == [False, False, True, False, False, False]
    bars = np.isfinite(np.asarray(line.error_y.array)).tolist()
    assert bars == [False, False, False, True, False, True], (
        "the band of a single place has no width, so it needs an error bar"
    )


def test_one_point_is_drawn_with_its_interval():
    band, line = drawn(figures.bands([3], {"a": ([2.0], [1.5], [4.0])}, **TEXTS, log_x=True))
    assert (line.error_y.array[0], line.error_y.arrayminus[0]) == (2.0, 0.5)
    assert len(band.x) == 2


def test_a_whole_band_needs_no_bars():
    band, line = drawn(figures.bands([1, 2], {"a": ([1, 2], [0, 1], [2, 3])}, **TEXTS))
    assert line.error_y.array is None
    assert segments(band) == [([1, 2, 2, 1], [2, 3, 1, 0])]


def test_unsorted_places_are_drawn_in_order():
    band, line = drawn(
        figures.bands(
            [3, 1, 2], {"a": ([30, 10, 20], [29, 9, 19], [31, 11, 21])}, **TEXTS, log_x=True
        )
    )
    assert np.asarray(line.x).tolist() == [1, 2, 3]
    assert np.asarray(line.y).tolist() == [10, 20, 30]
    assert segments(band) == [([1, 2, 3, 3, 2, 1], [11, 21, 31, 29, 19, 9])]


@pytest.mark.parametrize(
    ("x", "curve", "message"),
    [
        (
            [0, 1],
            ([1, 2], [0, 1], [2, 3]),
            r"x must be finite numbers above 0, since its axis is logarithmic",
        ),
        ([1, NAN], ([1, 2], [0, 1], [2, 3]), r"x\[1\] = nan"),
        ([], ([], [], []), "x must hold at least one place"),
        ([1, 2], ([1, 2], [0, 1, 2], [2, 3]), "low of 'a' must have length 2"),
        ([1, 2], ([1, 2], [2, 3], [0, 1]), r"low\[0\] = 2, high\[0\] = 0"),
        ([1, 2], ([1, 2], [0, 1]), "must be three arrays"),
        ([1, 2], ([[1], [2]], [0, 1], [2, 3]), "estimate of 'a' must have 1 axis"),
    ],
)
def test_curves_that_cannot_be_drawn_are_refused_by_name(x, curve, message):
    with pytest.raises(InputError, match=message):
        figures.bands(x, {"a": curve}, **TEXTS, log_x=True)


@given(
    arrays(float, (4, 3), elements=st.floats(-1.7e308, 1.7e308) | st.sampled_from([NAN, INF, -INF]))
)
def test_mean_and_range_are_exact_also_near_the_largest_numbers(values):
    mean, low, high = figures.mean_and_range(values)
    for column, average, least, most in zip(values.T, mean, low, high, strict=True):
        finite = [Fraction(float(value)) for value in column if np.isfinite(value)]
        if not finite:
            assert np.isnan([average, least, most]).all()
            continue
        exact = float(sum(finite) / len(finite))
        assert average == pytest.approx(exact, rel=1e-9, abs=1e-9 * float(max(map(abs, finite))))
        assert (least, most) == (float(min(finite)), float(max(finite)))


def test_the_mean_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least one row"):
        figures.mean_and_range(np.zeros((0, 3)))


# Matrices.


@pytest.mark.parametrize(
    "values", [[[NAN]], [[INF]], [[0.0]], [[1e300, -1e300]], [[5]], np.full((2, 3), -INF)]
)
@pytest.mark.parametrize("power", [False, True])
def test_any_matrix_is_drawn(values, power):
    values = np.array(values)
    (heat,) = drawn(figures.heat_map(values, **TEXTS, scale_label="", power_of_ten=power))
    assert np.isnan(heat.z).tolist() == (~np.isfinite(values)).tolist()
    (cells,) = drawn(
        figures.matrix(
            values,
            [["x"] * values.shape[1]] * len(values),
            rows=[str(i) for i in range(len(values))],
            columns=[str(i) for i in range(values.shape[1])],
            **TEXTS,
            scale_label="",
        )
    )
    assert np.isfinite([cells.zmin, cells.zmax]).all()
    assert cells.zmin < cells.zmax


def test_the_hover_text_names_values_that_are_not_finite():
    values = np.array([[NAN, INF, -INF, 1.0]])
    for power, lowest in ((True, "exactly zero"), (False, "minus infinity")):
        (heat,) = drawn(figures.heat_map(values, **TEXTS, scale_label="", power_of_ten=power))
        assert heat.text.tolist() == [["not a number", "infinite", lowest, ""]]


def test_names_that_look_like_numbers_or_dates_are_names():
    drawing = figures.matrix(
        np.eye(2),
        [["", ""]] * 2,
        rows=["10", "200"],
        columns=["2020-01-01", "7"],
        **TEXTS,
        scale_label="",
    )
    layout = drawing["layout"]
    assert (layout["xaxis"]["type"], layout["yaxis"]["type"]) == ("category", "category")


@pytest.mark.parametrize(
    "change",
    [
        {"values": np.zeros((0, 2))},
        {"values": np.zeros(2)},
        {"rows": ["a", "a"]},
        {"rows": ["a"]},
        {"columns": "ab"},
        {"texts": [["", ""]]},
        {"texts": [[""], [""]]},
    ],
)
@pytest.mark.usefixtures("users_have_no_shape_checks")
def test_a_matrix_whose_parts_do_not_fit_is_refused(change):
    whole = {
        "values": np.eye(2),
        "texts": [["", ""]] * 2,
        "rows": ["a", "b"],
        "columns": ["a", "b"],
        "scale_label": "",
    }
    with pytest.raises(InputError):
        figures.matrix(**TEXTS, **{**whole, **change})


@pytest.mark.parametrize("value", [1e301, -1.7e308])
def test_numbers_between_which_no_axis_can_lie_are_refused(value):
    far = np.array([value, 0.0])
    zero = np.zeros(2)
    calls = [
        lambda: figures.heat_map(far[None], **TEXTS, scale_label=""),
        lambda: figures.matrix(
            far[None], [["", ""]], rows=["a"], columns=["a", "b"], **TEXTS, scale_label=""
        ),
        lambda: figures.bands(far, {"a": (zero, zero, zero)}, **TEXTS),
        lambda: figures.bands([0, 1], {"a": (far, far, far)}, **TEXTS),
        lambda: figures.Cloud(far, zero, ["a", "b"], zero, zero),
        lambda: figures.log_ticks(far),
    ]
    for call in calls:
        with pytest.raises(
            InputError, match=r"between -1e300 and 1e300, or infinities\n  got:   -?1"
        ):
            call()


# Logarithmic axes.


@given(
    arrays(
        float,
        st.integers(1, 5),
        elements=st.floats(-1e300, 1e300) | st.sampled_from([NAN, INF, -INF]),
    )
)
def test_ticks_are_round_numbers_of_their_own_for_any_curve(values):
    check_ticks(values)


@given(st.floats(-5, 6), st.floats(0, 3.5) | st.floats(-16, 0).map(lambda power: 10**power))
def test_ticks_of_a_curve_over_few_decades(low, span):
    check_ticks(np.array([low, min(low + span, 6.0)]))


def check_ticks(values: np.ndarray) -> None:
    ticks = figures.log_ticks(values)
    finite = values[np.isfinite(values)]
    go.layout.YAxis(**ticks)
    if not len(finite):
        assert ticks == {"showticklabels": False}
    elif "tickprefix" in ticks:
        assert np.ptp(finite) > 3.5 or finite.min() < -5 or finite.max() > 6
    else:
        places, texts = np.asarray(ticks["tickvals"]), ticks["ticktext"]
        assert 2 <= len(texts) <= 20
        assert len(set(texts)) == len(texts), "every height has a label of its own"
        assert np.allclose(np.log10([float(text) for text in texts]), places, rtol=0, atol=1e-9)
        low, high = ticks.get("range", (finite.min(), finite.max()))
        assert low - 2e-9 <= places.min() <= places.max() <= high + 2e-9
        assert low <= finite.min() <= finite.max() <= high


def test_an_axis_does_not_zoom_into_rounding():
    ticks = figures.log_ticks(np.array([0.3, 0.3 + 1e-15]))
    assert ticks["range"] == [pytest.approx(-0.7), pytest.approx(1.3)]
    assert ticks["ticktext"] == ["0.2", "0.5", "1", "2", "5", "10"]


@pytest.mark.parametrize(
    "values",
    [[0.0], [-INF], [INF], [NAN], [1e300, -1e300, 0.0], [NAN, INF, -INF], [1e-320, 0.0], [3, 4]],
)
def test_every_value_of_a_curve_is_drawn_once(values):
    values = np.array(values)
    line, *marks = drawn(figures.log_lines(np.arange(len(values)), {"h": values}, **TEXTS))
    assert int(np.isfinite(np.asarray(line.y, float)).sum()) + sum(
        len(mark.x) for mark in marks
    ) == len(values)
    assert all(np.isfinite(np.asarray(mark.y, float)).all() for mark in marks)


@pytest.mark.parametrize(
    ("x", "values", "message"),
    [
        ([0, 1], [1.0], "must have length 2"),
        ([0, INF], [1.0, 2.0], r"x\[1\] = inf"),
        ([0], [1.7e308], "between -1e300 and 1e300"),
        ([], [], "at least one place"),
    ],
)
def test_lines_that_cannot_be_drawn_are_refused(x, values, message):
    with pytest.raises(InputError, match=message):
        figures.log_traces(np.array(x), {"h": np.array(values)})
    with pytest.raises(InputError, match="colours must hold at least one"):
        figures.log_traces(np.arange(1), {"h": np.zeros(1)}, colours=())


# Panels.


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 10, 40])
def test_any_number_of_panels_lies_side_by_side_or_stacked(count):
    axes = [(f"panel {i}", "x", "y") for i in range(count)]
    layout = figures.panels("", axes)["layout"]
    spans = [layout[f"xaxis{i or ''}".replace("xaxis0", "xaxis")]["domain"] for i in numbers(count)]
    assert spans[0][0] == 0
    assert spans[-1][1] == pytest.approx(1)
    check_apart(spans)
    below = figures.stacked(layout)
    go.Figure(layout=below)
    if count > 1:
        domains = [below[f"yaxis{i or ''}"]["domain"] for i in numbers(count)]
        assert domains[0][1] == 1
        check_apart(domains[::-1])
        assert [note["y"] for note in below["annotations"]] == [domain[1] for domain in domains]


def numbers(count: int) -> list[Any]:
    return ["", *range(2, count + 1)]


def check_apart(domains: list) -> None:
    assert all(0 <= low < high <= 1 for low, high in domains)
    assert all(one[1] < other[0] for one, other in pairwise(domains))


def test_a_heading_stays_with_its_panel():
    axes = [("", "x", "y"), ("second", "x", "y"), ("", "x", "y")]
    remark = {"text": "remark", "x": 0.5, "y": 0.5}
    drawing = figures.extended(figures.panels("", axes), annotations=[remark])
    below = figures.stacked(drawing["layout"])
    notes = {note["text"]: note for note in below["annotations"]}
    assert notes["<b>second</b>"]["y"] == below["yaxis2"]["domain"][1]
    assert (notes["remark"]["x"], notes["remark"]["y"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    "layout", [{}, {"xaxis": {}}, {"xaxis": {}, "xaxis2": {}}, {"xaxis": {}, "xaxis_title": "t"}]
)
def test_any_layout_can_be_stacked(layout):
    go.Figure(layout=figures.stacked(layout))


@pytest.mark.parametrize("axes", [[], [("a", "b")], "abc", [("a", "b", 3)], None])
def test_panels_that_are_none_are_refused(axes):
    with pytest.raises(InputError, match=r"^axes"):
        figures.panels("", axes)


# Points.


def test_a_note_counts_points_that_are_not_finite():
    cloud = figures.Cloud([1.0, NAN, 3.0], [1.0, 2.0, INF], ["a", "b", "c"], [0, 0, NAN], [1, 1, 1])  # type: ignore[arg-type]
    notes = figures.scatter({"v": cloud}, **TEXTS)["layout"]["annotations"]
    assert [note["text"] for note in notes] == ["2 points are not finite and not drawn"]
    fine = figures.Cloud(np.ones(1), np.ones(1), ["a"], np.zeros(1), np.zeros(1))
    assert "annotations" not in figures.scatter({"v": fine}, **TEXTS)["layout"]
    assert drawn(figures.scatter({}, **TEXTS)) == []


@pytest.mark.parametrize(
    "given",
    [
        ([1], [1, 2], ["a"], [0], [0]),
        ([1], [1], ["a", "b"], [0], [0]),
        ([1], [1], "a", [0], [0]),
        ([1], [1], ["a"], [-0.1], [0]),
        (["x"], [1], ["a"], [0], [0]),
    ],
)
def test_a_cloud_whose_parts_do_not_fit_is_refused(given):
    with pytest.raises(InputError):
        figures.Cloud(*given)


# Images.


def pixels(drawing: figures.Drawing) -> np.ndarray:
    """Return the picture of a strip, shape (height, width, 4)."""
    source = drawing["data"][0]["source"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2]))))


def test_pixels_that_are_not_finite_are_clipped_or_blank():
    stages = {
        "input": np.array([[[0.0, 1.0]]]),
        "output": np.array([[[NAN, INF]]]),
        "other": np.array([[[-INF, 0.5]]]),
    }
    found = pixels(figures.image_strip(stages, title=""))
    rows = found[[0, 2, 4], :2]
    assert rows[..., 3].tolist() == [[255, 255], [0, 255], [255, 255]]
    assert rows[0, :, 0].tolist() == [0, 255]
    assert rows[1, 1, 0] == 255
    assert rows[2, :, 0].tolist() == [0, 128]


@pytest.mark.parametrize(
    ("first", "second", "grey"),
    [
        ([0.0, 4.0], [1.0, 3.0], [64, 191]),
        ([5.0, 5.0], [5.0, 5.5], [0, 128]),
        ([-1.7e308, 1.7e308], [0.0, 1.7e308], [128, 255]),
        ([NAN, NAN], [0.0, 0.5], [0, 128]),
        ([0, 255], [51, 255], [51, 255]),
    ],
)
def test_all_stages_have_the_scale_of_the_first(first, second, grey):
    found = pixels(figures.image_strip({"a": [[first]], "b": [[second]]}, title=""))  # type: ignore[dict-item]
    assert found[2, :2, 0].tolist() == grey


def test_grey_and_colour_can_stand_below_one_another():
    colour = np.zeros((1, 1, 2, 3))
    colour[0, 0, 1] = (1.0, 0.0, 0.5)
    found = pixels(figures.image_strip({"a": np.array([[[0.0, 1.0]]]), "b": colour}, title=""))
    assert found[2, 1].tolist() == [255, 0, 128, 255]


@pytest.mark.parametrize(
    "stages",
    [
        {},
        {"a": np.zeros((0, 2, 2))},
        {"a": np.zeros((2, 2))},
        {"a": np.zeros((1, 2, 2, 4))},
        {"a": [[["x"]]]},
        {"a": np.zeros((1, 2, 2)), "b": np.zeros((1, 2, 3))},
        {"a": np.zeros((2, 2, 2)), "b": np.zeros((1, 2, 2))},
    ],
)
def test_strips_of_no_images_or_of_several_sizes_are_refused(stages):
    with pytest.raises(InputError, match=r"^stages"):
        figures.image_strip(stages, title="")


# Layouts.


@pytest.mark.parametrize("layout", [{"heigth": 300}, {"xaxes": {}}])
def test_an_unknown_property_of_a_layout_is_refused(layout):
    for make in (figures.new_drawing, lambda title, **more: figures.panels(title, AXES, **more)):
        with pytest.raises(InputError, match="layout takes the properties of Plotly's layout"):
            make("", **layout)


@pytest.mark.parametrize("layout", [{"height": "tall"}, {"xaxis_tile": "t"}])
def test_a_wrong_value_of_a_layout_is_refused_by_the_interactive_renderer(layout):
    with pytest.raises(InputError, match="needs traces and a layout that Plotly knows"):
        figures.interactive(figures.new_drawing("", **layout))


def test_further_axes_and_short_names_are_known_properties():
    layout: dict[str, Any] = {"xaxis2": {}, "yaxis_title": "y", "title_font_size": 3}
    for drawing in (figures.new_drawing("", **layout), figures.panels("", AXES, **layout)):
        assert drawing["layout"]["yaxis"]["title"] == "y"
        assert drawing["layout"]["title"]["font"]["size"] == 3
