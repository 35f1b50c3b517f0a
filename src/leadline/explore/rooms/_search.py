"""The search room: an interactive beam search and the audit of its result."""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Annotated, Any, Literal

from dash import Dash

from leadline import decoding
from leadline.errors import InputError
from leadline.explore.page import _cells as cells
from leadline.explore.page._cells import PREFIXES, Cells
from leadline.explore.page._room import Card, Room
from leadline.explore.page._settings import Between, Text
from leadline.explore.rooms import _manual_model as manual_model
from leadline.sounding import Sounding, decimals

END = "<end>"
UNKNOWN = "<unknown>"

CALLS = 100
"""Largest number of model calls of the audit; they take a fraction of a second."""

LONGEST = {"table": 8, "language model": 12}


@dataclass(frozen=True)
class Settings:
    """Settings of a model and of its search."""

    model: Literal["table", "language model"] = "table"
    """The course's table of two words, or a small recurrent network that was trained on Python's own manual."""
    prompt: Annotated[str, Text(200)] = "the value of the"
    """What the language model goes on from. Words that it does not know are read as <unknown>."""
    first_word: Annotated[str, Text(40)] = "neural"
    """The table's first word."""
    second_word: Annotated[str, Text(40)] = "network"
    """The table's second word."""
    table: Annotated[str, Cells()] = ""
    """Natural log-probabilities of the next word (columns) after the words so far (rows); empty is probability 0.
    Longer beginnings go by their last two words."""
    step: Annotated[int, Between(0, max(LONGEST.values()))] = max(LONGEST.values())
    """Steps of the search that are shown."""
    width: Annotated[int, Between(1, 8)] = 2
    """Hypotheses that survive a step; 1 is greedy search."""
    length: Annotated[int, Between(1, max(LONGEST.values()))] = 3
    """Words at most."""
    end: Literal["none", "pool", "in beam"] = "none"
    """Whether a sequence can end before it is as long as it may be. In a pool, one that ends leaves its place to the
    next one; in the beam it keeps its place, and may lose it."""
    penalty: Literal["none", "length", "GNMT", "reward"] = "none"
    """What the log-probability is divided by: lengthᵃ, or ((5 + length)/6)ᵃ; or a reward of a nats for each word."""
    strength: Annotated[float, Between(0, 2, 0.05)] = 1.0
    """a."""


def soundings(settings: Settings) -> Iterator[tuple[str, Sounding]]:
    """Yield the search after the chosen step, and a comparison of the three searches."""
    audit, comparison = _searched(dataclasses.replace(settings, step=0))
    yield "tree", audit.at(min(settings.step, audit.at(0).steps))
    yield "searches", comparison


@lru_cache(maxsize=8)
def _searched(s: Settings) -> tuple[decoding.SearchAudit, decoding.Comparison]:
    """Return the audit and the comparison of the searches; they do not depend on the shown step."""
    if s.length > LONGEST[s.model]:
        raise InputError(
            f"the {s.model} is searched up to length {LONGEST[s.model]}", got=f"length = {s.length}"
        )
    if s.model == "table":
        table = decoding.Table(_rows(s))
        problem = table.problem()
        end = table.vocabulary.index(END) if s.end != "none" else None
    else:
        lm = manual_model.model()
        problem = lm.problem([s.prompt])
        end = lm.end if s.end != "none" else None
        problem = decoding.constrain(*problem, [decoding.forbid([lm.vocabulary.index(UNKNOWN)])])
    mode = "in_beam" if s.end == "in beam" else "pool"
    beam = decoding.beam_search(
        *problem, width=s.width, max_length=s.length, eos=end, eos_mode=mode, score=_score(s)
    )
    audit = decoding.audit(*problem, beam, max_calls=CALLS)
    greedy = decoding.greedy(*problem, max_length=s.length, eos=end)
    return audit, decoding.compare(beam, audit.optimum, greedy)


