"""A self-contained HTML page with its style, script, figures and Plotly; it requests nothing."""

import base64
import gzip
import math
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

import leadline
from leadline.sounding import Interval


def render(template: str, figures: Mapping[str, go.Figure], **values: Any) -> str:
    """Return a page made from a template, with all its resources embedded.

    Args:
        template: name of a template in this package that extends ``base.html``.
        figures: figures by the name in the template (``data-figure="name"``).
        values: variables of the template; all text is escaped.
    """
    environment = Environment(
        loader=PackageLoader("leadline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = prose
    return environment.get_template(template).render(
        version=leadline.__version__,
        style=_asset("style.css"),
        script=_asset("page.js"),
        plotly=_plotly() if figures else "",
        figures={name: _json(figure) for name, figure in figures.items()},
        **values,
    )


def prose(text: str) -> Markup:
    """Escape text and format code between backticks and formulas such as ``W_h^n``.

    >>> prose("`a_b` < W_h^(T-t)")
    Markup('<code>a_b</code> &lt; W<sub>h</sub><sup>T-t</sup>')
    """
    pieces = re.split(r"`([^`]+)`", str(escape(text)))
    pieces[1::2] = [f"<code>{code}</code>" for code in pieces[1::2]]
    pieces[0::2] = [
        _SUPERSCRIPT.sub(_raise, _SUBSCRIPT.sub(r"\1<sub>\2</sub>", words))
        for words in pieces[0::2]
    ]
    return Markup("".join(pieces))


_SUBSCRIPT = re.compile(r"(?<![\w])((?:[dh]?[A-Za-zŷσρ]))_(max|[A-Za-z0-9])(?![A-Za-z0-9])")
_SUPERSCRIPT = re.compile(r"\^(?:\(([^()]+)\)|(-?\w+(?:[.-]\w+)*))")


def _raise(match: re.Match[str]) -> str:
    """Return a superscript."""
    return f"<sup>{match[1] or match[2]}</sup>"


def interval_picture(
    interval: Interval, simultaneous: Interval, bounds: tuple[float | None, float | None]
) -> Markup:
    """Draw the 95 % interval (thick), the simultaneous one (thin) and the required range (shaded).

    Args:
        interval: the 95 % interval without correction.
        simultaneous: the corrected interval, which decides.
        bounds: the range that the criterion requires; ``None`` means no bound on that side.
    """
    if not (interval.is_known and simultaneous.is_known):
        return Markup("")
    ends = [interval.low, interval.high, simultaneous.low, simultaneous.high, *bounds]
    points = [point for point in ends if point is not None and math.isfinite(point)]
    low = min(points, default=0.0)
    high = max(points, default=0.0)
    margin = 0.15 * (high - low) or 1.0
    low -= margin
    high += margin

    def x(value: float) -> float:
        """Return the position in percent of the width; infinite ends are drawn at the edge."""
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    left = x(bounds[0]) if bounds[0] is not None else 0
    right = x(bounds[1]) if bounds[1] is not None else 100
    edges = "".join(
        f'<line x1="{x(b)}" x2="{x(b)}" y1="0" y2="16" stroke="var(--soft)" stroke-width="1" '
        'stroke-dasharray="2 2" vector-effect="non-scaling-stroke"/>'
        for b in bounds
        if b is not None
    )
    lines = "".join(
        f'<line x1="{x(i.low)}" x2="{x(i.high)}" y1="8" y2="8" stroke="var(--accent)" '
        f'stroke-width="{width}" vector-effect="non-scaling-stroke"/>'
        for i, width in ((simultaneous, 1.5), (interval, 5))
    )
    shade = (
        f'<rect x="{left}" y="0" width="{round(right - left, 2)}" height="16" '
        'fill="var(--supported)" opacity="0.12"/>'
    )
    drawing = (
        f'<svg viewBox="0 0 100 16" preserveAspectRatio="none" role="img" aria-label="{interval}">'
        f"{shade if edges else ''}{edges}{lines}</svg>"
    )
    return Markup(drawing)


def place(name: str, figure: go.Figure, caption: str) -> Markup:
    """Return the element that holds a figure, at its final size, so that the page does not move.

    The style of the element passes three sizes to the style sheet and the script: the height, the
    height on a phone (with panels stacked and a taller legend), and the minimum width. A figure
    that is wider than the page scrolls.
    """
    drawing: dict[str, Any] = figure.to_plotly_json()
    layout = drawing["layout"]
    height = round(layout.get("height") or 380)
    panels = sum("domain" in axis for key, axis in layout.items() if key.startswith("xaxis"))
    least = (layout.get("meta") or {}).get("min_width", 0)
    names = [
        t["name"] for t in drawing["data"] if t.get("name") and t.get("showlegend") is not False
    ]
    rows = len(names) if least else math.ceil(sum(len(name) + 6 for name in names) / PHONE)
    phone = round(height * max(1, 0.85 * panels)) + LEGEND_ROW * max(0, rows - 1)
    style = f"--height: {height}px; --phone: {phone}px; --least: {least}px"
    figure_in_frame = (
        '<div class="frame"><div class="figure" data-figure="{}" style="{}" role="img" '
        'aria-label="Figure: {}">'
        "</div></div>"
    )
    return Markup(figure_in_frame).format(name, style, caption)


PHONE = 40
LEGEND_ROW = 20
"""Letters per row of a legend on a phone, and the height of such a row in pixels."""


def _asset(name: str) -> Markup:
    """Return a file of the templates."""
    return Markup(resources.files("leadline.report").joinpath("templates", name).read_text("utf-8"))


@cache
def _plotly() -> str:
    """Return Plotly's script, compressed, in base64."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _json(figure: go.Figure) -> Markup:
    # In a script element only "<" can end the element or open a comment; JSON can escape it.
    """Return a figure as JSON that cannot end its script element."""
    return Markup(str(figure.to_json()).replace("<", "\\u003c"))
