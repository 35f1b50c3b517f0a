"""The worksheet as a page, as JSON and as Markdown. Timings go to a file of their own: equal seeds give equal files."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

from leadline import storage
from leadline.report.page import interval_picture, render
from leadline.statistics import Effect
from leadline.worksheet import SECTIONS, Above, Answer, Below, Holds, Result, Setting, Within
from leadline.worksheet.criterion import Leaf

STATUSES = ("supported", "refuted", "undecided", "failed", "not measured yet")


def write(results: Sequence[Result], setting: Setting, folder: str | PathLike[str]) -> Path:
    """Write ``index.html``, ``worksheet.json``, ``worksheet.md`` and ``timings.json`` into ``folder``.

    Args:
        results: one per statement, in the order in which they are shown.
        setting: the conditions that they were measured under.
        folder: made if missing.

    Returns:
        The path of the page.

    Raises:
        SaveError: a file could not be written; an earlier one of that name is untouched.
    """
    folder = Path(folder)
    timings = {**_earlier(folder / "timings.json"), **{r.statement.id: r.seconds for r in results if r.seconds}}
    page = folder / "index.html"
    storage.write(folder / "worksheet.json", storage.canonical_json(as_json(results, setting)))
    storage.write(folder / "worksheet.md", as_markdown(results))
    storage.write(folder / "timings.json", storage.canonical_json({k: round(v, 3) for k, v in timings.items()}))
    storage.write(page, as_html(results, setting, timings))
    return page


def as_html(results: Sequence[Result], setting: Setting, timings: Mapping[str, float]) -> str:
    """The page: a table of all statements, then one section each."""
    figures = {f"figure-{r.statement.id}": r.answer.figure() for r in results if r.answer is not None}
    return render(
        "worksheet.html",
        figures,
        sections=_by_section(results),
        tally=_tally(results),
        timings=timings,
        budget=setting.budget,
        places={r.statement.id: f"figure-{r.statement.id}" for r in results if r.answer is not None},
        headline=headline,
        label=_label,
        duration=duration,
        parts=_parts,
        protocol=_protocol,
    )


def as_json(results: Sequence[Result], setting: Setting) -> dict[str, Any]:
    """Everything that was measured, as plain values without a clock in them."""
    return {
        "schema": 1,
        "budget": setting.budget,
        "statements": [_statement_json(result) for result in results],
    }


def as_markdown(results: Sequence[Result]) -> str:
    """The worksheet for readers of plain text."""
    lines = ["# Leadline worksheet", "", "| no. | statement | course | measured | effect [95 % interval] |"]
    lines += ["|---|---|---|---|---|"]
    for result in results:
        s = result.statement
        lines.append(f"| {s.number} | {s.title} | {s.course} | {result.status} | {_cell(headline(result))} |")
    for section, members in _by_section(results).items():
        lines += ["", f"## {section}"]
        for result in members:
            lines += ["", *_statement_markdown(result)]
    return "\n".join(lines) + "\n"


def headline(result: Result) -> str:
    """The first effect that the criterion names, or how many facts hold: one line for a table."""
    answer = result.answer
    if answer is None:
        return ""
    effect = _first_effect(answer)
    if effect is not None:
        return f"{effect.interval} {effect.unit}".rstrip()
    leaves = answer.statement.criterion.leaves()
    held = sum(answer.facts[leaf.fact].holds for leaf in leaves if isinstance(leaf, Holds))
    return f"exact: {held} of {len(leaves)} as claimed"


def _label(result: Result) -> str:
    effect = _first_effect(result.answer) if result.answer is not None else None
    return effect.label if effect is not None else ""


def _first_effect(answer: Answer) -> Effect | None:
    named = [leaf.effect for leaf in answer.statement.criterion.leaves() if not isinstance(leaf, Holds)]
    return answer.effects[named[0]] if named else None


def duration(seconds: float | None) -> str:
    """How long a measurement took, for a narrow column.

    >>> duration(0.034), duration(12.3), duration(150), duration(None)
    ('0.03 s', '12 s', '150 s', '')
    """
    if seconds is None:
        return ""
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _by_section(results: Sequence[Result]) -> dict[str, list[Result]]:
    grouped = {title: [r for r in results if r.statement.section == name] for name, title in SECTIONS.items()}
    return {title: members for title, members in grouped.items() if members}


def _tally(results: Sequence[Result]) -> dict[str, int]:
    counts = Counter(result.status for result in results)
    return {status: counts[status] for status in STATUSES if counts[status]}


def _parts(answer: Answer) -> Iterator[dict[str, Any]]:
    """What the criterion names, then what was measured beside it."""
    leaves = {_name(leaf): leaf for leaf in answer.statement.criterion.leaves()}
    for name, fact in sorted(answer.facts.items(), key=lambda item: item[0] not in leaves):
        expected = "" if fact.holds else f" (expected: {fact.expected})"
        yield {
            "what": fact.label,
            "rule": "must hold" if name in leaves else "reported",
            "measured": fact.measured + expected,
            "unit": "",
            "simultaneous": "",
            "replicates": None,
            "picture": "",
            "holds": _mark(fact.holds),
        }
    for name, effect in sorted(answer.effects.items(), key=lambda item: item[0] not in leaves):
        leaf = leaves.get(name)
        yield {
            "what": effect.label,
            "rule": _rule(leaf),
            "measured": str(effect.interval),
            "unit": effect.unit,
            "simultaneous": str(effect.simultaneous).partition(" ")[2],
            "replicates": effect.replicates,
            "picture": interval_picture(effect.interval, effect.simultaneous, _bounds(leaf)),
            "holds": _mark(leaf.judge(answer.effects, answer.facts)) if leaf else "",
        }


def _name(leaf: Leaf) -> str:
    return leaf.fact if isinstance(leaf, Holds) else leaf.effect


def _rule(leaf: Leaf | None) -> str:
    low, high = _bounds(leaf)
    if leaf is None:
        return "reported"
    if low is not None and high is not None:
        return f"must lie between {low:g} and {high:g}"
    return f"must be above {low:g}" if low is not None else f"must be below {high:g}"


def _bounds(leaf: Leaf | None) -> tuple[float | None, float | None]:
    match leaf:
        case Above():
            return leaf.threshold, None
        case Below():
            return None, leaf.threshold
        case Within():
            return leaf.low, leaf.high
    return None, None


def _mark(holds: bool | None) -> str:
    return {True: "✓ yes", False: "✗ no", None: "≈ open"}[holds]


def _protocol(answer: Answer) -> Iterator[tuple[str, str]]:
    protocol = answer.protocol
    yield from ((name, str(value)) for name, value in protocol.settings.items())
    if protocol.seeds:
        yield "seeds", ", ".join(map(str, protocol.seeds))
    yield from ((f"fingerprint: {name}", value) for name, value in protocol.fingerprints.items())
    yield "versions", ", ".join(f"{name} {version}" for name, version in protocol.versions.items())


def _statement_json(result: Result) -> dict[str, Any]:
    s, answer = result.statement, result.answer
    document: dict[str, Any] = {
        "id": s.id,
        "number": s.number,
        "claim": s.claim,
        "course": s.course,
        "criterion": str(s.criterion),
        "why": s.why,
        "outcome": result.status,
    }
    if result.failure is not None:
        document["failure"] = result.failure
    if answer is not None:
        record: dict[str, Any] = {"effects": answer.effects, "facts": answer.facts, "protocol": answer.protocol}
        document |= {"agrees": answer.agrees, "verdict": answer.verdict.sentence, "findings": list(answer.findings)}
        document |= {name: _plain(value) for name, value in record.items()}
    return document


def _plain(value: Any) -> Any:
    """Dataclasses as objects, for readers in any language; what has no JSON becomes text."""
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _statement_markdown(result: Result) -> Iterator[str]:
    s, answer = result.statement, result.answer
    yield f"### {s.number} {s.title}"
    yield ""
    yield f"> {s.claim}"
    yield ""
    yield f"**{result.status}** (the course says: {s.course})"
    yield ""
    if answer is not None:
        yield answer.verdict.sentence
        if not answer.agrees and answer.verdict.outcome != "undecided":
            yield f"\nThis differs from the course. They would agree under a condition: {s.condition}"
        yield ""
        yield "| what had to hold | measured | holds |"
        yield "|---|---|---|"
        for part in _parts(answer):
            yield f"| {_cell(part['what'])} | {_cell(part['measured'])} {part['unit']} | {part['holds']} |"
        yield from ["", *(f"- {finding}" for finding in answer.findings)]
    if result.failure is not None:
        yield f"```\n{result.failure.strip()}\n```"
    yield f"Why: {s.why}"
    yield ""
    yield f"Criterion: {s.criterion}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _earlier(path: Path) -> dict[str, float]:
    with suppress(OSError, ValueError):
        return {str(k): float(v) for k, v in dict(json.loads(path.read_text("utf-8"))).items()}
    return {}
