"""The worksheet as plain values for JSON. It has no timestamps: equal results give equal files."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leadline.report._parts import Part, checked, command, parts
from leadline.worksheet import SECTIONS, Result, Setting


def as_json(results: Sequence[Result], setting: Setting) -> dict[str, Any]:
    """Return the content of the page as strict JSON values; non-finite numbers are null."""
    results = checked(results, setting)
    return {
        "schema": 1,
        "budget": setting.budget,
        "data": {"name": setting.data.name, **setting.source} if setting.data is not None else None,
        "statements": [_statement(result, setting) for result in results],
    }


def _statement(result: Result, setting: Setting) -> dict[str, Any]:
    """Return one statement, its answer and its criterion as plain values."""
    s = result.statement
    answer = result.answer
    document: dict[str, Any] = {
        "id": s.id,
        "number": s.number,
        "section": SECTIONS[s.section],
        "title": s.title,
        "claim": s.claim,
        "course": s.course,
        "measurement": s.measurement,
        "criterion": str(s.criterion),
        "why": s.why,
        "condition": s.condition,
        "command": command(result, setting),
        "outcome": result.status,
    }
    if result.failure is not None:
        document["failure"] = result.failure
    if answer is not None:
        found = parts(answer)
        document |= {
            "agrees": answer.agrees,
            "verdict": answer.verdict.sentence,
            "findings": list(answer.findings),
            "effects": {part.name: _part(part) for part in found if part.name in answer.effects},
            "facts": {part.name: _part(part) for part in found if part.name in answer.facts},
            "protocol": _plain(answer.protocol),
        }
    return document


def _part(part: Part) -> dict[str, Any]:
    """Return the measured value, its rule (null if none) and the decision (null if undecided)."""
    low, high = part.bounds
    rule = {"text": part.rule, "low": low, "high": high} if part.leaf is not None else None
    return {**_plain(part.measured), "rule": rule, "holds": part.holds}


def _plain(value: Any) -> Any:
    """Convert dataclasses to objects, arrays to lists, and other values without JSON to text."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        # Adding 0.0 turns a negative zero into a positive zero.
        return value + 0.0 if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