def _score(s: Settings) -> decoding.Score:
    match s.penalty:
        case "length":
            return decoding.LengthNormalized(s.strength)
        case "GNMT":
            return decoding.GNMT(s.strength)
        case "reward":
            return decoding.WordReward(s.strength)
    return decoding.SumLogProb()


def _given(s: Settings) -> dict[tuple[str, ...], dict[str, float]]:
    """Return the seven rows of the editor: log-probabilities of the next word by prefix."""
    words = (s.first_word.strip(), s.second_word.strip(), END)
    if len(set(words)) < 3 or not all(words):
        raise InputError(
            f"the table has two words, and {END} is neither",
            got=f"{s.first_word!r} and {s.second_word!r}",
        )
    held = cells.cells(s.table)
    rows = {}
    for number, prefix in enumerate(PREFIXES, 1):
        columns = zip("ABC" if s.end != "none" else "AB", words, strict=False)
        after = tuple(words[word] for word in prefix)
        rows[after] = {
            word: _number(held[f"{column}{number}"], after, word) for column, word in columns
        }
    return rows


def _number(text: str, after: tuple[str, ...], word: str) -> float:
    """Return the number in a cell. Table refuses numbers that are not log-probabilities."""
    try:
        return float(text.replace("−", "-")) if text else -math.inf
    except ValueError:
        raise InputError(
            "a cell of the table holds a natural log-probability, or nothing for probability 0",
            got=f"{text!r} for {word!r} after {' '.join(after) or 'the start'!r}",
        ) from None


def _rows(s: Settings) -> dict[tuple[str, ...], dict[str, float]]:
    """Return a row for every prefix that a search can reach."""
    given = _given(s)
    words = [word for word in given[()] if word != END]
    longer = {
        prefix: given[prefix[-2:]] for n in range(s.length) for prefix in product(words, repeat=n)
    }
    return given | longer


def tell(settings: Settings) -> str:
    """Return a note on rows that do not sum to 1, on unknown words, or on an empty prompt."""
    if settings.model == "table":
        odd = [
            f"after “{' '.join(after)}” {decimals(total, '.2f')}"
            if after
            else f"at the start {decimals(total, '.2f')}"
            for after, total in decoding.Table(_given(settings)).totals().items()
            if abs(total - 1) > 0.01
        ]
        said = (
            "Probabilities add up to 1, and here they do not: {}. They are searched as they stand."
        )
        return (
            said.format(", ".join(odd[:3]) + (f", and {len(odd) - 3} more" if len(odd) > 3 else ""))
            if odd
            else ""
        )
    lm = manual_model.model()
    if not settings.prompt.strip():
        return "The prompt is empty, so the model begins a paragraph of its own."
    unknown = lm.unknown(settings.prompt)
    said = ", ".join(f"“{word}”" for word in unknown[:5])
    said += f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    return (
        f"The model does not know {said}, and reads {UNKNOWN} there. It never answers with it."
        if unknown
        else ""
    )


