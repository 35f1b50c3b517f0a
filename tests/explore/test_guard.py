"""Access control and security headers, tested without a browser."""

import http.client
import socket
import subprocess
import sys

import pytest

from leadline.errors import InputError
from leadline.explore import open_rooms
from leadline.explore.server._guard import LARGEST, is_own_name
from leadline.explore.server._server import Server


@pytest.fixture(scope="module")
def server():
    running = Server(open_rooms(), port=0).start()
    yield running
    running.stop()


def ask(server: Server, path: str, method: str = "GET", body: bytes | None = None, **headers: str):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


PATHS = ["", "gradients", "_dash-layout", "_dash-dependencies", "assets/explore.js", "_favicon.ico"]


@pytest.mark.parametrize("path", PATHS)
def test_only_the_token_gives_access(server, path):
    assert ask(server, f"/{server.token}/{path}")[0].status == 200
    for wrong in (
        "",
        "x" * len(server.token),
        server.token[:-1],
        server.token.swapcase(),
        "%C3%A4",
    ):
        assert ask(server, f"/{wrong}/{path}" if wrong else f"/{path}")[0].status == 403


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1:1", "10.0.0.1:{port}", "0.0.0.0:{port}"],
)
def test_a_foreign_host_header_is_refused(server, path, host):
    assert (
        ask(server, f"/{server.token}/{path}", Host=host.format(port=server.port))[0].status == 403
    )


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:{port}"]
)
def test_a_foreign_origin_is_refused(server, origin):
    headers = {"Origin": origin.format(port=server.port), "Content_Type": "application/json"}
    answer, _ = ask(server, f"/{server.token}/_dash-update-component", "POST", b"{}", **headers)
    assert answer.status == 403


def test_own_host_names_are_accepted(server):
    for name in ("127.0.0.1", "localhost"):
        own = f"{name}:{server.port}"
        assert ask(server, f"/{server.token}/", Host=own, Origin=f"http://{own}")[0].status == 200


def test_a_too_large_request_is_refused(server):
    path = f"/{server.token}/_dash-update-component"
    answer, _ = ask(server, path, "POST", b" " * (LARGEST + 1), Content_Type="application/json")
    assert answer.status == 413


def test_the_content_security_policy_forbids_foreign_content(server):
    answer, page = ask(server, f"/{server.token}/")
    policy = answer.getheader("Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    (scripts,) = [rule for rule in policy.split("; ") if rule.startswith("script-src")]
    assert "unsafe" not in scripts
    assert answer.getheader("Referrer-Policy") == "no-referrer"
    assert b'src="http' not in page
    assert b'href="http' not in page


@pytest.mark.parametrize(
    ("asked", "host", "port", "own"),
    [
        ("127.0.0.1:8050", "127.0.0.1", 8050, True),
        ("localhost:8050", "127.0.0.1", 8050, True),
        ("[::1]:8050", "::1", 8050, True),
        ("[::1]", "::1", 80, True),
        ("localhost", "127.0.0.1", 80, True),
        ("localhost", "127.0.0.1", 8050, False),
        ("", "127.0.0.1", 80, False),
        (":8050", "127.0.0.1", 8050, False),
        ("localhost.evil.example:8050", "127.0.0.1", 8050, False),
        ("127.0.0.1.evil.example:8050", "127.0.0.1", 8050, False),
        ("192.168.0.7:8050", "127.0.0.1", 8050, False),
        ("192.168.0.7:8050", "0.0.0.0", 8050, True),
        ("lab:8050", "lab", 8050, True),
        ("evil.example:8050", "0.0.0.0", 8050, False),
    ],
)
def test_is_own_name_accepts_only_names_of_the_server(asked, host, port, own):
    assert is_own_name(asked, host, port) is own


def test_a_used_port_is_replaced_by_the_next_free_port(server):
    with Server(open_rooms(), port=server.port) as second:
        assert server.port < second.port < server.port + 50


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [("127.0.0.1", 70000, "0 to 65535"), ("203.0.113.1", 0, "not an address of this machine")],
)
def test_an_impossible_host_or_port_is_an_error(host, port, message):
    with pytest.raises(InputError, match=message):
        Server(open_rooms(), host, port)


def test_closing_a_server_frees_its_port(server):
    with Server(open_rooms(), port=0) as second:
        port = second.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_the_library_and_its_help_do_not_load_dash():
    code = (
        "import sys, contextlib, io, leadline, leadline.explore\n"
        "from leadline.cli import run\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    run(['--help'])\n"
        "    run(['explore', '--help'])\n"
        "assert not {'dash', 'flask', 'torch', 'plotly'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
