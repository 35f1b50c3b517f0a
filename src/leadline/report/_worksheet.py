"""The worksheet as HTML, JSON and Markdown.

Timings go to a separate file, so that equal results give equal files.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path

import plotly.graph_objects as go

from leadline import checks, storage
from leadline.report._markdown import as_markdown
from leadline.report._page import interval_picture, place, render
from leadline.report._parts import (
    by_section,
    checked,
    command,
    described,
    disagreement,
    first_effect,
    headline,
    parts,
)
from leadline.report._record import as_json
from leadline.worksheet import Answer, Result, Setting

FILES = ("index.html", "worksheet.json", "worksheet.md", "timings.json")
"""Names of the files that :func:`write` writes."""

STATUSES = ("supported", "refuted", "undecided", "failed", "not measured yet")


def write(results: Sequence[Result], setting: Setting, folder: str | PathLike[str]) -> Path:
    """Write the worksheet as HTML, JSON and Markdown, and its timings, into a folder.

    The files are ``index.html``, ``worksheet.json``, ``worksheet.md`` and ``timings.json``.

    Args:
        results: one result per statement, in the order of the page.
        setting: the setting of the measurements.
        folder: output folder; it is created if it does not exist.

    Returns:
        The path of the page.

    Raises:
        InputError: the folder contains a file with one of these names that Leadline did not write.
        SaveError: a file could not be written; an earlier file of that name is unchanged.
    """
    results = checked(results, setting)
    with storage.output_folder(checks.path(folder, "folder"), files=FILES) as outputs:
        return write_into(outputs, results, setting)


def write_into(outputs: storage.OutputFolder, results: Sequence[Result], setting: Setting) -> Path:
    """Write the four files into a folder that is already locked; see :func:`write`."""
    earlier = _earlier(outputs.folder / "timings.json")
    timings = {**earlier, **{r.statement.id: r.seconds for r in results if r.seconds}}
    rounded = {name: round(seconds, 3) for name, seconds in timings.items()}
    contents = {
        "worksheet.json": storage.canonical_json(as_json(results, setting)),
        "worksheet.md": as_markdown(results, setting),
        "timings.json": storage.canonical_json(rounded),
        "index.html": as_html(results, setting, timings),
    }
    outputs.write_together(contents)
    return outputs.folder / "index.html"


def as_html(results: Sequence[Result], setting: Setting, timings: Mapping[str, float]) -> str:
    """Return the page: a table of all statements, then one section for each.

    Args:
        results: one result per statement, in the order of the page.
        setting: the setting of the measurements.
        timings: seconds by statement id.
    """
    results = checked(results, setting)
    timings = {
        checks.text(name, "a name in timings"): checks.number(
            seconds, f"timings[{name!r}]", least=0
        )
        for name, seconds in checks.mapping(timings, "timings").items()
    }
    shown = {r.statement.id: _shown(r.answer) for r in results if r.answer is not None}
    figures = {
        name: figure for pictures in shown.values() for name, (figure, _) in pictures.items()
    }
    return render(
        "worksheet.html",
        figures,
        sections=by_section(results),
        tally=_tally(results),
        times={
            r.statement.id: duration(timings.get(r.statement.id))
            for r in results
            if r.answer or r.failure
        },
        places={
            statement: [(place(name, *picture), picture[1]) for name, picture in pictures.items()]
            for statement, pictures in shown.items()
        },
        commands={r.statement.id: command(r, setting) for r in results},
        headline=headline,
        first_effect=first_effect,
        disagreement=disagreement,
        parts=parts,
        described=described,
        picture=interval_picture,
    )


def _shown(answer: Answer) -> dict[str, tuple[go.Figure, str]]:
    """Return figures with captions, by name: the answer's own, then those of its soundings."""
    figure = f"figure-{answer.statement_id}"
    further = list(answer.soundings.items())[1:]
    return {
        figure: (answer.figure(), answer.verdict.sentence),
        **{
            f"{figure}-{name}": (sounding.figure(), sounding.verdict.sentence)
            for name, sounding in further
        },
    }


def duration(seconds: float | None) -> str:
    """Return a duration as text for a narrow column.

    >>> duration(0.034), duration(12.3), duration(150), duration(None)
    ('0.03 s', '12 s', '150 s', '')
    """
    if seconds is None:
        return ""
    return (
        f"{seconds:z.2f} s"
        if seconds < 1
        else f"{seconds:z.1f} s"
        if seconds < 10
        else f"{seconds:z.0f} s"
    )


def _tally(results: Sequence[Result]) -> dict[str, int]:
    """Return the number of statements for each status."""
    counts = Counter(result.status for result in results)
    return {status: counts[status] for status in STATUSES if counts[status]}


def _earlier(path: Path) -> dict[str, float]:
    """Return the timings that an earlier run saved; empty if there are none."""
    with suppress(OSError, TypeError, ValueError, OverflowError):
        seconds = {
            str(name): float(value)
            for name, value in dict(storage.parse_json(storage.read(path))).items()
        }
        return {name: value for name, value in seconds.items() if math.isfinite(value)}
    return {}
