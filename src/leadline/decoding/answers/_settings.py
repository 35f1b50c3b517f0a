"""Settings of searches: the base class of the dataclass of each search.

A search holds its settings as an object. The protocol of a result, and so the saved file, are
derived from it by :meth:`SearchSettings.as_mapping`; :func:`settings_from` is the inverse.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from leadline import checks
from leadline.decoding.answers._scores import Score, SumLogProb
from leadline.decoding.problem._arguments import end_tokens, length, normalization
from leadline.errors import InputError
from leadline.sounding import Protocol

_KINDS: dict[str, type["SearchSettings"]] = {}
"""Classes of settings by the name of their search."""


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Settings that all searches have. Each search adds its own fields in a subclass.

    A subclass sets ``name``, declares its fields, and checks them in ``__post_init__``.

    >>> SearchSettings(max_length=3, eos=(2,)).as_mapping()
    {'search': 'search', 'max_length': 3, 'eos': (2,), 'normalize': None}
    """

    name: ClassVar[str] = "search"
    """Name of the search in verdicts, protocols and files."""
    is_sampling: ClassVar[bool] = False
    """True if the hypotheses are drawn at random."""

    max_length: int
    """Largest number of new tokens."""
    eos: tuple[int, ...] = ()
    """End tokens, sorted."""
    normalize: bool | None = None
    """True if scores are logits; ``None`` follows ``step.normalized``."""
    processors: tuple[str, ...] = ()
    """Names of the processors that mask tokens."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        registered = _KINDS.get(cls.name)
        if registered is not None and registered.__qualname__ != cls.__qualname__:
            raise TypeError(
                f"{cls.__name__} needs a name of its own: {registered.__name__} is {cls.name!r}"
            )
        _KINDS[cls.name] = cls

    def __post_init__(self):
        self._set("max_length", length(self.max_length))
        self._set("normalize", normalization(self.normalize))
        self._set("eos", end_tokens(self.eos))

    @property
    def label(self) -> str:
        """Name of the search with the settings that distinguish it in a comparison."""
        return self.name

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the random numbers, for the protocol."""
        return ()

    @property
    def chosen_score(self) -> Score | None:
        """The score that the caller chose; ``None`` if the search has no such setting."""
        return None

    @property
    def score_or_default(self) -> Score:
        """The score that ranks hypotheses."""
        return self.chosen_score or SumLogProb()

    def bounds(self, score: Score) -> bool:
        """True if the certificate of this search bounds hypotheses by the given score."""
        return self.score_or_default == score

    def as_beam(self) -> "SearchSettings | None":
        """Settings of the beam search that finds the same answer; ``None`` if there is none.

        An audit repeats this beam search with a trace.
        """
        return None

    def protocol(self) -> Protocol:
        """The protocol of a result that was found with these settings."""
        return Protocol(self.as_mapping(), seeds=self.seeds)

    def as_mapping(self) -> dict[str, Any]:
        """The settings by name, as a protocol and a file hold them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if not self.processors:
            del values["processors"]
        return {"search": self.name, **values}

    def _set(self, field: str, value: Any) -> None:
        """Store a checked value in this frozen object."""
        object.__setattr__(self, field, value)


def settings_from(mapping: Mapping[str, Any]) -> SearchSettings:
    """Rebuild settings from a protocol; the inverse of :meth:`SearchSettings.as_mapping`.

    Raises:
        InputError: the mapping is not that of a search.
    """
    values = dict(mapping)
    kind = _KINDS.get(values.pop("search", None))
    missing = {"max_length", "eos", "normalize"} - set(values)
    if kind is None or missing:
        raise InputError(
            "the protocol of a result must name its search and its settings",
            got=f"search = {checks.shown(mapping.get('search'))}, missing settings: "
            f"{', '.join(sorted(missing)) or 'none'}",
            cure="use the result of beam_search(), greedy(), exact_search() or another search",
        )
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(
            f"the protocol of {kind.name} must hold the settings of {kind.name}", got=str(error)
        ) from error


def score_function(score: Any) -> Score:
    """Return ``score``, checked to be a :class:`Score`."""
    if not isinstance(score, Score):
        raise InputError(
            "score must be SumLogProb(), LengthNormalized(alpha), GNMT(alpha), WordReward(r) or "
            "your own subclass of Score",
            got=f"score = {checks.shown(score)}",
        )
    return score
