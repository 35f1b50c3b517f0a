"""Questions of a page, checked before they reach the code that answers them.

A page sends JSON: either the inputs of one of Dash's callbacks, or the question for soundings that
:class:`~leadline.explore.server._answers.Answers` answers line by line. Anybody who knows the token can send anything else.
Such a question is refused with status 400 and a message; the values inside a question are checked where they are used.
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

UPDATE = "_dash-update-component"
"""The last part of the address at which Dash's callbacks are asked."""


def check_questions(server: Flask, callbacks: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse malformed questions before Dash reads them, and answer every error with a message.

    Args:
        server: the application.
        callbacks: Dash's map of callbacks by the name of their output; filled when the first page is asked for.
    """

    @server.before_request
    def refuse() -> None:
        if request.method == "POST" and request.path.endswith(f"/{UPDATE}"):
            _check_update(received(), callbacks)

    @server.errorhandler(Exception)
    def explain(error: Exception) -> Response | HTTPException:
        if isinstance(error, HTTPException):
            return error
        if isinstance(error, LeadlineError):
            return Response(describe(error), 400, mimetype="text/plain")
        if isinstance(error, (DependencyException, FileNotFoundError)):
            return Response("there is no such file", 404, mimetype="text/plain")
        traceback.print_exception(error, file=sys.stderr)
        return Response(
            f"this could not be answered: {type(error).__name__}", 422, mimetype="text/plain"
        )


def received() -> Any:
    """The JSON of the request's body.

    Raises:
        InputError: the body is no JSON, or is nested too deep.
    """
    body = request.get_data()
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "a question is written in JSON", got=f"{len(body)} bytes", cause=str(error)[:100]
        ) from None


def _check_update(asked: Any, callbacks: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a question to a callback that does not exist, or with other inputs than the callback has."""
    question = _mapping(asked, "the question")
    output = question.get("output")
    known = callbacks.get(output) if isinstance(output, str) else None
    if known is None or "callback" not in known:  # without one, the page itself answers
        raise InputError(
            "output must be the name of a callback of this page", got=f"output = {shown(output)}"
        )
    for name, expected in (("inputs", known["inputs"]), ("state", known["state"])):
        _check_places(question.get(name, []), name, expected)
    outputs = question.get("outputs") or []
    expected = [] if known["no_output"] else _outputs(str(output))
    _check_places(outputs if isinstance(outputs, list) else [outputs], "outputs", expected)
    if isinstance(outputs, list) != (known["no_output"] or str(output).startswith("..")):
        raise InputError(
            "outputs must have the form of the callback's own", got=f"outputs = {shown(outputs)}"
        )
    triggers = {f"{place['id']}.{place['property']}" for place in known["inputs"]}
    check_names(question.get("changedPropIds", []), "changedPropIds", triggers)


def _outputs(name: str) -> list[dict[str, str]]:
    """The places that a callback's name lists: ``"..a.value...b.data.."`` or ``"a.value"``."""
    parts = name[2:-2].split("...") if name.startswith("..") else [name]
    pairs = [part.rpartition(".") for part in parts]
    return [{"id": component, "property": prop} for component, _, prop in pairs]


def _check_places(given: Any, name: str, expected: Sequence[Mapping[str, Any]]) -> None:
    places = given if isinstance(given, list) else []
    found = [
        (place.get("id"), place.get("property")) for place in places if isinstance(place, dict)
    ]
    wanted = [(place["id"], place["property"]) for place in expected]
    if not isinstance(given, list) or len(found) != len(places) or found != wanted:
        raise InputError(
            f"{name} must be the components of the callback, in its order",
            got=f"{name} = {shown(given)}",
            cause="the page is of another release than the server",
            cure="load the page again",
        )


def check_names(given: Any, name: str, known: Collection[str]) -> list[str]:
    """A list of names that the page knows."""
    if not isinstance(given, list) or not all(
        isinstance(part, str) and part in known for part in given
    ):
        raise InputError(
            f"{name} must be a list of names that the page knows", got=f"{name} = {shown(given)}"
        )
    return given


def check_question(asked: Any, cards: Collection[str], num_fields: int) -> dict[str, Any]:
    """A question for soundings: ``values`` of the controls, cards that are ``shown`` and ``narrow``, and ``dark``."""
    question = _mapping(asked, "the question")
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


def _mapping(asked: Any, name: str) -> dict[str, Any]:
    if not isinstance(asked, dict):
        raise InputError(f"{name} must be a JSON object", got=shown(asked))
    return asked
