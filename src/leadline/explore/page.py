"""The page: its frame, each room's controls and cards, and how a move becomes an answer."""

import json
import math
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

import leadline
from leadline.errors import InputError, describe
from leadline.explore.controls import controls, from_control, to_control
from leadline.explore.room import Card, PendingError, Room
from leadline.explore.settings import Draw, fields_of, from_query, from_values, to_query
from leadline.figures import merged, stacked
from leadline.sounding import Sounding

INK = {False: "#1d2733", True: "#e4e8ec"}
"""Colour of a figure's text, in light and in dark."""

INDEX = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{%title%}</title>
{%favicon%}{%css%}
</head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def application(rooms: Sequence[Room], prefix: str) -> Dash:
    """The pages of some rooms.

    Args:
        rooms: the first is shown where the address names none.
        prefix: what every address begins with, ``"/secret/"``.
    """
    app = Dash(
        "leadline.explore",
        title="Leadline explorer",
        update_title="",
        url_base_pathname=prefix,
        serve_locally=True,
        suppress_callback_exceptions=True,
        add_log_handler=False,
        index_string=INDEX,
    )
    app.layout = [
        dcc.Location(id="address", refresh=False),
        html.A("Skip to the content", href="#content", className="skip"),
        html.Header(
            [html.Span("Leadline", className="brand"), html.Nav(_links(rooms, prefix), id="rooms")], className="top"
        ),
        html.Main(id="content", tabIndex="-1"),
        html.P(f"Leadline {leadline.__version__}. All of this is computed on this machine.", className="foot"),
    ]
    by_name = {room.name: room for room in rooms}

    @app.callback(
        Output("content", "children"),
        Output("rooms", "children"),
        Input("address", "pathname"),
        State("address", "search"),
    )
    def enter(path: str, search: str) -> tuple[list[Component], list[Component]]:
        room = by_name.get(path.removeprefix(prefix).strip("/"), rooms[0])
        return _layout(room, search or ""), _links(rooms, prefix, room)

    for room in rooms:
        _connect(app, room)
    return app


def _links(rooms: Sequence[Room], prefix: str, here: Room | None = None) -> list[Component]:
    links = []
    for room in rooms:
        current = aria(current="page") if room is here else {}
        link = dcc.Link(room.name, href=f"{prefix}{room.name}", className="here" if current else "")
        links.append(html.Span(link, **current))
    return links


