"""Settings of searches: one frozen dataclass for each search, and the checks that they share.

A search holds its settings as an object. The protocol of a result, and so the saved file, are
derived from it by :meth:`SearchSettings.as_mapping`; :func:`settings_from` is the inverse.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from leadline import checks
from leadline.decoding.search._scores import Score, SumLogProb
from leadline.errors import InputError
from leadline.sounding import Protocol

EndTokens = int | Iterable[int] | None
"""One end token, several, or none."""

LONGEST = 1_000_000
"""Largest ``max_length``, beam width and number of hypotheses: more does not fit into memory."""

LARGEST = 2**31 - 1
"""Largest token id."""

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
        other = _KINDS.get(cls.name)
        if other is not None and other.__qualname__ != cls.__qualname__:
            raise TypeError(
                f"{cls.__name__} needs a name of its own: {other.__name__} is {cls.name!r}"
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


def length(value: Any, name: str = "max_length") -> int:
    """Return a number of new tokens, checked to lie between 1 and :data:`LONGEST`."""
    return checks.whole_number(value, name, least=1, most=LONGEST)


def count(value: Any, name: str) -> int:
    """Return a number of hypotheses, checked to lie between 1 and :data:`LONGEST`."""
    cure = "width=1 is greedy search" if name == "width" else None
    return checks.whole_number(value, name, least=1, most=LONGEST, cure=cure)


def normalization(value: Any) -> bool | None:
    """Return ``normalize``, checked to be ``True``, ``False`` or ``None``."""
    return None if value is None else checks.flag(value, "normalize")


def end_tokens(eos: Any) -> tuple[int, ...]:
    """Return end tokens as a sorted tuple without repeats.

    >>> end_tokens(None), end_tokens(3), end_tokens([5, 2])
    ((), (3,), (2, 5))
    """
    if eos is None:
        return ()
    if getattr(eos, "ndim", None) == 0 or isinstance(eos, (int, float)):
        return (checks.whole_number(eos, "eos", least=-LARGEST, most=LARGEST),)
    is_set = isinstance(eos, (set, frozenset))
    listed = sorted(eos, key=str) if is_set else eos  # checks.whole_numbers() refuses sets
    try:
        tokens = checks.whole_numbers(listed, "eos", least=-LARGEST, most=LARGEST, at_least=0)
    except InputError:
        raise InputError(
            "eos must be one end token or a list of end tokens: whole numbers",
            got=f"eos = {checks.shown(eos)}",
        ) from None
    return tuple(sorted(set(tokens)))


def score_function(score: Any) -> Score:
    """Return ``score``, checked to be a :class:`Score`."""
    if not isinstance(score, Score):
        raise InputError(
            "score must be SumLogProb(), LengthNormalized(alpha), GNMT(alpha), WordReward(r) or "
            "your own subclass of Score",
            got=f"score = {checks.shown(score)}",
        )
    return score


def check_end_tokens(eos: tuple[int, ...], M: int) -> None:
    """Refuse end tokens outside the vocabulary."""
    for token in eos:
        if not 0 <= token < M:
            raise InputError(
                "eos must belong to the vocabulary",
                got=f"eos = {token}, vocabulary of {M} tokens (0 to {M - 1})",
                cause="the end token of another tokenizer",
            )
