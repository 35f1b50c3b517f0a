"""A room of the explorer: one page with settings and the soundings that follow from them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dash import Dash
    from dash.development.base_component import Component

    from leadline.sounding import Sounding


class PendingError(Exception):
    """A result is not ready yet. The page shows the message and asks again after a second."""


@dataclass(frozen=True)
class Card:
    """A card of the page shows one sounding. Its height is fixed, so that nothing moves."""

    heading: str
    height: int
    """Height of the figure, in pixels."""
    lines: int = 2
    """Number of lines for the verdict; a longer verdict scrolls."""
    wide: bool = False
    """True if the card has the full width of the page."""
    layout: Mapping[str, Any] = field(default_factory=dict)
    """Properties that override the layout of the figure, such as fixed margins."""
    rows: Sequence[str] = ()
    """Columns of the sounding's table that are shown below the figure."""
    words: "Callable[[Any], str]" = lambda sounding: str(sounding.verdict)
    """Function that returns the text above the figure; by default the verdict."""
    empty: str = ""
    """Text while there is no sounding. It says what will appear, and when."""


@dataclass(frozen=True)
class Room:
    """Description of a room, from which the explorer builds controls, address and downloads.

    A room computes nothing itself: ``soundings`` calls the library.
    """

    name: str
    """Name in the address, such as ``"gradients"``."""
    title: str
    lead: str
    """One or two sentences about the use of the room."""
    settings: type
    """A frozen dataclass; see :mod:`leadline.explore.page._settings`."""
    cards: Mapping[str, Card]
    """Cards by the names of their soundings."""
    soundings: "Callable[[Any], Iterable[tuple[str, Sounding]]]"
    """Function of the settings that yields names and soundings.

    It raises InputError for impossible settings and PendingError while a result is not ready. A
    card without a sounding stays empty.
    """
    code: Callable[[Any], str]
    """Function of the settings that returns Python code for the same soundings."""
    presets: Mapping[str, Any] = field(default_factory=dict)
    """Settings by the label of their button."""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Fields by the heading above them. If empty, there are no headings."""
    silent: Callable[[Any], Collection[str]] = lambda settings: ()
    """Function of the settings that returns the fields without effect.

    The page shows them faint.
    """
    note: Callable[[Any], str] = lambda settings: ""
    """Function of the settings that returns a note about them; empty if there is none."""
    slider_limits: Callable[[Any], Mapping[str, float]] = lambda settings: {}
    """Function of the settings that returns the upper ends of sliders.

    It covers the sliders whose ends depend on other settings.
    """
    stage: Callable[[Any], int | None] = lambda settings: None
    """Function of the settings that returns the progress of running work, or ``None``."""
    extra: "Callable[[Any], Sequence[Component]]" = lambda settings: ()
    """Function of the settings that returns further components above the cards."""
    extra_properties: Sequence[tuple[str, str]] = ()
    """Properties of ``extra`` that each answer sets: the last part of an id, and a property."""
    extra_values: Callable[[Any], Sequence[Any]] = lambda settings: ()
    """Function of the settings that returns a value for each of ``extra_properties``."""
    connect: "Callable[[Dash], None] | None" = None
    """Function that adds the callbacks of ``extra`` to the application."""

    def take(self, settings: Any) -> "dict[str, Sounding]":
        """Return all soundings of the settings, by name."""
        return dict(self.soundings(settings))

    def id(self, *parts: str) -> str:
        """Return the id of a component of the room."""
        return "-".join((self.name, *parts))
