"""A room inside a notebook: a frame that shows a server in this very process."""

import threading
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

from leadline.errors import InputError, nearest
from leadline.explore import open_rooms
from leadline.explore.page._settings import fields_of, from_values, to_query
from leadline.explore.server._server import Server

_starting = threading.Lock()


@dataclass(frozen=True)
class Inline:
    """A room with its settings; a notebook shows it as a frame."""

    url: str
    height: int = 900

    def _repr_html_(self) -> str:
        frame = '<iframe src="{}" width="100%" height="{}" style="border: 0" title="Leadline explorer"></iframe>'
        return frame.format(escape(self.url), self.height)

    def __str__(self) -> str:
        return self.url


def inline(name: str, settings: dict[str, Any]) -> Inline:
    """The room of that name, set as the keyword arguments say.

    Raises:
        InputError: a setting that the room does not have, or a value that it does not allow.
    """
    room = next(room for room in open_rooms() if room.name == name)
    known = {field.name: field for field in fields_of(room.settings)}
    for given in settings:
        if given not in known:
            close = nearest(given[:50], list(known))[:3]
            raise InputError(
                f"{name} takes the settings of its room", got=given[:50], cure=", ".join(close)
            )
    values = [settings.get(field.name, field.default) for field in known.values()]
    query = to_query(from_values(room.settings, values))
    with _starting:
        return Inline(_server().url(name + query))


@cache
def _server() -> Server:
    """One for the process; it ends with it."""
    return Server(open_rooms(), port=0, in_frames=True).start()