def _layout(room: Room, search: str) -> list[Component]:
    """A room with the settings of an address; with the usual ones, and a message, where they cannot be read."""
    try:
        settings, trouble = from_query(room.settings, search), ""
    except InputError as error:
        settings, trouble = room.settings(), describe(error)
    presets = {"reset": room.settings(), **room.presets}
    buttons = [
        html.Button(label, id={"room": room.name, "preset": i}, type="button", className="reset" if i == 0 else "")
        for i, label in enumerate(presets)
    ]
    return [
        html.H1(room.title),
        html.P(room.lead, className="lead"),
        html.Div([*buttons[1:], buttons[0]], className="presets", role="group", **aria(label="Presets")),
        html.Pre(trouble, id=room.id("refused"), className="trouble", role="alert"),
        html.Pre(id=room.id("trouble"), className="trouble", role="alert"),
        html.P(id=room.id("notes"), className="notes", role="status"),
        html.Div(
            [
                html.Form(controls(room, settings), className="controls", id=room.id("controls")),
                html.Div(
                    [
                        html.Div(list(room.extra(settings)), className="extra"),
                        html.Div([_card(room, *item) for item in room.cards.items()], className="cards"),
                        html.Details(
                            [
                                html.Summary("code", title="The Python that makes the same soundings"),
                                html.Div(
                                    [
                                        dcc.Clipboard(target_id=room.id("code"), className="copy", title="copy"),
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
        dcc.Store(id=room.id("asked")),
        dcc.Store(id=room.id("answered")),
        dcc.Download(id=room.id("download")),
    ]


def aria(**told: str) -> dict[str, Any]:
    """What a screen reader is told, as attributes of an element."""
    return {f"aria-{name}": text for name, text in told.items()}


BLANK = {
    **{axis: {"visible": False} for axis in ("xaxis", "yaxis")},
    **dict.fromkeys(("paper_bgcolor", "plot_bgcolor"), "rgba(0,0,0,0)"),
}
"""Of a figure that is not there yet."""


def _blank(card: Card) -> dict[str, Any]:
    return {"data": [], "layout": {"height": card.height, **BLANK}}


FORMATS = {
    "csv": "the numbers as a table",
    "json": "the numbers and how they were taken",
    "html": "the figure as a page of its own",
    "svg": "the figure as a drawing",
    "png": "the figure as an image",
}


def _card(room: Room, name: str, card: Card) -> Component:
    graph = dcc.Graph(
        id=room.id(name, "figure"),
        figure=_blank(card),
        config={"displaylogo": False, "displayModeBar": False, "responsive": True},
        style={"height": f"{card.height}px"},
    )
    files = [
        html.Button(form, id=room.id(name, form), type="button", title=f"Download {told}")
        for form, told in FORMATS.items()
    ]
    heading = room.id(name, "heading")
    return html.Article(
        [
            html.Header(
                [
                    html.H2(card.heading, id=heading),
                    html.Div(files, className="files", role="group", **aria(label=f"Download: {card.heading}")),
                ]
            ),
            html.P(id=room.id(name, "words"), className="words", style={"--lines": card.lines}, **aria(live="polite")),
            # A figure that needs more room than it has is scrolled.
            html.Div(graph, className="frame", style={"maxHeight": f"{card.height + 16}px"}),
            html.Div(id=room.id(name, "rows"), className="rows"),
        ],
        id=room.id(name, "card"),
        className="card wide" if card.wide else "card",
        **aria(labelledby=heading),
    )


PARTS = (("figure", "figure"), ("words", "children"), ("rows", "children"))
"""What an answer changes in a card."""


def _rows(table: Any) -> Component:
    """A table of a sounding, for reading."""

    def cell(value: Any) -> Component:
        if isinstance(value, float):
            return html.Td(f"{value:.4g}".replace("-", "−") if math.isfinite(value) else "−∞" if value < 0 else "∞")
        return html.Td(value if isinstance(value, str) else f"{value:,}")

    heads = html.Tr([html.Th(str(name).replace("_", " "), scope="col") for name in table.columns])
    body = [html.Tr([cell(value) for value in row]) for row in table.itertuples(index=False)]
    return html.Table([html.Thead(heads), html.Tbody(body)])


def _connect(app: Dash, room: Room) -> None:
    """The callbacks of a room."""
    fields = fields_of(room.settings)
    held = [(room.id(field.name), "value") for field in fields]
    app.clientside_callback(
        ClientsideFunction("leadline", "moved"),
        Output(room.id("asked"), "data"),
        *(Input(*control) for control in held),
    )
    app.clientside_callback(
        ClientsideFunction("leadline", "answered"), Input(room.id("answered"), "data"), prevent_initial_call=True
    )

    # Tracing a model is no affair of several threads, and two answers at once would take twice as long each.
    one_at_a_time = threading.Lock()

    @lru_cache(maxsize=8)
    def taken(settings: Any, stage: int | None) -> Mapping[str, Sounding]:
        return room.take(settings)

    def take(settings: Any, stage: int | None) -> Mapping[str, Sounding]:
        with one_at_a_time:
            return taken(settings, stage)

    @app.callback(
        [Output(room.id(name, part), of) for name in room.cards for part, of in PARTS],
        Output(room.id("code"), "children"),
        Output(room.id("trouble"), "children"),
        Output(room.id("notes"), "children"),
        Output(room.id("answered"), "data"),
        *(Output(room.id(part), of) for part, of in room.follows),
        Input(room.id("asked"), "data"),
        prevent_initial_call=True,
    )
    def answer(asked: dict[str, Any]) -> tuple[Any, ...]:
        nothing, stays = [no_update] * (len(PARTS) * len(room.cards) + 1), [no_update] * len(room.follows)
        reply = {"count": asked["count"], "query": None, "silent": {}, "ends": {}, "sizes": {}, "again": False}
        try:
            settings = read(asked["values"])
            stage = room.stage(settings)
            soundings = take(settings, stage)
            drawn: list[Any] = [part for name in room.cards for part in show(name, soundings.get(name), asked)]
            silent, sizes = room.silent(settings), {}
            for name, figure in zip(room.cards, drawn[:: len(PARTS)], strict=True):
                if figure is not no_update:
                    sizes[room.id(name, "figure")] = [least_width(figure), figure["layout"]["height"]]
            reply |= {
                "query": to_query(settings),
                "silent": {room.id(field.name): field.name in silent for field in fields},
                "ends": {room.id(name): end for name, end in room.ends(settings).items()},
                "sizes": sizes,
                "again": stage is not None,
            }
            return *drawn, room.code(settings), "", room.tell(settings), reply, *room.follow(settings)
        except PendingError as pending:
            return *nothing, "", str(pending), reply | {"again": True}, *stays
        except InputError as error:
            return *nothing, describe(error), "", reply, *stays
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            return *nothing, f"this could not be measured: {type(error).__name__}: {error}", "", reply, *stays

    def least_width(drawing: Mapping[str, Any]) -> int:
        """Pixels that a figure of boxes needs; 0 for one that fits anywhere."""
        return (drawing["layout"].get("meta") or {}).get("min_width", 0)

    def read(values: Sequence[Any]) -> Any:
        return from_values(room.settings, [from_control(f, v) for f, v in zip(fields, values, strict=True)])

    def show(name: str, sounding: Sounding | None, asked: dict[str, Any]) -> tuple[Any, str, Any]:
        if sounding is None:
            return _blank(room.cards[name]), "", None
        columns = list(room.cards[name].rows)
        rows = _rows(sounding.table()[columns]) if columns else None
        if room.id(name, "card") not in asked["shown"]:
            return no_update, str(sounding.verdict), rows
        figure = figure_of(name, sounding)
        if room.id(name, "card") in asked["narrow"]:
            figure["layout"] = stacked(figure["layout"])
        figure["layout"]["font"]["color"] = INK[asked["dark"]]
        return figure, str(sounding.verdict), rows

    def figure_of(name: str, sounding: Sounding) -> dict[str, Any]:
        card = room.cards[name]
        figure = card.draw(sounding) if card.draw else sounding.figure()
        drawing = cast("dict[str, Any]", figure.to_plotly_json())
        # The heading stands above; a title would say it again.
        own = {
            "height": max(card.height, drawing["layout"]["height"]) if least_width(drawing) else card.height,
            "autosize": True,
            "title": {"text": ""},
            "margin": {"t": 28},
            "uirevision": "kept",
        }
        drawing["layout"] = merged(drawing["layout"], merged(own, card.layout))
        return drawing

    @app.callback(
        [Output(*control, allow_duplicate=True) for control in held],
        Input({"room": room.name, "preset": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    def preset(_: list[int | None]) -> list[Any]:
        if not ctx.triggered[0]["value"]:  # the buttons have only come onto the page
            return [no_update] * len(fields)
        chosen = [room.settings(), *room.presets.values()][cast("dict[str, int]", ctx.triggered_id)["preset"]]
        return [to_control(field, getattr(chosen, field.name)) for field in fields]

    for field in fields:
        if isinstance(field.kind, Draw):
            at = room.id(field.name)

            @app.callback(
                Output(at, "value", allow_duplicate=True),
                Input(f"{at}-next", "n_clicks"),
                State(at, "value"),
                prevent_initial_call=True,
            )
            def following(presses: int | None, value: int | None) -> Any:
                return (value or 0) + 1 if presses else no_update

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
            State(room.id("asked"), "data"),
            prevent_initial_call=True,
        )
        def download(
            csv: Any, as_json: Any, as_html: Any, asked: dict[str, Any] | None, name: str = name, card: Card = card
        ) -> Any:
            if asked is None or not (csv or as_json or as_html):
                return no_update
            try:
                settings = read(asked["values"])
                sounding = take(settings, room.stage(settings)).get(name)
            except InputError:  # what stands on the page is of other settings than the controls'
                return no_update
            if sounding is None:
                return no_update
            form = str(ctx.triggered_id).rpartition("-")[2]
            content = _file(sounding, card, form)
            return {"filename": f"{room.name}-{name}.{form}", "content": content, "type": TYPES[form]}

    if room.connect is not None:
        room.connect(app)


TYPES = {"csv": "text/csv", "json": "application/json", "html": "text/html"}


def _file(sounding: Sounding, card: Card, form: str) -> str:
    if form == "csv":
        return sounding.table().to_csv(index=False)
    if form == "json":
        protocol = sounding.protocol
        document = {
            "verdict": str(sounding.verdict),
            "settings": dict(protocol.settings),
            "seeds": list(protocol.seeds),
            "versions": dict(protocol.versions),
            "rows": [
                {name: _number(value) for name, value in row.items()} for row in sounding.table().to_dict("records")
            ],
        }
        return json.dumps(document, indent=1, allow_nan=False, default=str)
    figure = card.draw(sounding) if card.draw else sounding.figure()
    return figure.to_html(full_html=True, include_plotlyjs=True)


def _number(value: Any) -> Any:
    """As it is, or by its name where JSON has no such number: an infinity is not to be lost."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
