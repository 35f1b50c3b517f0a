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

KEPT = 8
"""Number of settings whose soundings are cached, for downloads and for cards shown later."""

ONE_AT_A_TIME = threading.Lock()
"""Lock of the process: one sounding is computed at a time.

Two at once would take twice as long, and two uses of :func:`torch.random.fork_rng` would restore
each other's state. The lock is free while a line is sent, so a page that stops reading blocks
nobody.
"""


class Taken:
    """Lazily computed soundings of some settings.

    Args:
        soundings: names and soundings; each sounding is computed when it is first read.
    """

    def __init__(self, soundings: Iterable[tuple[str, Sounding]]):
        self._rest = iter(soundings)
        self._so_far: list[tuple[str, Sounding]] = []
        self._trouble: Exception | None = None

    def __iter__(self) -> Iterator[tuple[str, Sounding]]:
        for i in itertools.count():
            with ONE_AT_A_TIME:
                if not self._has(i):
                    return
            yield self._so_far[i]

    def _has(self, i: int) -> bool:
        if i == len(self._so_far):
            if self._trouble:
                raise self._trouble
            try:
                self._so_far.append(next(self._rest))
            except StopIteration:
                return False
            except Exception as error:
                self._trouble = error
                raise
        return True


class Answers:
    """Answers to the requests for a room.

    Args:
        room: the room.
    """

    def __init__(self, room: Room):
        self.room = room
        self._kept: OrderedDict[Any, Taken] = OrderedDict()

    def settings(self, held: Sequence[Any]) -> Any:
        """Return settings from the values of the controls, in the order of the fields.

        Raises:
            InputError: a field does not allow its value.
        """
        fields = fields_of(self.room.settings)
        return from_values(
            self.room.settings, [from_control(f, v) for f, v in zip(fields, held, strict=True)]
        )

    def soundings(self, settings: Any) -> Iterator[tuple[str, Sounding]]:
        """Yield the soundings of the settings; cached soundings come at once."""
        with ONE_AT_A_TIME:
            key = settings, self.room.stage(settings)
            taken = self._kept.setdefault(key, Taken(self.room.soundings(settings)))
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        try:
            yield from taken
        except Exception:  # the next request may succeed
            self._kept.pop(key, None)
            raise

    def lines(self, asked: Mapping[str, Any]) -> Iterator[str]:
        """Yield one line of JSON for each card, and a last line for the rest of the page.

        Args:
            asked: ``values`` of the controls, ids of the ``shown`` and the ``narrow`` cards, and
                ``dark``, which is True for a dark page.
        """
        for part in self._parts(asked):
            yield f"{to_json_plotly(part)}\n"

    def _parts(self, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        room = self.room
        try:
            settings = self.settings(asked["values"])
            stage = room.stage(settings)
            empty = set(room.cards)
            awaited = set(asked["shown"])
            for name, sounding in self.soundings(settings):
                empty.discard(name)
                yield self._card(name, sounding, asked)
                awaited.discard(room.id(name))
                if not awaited:  # off-screen cards are requested when the slider stops
                    break
            else:
                for name in empty:
                    yield {
                        "card": room.id(name),
                        "words": room.cards[name].empty,
                        "rows": None,
                        "figure": None,
                    }
            silent = room.silent(settings)
            yield {
                "query": to_query(settings),
                "silent": {
                    room.id(field.name): field.name in silent for field in fields_of(room.settings)
                },
                "limits": {
                    room.id(name): high for name, high in room.slider_limits(settings).items()
                },
                "code": room.code(settings),
                "notes": room.note(settings),
                "extra": [
                    [room.id(part), name, value]
                    for (part, name), value in zip(
                        room.extra_properties, room.extra_values(settings), strict=True
                    )
                ],
                "again": stage is not None,
            }
        except PendingError as pending:
            yield {"notes": str(pending), "again": True}
        except LeadlineError as error:
            yield {"trouble": describe(error)}
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            yield {"trouble": f"the measurement failed: {type(error).__name__}: {error}"}

    def _card(self, name: str, sounding: Sounding, asked: Mapping[str, Any]) -> dict[str, Any]:
        card = self.room.cards[name]
        at = self.room.id(name)
        part: dict[str, Any] = {
            "card": at,
            "words": card.words(sounding),
            "rows": _rows(card, sounding),
        }
        if at in asked["shown"]:
            part["figure"] = figure = _drawing(card, sounding)
            if at in asked["narrow"]:
                figure["layout"] = stacked(figure["layout"])
            figure["layout"] = merged(
                figure["layout"], {"font": {"color": INK[bool(asked["dark"])]}}
            )
            part["size"] = [_least_width(figure), figure["layout"]["height"]]
        return part


def _drawing(card: Card, sounding: Sounding) -> dict[str, Any]:
    drawing = sounding.drawing()
    # The card already shows the heading, so the figure needs no title.
    own = {
        "height": max(card.height, drawing["layout"]["height"])
        if _least_width(drawing)
        else card.height,
        "autosize": True,
        "title": {"text": ""},
        "margin": {"t": 28},
        "uirevision": "kept",
    }
    return {
        "data": _packed(drawing["data"]),
        "layout": merged(drawing["layout"], merged(own, card.layout)),
    }


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
    body = [[_read(value) for value in row] for row in table.itertuples(index=False)]
    return [[str(name).replace("_", " ") for name in table.columns], *body]


def _read(value: Any) -> str:
    if isinstance(value, float):
        return (
            f"{value:.4g}".replace("-", "−") if math.isfinite(value) else "−∞" if value < 0 else "∞"
        )
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
