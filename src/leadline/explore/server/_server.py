"""The HTTP server of the explorer.

It is Werkzeug's threaded server, which comes with Flask and Dash. That server is not made for the
open internet; here it answers the browser of one person on the loopback address, without debugger.
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
"""Number of ports that are tried, from the requested port on."""


PATIENCE = 30.0
"""Seconds after which an idle connection is closed, because each connection holds a thread."""


class Quiet(WSGIRequestHandler):
    """A request handler that closes idle connections, sends answers at once, and logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = PATIENCE

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""

    def log_error(self, format: str, *args: Any) -> None:  # noqa: A002  named so by the base class
        """Log nothing: an unreadable request is a fault of the client."""


class _Threads(ThreadedWSGIServer):
    """A threaded server that passes interruptions on; Werkzeug's own server hides them."""

    def serve_forever(self, poll_interval: float = 0.2) -> None:
        """Answer requests until :meth:`shutdown` is called or a signal handler raises an error."""
        try:
            socketserver.BaseServer.serve_forever(self, poll_interval)
        finally:
            self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore broken connections; report every other error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Server:
    """A server of rooms under an address with a secret token. It is a context manager.

    Args:
        rooms: the rooms to serve.
        host: host name or address to listen on.
        port: first port to try; 0 for any free port.
        in_frames: True if other pages, such as notebooks, may show the server's pages in a frame.

    Raises:
        InputError: the host is not an address of this machine, or no port is free.
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
        self.host = host
        self.port = self.socket.getsockname()[1]
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
        # The guard comes first, so that clients without the token learn nothing from this check.
        check_questions(app.server, app.callback_map)
        self._server = _Threads(host, self.port, app.server, Quiet, fd=self.socket.fileno())

    def url(self, at: str = "") -> str:
        """Return the address of a room, or of a room with settings."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}/{self.token}/{at}"

    def serve(self) -> None:
        """Answer requests until :meth:`stop` is called or an interruption is raised."""
        self._server.serve_forever()

    def start(self) -> "Server":
        """Answer requests in a thread that ends with the process."""
        threading.Thread(target=self.serve, name="leadline explorer", daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop the thread of :meth:`start` and free the port."""
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
    """Return a listening socket on the first free port from ``port`` on."""
    if not 0 <= port < 2**16:
        raise InputError(
            "--port must be a number from 0 to 65535",
            got=f"--port {port}",
            cure="--port 0 takes any free port",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in [0] if port == 0 else range(port, min(port + TRIES, 2**16)):
        tried = socket.socket(family, socket.SOCK_STREAM)
        try:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, candidate))
            tried.listen(128)
            return tried
        except (OSError, ValueError, TypeError) as error:  # the last two: an impossible host name
            tried.close()
            number = getattr(error, "errno", None)
            if number == errno.EADDRINUSE:
                continue
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                "--host must be an address of this machine, and --port a port that it may use",
                got=f"--host {shown(host)} --port {candidate} ({reason})",
                cause="ports below 1024 need administrator rights"
                if number == errno.EACCES
                else "the host is not an address of this machine",
                cure="leave --host and --port out",
            ) from None
    raise InputError(
        f"--port must be free, or one of the next {TRIES - 1} ports must be free",
        got=f"--port {port}; the ports {port} to {port + TRIES - 1} are in use",
        cure="--port 0 takes any free port",
    )
