"""A room of the explorer: settings, and the soundings that are taken with them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dash import Dash
    from dash.development.base_component import Component

    from leadline.sounding import Sounding


class PendingError(Exception):
    """What was asked for is still being made: the page shows this message, and asks again in a second."""


@dataclass(frozen=True)
class Card:
    """A place on the page for one sounding, of a fixed height, so that nothing moves when it is drawn."""

    heading: str
    height: int
    """Of its figure, in pixels."""
    lines: int = 2
    """Of the words above it, which scroll where they are more."""
    wide: bool = False
    """Whether it takes the whole width."""
    layout: Mapping[str, Any] = field(default_factory=dict)
    """What is laid over the figure's own layout, such as margins that need not be found out at every move."""
    rows: Sequence[str] = ()
    """Columns of the sounding's table that stand below its figure."""
    empty: str = ""
    """What its words are while there is no sounding: what will come here, and after what."""


@dataclass(frozen=True)
class Room:
    """What the explorer needs to know of a room; it makes the controls, the address, the downloads and the rest.

    A room computes nothing of its own: ``soundings`` calls the library and hands on what that returned.
    """

    name: str
    """In the address: ``"gradients"``."""
    title: str
    lead: str
    """What there is to do here, in a sentence or two."""
    settings: type
    """A frozen dataclass; see :mod:`leadline.explore.page._settings`."""
    cards: Mapping[str, Card]
    """Places by the names of the soundings in them."""
    soundings: "Callable[[Any], Iterable[tuple[str, Sounding]]]"
    """Settings -> soundings and their names, each as soon as it is taken; raises InputError where they make no sense,
    and PendingError where something is still being made. A card whose sounding is not among them is empty."""
    code: Callable[[Any], str]
    """Settings -> the Python that makes the same soundings, under the same names."""
    presets: Mapping[str, Any] = field(default_factory=dict)
    """Settings by what the button says."""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Fields by the heading above them; without, all of them under none."""
    silent: Callable[[Any], Collection[str]] = lambda settings: ()
    """Settings -> the fields that have no say with them; they are shown faint."""
    tell: Callable[[Any], str] = lambda settings: ""
    """Settings -> what one should know of them: how they were read, what is odd about them."""
    ends: Callable[[Any], Mapping[str, float]] = lambda settings: {}
    """Settings -> the high ends of sliders, where they depend on the rest; what is set beyond counts as the end."""
    stage: Callable[[Any], int | None] = lambda settings: None
    """Settings -> how far work on their soundings has come, while it goes on: the page then asks again."""
    extra: "Callable[[Any], Sequence[Component]]" = lambda settings: ()
    """Settings -> components between the controls and the cards: what no field can be."""
    follows: Sequence[tuple[str, str]] = ()
    """What of ``extra`` every answer sets: the last part of an id, and a property."""
    follow: Callable[[Any], Sequence[Any]] = lambda settings: ()
    """Settings -> a value for each of ``follows``."""
    connect: "Callable[[Dash], None] | None" = None
    """Adds the callbacks of ``extra``."""

    def take(self, settings: Any) -> "dict[str, Sounding]":
        """All soundings of the settings, by their names."""
        return dict(self.soundings(settings))

    def id(self, *parts: str) -> str:
        """The id of one of its components."""
        return "-".join((self.name, *parts))
