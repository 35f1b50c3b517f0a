"""The verdict of a study has at most 25 words, and its numbers are those of its table."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from leadline.probing import LabelEfficiency
from leadline.representation import RepresentationStudy
from leadline.sounding import Interval, Protocol

KINDS = ("vanilla", "denoising", "masked")


def study(rng: np.random.Generator, num_seeds: int, has_labels: bool) -> RepresentationStudy:
    """Return a study of random accuracies."""
    names = (*KINDS, "pca", "raw", "untrained")
    shape = (len(names), num_seeds, 2, 3)
    protocol = Protocol(seeds=tuple(range(num_seeds)))
    efficiency = LabelEfficiency(
        protocol=protocol,
        names=names,
        sizes=(4,) * len(names),
        budgets=np.array([10, 120]),
        accuracy=rng.uniform(size=shape),
        validation_accuracy=rng.uniform(size=shape),
        strengths=np.ones(shape),
        rank_me=np.ones(shape[:2]),
        majority=rng.uniform(size=num_seeds),
    )
    nothing: Any = None
    return RepresentationStudy(
        protocol=protocol,
        kinds=KINDS,
        chosen=str(rng.choice(KINDS)),
        encoder=nothing,
        origin="the encoder of seed 0 was pretrained on 600 rows that are not probed",
        probe=None,
        efficiency=efficiency if has_labels else None,
        held_out=rng.uniform(size=(3, num_seeds, 5)) if has_labels else None,
        curves=nothing,
        ranks=rng.uniform(1, 60, size=(3, num_seeds)),
        examples={},
        class_names=("0", "1"),
        notes=(),
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_the_verdict_contains_the_gain_and_the_accuracies_of_the_table(seed, num_seeds):
    found = study(np.random.default_rng(seed), num_seeds, has_labels=True)
    text = str(found)
    assert len(text.split()) <= 25, text
    raw: Any = found.table().set_index(["representation", "labels"]).loc[("raw", 120)]
    gain = Interval(raw["choice gain"], raw["choice gain low"], raw["choice gain high"])
    assert text.startswith(f"{found.chosen} is chosen; the choice gains {gain:+.1f} points")
    assert text.endswith(f": {raw['choice']:.1f} % against {raw['accuracy']:.1f} %")
    assert "nan" not in text


@given(st.integers(0, 10**6))
def test_the_verdict_without_labels_contains_the_rank_of_the_kind(seed):
    rng = np.random.default_rng(seed)
    found = study(rng, 2, has_labels=False)
    text = str(found)
    assert len(text.split()) <= 25, text
    rank = found.ranks[KINDS.index(found.chosen)].mean()
    assert text.endswith(f"{found.chosen} has the largest effective rank, {rank:.0f}")
