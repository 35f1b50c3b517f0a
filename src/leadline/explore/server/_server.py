"""Serves the rooms from this machine, until it is told to stop.

Werkzeug's threaded server is the one that Flask, and so Dash, brings along. It is not made for the open internet; here
it answers one person's browser, on the loopback, with no debugger.
"""

import errno
import secrets
import socket
import socketserver
import sys
import threading
from collections.abc import Sequence
from typing import Any

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from leadline.checks import shown
from leadline.errors import InputError
from leadline.explore.page._page import application
from leadline.explore.page._room import Room
from leadline.explore.server._guard import guard
from leadline.explore.server._questions import check_questions

TRIES = 50
"""How many ports after the one that was asked for are tried."""


PATIENCE = 30.0
"""Seconds that a connection may send or take nothing before it is closed: a half-open one holds a thread."""


class Quiet(WSGIRequestHandler):
    """Closes connections that stand still, sends small answers at once, and writes no line for each of them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = PATIENCE

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""

    def log_error(self, format: str, *args: Any) -> None:  # noqa: A002  named so by the base class
        """Nothing: a request that cannot be read, or does not come, is the other side's fault."""


class _Threads(ThreadedWSGIServer):
    """Lets an interruption through; Werkzeug's own server ends without a word, as if it had been told to."""

    def serve_forever(self, poll_interval: float = 0.2) -> None:
        """Answer until :meth:`shutdown`, or until a signal's handler raises."""
        try:
            socketserver.BaseServer.serve_forever(self, poll_interval)
        finally:
            self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks off is nothing to report; anything else is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Server:
    """The rooms under an address with a token of their own; a context that closes it.

    Args:
        rooms: what is served.
        host: the name or number to bind to.
        port: the first port to try; 0 for any that is free.
        in_frames: whether other pages may show it, as notebooks do.

    Raises:
        InputError: the host is none of this machine's, or no port is free.
    """

    def __init__(
        self,
        rooms: Sequence[Room],
        host: str = "127.0.0.1",
        port: int = 8050,
        *,
        in_frames: bool = False,
    ):
        self.socket = _bound(host, port)
        self.host, self.port = host, self.socket.getsockname()[1]
        self.token = secrets.token_urlsafe(18)
        app = application(rooms, f"/{self.token}/")
        guard(
            app.server,
            token=self.token,
            host=host,
            port=self.port,
            scripts=list(app.csp_hashes()),
            in_frames=in_frames,
        )
        check_questions(
            app.server, app.callback_map
        )  # after the guard: strangers learn nothing of the questions
        self._server = _Threads(host, self.port, app.server, Quiet, fd=self.socket.fileno())

    def url(self, at: str = "") -> str:
        """The address of a room, or of a room's state."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}/{self.token}/{at}"

    def serve(self) -> None:
        """Answer until :meth:`stop`, or until an interruption, which is passed on."""
        self._server.serve_forever()

    def start(self) -> "Server":
        """Answer in a thread that ends with the process."""
        threading.Thread(target=self.serve, name="leadline explorer", daemon=True).start()
        return self

    def stop(self) -> None:
        """End what :meth:`start` began, and free the port."""
        self._server.shutdown()
        self.close()

    def close(self) -> None:
        """Free the port."""
        self._server.server_close()
        self.socket.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket on the first free port from the one that was asked for."""
    if not 0 <= port < 2**16:
        raise InputError(
            "--port is a number from 0 to 65535", got=f"--port {port}", cure="0 takes any free one"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [0] if port == 0 else range(port, min(port + TRIES, 2**16)):
        tried = socket.socket(family, socket.SOCK_STREAM)
        try:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, candidate))
            tried.listen(128)
            return tried
        except (
            OSError,
            ValueError,
            TypeError,
        ) as error:  # the last two say that no host can have that name
            tried.close()
            number = getattr(error, "errno", None)
            if number == errno.EADDRINUSE:
                continue
            raise InputError(
                "--host and --port are this machine's to listen on",
                got=f"{shown(host)}, port {candidate} ({getattr(error, 'strerror', None) or error})",
                cause="ports below 1024 need rights"
                if number == errno.EACCES
                else "no such host here",
                cure="leadline explore, without either",
            ) from None
    raise InputError(
        "a free port is needed",
        got=f"ports {port} to {port + TRIES - 1} are all in use",
        cure="--port 0 takes any",
    )
