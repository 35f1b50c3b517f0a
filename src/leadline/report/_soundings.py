"""Soundings of any kind on one page: what each says, its figures, and how it was taken."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from leadline.report._page import place, render
from leadline.report._parts import described
from leadline.sounding import Protocol


@dataclass(frozen=True, eq=False)
class Chapter:
    """One sounding on the page."""

    heading: str
    sentences: Sequence[str]
    """What was found, one paragraph each."""
    figures: Sequence[go.Figure]
    """Each is captioned by the heading."""
    protocol: Protocol
    file: str = ""
    """Where its numbers are, beside the page, if they are."""
    code: str = ""
    """Lines to show below the sentences as they stand: a program, an answer."""


def soundings_page(title: str, lead: str, chapters: Sequence[Chapter]) -> str:
    """One HTML file with everything inside.

    Args:
        title: of the page; plain text.
        lead: what was done, in a sentence; code between backticks.
        chapters: in the order in which they are shown.
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
