"""A room inside a notebook, in a frame that shows a server of the notebook's process."""

import base64
import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

from leadline.errors import InputError, LeadlineError, nearest
from leadline.explore import open_rooms
from leadline.explore.page._room import PendingError
from leadline.explore.page._settings import fields_of, from_values, to_query
from leadline.explore.server._server import Server
from leadline.figures import encoded

_starting = threading.Lock()

MARGIN = 24
"""Pixels that a page adds above and below its content."""

LONGEST_NAME = 50
"""Largest number of characters of a wrong name that an error shows."""

MOST_SUGGESTIONS = 3
"""Largest number of names that an error suggests."""

_HTML = """<div style="position: relative; overflow: hidden">
<div>
{picture}
<p>This explorer ended when the notebook's kernel ended. Run the cell again to open it.</p>
</div>
<iframe class="{name}" src="{url}" width="100%" height="{height}" title="Leadline explorer"
 style="border: 0; position: absolute; top: 0; left: 0; visibility: hidden"></iframe>
</div>
<script>
for (const frame of document.querySelectorAll("iframe.{name}"))
  window.addEventListener("message", event => {{
    if (event.source !== frame.contentWindow || event.data !== "leadline-explorer") return;
    frame.previousElementSibling.style.display = "none";
    frame.style.position = frame.style.visibility = "";
    // marimo puts the output of a cell into a frame of its own, which must grow.
    const isAlone = document.body.firstElementChild === frame.parentElement;
    if (window.frameElement && isAlone) window.frameElement.style.height = "{outer_height}px";
  }});
</script>"""
"""HTML of a room. The frame replaces the picture when its page sends a message."""


@dataclass(frozen=True)
class Inline:
    """A room with its settings; a notebook shows it as a frame.

    After the kernel has ended, the notebook shows a still picture and a sentence instead.
    """

    url: str
    height: int = 900
    draw: Callable[[], bytes] = bytes
    """Function that returns a picture of the room as PNG, or no bytes if it has no picture."""

    def _repr_html_(self) -> str:
        """Return the frame, and the picture that is shown until the frame answers."""
        data = self.draw()
        picture = ""
        if data:
            source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
            picture = f'<img alt="The first figure of the room" src="{source}">'
        name = f"leadline-{hashlib.sha256(self.url.encode()).hexdigest()[:12]}"
        height = int(self.height)
        return _HTML.format(
            name=name,
            url=escape(self.url),
            height=height,
            outer_height=height + MARGIN,
            picture=picture,
        )

    def __str__(self) -> str:
        return self.url


def inline(name: str, settings: dict[str, Any]) -> Inline:
    """Return the room with this name and these settings.

    Raises:
        InputError: the room has no such setting, or does not allow its value.
    """
    room = next(room for room in open_rooms() if room.name == name)
    fields = {field.name: field for field in fields_of(room.settings)}
    for argument in settings:
        if argument not in fields:
            close = nearest(argument[:LONGEST_NAME], list(fields))[:MOST_SUGGESTIONS]
            raise InputError(
                f"{name}() takes the settings of its room",
                got=argument[:LONGEST_NAME],
                cure=", ".join(close),
            )
    values = [settings.get(field.name, field.default) for field in fields.values()]
    chosen = from_values(room.settings, values)

    def draw() -> bytes:
        """Return a picture of the first sounding, or no bytes if it does not exist yet."""
        with suppress(LeadlineError, PendingError):
            for _, sounding in room.soundings(chosen):
                return encoded(sounding.drawing(), "png")
        return b""

    with _starting:
        return Inline(_server().url(name + to_query(chosen)), draw=draw)


@cache
def _server() -> Server:
    """Return the server of this process; it ends with the process."""
    return Server(open_rooms(), port=0, in_frames=True).start()
