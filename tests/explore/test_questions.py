"""Mutated requests: the server answers every request or refuses it with a message."""

import copy
import io
import itertools
import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from leadline.explore import open_rooms
from leadline.explore.page._room import PendingError
from leadline.explore.rooms import _gradients as gradient_room
from leadline.explore.rooms import _manual_model as manual_model
from leadline.explore.rooms import _representation as representation_room
from leadline.explore.rooms import _search as search_room
from leadline.explore.rooms._representation import RUNS, jobs
from leadline.explore.rooms._representation_settings import run_settings
from leadline.explore.server._server import Server
from tests.explore import asking
from tests.explore.asking import UPDATE, Body, body, of_server, values_of

SMALL = {
    "gradients": gradient_room.Settings(time=5, hidden_size=2),
    "search": search_room.Settings(),
    "representation": representation_room.Settings(
        rows=200, epochs=1, seeds=2, hidden=8, bottleneck=2
    ),
}
ROOMS = {room.name: room for room in open_rooms()}

VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    3,
    2.5,
    1e308,
    float("nan"),
    float("inf"),
    10**30,
    "",
    "nan",
    "-0.0",
    "<b>=1+1</b>",
    "\ud800",
    "\x00",
    "word" * 3000,
    [],
    ["on"],
    [[]],
    {},
    {"id": "gradients-cell", "property": "value", "value": 3},
    {"__class__": "x"},
    "0123456789ab",
    "A4-0.5_B4nan",
    "?time=5&time=6&tme=7",
)
"""JSON values that are wrong in most places."""

RAW = {
    "nothing": b"",
    "no JSON": b"{",
    "half a question": b'{"output": "..content.children...rooms.children..", "inp',
    "bytes": bytes(range(256)),
    "deep": b"[" * 100_000,
    "deep objects": b'{"inputs":' * 50_000,
    "a long number": b"9" * 10_000,
    "another encoding": '{"values": "ü"}'.encode("utf-16"),
    "half a pair": b'{"output": "\\ud800"}',
    "null": b"null",
    "a list": b"[1]",
    "text": b'"x"',
}


@pytest.fixture(scope="module")
def server():
    with Server(open_rooms(), port=0) as one:
        yield one


@pytest.fixture(scope="module")
def ask(server):
    """A function that sends a request to the server, in this process and without a network."""
    client = server._server.app.test_client()

    def send(at: str, data: bytes, content_type: str = "application/json"):
        base = f"http://127.0.0.1:{server.port}"
        return client.post(
            f"/{server.token}/{at}", base_url=base, data=data, content_type=content_type
        )

    return send


@pytest.fixture(scope="module")
def run():
    """The name of a finished run without results, as after a full disk."""
    name = jobs().start("tests.explore.work:counts", {"steps": 0, "name": ""})
    jobs()._processes[name].join()
    RUNS[name] = run_settings(SMALL["representation"])
    yield name
    del RUNS[name]


@pytest.fixture(scope="module")
def callbacks(server):
    """Valid requests to all callbacks of the server, by the output of the callback."""
    client = server._server.app.test_client()
    client.get(f"/{server.token}/", base_url=f"http://127.0.0.1:{server.port}")
    answer = client.get(
        f"/{server.token}/_dash-dependencies", base_url=f"http://127.0.0.1:{server.port}"
    )
    values = {
        "address.pathname": f"/{server.token}/search",
        "address.search": "?width=3",
        "representation-file": npz(),
    }
    for name, settings in SMALL.items():
        values |= values_of(ROOMS[name], settings)
    return {dependency["output"]: body(dependency, values) for dependency in of_server(answer.json)}


def npz() -> str:
    file = io.BytesIO()
    np.savez(file, X=np.random.default_rng(0).normal(size=(60, 4)), y=np.arange(60) % 2)
    return "data:application/octet-stream;base64," + b64encode(file.getvalue()).decode()


@pytest.fixture(autouse=True)
def no_long_work(monkeypatch):
    """Refuse all runs, and leave the language model in training."""

    def pending():
        raise PendingError("the language model is being trained")

    monkeypatch.setattr(manual_model, "model", pending)
    monkeypatch.setattr(jobs(), "most", 0)


