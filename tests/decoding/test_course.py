"""The two-word example of the course, number by number."""

from typing import Any

import pytest

from leadline import InputError, decoding
from leadline.decoding import Table

COURSE = Table(
    {
        (): {"neural": -0.65, "network": -0.73},
        ("neural",): {"neural": -0.80, "network": -0.60},
        ("network",): {"neural": -0.60, "network": -0.80},
        ("neural", "neural"): {"neural": -0.01, "network": -4.61},
        ("neural", "network"): {"neural": -0.80, "network": -0.60},
        ("network", "neural"): {"neural": -0.80, "network": -0.60},
        ("network", "network"): {"neural": -0.60, "network": -0.80},
    }
)


@pytest.fixture(scope="module")
def decoded():
    return decoding.beam_search(*COURSE.problem(), width=2, max_length=3, num_return=2, trace=True)


@pytest.fixture(scope="module")
def audit(decoded):
    return decoding.audit(*COURSE.problem(), decoded)


@pytest.mark.parametrize(
    ("step", "beam"),
    [
        (1, [("neural", -0.65), ("network", -0.73)]),
        (2, [("neural network", -1.25), ("network neural", -1.33)]),
        (3, [("neural network network", -1.85), ("network neural network", -1.93)]),
    ],
)
def test_the_beam_holds_the_hypotheses_of_the_course(decoded, step, beam):
    candidates = [
        (" ".join(node.words), round(node.log_prob, 9)) for node in decoded.trace.beam(step)
    ]
    assert candidates == beam


def test_the_audit_names_step_rank_and_width_of_the_lost_sequence(decoded, audit):
    assert decoded.certificate.outcome == ("GAP",)
    assert decoded.certificate.step == (2,)
    assert decoded.certificate.gap[0] == pytest.approx(0.40)
    assert audit.outcome == ("search error",)
    assert (audit.lost_step[0], audit.lost_rank[0], audit.width[0]) == (2, 3, 3)
    best = audit.optimum.hypotheses()[0]
    assert best.words == ("neural",) * 3
    assert best.log_prob == pytest.approx(-1.46)
    assert "lost at step 2 at rank 3; width 3 keeps it" in str(audit.verdict)
    assert audit.table().loc[0, "width"] == 3


def test_a_beam_of_width_three_returns_the_most_likely_sequence(audit):
    wide = decoding.beam_search(*COURSE.problem(), width=3, max_length=3)
    assert wide.hypotheses()[0].words == ("neural",) * 3
    assert str(decoding.audit(*COURSE.problem(), wide)) == (
        "beam search returned the most likely sequence, “neural neural neural”"
    )


def test_saved_soundings_load_unchanged(tmp_path, decoded, audit):
    for sounding, kind in ((decoded, decoding.Decoded), (audit, decoding.SearchAudit)):
        sounding.save(tmp_path)
        back = kind.load(tmp_path)
        assert str(back) == str(sounding)
        assert back.table().equals(sounding.table())
        assert back.figure() == sounding.figure()


def test_the_figure_shows_steps_ranks_and_the_lost_sequence(audit, decoded):
    figure = audit.figure()
    texts = [annotation.text for annotation in figure.layout.annotations]
    assert [text for text in texts if text.startswith("step")] == ["step 1", "step 2", "step 3"]
    assert "lost here" in texts
    assert sum("rank" in text for text in texts) == 4
    assert any("−1.46" in text for text in texts)
    assert [trace.name for trace in figure.data] == [
        "the search's answer",
        "the most likely sequence",
    ]
    assert [trace.name for trace in decoded.figure().data] == ["the search's answer"]


def test_a_reference_is_attributed_to_the_search_or_to_the_model(decoded):
    def blame(*words):
        tokens = [COURSE.token(word) for word in words]
        return decoding.audit(*COURSE.problem(), decoded, reference=[tokens]).blame

    assert blame("neural", "network", "network") == ("none",)
    assert blame("neural", "neural", "neural") == ("search",)
    assert blame("network", "network", "network") == ("model",)
    with pytest.raises(InputError, match="2 sequences for 1 items"):
        decoding.audit(*COURSE.problem(), decoded, reference=[[0], [1]])


def test_work_grows_within_the_bounds_of_the_course():
    grown = decoding.measure_complexity((4, 8, 16), (2, 4, 8), (500, 1000, 5000))
    exponents = grown.exponents("candidates")
    assert exponents["M"].estimate == pytest.approx(1, abs=1e-9)
    # The prompt is one row, and each later step has k rows.
    assert (grown.rows == 1 + grown.k * (grown.T - 1)).all()
    assert (grown.candidates == grown.M * grown.rows).all()
    assert (grown.comparisons <= grown.sorting).all()
    assert (grown.comparisons <= 2 * grown.selecting).all()
    assert "of the selecting bound" in str(grown)
    figure: Any = grown.figure()
    assert len(figure.data) == 3
    assert len(grown.table()) == 27
    with pytest.raises(InputError, match="widths must hold two different values"):
        decoding.measure_complexity((1, 2), (3,), (4, 5))
