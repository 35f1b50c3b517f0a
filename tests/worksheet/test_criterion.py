from itertools import product

import pytest

from leadline import Interval
from leadline.statistics import Effect
from leadline.worksheet import NEVER, Above, AllOf, AnyOf, Below, Criterion, Fact, Holds, Within


def measured(low: float, high: float) -> Effect:
    interval = Interval((low + high) / 2, low, high)
    narrow = Interval(interval.estimate, interval.estimate, interval.estimate)
    return Effect("an effect", narrow, interval, 1.0, 12)


EFFECTS = {"up": measured(1, 2), "down": measured(-2, -1), "open": measured(-1, 2)}
FACTS = {"yes": Fact("a fact", True, "1", "1"), "no": Fact("a fact", False, "2", "1")}
PARTS = {True: Above("up"), False: Above("down"), None: Above("open")}


@pytest.mark.parametrize(
    ("part", "holds"),
    [
        (Above("up"), True),
        (Above("up", 1.5), None),
        (Above("up", 2), False),
        (Below("down"), True),
        (Below("open"), None),
        (Below("up"), False),
        (Within("up", 0, 3), True),
        (Within("up", 1.5, 3), None),
        (Within("up", 3, 4), False),
        (Holds("yes"), True),
        (Holds("no"), False),
    ],
)
def test_a_part_is_judged_by_the_simultaneous_interval(part, holds):
    assert part.judge(EFFECTS, FACTS) is holds


@pytest.mark.parametrize("values", list(product([True, False, None], repeat=2)))
def test_compound_parts_follow_kleenes_logic(values):
    parts = [PARTS[value] for value in values]
    rank = {False: 0, None: 1, True: 2}
    assert rank[AllOf(*parts).judge(EFFECTS, FACTS)] == min(rank[value] for value in values)
    assert rank[AnyOf(*parts).judge(EFFECTS, FACTS)] == max(rank[value] for value in values)


@pytest.mark.parametrize(
    ("rule", "met", "against", "outcome"),
    [
        (Above("up"), "supported", None, "supported"),
        (Above("down"), "supported", None, "refuted"),
        (Above("open"), "supported", None, "undecided"),
        (Above("up"), "refuted", None, "refuted"),
        (Above("down"), "refuted", None, "supported"),
        (Above("down"), "refuted", NEVER, "undecided"),
        (Above("down"), "supported", Below("down"), "refuted"),
        (Above("down"), "supported", Below("open"), "undecided"),
        (Above("up"), "supported", Above("up"), "supported"),
    ],
)
def test_outcome_follows_from_the_rule(rule, met, against, outcome):
    assert Criterion(rule, met, against).judge(EFFECTS, FACTS) == outcome


def test_the_detectable_value_is_measured_from_the_threshold():
    effect = EFFECTS["open"]
    assert Above("open", 5.0).detectable(effect) == "from 6 on"
    assert Below("open", 5.0).detectable(effect) == "from 4 down"
    assert "an interval of ±0.5, where it has ±1.5" in Within("open", 0, 1).detectable(effect)


def test_leaves_are_listed_once_in_reading_order():
    rule = AllOf(Holds("yes"), AnyOf(Above("up"), AllOf(Below("down"), Within("open", -1, 1))))
    criterion = Criterion(rule, met="supported")
    assert criterion.leaves() == (Holds("yes"), Above("up"), Below("down"), Within("open", -1, 1))
    assert str(criterion).startswith(
        "supported if yes and (up > 0 or (down < 0 and -1 ≤ open ≤ 1)); refuted"
    )
