"""Access control: requests need the token and must come from the server's own pages.

A foreign page can make a browser send requests to 127.0.0.1, directly or by DNS rebinding. The
browser then names that page in ``Origin``, or its host in ``Host``; both are refused. The token is
the first part of every address. A cookie would not do: all ports of a machine share it, and the
frame of a notebook does not receive it.
"""

import hmac
import ipaddress

from flask import Flask, Response, abort, request

LARGEST = 64 * 2**20
"""Largest request in bytes. An upload is sent in base64, which needs 4 bytes for 3 of the file."""

HTTP_PORT = "80"
"""Port of an address that names no port."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' {scripts}",
        "style-src 'self' 'unsafe-inline'",  # Plotly inserts its style rules into the page
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
    )
)


def guard(
    server: Flask, *, token: str, host: str, port: int, scripts: list[str], in_frames: bool
) -> None:
    """Refuse foreign requests, and forbid the browser to load anything from other servers.

    Args:
        server: the Flask application.
        token: the first part of every address.
        host: host name or address that the server is bound to.
        port: port of the server.
        scripts: hashes of the scripts inside the page.
        in_frames: True if other pages, such as notebooks, may show the page in a frame.
    """
    server.config["MAX_CONTENT_LENGTH"] = LARGEST
    policy = POLICY.format(scripts=" ".join(scripts)) + (
        "" if in_frames else "; frame-ancestors 'none'"
    )

    @server.before_request
    def refuse() -> None:
        """Refuse a request with another host name, from another page, or without the token."""
        if not is_own_name(request.host, host, port):
            abort(403, "the Host header must name this server")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.host}":
            abort(403, "requests must come from pages of this server")
        first_part = request.path.split("/")[1]
        if not hmac.compare_digest(first_part.encode(), token.encode()):
            abort(403, "the address must contain the token that `leadline explore` printed")

    @server.after_request
    def protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response


def is_own_name(name_and_port: str, host: str, port: int) -> bool:
    """True if a ``Host`` header names this server.

    A server on the loopback address accepts loopback names only. Another server accepts its host
    name and numeric addresses, which cannot be rebound.

    >>> is_own_name("localhost:8050", "127.0.0.1", 8050)
    True
    >>> is_own_name("evil.example:8050", "127.0.0.1", 8050)
    False
    """
    has_no_port = name_and_port.endswith("]") or ":" not in name_and_port
    if has_no_port:
        name = name_and_port
        number = HTTP_PORT
    else:
        name, _, number = name_and_port.rpartition(":")
    if not name or number != str(port):
        return False
    if is_loopback(name):
        return True
    return not is_loopback(host) and (name == host or _address(name) is not None)


def is_loopback(name: str) -> bool:
    """True if ``name`` is a loopback address, which other machines cannot reach."""
    address = _address(name)
    return name == "localhost" or (address is not None and address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return a numeric address; ``None`` if ``name`` is not numeric."""
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None
