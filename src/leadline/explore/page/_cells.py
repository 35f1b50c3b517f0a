"""The course's table of two words: an editor of its cells, and their form in an address."""

import re
from dataclasses import dataclass
from itertools import product
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component

from leadline.explore.page._settings import Kind, plain_text

PREFIXES = tuple(prefix for length in range(3) for prefix in product((0, 1), repeat=length))
"""Prefixes of rows 1 to 7, as indices of words."""

ROWS = (
    "-0.65 -0.73",
    "-0.80 -0.60",
    "-0.60 -0.80",
    "-0.01 -4.61",
    "-0.80 -0.60",
    "-0.80 -0.60",
    "-0.60 -0.80",
)
"""The course's log-probabilities of the two words, row by row."""

COURSE = {
    f"{column}{number}": text
    for number, row in enumerate(ROWS, 1)
    for column, text in zip("ABC", [*row.split(), ""], strict=True)
}
"""The course's numbers by cell: columns A and B for the words, empty column C for the end token."""

LONGEST = 21 * 28
"""Largest length of the text: 21 cells, each with a name, 24 characters and a separator."""

CELL = re.compile(r"([A-C][1-7])([^_]{0,24})")
"""A cell in the text: its name and its number."""


@dataclass(frozen=True)
class Cells(Kind):
    """Cells that differ from the course's table: ``"A4-0.5_C1"`` sets A4 and empties C1."""

    def read(self, value: Any) -> str:
        """Return the text with its cells in the order of the table."""
        text = plain_text(value)
        if len(text) > LONGEST:
            raise ValueError
        return written(cells(text))

    @property
    def rule(self) -> str:
        """The form of the text, for error messages."""
        return "cells (A to C, 1 to 7) with numbers, joined by _, such as A4-0.5_B4-0.9"

    def control(self, at: str, value: str) -> Component:
        """Return a table of inputs, and a hidden input with the text of all cells."""
        texts = cells(value)
        heads = [
            html.Th(""),
            *(_heading(word) for word in (0, 1)),
            html.Th("<end>", className="end"),
        ]
        rows = [
            html.Tr(
                [
                    html.Th(_prefix(prefix), scope="row"),
                    *(
                        html.Td(
                            dcc.Input(
                                id=f"{at}-{name}",
                                type="text",
                                value=texts[name],
                                debounce=0.4,
                                maxLength=24,
                                autoComplete="off",
                            ),
                            className="end" if name[0] == "C" else "",
                            **{"data-course": COURSE[name]},  # type: ignore[arg-type]
                        )
                        for name in (f"{column}{number}" for column in "ABC")
                    ),
                ]
            )
            for number, prefix in enumerate(PREFIXES, 1)
        ]
        table = html.Table(
            [html.Thead(html.Tr(heads)), html.Tbody(rows)], className="cells", id=f"{at}-cells"
        )
        return html.Div([dcc.Input(id=at, type="hidden", value=value), table])


def cells(text: str) -> dict[str, str]:
    """Return the text of every cell; a cell that ``text`` does not name has the course's number.

    >>> cells("A4-0.5")["A4"], cells("")["B4"]
    ('-0.5', '-4.61')
    """
    texts = dict(COURSE)
    for part in text.split("_") if text else ():
        match = CELL.fullmatch(part)
        if not match:
            raise ValueError(part)
        texts[match[1]] = match[2].strip()
    return texts


def written(texts: dict[str, str]) -> str:
    """Return the text that names only the edited cells; the inverse of :func:`cells`."""
    return "_".join(name + text for name, text in texts.items() if text != COURSE[name])


def connect(app: Dash, at: str, words: tuple[str, str], end: str) -> None:
    """Add the callbacks that keep the text, the inputs and the headings consistent.

    Args:
        app: the application.
        at: id of the control of the text.
        words: ids of the controls of the two words.
        end: id of the control of the end token.
    """
    inputs = [f"{at}-{name}" for name in COURSE]
    app.clientside_callback(
        ClientsideFunction("cells", "write"),
        Output(at, "value", allow_duplicate=True),
        *(Input(cell, "value") for cell in inputs),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        ClientsideFunction("cells", "read"),
        Input(at, "value"),
        *(State(cell, "value") for cell in inputs),
    )
    app.clientside_callback(
        ClientsideFunction("cells", "name"),
        Output(f"{at}-cells", "className"),
        Input(words[0], "value"),
        Input(words[1], "value"),
        Input(end, "value"),
        State(f"{at}-cells", "id"),
    )


def _heading(word: int) -> Component:
    return html.Th("", className=f"word-{word}", scope="col")


def _prefix(prefix: tuple[int, ...]) -> list[Component] | str:
    return [html.Span("", className=f"word-{word}") for word in prefix] or "start"
