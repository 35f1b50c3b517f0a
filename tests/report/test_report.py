import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from leadline import InputError, figures, report, storage
from leadline.report._page import interval_picture, place, prose
from leadline.sounding import Interval, Protocol
from leadline.storage import output_folder
from leadline.worksheet import STATEMENTS, Fact, Result, Setting
from tests.worksheet import example

SETTING = Setting("quick")


class Structure(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.ids, self.links, self.sources, self.open = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if "href" in values else []
        self.sources += [values["src"]] if "src" in values else []
        if tag not in {"meta", "br", "rect", "line"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in {"rect", "line"}:
            assert self.open.pop() == tag


class Texts(HTMLParser):
    """Collects the text of one article, block by block."""

    def __init__(self, html: str, name: str):
        super().__init__()
        self.name, self.is_inside, self.texts = name, False, [""]
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.is_inside = self.is_inside or (tag == "article" and dict(attrs)["id"] == self.name)
        self.texts += [] if tag in {"code", "sub", "sup"} else [""]

    def handle_endtag(self, tag):
        self.is_inside = self.is_inside and tag != "article"
        self.texts += [] if tag in {"code", "sub", "sup"} else [""]

    def handle_data(self, data):
        self.texts[-1] += data if self.is_inside else ""


def test_the_page_is_valid_and_makes_no_requests(results, tmp_path: Path):
    page = report.write(results, SETTING, tmp_path)
    html = page.read_text()
    structure = Structure(html)
    assert structure.open == []
    assert len(structure.ids) == len(set(structure.ids))
    assert set(STATEMENTS) < set(structure.ids)
    assert structure.sources == []
    assert all(link.removeprefix("#") in structure.ids for link in structure.links)
    assert "default-src 'none'" in html
    assert page.stat().st_size < 6e6


def test_text_is_escaped_and_code_is_formatted(results, tmp_path: Path):
    html = report.write(results, SETTING, tmp_path).read_text()
    assert "<b>not bold</b>" not in html
    assert "&amp; &lt;b&gt;not bold&lt;/b&gt;" in html
    assert "Traceback &lt;of a&gt; crash" in html
    assert "a finding with <code>code</code>." in html
    assert prose("<script>`x`") == "&lt;script&gt;<code>x</code>"


def test_the_page_shows_every_status_and_explains_disagreement(results):
    html = report.as_html(results, SETTING, {"ae.f": 12.3})
    tally = re.findall(r"<b>(\d+)</b> <span[^>]*>([a-z ]+)<", html)
    assert tally == [
        ("1", "supported"),
        ("1", "refuted"),
        ("1", "failed"),
        ("17", "not measured yet"),
    ]
    assert "This differs from the course. They would agree under a condition" in html
    assert "12 s" in html


def test_an_undecided_outcome_shows_its_condition():
    answer = example.answer("ae.f", gain=0.1, spread=3.0)
    html = report.as_html([Result(STATEMENTS["ae.f"], answer=answer)], SETTING, {})
    assert (
        "This neither confirms the course nor contradicts it. What it depends on: With few "
        "unlabelled rows" in html
    )


def test_all_soundings_of_an_answer_are_drawn():
    answer = example.answer("ae.f")
    first, further = example.flow(np.zeros(3)), example.flow(np.ones(4))
    both = replace(answer, soundings={"first": first, "further": further})
    html = report.as_html([Result(STATEMENTS["ae.f"], answer=both)], SETTING, {})
    assert re.findall(r'data-figure="([^"]+)"', html) == ["figure-ae.f", "figure-ae.f-further"]
    for name, sounding in (("figure-ae.f", first), ("figure-ae.f-further", further)):
        drawn = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html)
        assert drawn is not None
        assert len(json.loads(drawn[1])["data"][0]["x"]) == len(
            sounding.figure().to_plotly_json()["data"][0]["x"]
        )


def test_figures_cannot_close_their_script_element(results):
    hostile = example.answer("ae.f")
    figure = hostile.figure()
    figure.update_layout(title_text="</script><script>alert(1)</script>")
    flow = replace(hostile.soundings["flow"])
    object.__setattr__(flow, "figure", lambda: figure)
    answer = replace(hostile, soundings={"flow": flow})
    html = report.as_html([Result(STATEMENTS["ae.f"], answer=answer)], SETTING, {})
    assert "<script>alert" not in html


def test_equal_results_give_equal_files_apart_from_timings(results, tmp_path: Path):
    for folder in ("a", "b"):
        report.write(results, SETTING, tmp_path / folder)
        results = [replace(r, seconds=99.0) if r.answer else r for r in results]
    for name in ("worksheet.json", "worksheet.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a" / "timings.json").read_text()) == {"ae.e": 1.0, "ae.f": 12.3}


