"""Answers to a page: soundings of the current settings, one line of JSON for each card.

The page reads the answer line by line, so it shows the first card while the next is computed.
"""

import base64
import itertools
import json
import math
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from plotly.io.json import to_json_plotly

from leadline.errors import LeadlineError, describe
from leadline.explore.page._controls import from_control
from leadline.explore.page._room import Card, PendingError, Room
from leadline.explore.page._settings import fields_of, from_values, to_query
from leadline.figures import merged, stacked
from leadline.sounding import Sounding

INK = {False: "#1d2733", True: "#e4e8ec"}
"""Colour of a figure's text, by whether the page is dark."""

MOST_CACHED = 8
"""Number of settings whose soundings are cached, for downloads and for cards shown later."""

ONE_AT_A_TIME = threading.Lock()
"""Lock of the process: one sounding is computed at a time.

Two computations at the same time would each take twice as long, and two uses of
:func:`torch.random.fork_rng` would restore each other's state. The lock is free while a line is
sent, so a page that stops reading blocks no other page.
"""


class LazySoundings:
    """The soundings of some settings. Each is computed when it is first read, and then cached.

    Args:
        soundings: names and soundings.
    """

    def __init__(self, soundings: Iterable[tuple[str, Sounding]]):
        self._remaining = iter(soundings)
        self._computed: list[tuple[str, Sounding]] = []
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[tuple[str, Sounding]]:
        for i in itertools.count():
            with ONE_AT_A_TIME:
                if not self._has(i):
                    return
            yield self._computed[i]

    def _has(self, i: int) -> bool:
        """True if there is a sounding at place ``i``; it is computed if it is the next one."""
        if i < len(self._computed):
            return True
        if self._error:
            raise self._error
        try:
            self._computed.append(next(self._remaining))
        except StopIteration:
            return False
        except Exception as error:  # any error is raised again for later readers
            self._error = error
            raise
        return True


