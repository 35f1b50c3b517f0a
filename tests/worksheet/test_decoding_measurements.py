import pytest

from leadline import decoding
from leadline.worksheet import Setting, run, select
from leadline.worksheet.measurements import decoding as measurements

IDS = ("beam.a", "beam.b", "beam.c", "beam.d")


def test_the_course_is_confirmed_on_its_own_table(tmp_path):
    results = list(run(select(IDS), Setting("quick"), folder=tmp_path))
    assert [result.statement.id for result in results] == list(IDS)
    assert [result.status for result in results] == ["supported"] * 4
    assert all(result.answer is not None and result.answer.figure().to_dict()["data"] for result in results)


@pytest.mark.parametrize(
    ("prefix", "word", "log_prob", "refuted"),
    [
        ((), "network", -0.60, {"beam.a", "beam.b"}),
        (("neural",), "neural", -0.55, {"beam.b", "beam.c", "beam.d"}),
        (("neural", "neural"), "neural", -0.50, {"beam.d"}),
    ],
)
def test_another_table_gives_other_outcomes(prefix, word, log_prob, refuted, monkeypatch: pytest.MonkeyPatch):
    """Nothing is hard-coded: where the table says otherwise, so does the worksheet."""
    course = measurements.COURSE_TABLE
    rows = {
        p: {w: float(course._log_prob[i, j]) for j, w in enumerate(course.vocabulary)}
        for i, p in enumerate(course.prefixes)
    }
    rows[prefix][word] = log_prob
    monkeypatch.setattr(measurements, "COURSE_TABLE", decoding.Table(rows))
    outcomes = {result.statement.id: result.status for result in run(select(IDS), Setting("quick"))}
    assert refuted <= {name for name, outcome in outcomes.items() if outcome == "refuted"}
    assert set(outcomes.values()) <= {"supported", "refuted"}
