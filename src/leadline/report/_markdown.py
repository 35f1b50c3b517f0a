"""The worksheet as Markdown."""

import re
from collections.abc import Iterator, Sequence

from leadline.report._parts import (
    by_section,
    checked,
    command,
    described,
    disagreement,
    headline,
    parts,
)
from leadline.worksheet import Result, Setting


def as_markdown(results: Sequence[Result], setting: Setting) -> str:
    """Return a table of all statements and a section for each, with all values escaped."""
    results = checked(results, setting)
    summary = [("no.", "statement", "course", "measured", "effect [95 % interval]")]
    summary += [
        (r.statement.number, r.statement.title, r.statement.course, r.status, headline(r))
        for r in results
    ]
    blocks = ["# Leadline worksheet", _table(summary)]
    for section, members in by_section(results).items():
        blocks.append(f"## {section}")
        for result in members:
            blocks += _statement(result, setting)
    return "\n\n".join(blocks) + "\n"


def _statement(result: Result, setting: Setting) -> Iterator[str]:
    """Yield the paragraphs about one statement."""
    s = result.statement
    answer = result.answer
    yield f"### {s.number} {_text(s.title)}"
    yield f"> {_text(s.claim)}"
    yield f"**{result.status}** (the course says: {_text(s.course)})"
    if answer is not None:
        sentence = answer.verdict.sentence
        yield _text(sentence[:1].upper() + sentence[1:])
        if disagreement(answer):
            yield f"{disagreement(answer)} {_text(s.condition)}"
        rows = [
            (
                "quantity",
                "rule",
                "measured [95 % interval]",
                "simultaneous interval, which decides",
                "seeds",
                "holds",
            )
        ]
        for part in parts(answer):
            seeds = str(getattr(part.measured, "replicates", ""))
            rows.append(
                (part.measured.label, part.rule, part.text, part.simultaneous, seeds, part.mark)
            )
        yield _table(rows)
        if answer.findings:
            yield "Also measured:"
            yield _list(answer.findings)
    if result.failure is not None:
        yield _fenced(result.failure.strip())
    yield f"Why: {_text(s.why)}"
    yield f"Measurement: {_text(s.measurement)}"
    yield f"Criterion: `{s.criterion}`."
    if answer is not None:
        yield "Protocol:"
        yield _list([f"{name}: {value}" for name, value in described(answer.protocol)])
    line = command(result, setting)
    if line is not None:
        yield "The command that reproduces it:"
        yield _fenced(line)


def _text(text: str) -> str:
    r"""Return the text on one line, escaped except for code between backticks.

    >>> print(_text("`a_b` < *W_h* and <b>_x_`"))
    `a_b` < \*W_h\* and \<b>\_x\_\`
    >>> print(_text("1. [a](b)"), _text("# a"), _text("-1.5 [-2, -1]"))
    1\. [a\](b) \# a -1.5 [-2, -1]
    """
    pieces = re.split(r"(`[^`]+`)", " ".join(text.split()))
    pieces[0::2] = [_MARKUP.sub(r"\\\g<0>", words) for words in pieces[0::2]]
    return re.sub(r"^(\d*)(?=[-+.)=#]+(?:\s|$)|>)", r"\1\\", "".join(pieces))


_MARKUP = re.compile(
    r"[\\`*]|<(?=[\w/!?])|&(?=#?\w+;)|~(?=~)|\](?=[(\[:])|(?<![^\W_])_|_(?![^\W_])"
)
"""Characters that CommonMark reads as markup; an underscore inside a word is not markup."""


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first row is its header."""
    head, *body = [
        "| " + " | ".join(_text(cell).replace("|", "\\|") for cell in row) + " |" for row in rows
    ]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def _list(items: Sequence[str]) -> str:
    """Return a list with one item per line."""
    return "\n".join(f"- {_text(item)}" for item in items)


def _fenced(text: str) -> str:
    """Return a fenced code block whose fence is longer than any fence in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
