"""Lines over many decades; zeros and infinities stay visible."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leadline import checks
from leadline.errors import InputError
from leadline.figures import _arguments as arguments
from leadline.figures._theme import COLOURS, Drawing, merged, new_drawing, plain


def log_lines(
    x: np.ndarray,
    log10: Mapping[str, np.ndarray],
    *,
    title: str,
    x_label: str,
    y_label: str,
    dashed: tuple[str, ...] = (),
    **layout: Any,
) -> Drawing:
    """Return lines that are given by their base-10 logarithms, so 1e-1000 and 1e+1000 can be drawn.

    A value of zero (``-inf``) is a downward triangle on the lower edge, an infinite value an upward
    triangle on the upper edge, and NaN a cross on the lower edge. The line has a gap there.

    Args:
        x: shape (n,), shared by the lines.
        log10: name -> base-10 logarithms, shape (n,); names are plain text.
        title: title of the figure; plain text.
        x_label: label of the horizontal axis, with its unit; markup.
        y_label: label of the vertical axis, with its unit; markup.
        dashed: names of lines to draw dashed, such as predictions.
        layout: further properties of Plotly's layout.

    >>> lines = {"h": np.array([0.0, -400, -np.inf])}
    >>> drawing = log_lines(np.arange(3), lines, title="", x_label="t", y_label="norm")
    >>> [trace["mode"] for trace in drawing["data"]]
    ['lines', 'markers']
    """
    arguments.labels(title=title, x_label=x_label, y_label=y_label)
    traces = log_traces(x, log10, dashed=dashed)
    arguments.check_layout(layout)
    overrides = {"hovermode": "x unified", "yaxis": log_ticks(*log10.values())}
    base_layout = merged(new_drawing(title, x_label, y_label)["layout"], overrides)
    return {"data": traces, "layout": merged(base_layout, arguments.expanded(layout))}


def log_ticks(*log10: np.ndarray) -> dict[str, Any]:
    """Return the ticks of an axis of base-10 logarithms, as properties of Plotly's axis.

    Over many decades the labels are powers of ten, over few decades round numbers.

    >>> log_ticks(np.array([-30.0, 0.0]))
    {'tickprefix': '10<sup>', 'ticksuffix': '</sup>'}
    >>> log_ticks(np.array([-0.2, 0.0]))["ticktext"]
    ['0.7', '0.8', '0.9', '1']
    >>> log_ticks(np.array([-1.0, 1.0]))["ticktext"]
    ['0.1', '0.2', '0.5', '1', '2', '5', '10']
    """
    finite = _finite(
        {f"log10[{i}]": arguments.numbers(values, f"log10[{i}]") for i, values in enumerate(log10)}
    )
    if not finite.size:
        # All values are zero or infinite, so no height of the axis is a number.
        return {"showticklabels": False}
    low = float(finite.min())
    high = float(finite.max())
    if high - low > 3.5 or low < -5 or high > 6:
        return {"tickprefix": "10<sup>", "ticksuffix": "</sup>"}
    smallest = 10**low
    largest = 10**high
    # The axis must not zoom into the rounding of a constant.
    if largest - smallest < 1e-6 * largest:
        low -= 1
        high += 1
        return {**_ticks_at(_decades((1, 2, 5)), low, high), "range": [low, high]}
    if high - low > 0.9:
        return _ticks_at(_decades((1, 2, 5) if high - low < 2.5 else (1,)), low, high)
    steps = np.outer(10.0 ** np.arange(-13, 7), (1, 2, 5)).ravel()
    step = steps[np.searchsorted(steps, (largest - smallest) / 6)]
    round_numbers = step * np.arange(np.floor(smallest / step), np.ceil(largest / step) + 1)
    return _ticks_at(
        round_numbers, low, high, digits=max(6, 1 + math.ceil(math.log10(largest / step)))
    )


def _decades(digits: tuple[int, ...]) -> np.ndarray:
    return np.outer(10.0 ** np.arange(-6, 8), digits).ravel()


def _ticks_at(values: np.ndarray, low: float, high: float, digits: int = 6) -> dict[str, Any]:
    shown = [v for v in values.tolist() if v > 0 and low - 1e-9 <= np.log10(v) <= high + 1e-9]
    return {"tickvals": np.log10(shown), "ticktext": [f"{value:.{digits}g}" for value in shown]}


def _finite(curves: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the finite logarithms of all curves; refuse those that no axis can show."""
    together = np.concatenate([values.ravel() for values in curves.values()] or [np.zeros(0)])
    finite = together[np.isfinite(together)]
    if finite.size and max(-finite.min(), finite.max()) > arguments.LARGEST:
        for name, values in curves.items():
            arguments.heights(values, name, ndim=None, noun="base-10 logarithms")
    return finite


