from dataclasses import replace

import numpy as np
import pytest

from leadline import decoding
from leadline.storage import pack
from leadline.worksheet import STATEMENTS, Setting, measure, run, select
from leadline.worksheet._setting import Budget
from leadline.worksheet.measurements import cost
from leadline.worksheet.measurements import decoding as measurements

IDS = ("beam.a", "beam.b", "beam.c", "beam.d", "beam.e")
SMALL = measurements.RealText(
    types=150,
    hidden=16,
    epochs=2,
    prompts=20,
    max_calls=1,
    widths=(1, 2, 5),
    max_length=5,
    characters=60_000,
)


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measurements, "REAL_TEXT", {"quick": SMALL, "full": SMALL})
    monkeypatch.setattr(
        cost, "SWEEP", {"lengths": (2, 4), "widths": (1, 2), "vocabularies": (8, 60)}
    )


def answer_to(name, budget: Budget = "quick"):
    result = measure(STATEMENTS[name], Setting(budget))
    assert result.answer is not None, result.failure
    return result.answer


def test_the_table_of_the_course_confirms_its_answers(tmp_path):
    results = list(run(select(IDS), Setting("quick"), folder=tmp_path))
    assert [result.statement.id for result in results] == list(IDS)
    assert [result.status for result in results] == ["supported"] * 5
    assert all(
        result.answer is not None and result.answer.figure().to_dict()["data"] for result in results
    )


@pytest.mark.parametrize(
    ("prefix", "word", "log_prob", "refuted"),
    [
        ((), "network", -0.60, {"beam.a", "beam.b"}),
        (("neural",), "neural", -0.55, {"beam.b", "beam.c", "beam.d"}),
        (("neural", "neural"), "neural", -0.50, {"beam.d"}),
    ],
)
def test_another_table_gives_other_outcomes(
    prefix, word, log_prob, refuted, monkeypatch: pytest.MonkeyPatch
):
    """The outcome is not hard-coded: a different table changes the answer."""
    course = measurements.COURSE_TABLE
    rows = {
        p: {w: float(course._log_prob[i, j]) for j, w in enumerate(course.vocabulary)}
        for i, p in enumerate(course.prefixes)
    }
    rows[prefix][word] = log_prob
    monkeypatch.setattr(measurements, "COURSE_TABLE", decoding.Table(rows))
    outcomes = {
        result.statement.id: result.status for result in run(select(IDS[:4]), Setting("quick"))
    }
    assert refuted <= {name for name, outcome in outcomes.items() if outcome == "refuted"}
    assert set(outcomes.values()) <= {"supported", "refuted"}


@pytest.mark.parametrize("name", ["beam.d", "beam.e"])
def test_equal_seeds_give_equal_answers(name):
    arrays = []
    for _ in range(2):
        measurements._real_text.cache_clear()
        found: dict = {}
        arrays.append(
            (pack(answer_to(name), found), {key: value.tobytes() for key, value in found.items()})
        )
    assert arrays[0] == arrays[1]


def test_the_report_on_real_text_includes_unresolved_prompts():
    answer = answer_to("beam.d")
    errors = answer.soundings["real_text"]
    assert isinstance(errors, decoding.SearchErrors)
    assert len(errors.best) == SMALL.prompts
    assert answer.protocol.fingerprints["manual"]
    assert f"{errors.against_greedy()[-1, 0]:.0%}" in " ".join(answer.findings)
    assert "The budget left 0 of 20" in " ".join(answer.findings) or not errors.proved.all()

    unproved = replace(errors, proved=np.zeros(SMALL.prompts, dtype=bool))
    findings = " ".join(
        measurements._on_real_text(SMALL, unproved, measurements._real_text(SMALL)[1])
    )
    assert "The budget left 20 of 20 prompts unresolved" in findings
    for width, proved in zip(errors.widths, errors.rates()[0], strict=True):
        assert f"{width}: {measurements._share(proved, 1.0)} [" in findings


def test_prompts_are_not_in_the_training_text():
    """No words of a held-out paragraph are passed to ``fit``."""
    seen = []

    class Watched(decoding.RecurrentLM):
        def fit(self, text):
            seen.append(text)
            return super().fit(text)

        def problem(self, prompts):
            seen.append(list(prompts))
            return super().problem(prompts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "RecurrentLM", Watched)
        measurements._real_text.__wrapped__(SMALL)
    text, prompts = seen
    paragraphs = text.split("\n\n")
    assert len(paragraphs) == len(set(paragraphs))
    assert len(prompts) == len(set(prompts)) == SMALL.prompts
    unseen = [p for p in prompts if not any(paragraph.startswith(p) for paragraph in paragraphs)]
    # Two paragraphs may begin with the same words.
    assert len(unseen) > 0.7 * len(prompts)
