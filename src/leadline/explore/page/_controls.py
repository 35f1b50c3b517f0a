"""Dash components for the fields of a settings class."""

from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from leadline.explore.page._room import Room
from leadline.explore.page._settings import Between, Choice, Draw, Field, Switch, Text, fields_of


def controls(room: Room, settings: Any) -> list[Component]:
    """Return all controls of a room, grouped under headings and set to ``settings``."""
    known = {field.name: field for field in fields_of(room.settings)}
    groups = room.groups or {"": list(known)}
    return [
        html.Fieldset(
            [
                html.Legend(heading),
                *(_row(room, known[name], getattr(settings, name)) for name in names),
            ],
            className="group",
        )
        for heading, names in groups.items()
    ]


def value_of(room: Room, field: Field) -> tuple[str, str]:
    """Return the id of a field's control, and the property that holds its value."""
    return room.id(field.name), "value"


def to_control(field: Field, value: Any) -> Any:
    """Convert a value of the field to the value of its control."""
    return ["on"] * bool(value) if isinstance(field.kind, Switch) else value


def from_control(field: Field, value: Any) -> Any:
    """Convert the value of a control to a value that the field can read."""
    return value == ["on"] if isinstance(field.kind, Switch) else value


def _row(room: Room, field: Field, value: Any) -> Component:
    """Return the label and the control of a field; its help text is the tooltip."""
    at = room.id(field.name)
    label = html.Label(field.label, htmlFor=at, id=f"{at}-label")
    parts: list[Component]
    match field.kind:
        case Between(low, high, step):
            slider = dcc.Input(
                id=at, type="range", min=low, max=high, step=step, value=value, className="slider"
            )
            parts = [
                label,
                html.Output(field.kind.write(value), id=f"{at}-shown", htmlFor=at),
                slider,
            ]
        case Draw(button):
            number = dcc.Input(
                id=at, type="number", min=0, max=2**31 - 1, step=1, value=value, className="seed"
            )
            parts = [label, number, html.Button(button, id=f"{at}-next", type="button")]
        case Choice(names):
            options = dcc.RadioItems(list(names), value, id=at, inline=True, className="choice")
            parts = [html.Span(field.label, id=f"{at}-label", className="label"), options]
        case Switch():
            switch = dcc.Checklist(
                [{"label": field.label, "value": "on"}], to_control(field, value), id=at
            )
            parts = [switch]
        case Text(longest, 1):
            text = dcc.Input(
                id=at, type="text", maxLength=longest, value=value, debounce=0.2, className="text"
            )
            parts = [label, text]
        case Text(longest, rows):
            parts = [
                label,
                dcc.Textarea(id=at, maxLength=longest, rows=rows, value=value, className="text"),
            ]
        case kind:
            parts = [label, kind.control(at, value)]  # type: ignore[attr-defined]
    return html.Div(
        parts,
        id=f"{at}-row",
        className=f"row {type(field.kind).__name__.lower()}",
        title=field.help,
    )