def test_timings_of_earlier_runs_are_kept(results, tmp_path: Path):
    with output_folder(tmp_path) as outputs:
        outputs.write("timings.json", '{"beam.a": 3.5}')
    report.write(results, SETTING, tmp_path)
    assert json.loads((tmp_path / "timings.json").read_text())["beam.a"] == 3.5


@pytest.mark.parametrize("content", ["not json", "[" * 100_000, '{"beam.a": "x"}'])
def test_unreadable_timings_are_ignored(results, tmp_path: Path, content):
    with output_folder(tmp_path) as outputs:
        outputs.write("timings.json", content)
    report.write(results, SETTING, tmp_path)
    assert "beam.a" not in json.loads((tmp_path / "timings.json").read_text())


@pytest.mark.parametrize("name", ["index.html", "worksheet.json", "worksheet.md", "timings.json"])
def test_files_of_other_programs_are_not_replaced(results, tmp_path: Path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="only the files that it wrote itself"):
        report.write(results, SETTING, tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


def texts_of(document: Any) -> Iterator[str]:
    """Yield all texts of a JSON document, formatted as on the page."""
    if isinstance(document, dict):
        if set(document) == {"estimate", "low", "high", "level"}:
            yield from (str(Interval(**document)), str(Interval(**document)).partition(" ")[2])
        for key, value in document.items():
            yield key
            yield from texts_of(value)
    elif isinstance(document, list):
        yield ", ".join(map(str, document))
        for value in document:
            yield from texts_of(value)
    else:
        yield str(document)


def bare(text: str) -> str:
    """Return only letters and digits, because markup, case and punctuation may differ."""
    return re.sub(r"[\W_]+", "", text).lower()


HOUSE = {
    "overview", "Why.", "Condition", "Measured", "Interval", "Holds", "must "
    "hold", "reported", "seeds",
    "simultaneous", "the course says", "Also measured.", "Criterion", "yes", "no", "expected",
    "This differs from the course. They would agree under a condition", "The measurement failed, "
    "so there is no outcome.",
    "Measurement, criterion, protocol and the command", "Measurement, criterion and the command",
}  # fmt: skip
"""Words of the page that are not results."""


def test_the_json_contains_all_results_of_the_page(results):
    document = json.loads(storage.canonical_json(report.as_json(results, SETTING)))
    html = report.as_html(results, SETTING, {})
    for statement in document["statements"]:
        page = Texts(html, statement["id"]).texts
        known = sorted(
            {bare(text) for text in (*HOUSE, *texts_of(statement))}, key=len, reverse=True
        )
        for text in page:
            left = bare(text) if bare(text) not in known else ""
            for phrase in known:
                left = left.replace(phrase, "") if len(phrase) > 1 else left
            assert left == "", (statement["id"], text)
        for key in (
            "number",
            "title",
            "claim",
            "course",
            "why",
            "measurement",
            "criterion",
            "command",
            "outcome",
        ):
            assert statement[key] is None or bare(statement[key]) in bare("".join(page)), (
                statement["id"],
                key,
            )


def test_the_json_contains_rules_and_decisions(results):
    by_id = {
        statement["id"]: statement for statement in report.as_json(results, SETTING)["statements"]
    }
    assert len(by_id) == 20
    few = by_id["ae.f"]
    assert few["outcome"] == "supported"
    gain = few["effects"]["gain_at_fewest"]
    assert gain["simultaneous"]["level"] == pytest.approx(0.9975)
    assert gain["replicates"] == 12
    assert gain["rule"] == {"text": "must be above 0", "low": 0.0, "high": None}
    assert gain["holds"] is True
    fact = by_id["beam.a"]["facts"]["beam_after_step_1"]
    assert (fact["rule"]["text"], fact["holds"]) == ("must hold", False)
    assert by_id["ae.a"]["outcome"] == "not measured yet"
    assert "Traceback" in by_id["ae.e"]["failure"]
    assert "seconds" not in json.dumps(by_id)


def test_the_json_is_strict_and_keeps_number_types():
    settings = {
        "rows": np.int64(3),
        "is_whole": np.bool_(True),
        "sizes": np.array([[1, 2], [3, 4]]),
        "rates": np.array([0.5, np.nan]),
        "worst": float("inf"),
        "single": np.float32(0.5),
        "nested": {"pair": (np.int8(1), None)},
        "path": Path("a/b"),
    }
    answer = replace(example.answer("ae.f"), protocol=Protocol(settings))
    document = report.as_json([Result(STATEMENTS["ae.f"], answer=answer)], SETTING)
    assert json.loads(storage.canonical_json(document))["statements"][0]["protocol"][
        "settings"
    ] == {
        "rows": 3,
        "is_whole": True,
        "sizes": [[1, 2], [3, 4]],
        "rates": [0.5, None],
        "worst": None,
        "single": 0.5,
        "nested": {"pair": [1, None]},
        "path": "a/b",
    }


def test_only_measured_statements_show_a_time(results):
    times = re.findall(
        r'<td class="number">(.*)</td>',
        report.as_html(results, SETTING, dict.fromkeys(STATEMENTS, 7.0)),
    )
    shown = [name for name, time in zip(STATEMENTS, times, strict=True) if time]
    assert shown == ["ae.e", "ae.f", "beam.a"]


def test_elements_have_the_size_of_their_figures():
    panels = figures.panels("two", [("left", "", ""), ("right", "", "")], height=400)
    shown = [figures.interactive(drawing) for drawing in (figures.new_drawing("one"), panels)]
    sizes = [place("name", figure, "a & <b>") for figure in shown]
    assert [
        "--height: 380px; --phone: 380px; --least: 0px" in sizes[0],
        "a &amp; &lt;b&gt;" in sizes[0],
    ] == [
        True,
        True,
    ]
    assert "--height: 400px; --phone: 680px" in sizes[1]


def test_an_effect_without_a_condition_is_not_shaded():
    interval = Interval(1.0, 0.5, 1.5)
    assert "<rect" in interval_picture(interval, interval, (0.0, None))
    assert "<rect" not in interval_picture(interval, interval, (None, None))


def test_infinite_intervals_reach_the_edge_and_unknown_intervals_are_not_drawn():
    limits = Interval(1.0, 0.5, float("inf"))
    drawn = interval_picture(Interval(1.0, 0.8, 1.2), limits, (0.0, None))
    assert 'x2="100.0"' in drawn
    assert "inf]" in str(limits)
    assert not {"nan", "inf"} & set(re.findall(r'="(\w+)"', drawn))
    unknown = Interval(1.0, float("nan"), float("nan"))
    assert interval_picture(unknown, unknown, (0.0, None)) == ""


def test_the_markdown_has_a_row_and_a_section_for_each(results):
    text = report.as_markdown(results, SETTING)
    assert text.count("\n### ") == 20
    assert "| 1f | Few labels, large gain | true | supported | 5." in text


def test_the_markdown_shows_the_simultaneous_interval_and_the_protocol(results):
    text = report.as_markdown(results, SETTING)
    answer = example.answer("ae.f")
    assert str(answer.effects["gain_at_fewest"].simultaneous).partition(" ")[2] in text
    assert "\n- rows: 3\n- seeds: 0, 1, 2" in text


def test_values_cannot_add_markup_to_the_markdown():
    hostile = "first | *second* <script>_x_</script> `a|b` & &lt; [a](b) # c\n\n# `d"
    answer = replace(
        example.answer("beam.a"),
        findings=(hostile, "1. two"),
        facts={"beam_after_step_1": Fact(hostile, True, hostile, "")},
    )
    crash = "before\n```\n# inside\n````\nafter"
    results = [
        Result(STATEMENTS["beam.a"], answer=answer),
        Result(STATEMENTS["beam.b"], failure=crash),
    ]
    tokens = MarkdownIt("commonmark").enable("table").parse(report.as_markdown(results, SETTING))
    texts = [flat(token) for token in tokens if token.type == "inline"]
    expected = " ".join(hostile.split()).replace("`a|b`", "a|b")
    # The text is in a finding and in two cells of a table.
    assert texts.count(expected) == 3
    assert "1. two" in texts
    assert next(text for text in texts if text.startswith("Why: ")).startswith(
        "Why: There is one hypothesis"
    )
    assert [token.content for token in tokens if token.type == "fence"][1] == crash + "\n"
    assert [token.tag for token in tokens if token.type == "heading_open"] == [
        "h1",
        "h2",
        "h3",
        "h3",
    ]


def flat(token: Any) -> str:
    return "".join(child.content for child in token.children)
