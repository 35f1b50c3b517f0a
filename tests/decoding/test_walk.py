"""Tests of an audited search step by step, and of the comparison of searches."""

import numpy as np
import pytest

from leadline import InputError, decoding
from leadline.decoding import Comparison, Walk
from tests.decoding.test_course import COURSE


@pytest.fixture(scope="module")
def beam():
    return decoding.beam_search(*COURSE.problem(), width=2, max_length=3)


@pytest.fixture(scope="module")
def audit(beam):
    return decoding.audit(*COURSE.problem(), beam)


@pytest.fixture(scope="module")
def comparison(beam, audit):
    return decoding.compare(beam, audit.optimum, decoding.greedy(*COURSE.problem(), max_length=3))


@pytest.mark.parametrize(
    ("step", "parts"),
    [
        (0, ["before the first of 3 steps, the beam holds the start alone"]),
        (1, ["after step 1 of 3", "“neural” (-0.65), “network” (-0.73); 0 pruned"]),
        (
            2,
            [
                "“neural network” (-1.25), “network neural” (-1.33); 2 pruned",
                "begins with “neural neural”, is lost here at rank 3",
            ],
        ),
        (
            3,
            [
                "“neural network network” (-1.85)",
                "neural neural”, lost at step 2 at rank 3; width 3 keeps it",
            ],
        ),
    ],
)
def test_the_verdict_describes_each_step(audit, step, parts):
    verdict = str(audit.at(step))
    assert all(part in verdict for part in parts)
    assert ("lost" in verdict) == (step >= 2)


def test_the_table_of_a_step_ends_with_the_step(audit):
    whole = audit.traces[0].table()
    for step in range(4):
        rows = audit.at(step).table()
        assert rows["step"].max() == step or step == 0
        assert len(rows) == (whole["step"] <= step).sum()


def test_the_drawn_tree_grows_and_no_node_moves(audit):
    whole = {(a.x, a.y, a.text) for a in audit.figure().layout.annotations}
    counts, drawn = [], set()
    for step in range(4):
        figure = audit.at(step).figure()
        drawn = {(a.x, a.y, a.text) for a in figure.layout.annotations}
        assert drawn <= whole
        assert figure.layout.xaxis.range == audit.figure().layout.xaxis.range
        assert any("lost here" in text for *_, text in drawn) == (step >= 2)
        counts.append(sum(bool(text) and "step" not in text for *_, text in drawn))
    # The start; two words; 4 continuations and a mark; 4 more and the end of the lost sequence.
    assert counts == [1, 3, 8, 13]
    assert drawn == whole


@pytest.mark.parametrize("step", [-1, 4])
def test_a_step_outside_the_search_is_refused(audit, step):
    with pytest.raises(InputError, match="step must lie between 0 and 3"):
        audit.at(step)


def test_a_step_of_an_item_without_a_trace_is_refused():
    audit = decoding.audit(
        *COURSE.problem(2), decoding.beam_search(*COURSE.problem(2), width=3, max_length=3)
    )
    with pytest.raises(InputError, match="needs the trace"):
        audit.at(1, item=1)


def test_a_verdict_without_a_loss_does_not_mention_one():
    audit = decoding.audit(
        *COURSE.problem(), decoding.beam_search(*COURSE.problem(), width=3, max_length=3)
    )
    assert "lost" not in str(audit.at(3))


def test_a_comparison_names_the_best_search_and_the_lead(comparison):
    assert str(comparison) == (
        "exact search found the best of these answers, “neural neural neural” (-1.46); "
        "beam search (width 2) is 0.39 behind, greedy search is 0.39 behind"
    )
    table = comparison.table().set_index("search")
    assert table.loc["exact search", "certificate"] == "OPTIMAL"
    assert table.loc["beam search (width 2)", "gap"] == pytest.approx(0.40)
    assert table["log_prob"].round(9).tolist() == [-1.85, -1.46, -1.85]
    assert table["rows"].tolist()[2] == 3
    for search, rows in zip(comparison.searches, table["candidates"], strict=True):
        assert search.work.candidates == rows


def test_searches_with_the_same_answer_share_a_line(comparison):
    lines = {line.name: list(line.y) for line in comparison.figure().data}
    assert lines["beam search (width 2) = greedy search"] == pytest.approx([0, -0.65, -1.25, -1.85])
    assert lines["exact search"] == pytest.approx([0, -0.65, -1.45, -1.46])


def test_one_score_compares_all_searches():
    score = decoding.LengthNormalized(1.0)
    beam = decoding.beam_search(*COURSE.problem(), width=2, max_length=3, score=score)
    both = decoding.compare(beam, decoding.greedy(*COURSE.problem(), max_length=3))
    assert both.scores()[:, 0] == pytest.approx([-1.85 / 3] * 2)
    assert "every search finds" in str(both)
    with pytest.raises(InputError, match="have one score"):
        decoding.compare(beam, decoding.exact_search(*COURSE.problem(), max_length=3))


def test_many_prompts_are_counted_and_other_prompts_are_refused():
    two = decoding.greedy(*COURSE.problem(2), max_length=3)
    wide = decoding.beam_search(*COURSE.problem(2), width=3, max_length=3)
    assert "greedy search 0, beam search (width 3) 2" in str(decoding.compare(two, wide))
    with pytest.raises(InputError, match="searches of the same prompts"):
        decoding.compare(two, decoding.greedy(*COURSE.problem(), max_length=3))
    with pytest.raises(InputError, match="searches of the same prompts"):
        decoding.compare()


def test_a_problem_without_a_sequence_is_compared_and_audited():
    table = decoding.Table({(): {"a": -np.inf, "b": -np.inf}})
    beam = decoding.beam_search(*table.problem(), width=2, max_length=1)
    audit = decoding.audit(*table.problem(), beam)
    both = decoding.compare(beam, audit.optimum, decoding.greedy(*table.problem(), max_length=1))
    assert str(both) == "no search found a sequence with a probability above zero"
    assert both.table()["log_prob"].tolist() == [-np.inf] * 3
    assert not both.figure().to_plotly_json()["data"]
    assert str(audit.at(0))
    assert audit.at(0).figure()


def test_steps_and_comparisons_can_be_saved_and_loaded(audit, comparison, tmp_path):
    for sounding, kind in ((audit.at(2), Walk), (comparison, Comparison)):
        sounding.save(tmp_path / kind.__name__)
        loaded = kind.load(tmp_path / kind.__name__)
        assert str(loaded) == str(sounding)
        assert loaded.table().equals(sounding.table())