def code(settings: Settings) -> str:
    """Return Python code that makes the same soundings."""
    s = settings
    shown = ROOM.take(settings)["tree"]
    assert isinstance(shown, decoding.Walk)
    end = "None"
    if s.model == "table":
        rows = _given(s)
        words = [word for word in rows[()] if word != END]
        lines = [
            "from itertools import product",
            "from math import inf",
            "from leadline import decoding",
            "",
        ]
        lines += ["rows = {", *(f"    {after!r}: {row!r}," for after, row in rows.items()), "}"]
        lines += [
            f"longer = (prefix for n in range({s.length}) for prefix in product({words!r}, repeat=n))",
            "rows |= {prefix: rows[prefix[-2:]] for prefix in longer}  # by their last two words",
        ]
        lines += ["table = decoding.Table(rows)", "problem = table.problem()"]
        end = f"table.token({END!r})" if s.end != "none" else end
    else:
        lines = [
            "import re",
            "import torch",
            "from leadline import data, decoding",
            "",
            *manual_model.code(),
        ]
        lines += [
            f"known = decoding.forbid([lm.vocabulary.index({UNKNOWN!r})])",
            f"problem = decoding.constrain(*lm.problem([{s.prompt!r}]), [known])",
        ]
        end = "lm.end" if s.end != "none" else end
    common = f"max_length={s.length}, eos={end}"
    mode = ', eos_mode="in_beam"' if s.end == "in beam" else ""
    score = f", score=decoding.{_score(s)!r}" if s.penalty != "none" else ""
    lines += [
        "",
        "beam = decoding.beam_search(",
        f"    *problem, width={s.width}, {common}{mode}{score}",
        ")",
        f"audit = decoding.audit(*problem, beam, max_calls={CALLS})",
        f"tree = audit.at({shown.step})  # after this step",
        f"searches = decoding.compare(beam, audit.optimum, decoding.greedy(*problem, {common}))",
        "",
        "for sounding in (tree, searches):",
        "    print(sounding)",
    ]
    return "\n".join(lines) + "\n"


def silent(settings: Settings) -> Collection[str]:
    """Return the settings of the other model, and the strength if there is no penalty."""
    others = {"prompt"} if settings.model == "table" else {"first_word", "second_word", "table"}
    return others | ({"strength"} if settings.penalty == "none" else set())


def ends(settings: Settings) -> Mapping[str, float]:
    """Return the largest length and the largest step for this model."""
    return {"length": LONGEST[settings.model], "step": settings.length}


def connect(app: Dash) -> None:
    """Add the callbacks of the table to the application."""
    cells.connect(
        app, ROOM.id("table"), (ROOM.id("first_word"), ROOM.id("second_word")), ROOM.id("end")
    )


def _edited(rows: str) -> str:
    """Return the address form of a table; ``rows`` holds its rows, separated by slashes."""
    texts: Any = dict(
        zip(cells.COURSE, (text for row in rows.split("/") for text in row.split()), strict=True)
    )
    return cells.written(texts)


ENDING = _edited(
    "-0.92 -1.05 -1.39 / -1.05 -0.92 -1.39 / -0.92 -1.05 -1.39" + " / -0.92 -1.05 -1.39" * 4
)
"""A table in which a sequence ends with probability 1/4 after every word."""

COLUMNS = (
    "search",
    "answer",
    "log_prob",
    "score",
    "certificate",
    "gap",
    "calls",
    "rows",
    "candidates",
    "state_bytes",
)

ROOM = Room(
    name="search",
    title="What did the decoder miss?",
    lead="A beam search keeps the best few beginnings after each word. Walk through it step by step, and see what it "
    "pruned, what it returned, and whether that is the most likely sequence.",
    settings=Settings,
    cards={
        "tree": Card("What the beam kept, and what it pruned", 500, lines=3, wide=True),
        "searches": Card("Greedy, beam and exact search", 300, wide=True, rows=COLUMNS),
    },
    soundings=soundings,
    code=code,
    presets={
        "the course's example": Settings(),
        "lost at step 2": Settings(step=2),
        "width 3 keeps it": Settings(width=3),
        "greedy is enough": Settings(
            width=1, table="A1-0.11_B1-2.25_A2-2.25_B2-0.11_A5-0.11_B5-2.25"
        ),
        "the empty answer wins": Settings(table=ENDING, end="pool"),
        "a length penalty changes the answer": Settings(
            table=ENDING, end="pool", width=3, penalty="length"
        ),
        "a language model": Settings(model="language model", width=3, length=6, end="pool"),
    },
    groups={
        "Search": ("step", "width", "length", "end", "penalty", "strength"),
        "Model": ("model", "prompt", "first_word", "second_word", "table"),
    },
    silent=silent,
    tell=tell,
    ends=ends,
    connect=connect,
)
