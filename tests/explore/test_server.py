"""The server and its connections, tested without a browser."""

import os
import signal
import socket
import threading
from contextlib import ExitStack
from functools import partial

import pytest

from leadline.explore import open_rooms
from leadline.explore.server._server import PATIENCE, Quiet, Server


@pytest.fixture
def server(monkeypatch):
    assert Quiet.timeout == PATIENCE
    monkeypatch.setattr(Quiet, "timeout", 0.2)
    running = Server(open_rooms(), port=0).start()
    yield running
    running.stop()


HALVES = {
    "nothing": "",
    "half a line": "GET /",
    "half a head": "GET /{token}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n",
    "half a question": "POST /{token}/answer/gradients HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
    "half a callback": "POST /{token}/_dash-update-component HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
}


@pytest.mark.parametrize("name", HALVES)
def test_an_idle_connection_is_closed_and_its_thread_ends(server, name, capfd):
    before = threading.active_count()
    sent = HALVES[name].format(token=server.token, port=server.port).encode()
    with ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        connections = [
            stack.enter_context(socket.create_connection(address, timeout=60)) for _ in range(20)
        ]
        for one in connections:
            one.sendall(sent)
        for one in connections:
            answer = b""
            # The loop ends when the server closes the connection; a time-out fails the test.
            while part := one.recv(10_000):
                answer += part
            assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    others = [thread for thread in threading.enumerate() if "process_request_thread" in thread.name]
    for thread in others:
        thread.join(60)
    assert threading.active_count() <= before
    assert capfd.readouterr().err == ""


def test_a_client_that_stops_reading_is_disconnected(server, capfd):
    """Plotly's script is larger than the buffers of both ends."""
    path = f"/{server.token}/_dash-component-suites/plotly/package_data/plotly.min.js"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
        one.recv(1)
        for thread in [
            thread for thread in threading.enumerate() if "process_request_thread" in thread.name
        ]:
            thread.join(60)
            assert not thread.is_alive()
    assert capfd.readouterr().err == ""


def test_serve_raises_keyboard_interrupt(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Server(open_rooms(), port=0) as server:
            interrupt = partial(os.kill, os.getpid(), signal.SIGINT)
            # The server calls service_actions while it serves.
            monkeypatch.setattr(server._server, "service_actions", interrupt)
            with pytest.raises(KeyboardInterrupt):
                server.serve()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "sent",
    [b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"A" * 70_000],
)
def test_malformed_requests_print_nothing_in_the_terminal(server, capfd, sent):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as one:
        one.sendall(sent)
        one.shutdown(socket.SHUT_WR)
        while one.recv(10_000):
            pass
    assert capfd.readouterr().err == ""
