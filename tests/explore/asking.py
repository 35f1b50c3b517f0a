"""Questions to the callbacks of a page, as Dash's own script in the browser writes them."""

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
    """What the browser sends to a callback when its first input has changed.

    Args:
        dependency: an entry of what ``_dash-dependencies`` answers.
        values: of components by id, or of one property by ``"id.property"``; 1 for others, as after a first click.
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
    """The callbacks that the server answers; all others are answered by the page."""
    return (
        dependency for dependency in dependencies if dependency.get("clientside_function") is None
    )


def values_of(room: Room, settings: Any) -> dict[str, Any]:
    """What the controls of a room hold, by their ids."""
    fields = fields_of(room.settings)
    return {
        room.id(field.name): to_control(field, getattr(settings, field.name)) for field in fields
    }


def question(room: Room, settings: Any) -> Body:
    """What the page asks for the soundings of some settings, with every card in sight."""
    cards = [room.id(name) for name in room.cards]
    return {
        "values": list(values_of(room, settings).values()),
        "shown": cards,
        "narrow": cards[:1],
        "dark": False,
    }