def places(value: Any, at: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every value inside a JSON value, beginning with the whole."""
    yield at
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in parts:
        yield from places(part, (*at, key))


def changed(asked: Any, at: tuple, new: Any) -> Any:
    """Return the request with one value replaced, or removed if ``new`` is an Ellipsis."""
    if not at:
        return None if new is ... else new
    whole = copy.deepcopy(asked)
    inside = whole
    for key in at[:-1]:
        inside = inside[key]
    if new is ...:
        del inside[at[-1]]
    else:
        inside[at[-1]] = copy.deepcopy(new)
    return whole


def mutations(asked: Any, each: int) -> Iterator[Any]:
    """Yield mutations of a request: removed values, wrong values, and pairs of wrong values."""
    values = itertools.cycle(VALUES)
    found = list(places(asked))
    for at in found:
        yield changed(asked, at, ...)
        for new in itertools.islice(values, each):
            yield changed(asked, at, new)
    leaves = [at for at in found if at and at[-1] == "value"]
    for one, other in itertools.pairwise(leaves):
        yield changed(changed(asked, one, next(values)), other, next(values))


def check(answer: Any, capsys: pytest.CaptureFixture, asked: Any) -> None:
    """Assert that the server answered or refused with a message, without an unexpected error."""
    what = f"{answer.status} {answer.data[:300]} to {str(asked)[:500]}"
    assert answer.status_code in (200, 204) or 400 <= answer.status_code < 500, what
    assert answer.status_code == 204 or answer.data, what
    assert "the request failed" not in answer.get_data(as_text=True)[:200], what
    assert "Traceback" not in capsys.readouterr().err, what


def sent(asked: Any) -> bytes:
    return json.dumps(asked).encode()


def test_every_valid_request_is_answered(ask, callbacks, capsys, run):
    assert len(callbacks) == 1 + 8 + 5, (
        "the page, the downloads of each card, and the buttons of a run"
    )
    for asked in callbacks.values():
        answer = ask(UPDATE, sent(asked))
        assert answer.status_code in (200, 204)
        check(answer, capsys, asked)
    for name, settings in SMALL.items():
        lines = ask(
            f"answer/{name}", sent(asking.question(ROOMS[name], settings))
        ).data.splitlines()
        assert "trouble" not in json.loads(lines[-1])


def test_mutated_callbacks_are_refused_with_a_message(ask, callbacks, capsys, run):
    number = refused = 0
    for asked in callbacks.values():
        known = json.loads(
            json.dumps(asked).replace(
                '"representation-job", "property": "value", "value": ""',
                f'"representation-job", "property": "value", "value": "{run}"',
            )
        )
        for mutated in mutations(known, each=1):
            answer = ask(UPDATE, sent(mutated))
            check(answer, capsys, mutated)
            number += 1
            refused += answer.status_code == 400
    assert number > 900
    assert refused > number / 2


@pytest.mark.parametrize("name", ROOMS)
def test_mutated_requests_for_soundings_are_refused_with_a_message(ask, capsys, run, name):
    asked = asking.question(ROOMS[name], SMALL[name])
    for mutated in mutations(asked, each=8):
        answer = ask(f"answer/{name}", sent(mutated))
        check(answer, capsys, mutated)
        for line in answer.data.splitlines() if answer.status_code == 200 else ():
            assert not json.loads(line).get("trouble", "").startswith("the measurement failed"), (
                line,
                mutated,
            )


@pytest.mark.parametrize("name", RAW)
def test_malformed_requests_are_refused(ask, capsys, name):
    for at in (UPDATE, *(f"answer/{room}" for room in ROOMS)):
        answer = ask(at, RAW[name])
        assert answer.status_code == 400
        assert answer.mimetype == "text/plain"
        check(answer, capsys, name)
        assert ask(at, RAW[name], "text/html").status_code in (400, 415)


@pytest.mark.parametrize(
    "path",
    [
        "_dash-component-suites/os/path.py",
        "_dash-component-suites/dash/../../secret",
        "_dash-component-suites/dash/no-such-file.js",
        "_dash-component-suites/leadline/explore/assets/style.css",
        "assets/../page.py",
        "assets/nothing.js",
        "answer/gradients",
        "answer/nothing",
        UPDATE,
        "%00",
        "..%2f..%2fetc/passwd",
        "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
        "a" * 5000,
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_other_addresses_and_methods_never_fail(server, capsys, path, method):
    client = server._server.app.test_client()
    base = f"http://127.0.0.1:{server.port}"
    answer = client.open(f"/{server.token}/{path}", base_url=base, method=method)
    assert answer.status_code < 500
    assert "Traceback" not in capsys.readouterr().err


def test_an_unexpected_error_gives_a_message_and_a_traceback_in_the_terminal(
    ask, callbacks, monkeypatch, capsys
):
    def fails(*given: Any) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(representation_room, "begin", fails)
    (asked,) = (one for name, one in callbacks.items() if name.startswith("..representation-job"))
    answer = ask(UPDATE, sent(asked))
    assert (answer.status_code, answer.data) == (
        422,
        b"the request failed: ZeroDivisionError",
    )
    assert "by nothing" in capsys.readouterr().err


def test_a_refusal_names_the_wrong_field(ask, callbacks):
    body: Body = copy.deepcopy(next(iter(callbacks.values())))
    assert (
        b"output must be the name of a callback"
        in ask(UPDATE, sent({**body, "output": "held.data"})).data
    )
    message = ask(UPDATE, sent({**body, "inputs": body["inputs"] * 2})).data.decode()
    assert message.startswith(
        "inputs must be the components of the callback, in its order\n  got:   inputs = ["
    )
    assert "load the page again" in message
    question = asking.question(gradient_room.ROOM, SMALL["gradients"])
    message = ask("answer/gradients", sent({**question, "values": [1]})).data.decode()
    assert (
        message == "values must be a list of 14 values, one for each control\n  got:   values = [1]"
    )
