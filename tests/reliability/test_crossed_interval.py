"""Simulated studies show the coverage, the width and the false outcomes of the crossed interval.

The tests simulate a few studies of a few cells. ``make prove`` simulates 2,000 studies of every
cell and records the result.
"""

from dataclasses import fields

import pytest

from leadline.statistics import SIMULTANEOUS_LEVEL
from tests.reliability import proofs
from tests.reliability.coverage import Coverage, coverage, share_interval
from tests.reliability.crossed_cells import CELLS, CLOSE, NO_GAIN, SMALL
from tests.reliability.simulated_studies import Cell

NUM = 2000 if proofs.IS_PROVING else 80

SEED = 5001
"""Seed of the proofs; the constants of the interval were chosen with seeds below 5,000."""

SOURCES = (
    "src/leadline/statistics/_crossed*.py",
    "src/leadline/statistics/_row_values.py",
    "tests/reliability/coverage.py",
    "tests/reliability/simulated_studies.py",
)
"""Source files of the proofs. A row also contains the settings of its cell."""

DIGEST = proofs.digest_of(SOURCES)

WIDEST = 1.25 if proofs.IS_PROVING else 1.6
"""Largest mean half-width, divided by 1.96 standard deviations of the estimate."""

SAMPLE = {
    "60 rows, 12 labels",
    "90:10, 240 rows, 40 labels",
    "balanced accuracy, 90:10",
    "24 groups of 10",
    "equal sensors",
    "linear code, 40 labels",
}
"""Cells that the tests simulate."""


def chosen(cells: dict[str, Cell]) -> list[str]:
    """Return the names of the cells that this run simulates."""
    return [name for name in cells if proofs.IS_PROVING or name in SAMPLE]


def row_name(name: str, level: float = 0.95) -> str:
    """Return the name of a cell's row on the page of evidence."""
    ending = "" if level == 0.95 else f", level {level:g}"
    return f"crossed interval, {name}{ending}"


def row_result(cell: Cell, result: str) -> str:
    """Return the result of a proof and the settings of its cell."""
    settings = {
        field.name: getattr(cell, field.name)
        for field in fields(cell)
        if getattr(cell, field.name) != field.default
    }
    listed = ", ".join(f"{setting} {value}" for setting, value in settings.items())
    return f"{result}; {listed.replace('_', ' ')}"


def check(name: str, cell: Cell, lowest: float, highest: float, widest: float) -> Coverage:
    """Check that the coverage may lie within limits, and that intervals are not too wide."""
    found = coverage(cell, NUM, SEED)
    print(f"{name}: {found}")
    assert found.highest >= lowest, f"{name}: {found}"
    assert found.lowest <= highest, f"{name}: {found}"
    assert found.width <= widest, f"{name}: {found}"
    if proofs.IS_PROVING:
        proofs.record(row_name(name), row_result(cell, str(found)), SOURCES, DIGEST)
    return found


@pytest.mark.parametrize("name", chosen(CELLS))
def test_intervals_cover_new_rows(name):
    check(name, CELLS[name], 93, 97, WIDEST)


@pytest.mark.parametrize("name", chosen(SMALL))
def test_intervals_of_small_tables_cover_new_rows(name):
    check(name, SMALL[name], 91, 98, WIDEST)


@pytest.mark.parametrize("name", chosen(CLOSE))
def test_intervals_of_close_representations_cover_new_rows(name):
    check(name, CLOSE[name], 93, 97, WIDEST)


@pytest.mark.parametrize("name", chosen(NO_GAIN))
@pytest.mark.parametrize("level", [0.95, SIMULTANEOUS_LEVEL])
def test_gains_without_a_cause_are_rarely_claimed(name, level):
    found = coverage(NO_GAIN[name], NUM, SEED, level)
    lowest, _ = share_interval(found.excludes_zero, NUM)
    result = f"{found.excludes_zero} of {NUM} intervals of level {level:g} exclude zero"
    print(f"{name}: {result}")
    assert lowest <= 1 - level, f"{name}: {result}"
    if proofs.IS_PROVING:
        row = row_result(NO_GAIN[name], result)
        proofs.record(row_name(name, level), row, SOURCES, DIGEST)


@pytest.mark.skipif(not proofs.IS_PROVING, reason="the proof is not complete")
def test_each_cell_has_a_row_with_its_settings():
    rows = proofs.read_rows()
    cells = {name: cell for group in (SMALL, CELLS, CLOSE, NO_GAIN) for name, cell in group.items()}
    outdated = [
        name
        for name, cell in cells.items()
        if row_name(name) not in rows
        or not rows[row_name(name)].result.endswith(row_result(cell, ""))
    ]
    assert outdated == []