def log_traces(
    x: np.ndarray,
    log10: Mapping[str, np.ndarray],
    *,
    colours: Sequence[str] = COLOURS,
    dashed: tuple[str, ...] = (),
    dotted: tuple[str, ...] = (),
    among: Sequence[np.ndarray] = (),
    **trace: Any,
) -> list[dict[str, Any]]:
    """Return the traces of :func:`log_lines`, for a drawing that contains other traces as well.

    Args:
        x: shape (n,), shared by the lines.
        log10: name -> base-10 logarithms, shape (n,); names are plain text.
        colours: colours of the lines, used in turn.
        dashed: names of lines to draw dashed.
        dotted: names of lines to draw dotted.
        among: base-10 logarithms of the other lines on the same axis. Symbols for zero and
            infinity lie on the edges of all lines together.
        trace: further properties of every trace, such as its axes. ``showlegend`` applies to the
            lines only.

    Raises:
        InputError: the length of a curve differs from ``x``, or a place is not finite.
    """
    x = arguments.places(x, "x")
    curves = arguments.named(log10, "log10")
    for name, values in curves.items():
        curves[name] = arguments.numbers(values, f"log10[{name!r}]", ndim=1, length=len(x))
    colours = arguments.texts(colours, "colours")
    if not colours:
        raise InputError("colours must hold at least one colour", got="colours is empty")
    other_arrays = checks.items(among, "among", of="arrays")
    others = {
        f"among[{i}]": arguments.numbers(values, f"among[{i}]")
        for i, values in enumerate(other_arrays)
    }
    finite = _finite({**{f"log10[{name!r}]": values for name, values in curves.items()}, **others})
    low = float(finite.min()) if finite.size else -1.0
    high = float(finite.max()) if finite.size else 1.0
    margin = max(0.5, 0.06 * (high - low))
    edges = {
        "zero": (low - margin, "triangle-down-open"),
        "infinite": (high + margin, "triangle-up-open"),
    }
    dashes = dict.fromkeys(arguments.texts(dashed, "dashed"), "dash")
    dashes |= dict.fromkeys(arguments.texts(dotted, "dotted"), "dot")
    traces = []
    for i, (name, values) in enumerate(curves.items()):
        colour = colours[i % len(colours)]
        line = {
            "type": "scatter",
            "x": x,
            "y": np.where(np.isfinite(values), values, np.nan),
            "name": plain(name),
            "legendgroup": name,
            "mode": "lines",
            "line": {"color": colour, "dash": dashes.get(name, "solid"), "width": 2},
            "connectgaps": False,
            "hovertemplate": "10^%{y:.2f}",
        }
        traces.append({**line, **trace})
        marks = {
            "zero": values == -np.inf,
            "infinite": values == np.inf,
            "not a number": np.isnan(values),
        }
        for kind, where in marks.items():
            if where.any():
                height, symbol = edges.get(kind, (low - margin, "x-open"))
                mark = {
                    "type": "scatter",
                    "x": x[where],
                    "y": np.full(int(where.sum()), height),
                    "name": plain(f"{name}: {kind}"),
                    "legendgroup": name,
                    "mode": "markers",
                    "marker": {"color": colour, "symbol": symbol, "size": 8},
                    "hovertemplate": kind,
                }
                traces.append(
                    {**mark, **trace, "showlegend": False}
                    | (_run(colour, mark) if _is_run(where) else {})
                )
    return traces


MARKS = 8
"""Number of symbols that stand for a longer run of them."""


def _is_run(where: np.ndarray) -> bool:
    """True if there are more than :data:`MARKS` places, all next to one another."""
    places = np.flatnonzero(where)
    return len(places) > MARKS and places[-1] - places[0] + 1 == len(places)


def _run(colour: str, mark: Mapping[str, Any]) -> dict[str, Any]:
    """Return the look of a run: some symbols on a thin line. Each place still has a hover text."""
    return {
        "mode": "lines+markers",
        "line": {"color": colour, "width": 1},
        "marker": {**mark["marker"], "maxdisplayed": MARKS},
    }
