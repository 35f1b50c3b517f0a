"""How a move becomes an answer: settings, soundings, figures, one line of JSON for each card as soon as it is drawn.

The page asks over HTTP and reads line by line, so that it paints the first card while the next sounding is taken.
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
"""Colour of a figure's text, in light and in dark."""

KEPT = 8
"""Settings whose soundings are kept, for downloads and for cards that come into sight later."""

ONE_AT_A_TIME = threading.Lock()
"""Of the process, for one sounding. Two at once would take twice as long each, and what puts torch's generator back
where it was (:func:`torch.random.fork_rng`) must not meet another that does the same. It is free while a line is sent:
a page that has stopped reading holds up nobody else."""


class Taken:
    """The soundings of some settings, each taken when it is first asked for.

    Args:
        soundings: all of them, not taken yet.
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
    """What a room answers.

    Args:
        room: whose soundings are taken.
    """

    def __init__(self, room: Room):
        self.room = room
        self._kept: OrderedDict[Any, Taken] = OrderedDict()

    def settings(self, held: Sequence[Any]) -> Any:
        """Settings from what the controls hold, in the order of the fields.

        Raises:
            InputError: a value that its field does not allow.
        """
        fields = fields_of(self.room.settings)
        return from_values(
            self.room.settings, [from_control(f, v) for f, v in zip(fields, held, strict=True)]
        )

    def soundings(self, settings: Any) -> Iterator[tuple[str, Sounding]]:
        """Each as it is taken, or at once where it is still there."""
        with ONE_AT_A_TIME:
            key = settings, self.room.stage(settings)
            taken = self._kept.setdefault(key, Taken(self.room.soundings(settings)))
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        try:
            yield from taken
        except Exception:  # which may be over when one asks again
            self._kept.pop(key, None)
            raise

    def lines(self, asked: Mapping[str, Any]) -> Iterator[str]:
        """The answer to a question of the page: a line for each card, and a last one with everything else.

        Args:
            asked: ``values`` of the controls; ids of the cards that are ``shown`` and of those that are ``narrow``;
                whether the page is ``dark``.
        """
        for part in self._parts(asked):
            yield f"{to_json_plotly(part)}\n"

    def _parts(self, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        room = self.room
        try:
            settings, stage = (read := self.settings(asked["values"])), room.stage(read)
            empty, awaited = set(room.cards), set(asked["shown"])
            for name, sounding in self.soundings(settings):
                empty.discard(name)
                yield self._card(name, sounding, asked)
                awaited.discard(room.id(name))
                if (
                    not awaited
                ):  # the rest is out of sight, and is asked for when the hand has rested
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
                "ends": {room.id(name): end for name, end in room.ends(settings).items()},
                "code": room.code(settings),
                "notes": room.tell(settings),
                "follows": [
                    [room.id(part), of, value]
                    for (part, of), value in zip(room.follows, room.follow(settings), strict=True)
                ],
                "again": stage is not None,
            }
        except PendingError as pending:
            yield {"notes": str(pending), "again": True}
        except LeadlineError as error:
            yield {"trouble": describe(error)}
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            yield {"trouble": f"this could not be measured: {type(error).__name__}: {error}"}

    def _card(self, name: str, sounding: Sounding, asked: Mapping[str, Any]) -> dict[str, Any]:
        card, at = self.room.cards[name], self.room.id(name)
        part: dict[str, Any] = {
            "card": at,
            "words": str(sounding.verdict),
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
    # The heading stands above; a title would say it again.
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
    """Arrays as Plotly's script reads them fastest: in base64. NaN, for which JSON has no word, comes along."""
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
    """Pixels that a figure of boxes needs; 0 for one that fits anywhere."""
    return (drawing["layout"].get("meta") or {}).get("min_width", 0)


def _rows(card: Card, sounding: Sounding) -> list[list[str]] | None:
    """Columns of a sounding's table, headed by their names, for reading."""
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
"""Files that the server makes; drawings are made by the page."""


def file(sounding: Sounding, card: Card, form: str) -> str:
    """A sounding as a file.

    Args:
        sounding: whose numbers or figure are wanted.
        card: its place, which may draw it in its own way.
        form: one of :data:`TYPES`.
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
    """A table whose texts are texts in spreadsheet programs, too: an apostrophe precedes what would be a formula.

    Numbers are unchanged, also negative ones.
    """
    safe = table.rename(columns=_as_text)
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            safe[column] = [_as_text(value) for value in safe[column]]
    return safe


def _as_text(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _number(value: Any) -> Any:
    """As it is, or by its name where JSON has no such number: an infinity is not to be lost."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