class Answers:
    """Answers to the requests for a room.

    Args:
        room: the room.
    """

    def __init__(self, room: Room):
        self.room = room
        self._cache: OrderedDict[Any, LazySoundings] = OrderedDict()

    def settings(self, values: Sequence[Any]) -> Any:
        """Return settings from the values of the controls, in the order of the fields.

        Raises:
            InputError: a field does not allow its value.
        """
        fields = fields_of(self.room.settings)
        return from_values(
            self.room.settings, [from_control(f, v) for f, v in zip(fields, values, strict=True)]
        )

    def soundings(self, settings: Any) -> Iterator[tuple[str, Sounding]]:
        """Yield the soundings of the settings; cached soundings come at once."""
        with ONE_AT_A_TIME:
            key = settings, self.room.stage(settings)
            soundings = self._cache.setdefault(key, LazySoundings(self.room.soundings(settings)))
            self._cache.move_to_end(key)
            while len(self._cache) > MOST_CACHED:
                self._cache.popitem(last=False)
        try:
            yield from soundings
        except Exception:  # the cache must not keep an error: the next request may succeed
            self._cache.pop(key, None)
            raise

    def lines(self, question: Mapping[str, Any]) -> Iterator[str]:
        """Yield one line of JSON for each card, and a last line for the rest of the page.

        Args:
            question: ``values`` of the controls, ids of the ``shown`` and the ``narrow`` cards, and
                ``dark``, which is True for a dark page.
        """
        for part in self._parts(question):
            yield f"{to_json_plotly(part)}\n"

    def _parts(self, question: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the parts of an answer. Errors become a part with a message."""
        try:
            settings = self.settings(question["values"])
            stage = self.room.stage(settings)
            yield from self._cards(settings, question)
            yield self._rest_of_page(settings, stage)
        except PendingError as pending:
            yield {"notes": str(pending), "again": True}
        except LeadlineError as error:
            yield {"trouble": describe(error)}
        except Exception as error:  # the page must show every error, also one of Leadline's own
            traceback.print_exc(file=sys.stderr)
            yield {"trouble": f"the measurement failed: {type(error).__name__}: {error}"}

    def _cards(self, settings: Any, question: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the cards of the settings, until all shown cards are complete."""
        room = self.room
        empty = set(room.cards)
        awaited = set(question["shown"])
        for name, sounding in self.soundings(settings):
            empty.discard(name)
            yield self._card(name, sounding, question)
            awaited.discard(room.id(name))
            if not awaited:  # off-screen cards are requested when the slider stops
                return
        for name in empty:
            words = room.cards[name].empty
            yield {"card": room.id(name), "words": words, "rows": None, "figure": None}

    def _rest_of_page(self, settings: Any, stage: int | None) -> dict[str, Any]:
        """Return everything of an answer except the cards."""
        room = self.room
        silent = room.silent(settings)
        extra = zip(room.extra_properties, room.extra_values(settings), strict=True)
        return {
            "query": to_query(settings),
            "silent": {
                room.id(field.name): field.name in silent for field in fields_of(room.settings)
            },
            "limits": {room.id(name): high for name, high in room.slider_limits(settings).items()},
            "code": room.code(settings),
            "notes": room.note(settings),
            "extra": [[room.id(part), name, value] for (part, name), value in extra],
            "again": stage is not None,
        }

    def _card(self, name: str, sounding: Sounding, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the text and the table of a card and, if the card is shown, its figure."""
        card = self.room.cards[name]
        at = self.room.id(name)
        part: dict[str, Any] = {
            "card": at,
            "words": card.words(sounding),
            "rows": _rows(card, sounding),
        }
        if at in question["shown"]:
            figure = _drawing(card, sounding)
            if at in question["narrow"]:
                figure["layout"] = stacked(figure["layout"])
            ink = INK[bool(question["dark"])]
            figure["layout"] = merged(figure["layout"], {"font": {"color": ink}})
            part["figure"] = figure
            part["size"] = [_least_width(figure), figure["layout"]["height"]]
        return part


def _drawing(card: Card, sounding: Sounding) -> dict[str, Any]:
    """Return the drawing of a sounding with the layout of its card."""
    drawing = sounding.drawing()
    height = card.height
    if _least_width(drawing):
        height = max(height, drawing["layout"]["height"])
    page_layout = {
        "height": height,
        "autosize": True,
        "title": {"text": ""},  # the card already has a heading
        "margin": {"t": 28},
        "uirevision": "kept",  # Plotly keeps zoom and hidden curves while this text is the same
    }
    layout = merged(drawing["layout"], merged(page_layout, card.layout))
    return {"data": _packed(drawing["data"]), "layout": layout}


def _packed(value: Any) -> Any:
    """Encode arrays in base64, which Plotly's script reads fastest and which can hold NaN."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        numbers = value.astype("<f8" if value.dtype.kind == "f" else "<i4")
        packed = {
            "dtype": numbers.dtype.str[1:],
            "bdata": base64.b64encode(numbers.tobytes()).decode(),
        }
        return (
            packed if numbers.ndim == 1 else {**packed, "shape": ", ".join(map(str, numbers.shape))}
        )
    if isinstance(value, Mapping):
        return {key: _packed(part) for key, part in value.items()}
    return [_packed(part) for part in value] if isinstance(value, list) else value


def _least_width(drawing: Mapping[str, Any]) -> int:
    """Return the least width of a figure of boxes in pixels; 0 for every other figure."""
    return (drawing["layout"].get("meta") or {}).get("min_width", 0)


def _rows(card: Card, sounding: Sounding) -> list[list[str]] | None:
    """Return the card's columns of a sounding as texts, header first; ``None`` without columns."""
    if not card.rows:
        return None
    table = sounding.table()[list(card.rows)]
    body = [[_cell_text(value) for value in row] for row in table.itertuples(index=False)]
    return [[str(name).replace("_", " ") for name in table.columns], *body]


def _cell_text(value: Any) -> str:
    """Return the text of a cell of a card's table."""
    if isinstance(value, float):
        if math.isfinite(value):
            return f"{value:.4g}".replace("-", "−")
        return "−∞" if value < 0 else "∞"
    return value if isinstance(value, str) else f"{value:,}"


TYPES = {"csv": "text/csv", "json": "application/json", "html": "text/html"}
"""MIME types of the files that the server makes; the browser makes SVG and PNG files."""


def file(sounding: Sounding, card: Card, form: str) -> str:
    """Return the content of a file with a sounding.

    Args:
        sounding: the sounding.
        card: the card of the sounding, which may change the layout of the figure.
        form: a key of :data:`TYPES`.
    """
    if form == "csv":
        return _for_spreadsheets(sounding.table()).to_csv(index=False)
    if form == "json":
        protocol = sounding.protocol
        document = {
            "verdict": str(sounding.verdict),
            "settings": dict(protocol.settings),
            "seeds": list(protocol.seeds),
            "versions": dict(protocol.versions),
            "rows": [
                {name: _number(value) for name, value in row.items()}
                for row in sounding.table().to_dict("records")
            ],
        }
        return json.dumps(document, indent=1, allow_nan=False, default=str)
    config = {"displaylogo": False}
    return sounding.figure().to_html(full_html=True, include_plotlyjs=True, config=config)


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Beginnings of text that a spreadsheet program takes for a formula, which can run commands."""


def _for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table for spreadsheet programs, which may run texts that look like a formula.

    An apostrophe is put before such texts. All numbers, also negative ones, are unchanged.
    """
    safe = table.rename(columns=_as_text)
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            safe[column] = [_as_text(value) for value in safe[column]]
    return safe


def _as_text(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _number(value: Any) -> Any:
    """Return the value; infinities and NaN, which JSON does not have, become texts."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
