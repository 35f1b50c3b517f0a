"""Texts of a result that the HTML, JSON and Markdown reports share."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from leadline import checks
from leadline.errors import InputError
from leadline.sounding import Protocol
from leadline.statistics import Effect
from leadline.worksheet import (
    BUDGET,
    DATA,
    FILE_NAMES,
    SECTIONS,
    SETTING_NAMES,
    Answer,
    EffectPart,
    Fact,
    Holds,
    Leaf,
    Result,
    Setting,
)


@dataclass(frozen=True)
class Part:
    """An effect or a fact of an answer, and the criterion's condition for it."""

    name: str
    measured: Effect | Fact
    leaf: Leaf | None
    """The part of the criterion that names it; ``None`` if the criterion does not use it."""
    holds: bool | None
    """True or False; ``None`` if the interval is undecided or there is no condition."""

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The range that the criterion requires; ``None`` means no bound on that side."""
        return self.leaf.bounds if isinstance(self.leaf, EffectPart) else (None, None)

    @property
    def rule(self) -> str:
        """The criterion's condition in words."""
        low, high = self.bounds
        if self.leaf is None:
            return "reported"
        if low is not None and high is not None:
            return f"must lie between {low:zg} and {high:zg}"
        if low is not None:
            return f"must be above {low:zg}"
        return "must hold" if high is None else f"must be below {high:zg}"

    @property
    def text(self) -> str:
        """The measured value: an estimate with its 95 % interval, or the value of a fact."""
        if isinstance(self.measured, Effect):
            return f"{self.measured.interval} {self.measured.unit}".rstrip()
        expected = "" if self.measured.holds else f" (expected: {self.measured.expected})"
        return self.measured.measured + expected

    @property
    def simultaneous(self) -> str:
        """The simultaneous interval, which decides; empty for a fact."""
        return (
            str(self.measured.simultaneous).partition(" ")[2]
            if isinstance(self.measured, Effect)
            else ""
        )

    @property
    def mark(self) -> str:
        """A short text for a narrow column: holds, fails or undecided."""
        if self.leaf is None and isinstance(self.measured, Effect):
            return ""
        return {True: "✓ yes", False: "✗ no", None: "≈ open"}[self.holds]


def parts(answer: Answer) -> list[Part]:
    """Return the parts that the criterion names, then the others; facts come before effects."""
    leaves = {
        leaf.fact if isinstance(leaf, Holds) else leaf.effect: leaf
        for leaf in answer.statement.criterion.leaves()
    }
    found = []
    for group in (answer.facts, answer.effects):
        for name, measured in sorted(group.items(), key=lambda item: item[0] not in leaves):
            leaf = leaves.get(name)
            holds = (
                leaf.judge(answer.effects, answer.facts)
                if leaf
                else getattr(measured, "holds", None)
            )
            found.append(Part(name, measured, leaf, holds))
    return found


def first_effect(result: Result) -> Effect | None:
    """Return the first effect that the criterion names, for the table of all statements."""
    if result.answer is None:
        return None
    named = [
        leaf.effect for leaf in result.statement.criterion.leaves() if not isinstance(leaf, Holds)
    ]
    return result.answer.effects[named[0]] if named else None


def headline(result: Result) -> str:
    """Return one line for a table: the first effect, or the number of facts that hold."""
    if result.answer is None:
        return ""
    effect = first_effect(result)
    if effect is not None:
        return f"{effect.interval} {effect.unit}".rstrip()
    named = [part for part in parts(result.answer) if part.leaf is not None]
    num_holding = sum(part.holds is True for part in named)
    return f"facts that hold: {num_holding} of {len(named)}"


def disagreement(answer: Answer) -> str:
    """Return a sentence if the outcome disagrees with the course; otherwise an empty text."""
    if answer.agrees:
        return ""
    if answer.verdict.outcome == "undecided":
        return "This neither confirms the course nor contradicts it. What it depends on:"
    return "This differs from the course. They would agree under a condition:"


def described(protocol: Protocol) -> Iterator[tuple[str, str]]:
    """Yield the entries of a protocol as names and texts."""
    yield from ((name, str(value)) for name, value in protocol.settings.items())
    if protocol.seeds:
        yield "seeds", ", ".join(map(str, protocol.seeds))
    yield from ((f"fingerprint: {name}", value) for name, value in protocol.fingerprints.items())
    yield "versions", ", ".join(f"{name} {version}" for name, version in protocol.versions.items())


def command(result: Result, setting: Setting) -> str | None:
    """Return the command that repeats a measurement.

    ``None`` if the measurement does not exist yet, or if the data were not loaded from a file.
    """
    given = setting.describe(result.statement)
    if result.answer is not None and BUDGET in result.answer.protocol.settings:
        protocol = result.answer.protocol.settings
        given = {name: str(protocol[name]) for name in SETTING_NAMES if name in protocol}
    path = FILE_NAMES["path"]
    labels = FILE_NAMES["labels"]
    if result.statement.measure is None or (DATA in given and path not in given):
        return None
    words = ["leadline", "worksheet", "--only", result.statement.id, "--budget", given[BUDGET]]
    if path in given:
        words += _option("--data", given[path])
    if labels in given:
        words += _option("--labels", given[labels])
    return shlex.join([*words, "--fresh"])


def _option(name: str, value: str) -> list[str]:
    """Return the words of an option.

    A value that begins with a dash is joined to the name, so that it is not read as an option.
    """
    return [f"{name}={value}"] if value.startswith("-") else [name, value]


def checked(results: Any, setting: Any) -> tuple[Result, ...]:
    """Return the results as a tuple.

    Raises:
        InputError: an item is not a result, two results belong to the same statement, or
            ``setting`` is not a setting.
    """
    found = checks.items(results, "results", of="results")
    cure = "use list(leadline.worksheet.run(...))"
    for i, result in enumerate(found):
        checks.instance(result, f"results[{i}]", Result, cure=cure)
    ids = [result.statement.id for result in found]
    repeated = [name for name in ids if ids.count(name) > 1]
    if repeated:
        raise InputError(
            "results must be of different statements", got=f"{repeated[0]} more than once"
        )
    checks.instance(setting, "setting", Setting, cure="use leadline.worksheet.Setting('quick')")
    return found


def by_section(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return results by section title, without empty sections."""
    grouped = {
        title: [r for r in results if r.statement.section == name]
        for name, title in SECTIONS.items()
    }
    return {title: members for title, members in grouped.items() if members}
