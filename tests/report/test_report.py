import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from leadline import report
from leadline.report.page import prose
from leadline.worksheet import STATEMENTS, Result, Setting
from tests.worksheet import example

SETTING = Setting("quick")


@pytest.fixture
def results():
    """One of each kind: agreeing, exact, differing from the course, failed, and the rest not measured."""
    kinds = {
        "ae.e": Result(STATEMENTS["ae.e"], failure="Traceback <of a> crash", seconds=1.0),
        "ae.f": Result(STATEMENTS["ae.f"], answer=example.answer("ae.f"), seconds=12.3),
        "beam.a": Result(STATEMENTS["beam.a"], answer=example.answer("beam.a", gain=-1.0)),
    }
    return [kinds.get(name, Result(statement)) for name, statement in STATEMENTS.items()]


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


def test_the_page_is_whole_and_asks_for_nothing(results, tmp_path: Path):
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


def test_text_is_escaped_and_code_is_set(results, tmp_path: Path):
    html = report.write(results, SETTING, tmp_path).read_text()
    assert "<b>not bold</b>" not in html
    assert "&amp; &lt;b&gt;not bold&lt;/b&gt;" in html
    assert "Traceback &lt;of a&gt; crash" in html
    assert "a finding with <code>code</code>." in html
    assert prose("<script>`x`") == "&lt;script&gt;<code>x</code>"


def test_every_status_is_told_and_disagreement_is_explained(results):
    html = report.as_html(results, SETTING, {"ae.f": 12.3})
    tally = re.findall(r"<b>(\d+)</b> <span[^>]*>([a-z ]+)<", html)
    assert tally == [("1", "supported"), ("1", "refuted"), ("1", "failed"), ("17", "not measured yet")]
    assert "This differs from the course. They would agree under a condition" in html
    assert "12 s" in html


def test_figures_cannot_break_out_of_their_element(results):
    hostile = example.answer("ae.f")
    figure = hostile.figure()
    figure.update_layout(title_text="</script><script>alert(1)</script>")
    flow = replace(hostile.soundings["flow"])
    object.__setattr__(flow, "figure", lambda: figure)
    answer = replace(hostile, soundings={"flow": flow})
    html = report.as_html([Result(STATEMENTS["ae.f"], answer=answer)], SETTING, {})
    assert "<script>alert" not in html


def test_equal_results_give_equal_files_and_times_stand_apart(results, tmp_path: Path):
    for folder in ("a", "b"):
        report.write(results, SETTING, tmp_path / folder)
        results = [replace(r, seconds=99.0) if r.answer else r for r in results]
    for name in ("worksheet.json", "worksheet.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a" / "timings.json").read_text()) == {"ae.e": 1.0, "ae.f": 12.3}


def test_timings_of_earlier_runs_are_remembered(results, tmp_path: Path):
    (tmp_path / "timings.json").write_text('{"beam.a": 3.5}')
    report.write(results, SETTING, tmp_path)
    assert json.loads((tmp_path / "timings.json").read_text())["beam.a"] == 3.5
    (tmp_path / "timings.json").write_text("not json")
    report.write(results, SETTING, tmp_path)


def test_the_json_says_all_that_the_page_says(results):
    document = report.as_json(results, SETTING)
    by_id = {statement["id"]: statement for statement in document["statements"]}
    assert len(by_id) == 20
    few = by_id["ae.f"]
    assert few["outcome"] == "supported"
    assert few["effects"]["gain_at_fewest"]["simultaneous"]["level"] == pytest.approx(0.9975)
    assert few["effects"]["gain_at_fewest"]["replicates"] == 12
    assert by_id["ae.a"]["outcome"] == "not measured yet"
    assert "seconds" not in json.dumps(document)


def test_the_markdown_has_a_row_and_a_section_for_each(results):
    text = report.as_markdown(results)
    assert text.count("\n### ") == 20
    assert "| 1f | Few labels, large gain | true | supported | 5." in text
