"""Report of any soundings on one page: verdicts, figures and protocols."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from leadline.report._page import place, render
from leadline.report._parts import described
from leadline.sounding import Protocol


@dataclass(frozen=True, eq=False)
class Chapter:
    """A section of the page that shows one sounding."""

    heading: str
    sentences: Sequence[str]
    """Results, one paragraph each."""
    figures: Sequence[go.Figure]
    """Figures of the section; the heading is the caption of each."""
    protocol: Protocol
    file: str = ""
    """Name of the file with the numbers, in the folder of the page; empty if there is none."""
    code: str = ""
    """Preformatted lines that are shown below the sentences, such as a program."""


def soundings_page(title: str, lead: str, chapters: Sequence[Chapter]) -> str:
    """Return one self-contained HTML page.

    Args:
        title: title of the page, as plain text.
        lead: one sentence that describes the work; text between backticks is code.
        chapters: sections, in the order of the page.
    """
    figures = {
        f"figure-{i}-{j}": figure
        for i, chapter in enumerate(chapters)
        for j, figure in enumerate(chapter.figures)
    }
    places = [
        [
            place(f"figure-{i}-{j}", figure, chapter.heading)
            for j, figure in enumerate(chapter.figures)
        ]
        for i, chapter in enumerate(chapters)
    ]
    shown = [
        {"chapter": chapter, "places": where, "protocol": list(described(chapter.protocol))}
        for chapter, where in zip(chapters, places, strict=True)
    ]
    return render("soundings.html", figures, title=title, lead=lead, shown=shown)
