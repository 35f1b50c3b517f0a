"""The instruments behind sliders: in a browser (``leadline explore``), and inline in a notebook."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from leadline.explore.page._room import Room
    from leadline.explore.server._notebook import Inline
    from leadline.explore.server._server import Server

ROOMS = {
    "gradients": "leadline.explore.rooms._gradients",
    "search": "leadline.explore.rooms._search",
    "representation": "leadline.explore.rooms._representation",
}
"""Rooms by name, and where they are."""

__all__ = ["gradients", "representation", "search"]


def open_rooms() -> "list[Room]":
    """All rooms, in the order in which they are shown."""
    return [import_module(where).ROOM for where in ROOMS.values()]


def open_server(host: str, port: int) -> "Server":
    """Start a server of all rooms, after the temporary folders of killed servers are removed."""
    from leadline.explore.server._folders import remove_left
    from leadline.explore.server._server import Server

    remove_left()
    return Server(open_rooms(), host, port)


def is_loopback(host: str) -> bool:
    """True if only this machine can reach ``host``."""
    from leadline.explore.server import _guard

    return _guard.is_loopback(host)


def gradients(**settings: Any) -> "Inline":
    """Where does the gradient die? The gradient room, inline in a notebook.

    Args:
        settings: fields of :class:`leadline.explore.rooms._gradients.Settings`, ``cell="LSTM", time=100``.
    """
    return _inline("gradients", settings)


def search(**settings: Any) -> "Inline":
    """What did the decoder miss? The search room, inline in a notebook.

    Args:
        settings: fields of :class:`leadline.explore.rooms._search.Settings`, ``width=3, table="A4-0.5_B4-0.9"``.
    """
    return _inline("search", settings)


def representation(**settings: Any) -> "Inline":
    """What is this representation worth? The representation room, inline in a notebook.

    Args:
        settings: fields of :class:`leadline.explore.rooms._representation_settings.Settings`, ``kind="vanilla", noise=0.3``.
    """
    return _inline("representation", settings)


def check_installed() -> None:
    """Refuse to go on without Dash, which an extra of the package brings.

    Raises:
        InputError: Dash is not installed.
    """
    if find_spec("dash") is None or find_spec("docstring_parser") is None:
        from leadline.errors import InputError

        raise InputError(
            "the explorer needs Dash", got="no module dash", cure="pip install 'leadline[explore]'"
        )


def _inline(name: str, settings: dict[str, Any]) -> "Inline":
    check_installed()
    from leadline.explore.server._notebook import inline

    return inline(name, settings)
