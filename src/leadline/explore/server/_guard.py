"""Who may ask: pages of this server, reached under its own name, by those who were told the token.

A page elsewhere can make a browser send requests to 127.0.0.1, and can let its own name lead there (DNS rebinding).
The browser then names that page in ``Origin``, or its name in ``Host``; both are refused. The token is the first part
of every address, so that nothing is served to whoever does not know it: no cookie is needed, which a notebook's frame
would not be given, and which all ports of a machine share.
"""

import hmac
import ipaddress

from flask import Flask, Response, abort, request

LARGEST = 64 * 2**20
"""Of an upload, in bytes as they are sent: four for every three of the file."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' {scripts}",
        "style-src 'self' 'unsafe-inline'",  # Plotly writes its rules into the page
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
    """Refuse what is not asked by the server's own pages, and tell the browser to load nothing from elsewhere.

    Args:
        server: the application.
        token: first part of every address.
        host: the name that it is bound to.
        port: its port.
        scripts: hashes of the scripts that stand in the page.
        in_frames: whether other pages may show it in a frame, as notebooks do.
    """
    server.config["MAX_CONTENT_LENGTH"] = LARGEST
    policy = POLICY.format(scripts=" ".join(scripts)) + (
        "" if in_frames else "; frame-ancestors 'none'"
    )

    @server.before_request
    def refuse() -> None:
        if not is_own_name(request.host, host, port):
            abort(403, "this server does not go by that name")
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"http://{request.host}":
            abort(403, "a page from elsewhere may not ask")
        given = request.path.split("/")[1]
        if not hmac.compare_digest(given.encode(), token.encode()):
            abort(403, "the address needs the token that `leadline explore` printed")

    @server.after_request
    def protect(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response


def is_own_name(asked: str, host: str, port: int) -> bool:
    """Whether a ``Host`` header names this server.

    Bound to the loopback, it goes by loopback names only. Bound elsewhere, by the name that was given and by numbers:
    a number cannot be rebound.

    >>> [is_own_name(name, "127.0.0.1", 8050) for name in ("127.0.0.1:8050", "localhost:8050", "evil.example:8050")]
    [True, True, False]
    """
    name, _, number = asked.rpartition(":") if not asked.endswith("]") else (asked, "", "80")
    if not name:
        name, number = number, "80"
    if number != str(port):
        return False
    if is_loopback(name):
        return True
    return not is_loopback(host) and (name == host or _address(name) is not None)


def is_loopback(name: str) -> bool:
    """Whether a name is this machine's own, which no other can reach."""
    address = _address(name)
    return name == "localhost" or (address is not None and address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None
