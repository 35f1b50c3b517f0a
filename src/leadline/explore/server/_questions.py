"""Checks of the requests that a page sends.

A page sends JSON: the inputs of a Dash callback, or a request for soundings, which
:class:`~leadline.explore.server._answers.Answers` answers line by line. A client with the token can
send anything else, too; it is refused with status 400 and a message. The values inside a request
are checked where they are used.
"""

import json
import sys
import traceback
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dash.exceptions import DependencyException
from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException

from leadline.checks import shown
from leadline.errors import InputError, LeadlineError, describe

LONGEST_CAUSE = 100
"""Largest number of characters of another library's message in an error."""

UPDATE = "_dash-update-component"
"""Last part of the address of Dash's callbacks."""


def check_questions(server: Flask, callbacks: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse malformed requests before Dash reads them, and answer every error with a message.

    Args:
        server: the Flask application.
        callbacks: Dash's callbacks by the name of their output; Dash fills it at the first request.
    """

    @server.before_request
    def refuse() -> None:
        if request.method == "POST" and request.path.endswith(f"/{UPDATE}"):
            _check_update(received(), callbacks)

    @server.errorhandler(Exception)
    def explain(error: Exception) -> Response | HTTPException:
        """Answer an error with a message; only an unexpected error is printed in the terminal."""
        if isinstance(error, HTTPException):
            return error
        if isinstance(error, LeadlineError):
            return Response(describe(error), 400, mimetype="text/plain")
        if isinstance(error, (DependencyException, FileNotFoundError)):
            return Response("there is no such file", 404, mimetype="text/plain")
        traceback.print_exception(error, file=sys.stderr)
        return Response(f"the request failed: {type(error).__name__}", 422, mimetype="text/plain")


def received() -> Any:
    """Return the JSON of the request's body.

    Raises:
        InputError: the body is not JSON, or is nested too deeply.
    """
    body = request.get_data()
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the request must be JSON", got=f"{len(body)} bytes", cause=str(error)[:LONGEST_CAUSE]
        ) from None


def _check_update(body: Any, callbacks: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a request to an unknown callback, or with inputs that the callback does not have."""
    question = _mapping(body, "the request")
    output = question.get("output")
    callback = callbacks.get(output) if isinstance(output, str) else None
    # Callbacks without a function run in the browser.
    if callback is None or "callback" not in callback:
        raise InputError(
            "output must be the name of a callback of this page", got=f"output = {shown(output)}"
        )
    for name, expected in (("inputs", callback["inputs"]), ("state", callback["state"])):
        _check_places(question.get(name, []), name, expected)
    outputs = question.get("outputs") or []
    expected = [] if callback["no_output"] else _outputs(str(output))
    _check_places(outputs if isinstance(outputs, list) else [outputs], "outputs", expected)
    if isinstance(outputs, list) != (callback["no_output"] or str(output).startswith("..")):
        raise InputError(
            "outputs must have the form that the callback declares",
            got=f"outputs = {shown(outputs)}",
        )
    triggers = {f"{place['id']}.{place['property']}" for place in callback["inputs"]}
    check_names(question.get("changedPropIds", []), "changedPropIds", triggers)


def _outputs(name: str) -> list[dict[str, str]]:
    """Return the outputs in a callback's name: ``"..a.value...b.data.."`` or ``"a.value"``."""
    parts = name[2:-2].split("...") if name.startswith("..") else [name]
    pairs = [part.rpartition(".") for part in parts]
    return [{"id": component, "property": prop} for component, _, prop in pairs]


def _check_places(value: Any, name: str, expected: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a list that differs from the components and properties of a callback."""
    places = value if isinstance(value, list) else []
    sent = [(place.get("id"), place.get("property")) for place in places if isinstance(place, dict)]
    required = [(place["id"], place["property"]) for place in expected]
    if not isinstance(value, list) or len(sent) != len(places) or sent != required:
        raise InputError(
            f"{name} must be the components of the callback, in its order",
            got=f"{name} = {shown(value)}",
            cause="the page was loaded from another release of the server",
            cure="load the page again",
        )


def check_names(value: Any, name: str, known: Collection[str]) -> list[str]:
    """Return ``value``, checked to be a list of known names."""
    is_list = isinstance(value, list)
    if not is_list or not all(isinstance(part, str) and part in known for part in value):
        raise InputError(
            f"{name} must be a list of names that the page knows", got=f"{name} = {shown(value)}"
        )
    return value


def check_question(body: Any, cards: Collection[str], num_fields: int) -> dict[str, Any]:
    """Return a request for soundings, checked.

    It contains ``values`` of the controls, ids of ``shown`` and ``narrow`` cards, and ``dark``.
    """
    question = _mapping(body, "the request")
    values = question.get("values")
    if not isinstance(values, list) or len(values) != num_fields:
        raise InputError(
            f"values must be a list of {num_fields} values, one for each control",
            got=f"values = {shown(values)}",
        )
    for name in ("shown", "narrow"):
        check_names(question.get(name), name, cards)
    if not isinstance(question.get("dark"), bool):
        raise InputError("dark must be true or false", got=f"dark = {shown(question.get('dark'))}")
    return question


def _mapping(value: Any, name: str) -> dict[str, Any]:
    """Return ``value``, checked to be a JSON object."""
    if not isinstance(value, dict):
        raise InputError(f"{name} must be a JSON object", got=shown(value))
    return value
