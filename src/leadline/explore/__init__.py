"""Interactive pages for the three instruments, in a browser or inside a notebook.

``leadline explore`` opens all pages in a browser; the functions of this package show one page in a
notebook.
"""

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
"""Modules of the rooms, by name."""

__all__ = ["gradients", "representation", "search"]


def open_rooms() -> "list[Room]":
    """Return all rooms in the order of the page."""
    return [import_module(where).ROOM for where in ROOMS.values()]


def open_server(host: str, port: int) -> "Server":
    """Start a server of all rooms, after the temporary folders of killed servers are removed."""
    from leadline.explore.server._folders import remove_abandoned
    from leadline.explore.server._server import Server

    remove_abandoned()
    return Server(open_rooms(), host, port)


def is_loopback(host: str) -> bool:
    """True if only this machine can reach ``host``."""
    from leadline.explore.server import _guard

    return _guard.is_loopback(host)


def gradients(**settings: Any) -> "Inline":
    """Show the gradient room inside a notebook: where does the gradient vanish or explode?

    Args:
        settings: settings of the room, such as ``cell="LSTM", time=100``.
    """
    return _inline("gradients", settings)


def search(**settings: Any) -> "Inline":
    """Show the search room inside a notebook: which better answer did the decoder miss?

    Args:
        settings: settings of the room, such as ``width=3, table="A4-0.5_B4-0.9"``.
    """
    return _inline("search", settings)


def representation(**settings: Any) -> "Inline":
    """Show the representation room inside a notebook: what is this representation worth?

    Args:
        settings: settings of the room, such as ``kind="vanilla", noise=0.3``.
    """
    return _inline("representation", settings)


def check_installed() -> None:
    """Check that the packages of the extra ``explore`` are installed.

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
