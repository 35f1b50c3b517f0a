"""Numbers are printed without the sign of a zero, by ``z`` in their format or by an interval."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from leadline import Interval
from leadline.worksheet import Above, Below, Within
from leadline.worksheet.measurements.cost import share
from leadline.worksheet.measurements.recurrent.eigenvalues import EigenvalueRule, Protocol

ROOT = Path(__file__).parents[2] / "src" / "leadline"
FILES = sorted([*(ROOT / "worksheet").rglob("*.py"), *(ROOT / "report").rglob("*.py")])


def signed_formats(path: Path) -> Iterator[str]:
    """Yield formats of numbers that would print ``-0.0``."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
            spec = "".join(
                str(part.value)
                for part in node.format_spec.values
                if isinstance(part, ast.Constant)
            )
            value = ast.unparse(node.value)
            is_number = re.search(r"[fge%]$", spec) is not None
            if is_number and "z" not in spec and not value.endswith("interval"):
                yield f"{path.name}, line {node.lineno}: {value}:{spec}"


def test_every_format_of_a_number_drops_the_sign_of_a_zero():
    assert [text for path in FILES for text in signed_formats(path)] == []


def test_the_search_finds_formats(tmp_path: Path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text('f"{x:.1f} {x:z.1f} {found.interval:.1f} {x:>3}"', "utf-8")
    assert list(signed_formats(wrong)) == ["wrong.py, line 1: x:.1f"]


def rule_without_slope_on_sigma() -> EigenvalueRule:
    """Return slopes that follow ln rho, with a coefficient of ln sigma that rounds to zero."""
    ln_rho = np.array([[0.0, 1.0, 2.0]])
    ln_sigma = np.array([[0.0, 1.0, 4.0]])
    return EigenvalueRule(Protocol(), ln_rho, ln_sigma, ln_rho - 1e-4 * ln_sigma, np.zeros(2))


@pytest.mark.parametrize(
    "text",
    [
        str(Above("gain", -0.0)),
        str(Below("gain", -0.0)),
        str(Within("gain", -0.0, 0.0)),
        f"{Interval(-0.0004, -0.001, -0.0001):.2f}",
        share(-0.0),
        str(rule_without_slope_on_sigma()),
    ],
)
def test_no_text_has_a_negative_zero(text):
    assert not re.search(r"-0(?:\.0+)?(?![\d.])", text)
