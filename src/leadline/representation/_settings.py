"""Settings of represent(), checked before any work starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from leadline import checks
from leadline.errors import InputError
from leadline.probing import LabelEfficiencySettings
from leadline.representation._image_size import ImageSize, check_image_size
from leadline.representation._views import KINDS

MOST_SEEDS = 1000
"""Largest number of seeds; a larger number is a mistake."""


@dataclass(frozen=True)
class RepresentationSettings:
    """Settings of :func:`represent`, which describes them.

    Raises:
        InputError: a setting is out of range.

    >>> RepresentationSettings(kinds="denoising", seeds=3).seeds
    (0, 1, 2)
    """

    kinds: Sequence[str] = KINDS
    image_size: ImageSize = "auto"
    labels: Sequence[int | Literal["all"]] | None = None
    num_subsets: int = 3
    seeds: int | Sequence[int] = 12
    """By default the number of seeds that the worksheet uses."""

    def __post_init__(self):
        object.__setattr__(self, "kinds", _check_kinds(self.kinds))
        object.__setattr__(self, "seeds", _check_seeds(self.seeds))
        study = LabelEfficiencySettings(num_subsets=self.num_subsets)
        object.__setattr__(self, "num_subsets", study.num_subsets)
        object.__setattr__(self, "image_size", check_image_size(self.image_size))
        if self.labels is not None:
            object.__setattr__(self, "labels", _check_labels(self.labels))


def _check_kinds(kinds: Any) -> tuple[str, ...]:
    """Return distinct kinds of autoencoders; a single kind counts as a list."""
    if isinstance(kinds, str):
        listed = (kinds,)
    else:
        listed = checks.items(kinds, "kinds", least=1, of="kinds of autoencoders")
    names = tuple(checks.choice(kind, f"kinds[{i}]", KINDS) for i, kind in enumerate(listed))
    if len(set(names)) < len(names):
        raise InputError(
            "kinds must differ from one another",
            got=f"kinds = {list(names)}",
            cure=f"{list(KINDS)}",
        )
    return names


def _check_seeds(seeds: Any) -> tuple[int, ...]:
    """Return at least two seeds; a whole number n stands for the seeds from 0 to n - 1."""
    cure = "seeds=12, which gives useful intervals"
    is_text = isinstance(seeds, (str, bytes))
    is_collection = isinstance(seeds, (Sequence, set, frozenset, dict, type(None)))
    is_number = not is_text and not is_collection and getattr(seeds, "shape", ()) == ()
    if is_number:
        count = checks.whole_number(seeds, "seeds", least=2, most=MOST_SEEDS, cure=cure)
        return tuple(range(count))
    listed = checks.seeds(seeds)
    if not 2 <= len(listed) <= MOST_SEEDS:
        raise InputError(
            f"seeds must be 2 to {MOST_SEEDS} different seeds",
            got=f"seeds = {checks.shown(seeds)}",
            cure=cure,
        )
    return listed


def _check_labels(labels: Any) -> tuple[Any, ...]:
    """Return label counts as a tuple; a single count counts as a list."""
    if isinstance(labels, (int, str, np.integer)):
        return (labels,)
    return checks.items(labels, "labels", least=1, of="label counts")
