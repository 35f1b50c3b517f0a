"""Settings of the studies, checked before any work starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from leadline import checks
from leadline.errors import InputError
from leadline.probing.probes._linear import Criterion, LogisticSettings
from leadline.probing.studies._label_efficiency import BASELINES
from leadline.probing.studies._study_probes import STUDY_PROBES, StudyProbe

MOST_SUBSETS = 10_000
"""Largest number of label subsets for each count and seed; a larger number is a mistake."""

LabelCount = int | Literal["all"]
"""A number of labels, or ``"all"`` for the whole probe pool."""


@dataclass(frozen=True)
class LabelEfficiencySettings:
    """Settings of :func:`label_efficiency`, which describes them.

    Raises:
        InputError: a setting is out of range.

    >>> LabelEfficiencySettings(labels=20).labels
    (20,)
    """

    labels: Sequence[LabelCount] = (10, 20, 50, 100, "all")
    num_subsets: int = 10
    probe: Literal["logistic", "ridge"] = "logistic"
    strengths: float | Sequence[float] | None = None
    """Values of C to choose from; ``None`` stands for the values of the probe."""
    criterion: Criterion = "likelihood"
    baselines: Sequence[str] = BASELINES
    transductive: bool = False

    def __post_init__(self):
        kind = STUDY_PROBES[checks.choice(self.probe, "probe", STUDY_PROBES)]
        strengths = kind.strengths if self.strengths is None else self.strengths
        logistic = LogisticSettings(strengths, self.criterion)
        checked = {
            "labels": check_label_counts(self.labels),
            "num_subsets": checks.whole_number(
                self.num_subsets, "num_subsets", least=1, most=MOST_SUBSETS
            ),
            "strengths": logistic.strengths,
            "criterion": logistic.criterion,
            "baselines": _check_baselines(self.baselines),
            "transductive": checks.flag(self.transductive, "transductive"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def study_probe(self) -> StudyProbe:
        """The kind of probe that the study fits."""
        return STUDY_PROBES[self.probe]

    def as_protocol(self, labels: Sequence[int]) -> dict[str, Any]:
        """Return the settings for a protocol, with the label counts that were measured."""
        assert isinstance(self.strengths, tuple)
        return {
            "labels": list(labels),
            "num_subsets": self.num_subsets,
            "probe": self.probe,
            "strengths": list(self.strengths),
            "criterion": self.criterion,
        }


@dataclass(frozen=True)
class TransferSettings:
    """Settings of :func:`transfer_matrix`, which describes them.

    Raises:
        InputError: a setting is out of range.
    """

    labels_per_class: LabelCount = 1
    num_subsets: int = 10
    transductive: bool = False

    def __post_init__(self):
        per_class = self.labels_per_class
        if not is_all(per_class):
            per_class = checks.whole_number(per_class, "labels_per_class", least=1)
        study = LabelEfficiencySettings(
            num_subsets=self.num_subsets, transductive=self.transductive
        )
        object.__setattr__(self, "labels_per_class", per_class)
        object.__setattr__(self, "num_subsets", study.num_subsets)
        object.__setattr__(self, "transductive", study.transductive)

    def labels(self, num_classes: int) -> LabelCount:
        """Return the label count for data with ``num_classes`` classes."""
        if isinstance(self.labels_per_class, str):
            return self.labels_per_class
        return self.labels_per_class * num_classes

    def as_protocol(self) -> dict[str, Any]:
        """Return the settings for a protocol."""
        return {"labels_per_class": self.labels_per_class, "num_subsets": self.num_subsets}


def check_label_counts(labels: Any) -> tuple[Any, ...]:
    """Return label counts as a tuple; a single count counts as a list."""
    if isinstance(labels, (str, int, np.integer)):
        return (_check_label_count(labels, "labels"),)
    listed = checks.items(labels, "labels", least=1, of="label counts")
    return tuple(_check_label_count(count, f"labels[{i}]") for i, count in enumerate(listed))


def _check_label_count(count: Any, name: str) -> LabelCount:
    """Return one label count: a whole number or ``"all"``."""
    if is_all(count):
        return "all"
    cure = 'labels=["all"] for all labelled rows that are for training'
    return checks.whole_number(count, name, least=1, cure=cure)


def is_all(labels: Any) -> bool:
    """True if a label count stands for the whole probe pool."""
    return isinstance(labels, str) and labels == "all"


def _check_baselines(baselines: Any) -> tuple[str, ...]:
    """Return the names of the baselines; ``"raw"`` must be one of them."""
    listed = checks.items(baselines, "baselines")
    names = tuple(checks.choice(name, "baselines", BASELINES) for name in listed)
    if "raw" not in names:
        raise InputError(
            "baselines must contain 'raw', and may contain 'pca' and 'untrained'",
            got=f"baselines = {names}",
            cause="every representation is compared with raw inputs",
            cure="leave baselines out to use all three",
        )
    return names
