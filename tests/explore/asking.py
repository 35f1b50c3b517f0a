"""Requests to the server, in the form that the script of the page sends."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from leadline.explore.page._controls import to_control
from leadline.explore.page._room import Room
from leadline.explore.page._settings import fields_of

UPDATE = "_dash-update-component"

Body = dict[str, Any]


def outputs_of(name: str) -> Any:
    parts = name[2:-2].split("...") if name.startswith("..") else [name]
    places = [
        {"id": part.rpartition(".")[0], "property": part.rpartition(".")[2]} for part in parts
    ]
    return places if name.startswith("..") else places[0]


def body(dependency: Mapping[str, Any], values: Mapping[str, Any]) -> Body:
    """Return the body that the browser sends to a callback when its first input has changed.

    Args:
        dependency: an entry of the answer to ``_dash-dependencies``.
        values: values by the id of a component, or by ``"id.property"``; all other values are 1, as
            after a first click.
    """

    def filled(places: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        found = []
        for place in places:
            value = values.get(f"{place['id']}.{place['property']}", values.get(place["id"], 1))
            found.append({**place, "value": copy.deepcopy(value)})
        return found

    inputs, state = (filled(dependency[part]) for part in ("inputs", "state"))
    changed = [f"{inputs[0]['id']}.{inputs[0]['property']}"]
    asked = {
        "output": dependency["output"],
        "inputs": inputs,
        "changedPropIds": changed,
        "state": state,
    }
    return (
        asked if dependency["no_output"] else {**asked, "outputs": outputs_of(dependency["output"])}
    )


def of_server(dependencies: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the callbacks that the server answers; the page answers the others."""
    return (
        dependency for dependency in dependencies if dependency.get("clientside_function") is None
    )


def values_of(room: Room, settings: Any) -> dict[str, Any]:
    """Return the values of a room's controls, by the ids of the controls."""
    fields = fields_of(room.settings)
    return {
        room.id(field.name): to_control(field, getattr(settings, field.name)) for field in fields
    }


def question(room: Room, settings: Any) -> Body:
    """Return the request for the soundings of some settings, with all cards shown."""
    cards = [room.id(name) for name in room.cards]
    return {
        "values": list(values_of(room, settings).values()),
        "shown": cards,
        "narrow": cards[:1],
        "dark": False,
    }
