"""The Dash application: the frame of the page, the controls and cards of a room, and callbacks."""

import json
from collections.abc import Sequence
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from flask import Response

import leadline
from leadline.errors import InputError, LeadlineError, describe
from leadline.explore.page._controls import controls, to_control
from leadline.explore.page._room import Card, PendingError, Room
from leadline.explore.page._settings import Draw, fields_of, from_query
from leadline.explore.server._answers import TYPES, Answers, file
from leadline.explore.server._questions import check_question, received

INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{%title%}</title>
{%favicon%}{%css%}
</head>
<body>{%app_entry%}<footer>
<script src="{%plotly%}"></script>
{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


class Page(Dash):
    """A Dash application without the polyfills for old browsers.

    The polyfills make string functions slow in current browsers.
    """

    def interpolate_index(self, *args: Any, **parts: Any) -> str:
        """Return the HTML of the page without the polyfill scripts."""
        scripts = parts["scripts"].split("\n")
        needed = [script for script in scripts if "/deps/polyfill" not in script]
        return super().interpolate_index(*args, **{**parts, "scripts": "\n".join(needed)})


def application(rooms: Sequence[Room], prefix: str) -> Dash:
    """Return a Dash application with one page for each room.

    Args:
        rooms: the rooms; an address without a known room name shows the first.
        prefix: the beginning of every address, such as ``"/secret/"``.
    """
    app = Page(
        "leadline.explore",
        title="Leadline explorer",
        update_title="",
        url_base_pathname=prefix,
        serve_locally=True,
        suppress_callback_exceptions=True,
        add_log_handler=False,
        index_string=INDEX.replace(
            "{%plotly%}", f"{prefix}_dash-component-suites/plotly/package_data/plotly.min.js"
        ),
    )
    app.layout = [
        dcc.Location(id="address", refresh=False),
        html.A("Skip to the content", href="#content", className="skip"),
        html.Header(
            [html.Span("Leadline", className="brand"), html.Nav(_links(rooms, prefix), id="rooms")],
            className="top",
        ),
        html.Main(id="content", tabIndex="-1"),
        html.P(
            f"Leadline {leadline.__version__}. This machine computes all results.",
            className="foot",
        ),
    ]
    by_name = {room.name: room for room in rooms}

    @app.callback(
        Output("content", "children"),
        Output("rooms", "children"),
        Input("address", "pathname"),
        State("address", "search"),
    )
    def show_room(path: Any, search: Any) -> tuple[list[Component], list[Component]]:
        name = path.removeprefix(prefix).strip("/") if isinstance(path, str) else ""
        room = by_name.get(name, rooms[0])
        return _layout(room, search if isinstance(search, str) else ""), _links(rooms, prefix, room)

    for room in rooms:
        _connect(app, room, prefix)
    return app


def _links(rooms: Sequence[Room], prefix: str, shown_room: Room | None = None) -> list[Component]:
    """Return a link to each room; the link to the shown room is marked."""
    links = []
    for room in rooms:
        current = aria(current="page") if room is shown_room else {}
        link = dcc.Link(room.name, href=f"{prefix}{room.name}", className="here" if current else "")
        links.append(html.Span(link, **current))
    return links


def _layout(room: Room, search: str) -> list[Component]:
    """Return the components of a room with the settings of an address.

    If the settings cannot be read, the page shows the defaults and a message.
    """
    try:
        settings = from_query(room.settings, search)
        trouble = ""
    except InputError as error:
        settings = room.settings()
        trouble = describe(error)
    buttons = [
        _preset(room, "reset", room.settings()),
        *(_preset(room, *item) for item in room.presets.items()),
    ]
    return [
        html.H1(room.title),
        html.P(room.lead, className="lead"),
        html.Div(
            [*buttons[1:], buttons[0]], className="presets", role="group", **aria(label="Presets")
        ),
        html.Pre(trouble, id=room.id("refused"), className="trouble", role="alert"),
        html.Pre(id=room.id("trouble"), className="trouble", role="alert"),
        html.P(id=room.id("notes"), className="notes", role="status"),
        html.Div(
            [
                html.Form(controls(room, settings), className="controls", id=room.id("controls")),
                html.Div(
                    [
                        html.Div(list(room.extra(settings)), className="extra"),
                        html.Div(
                            [_card(room, *item) for item in room.cards.items()], className="cards"
                        ),
                        html.Details(
                            [
                                html.Summary(
                                    "code", title="Python code that makes the same soundings"
                                ),
                                html.Div(
                                    [
                                        dcc.Clipboard(
                                            target_id=room.id("code"),
                                            className="copy",
                                            title="Copy the code",
                                        ),
                                        html.Pre(html.Code(id=room.id("code")), tabIndex="0"),
                                    ],
                                    className="code",
                                ),
                            ],
                            id=room.id("details"),
                        ),
                    ],
                    className="shown",
                ),
            ],
            className="room",
        ),
        dcc.Store(id=room.id("changed")),
        dcc.Download(id=room.id("download")),
    ]


def _preset(room: Room, label: str, settings: Any) -> Component:
    """Return a button that sets all controls; it stores their values in ``data-values``."""
    values = {
        room.id(field.name): to_control(field, getattr(settings, field.name))
        for field in fields_of(room.settings)
    }
    name = "reset" if label == "reset" else ""
    data = {"data-values": json.dumps(values)}
    return html.Button(label, type="button", className=name, **data)  # type: ignore[arg-type]


def aria(**attributes: str) -> dict[str, Any]:
    """Return ARIA attributes for screen readers; ``label`` becomes ``aria-label``."""
    return {f"aria-{name}": text for name, text in attributes.items()}


FORMATS = {
    "csv": "the numbers as a table",
    "json": "the numbers, the verdict and the settings",
    "html": "the interactive figure as a page",
    "svg": "the figure as a vector graphic",
    "png": "the figure as an image",
}
"""Formats of the downloads, each with its content for the tooltip."""


def _card(room: Room, name: str, card: Card) -> Component:
    """Return a card: heading, download buttons, verdict, figure and table."""
    files = [
        html.Button(form, id=room.id(name, form), type="button", title=f"Download {content}")
        for form, content in FORMATS.items()
    ]
    heading = room.id(name, "heading")
    return html.Article(
        [
            html.Header(
                [
                    html.H2(card.heading, id=heading),
                    html.Div(
                        files,
                        className="files",
                        role="group",
                        **aria(label=f"Download: {card.heading}"),
                    ),
                ]
            ),
            html.P(
                id=room.id(name, "words"),
                className="words",
                style={"--lines": card.lines},
                **aria(live="polite"),
            ),
            # A figure that is larger than its frame scrolls.
            html.Div(
                html.Div(
                    id=room.id(name, "figure"),
                    className="figure",
                    style={"height": f"{card.height}px"},
                ),
                className="frame",
                style={"maxHeight": f"{card.height + 16}px"},
            ),
            html.Div(id=room.id(name, "rows"), className="rows"),
        ],
        id=room.id(name),
        className="card wide" if card.wide else "card",
        **aria(labelledby=heading),
    )


def _connect(app: Dash, room: Room, prefix: str) -> None:
    """Add the callbacks and the answer address of a room to the application."""
    fields = fields_of(room.settings)
    controls_of_room = [(room.id(field.name), "value") for field in fields]
    app.clientside_callback(
        ClientsideFunction("leadline", "changed"),
        # Dash does not call a callback without output when the controls appear on the page.
        Output(room.id("changed"), "data"),
        *(Input(*control) for control in controls_of_room),
    )
    answers = Answers(room)

    @app.server.post(f"{prefix}answer/{room.name}", endpoint=f"answer {room.name}")
    def answer() -> Response:
        cards = [room.id(name) for name in room.cards]
        question = check_question(received(), cards, len(fields))
        return Response(answers.lines(question), mimetype="application/x-ndjson")

    for field in fields:
        if isinstance(field.kind, Draw):
            at = room.id(field.name)

            app.clientside_callback(
                ClientsideFunction("leadline", "next"),
                Output(at, "value", allow_duplicate=True),
                Input(f"{at}-next", "n_clicks"),
                State(at, "value"),
                prevent_initial_call=True,
            )

    for name, card in room.cards.items():
        for form in ("svg", "png"):
            app.clientside_callback(
                ClientsideFunction("leadline", form),
                Input(room.id(name, form), "n_clicks"),
                State(room.id(name, "figure"), "id"),
                prevent_initial_call=True,
            )

        @app.callback(
            Output(room.id("download"), "data", allow_duplicate=True),
            *(Input(room.id(name, form), "n_clicks") for form in ("csv", "json", "html")),
            *(State(*control) for control in controls_of_room),
            prevent_initial_call=True,
        )
        def download(
            csv: Any, as_json: Any, as_html: Any, *values: Any, name: str = name, card: Card = card
        ) -> Any:
            """Send a file with the numbers or the figure of a card."""
            form = str(ctx.triggered_id).rpartition("-")[2]
            if not (csv or as_json or as_html) or form not in TYPES:
                return no_update
            try:
                sounding = dict(answers.soundings(answers.settings(values))).get(name)
            except (LeadlineError, PendingError):
                # The settings are invalid or their result is not ready, so there is no sounding.
                return no_update
            if sounding is None:
                return no_update
            return {
                "filename": f"{room.name}-{name}.{form}",
                "content": file(sounding, card, form),
                "type": TYPES[form],
            }

    if room.connect is not None:
        room.connect(app)
