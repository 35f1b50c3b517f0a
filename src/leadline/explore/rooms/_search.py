"""The search room: a beam search with sliders, and the audit of its result."""

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
from leadline.explore.page._settings import Between, Label, Text
from leadline.explore.rooms import _manual_model as manual_model
from leadline.sounding import Sounding, decimals

END = "<end>"
UNKNOWN = "<unknown>"

CALLS = 100
"""Largest number of model calls of the audit; they take a fraction of a second."""

LONGEST = {"table": 8, "language model": 12}
"""Largest length of a sequence, by model; longer searches would delay the page."""

TOLERANCE = 0.01
"""Largest deviation of a row's probabilities from 1 without a note; cells have two decimals."""

MOST_NAMES = 5
"""Largest number of unknown words that a note lists."""

MOST_ROWS = 3
"""Largest number of rows that a note lists."""


@dataclass(frozen=True)
class Settings:
    """Settings of a model and of its search."""

    model: Literal["table", "language model"] = "table"
    """Model that gives the probabilities. table: the course's table of two words. language model: a
    small recurrent network that was trained on the manual of Python."""
    prompt: Annotated[str, Text(200)] = "the value of the"
    """Text that the language model continues. The model reads unknown words as <unknown>."""
    first_word: Annotated[str, Text(40)] = "neural"
    """First word of the table."""
    second_word: Annotated[str, Text(40)] = "network"
    """Second word of the table."""
    table: Annotated[str, Cells()] = ""
    """Natural log-probability of the next word (column) after a prefix (row). An empty cell means
    probability 0. For a longer prefix, the row of its last two words applies."""
    step: Annotated[int, Between(0, max(LONGEST.values())), Label("step shown")] = max(
        LONGEST.values()
    )
    """Number of steps of the search that the tree shows."""
    width: Annotated[int, Between(1, 8), Label("beam width")] = 2
    """Number of hypotheses that the beam keeps after each step. Width 1 is greedy search."""
    length: Annotated[int, Between(1, max(LONGEST.values())), Label("maximum length")] = 3
    """Largest number of words in a sequence."""
    end: Annotated[Literal["none", "pool", "in beam"], Label("end token")] = "none"
    """Treatment of sequences that end early. none: no sequence ends early. pool: a finished
    hypothesis leaves the beam and goes to a pool. in beam: it stays in the beam, and may be
    pruned."""
    penalty: Annotated[Literal["none", "length", "GNMT", "reward"], Label("length penalty")] = (
        "none"
    )
    """Score that ranks the hypotheses. none: the log-probability. length: divided by lengthᵃ. GNMT:
    divided by ((5 + length)/6)ᵃ. reward: plus a nats for each word."""
    strength: Annotated[float, Between(0, 2, 0.05), Label("strength a")] = 1.0
    """The number a of the length penalty."""


def soundings(settings: Settings) -> Iterator[tuple[str, Sounding]]:
    """Yield the search after the chosen step, and a comparison of the three searches."""
    audit, comparison = _search(dataclasses.replace(settings, step=0))
    yield "tree", audit.at(min(settings.step, audit.at(0).steps))
    yield "searches", comparison


@lru_cache(maxsize=8)
def _search(s: Settings) -> tuple[decoding.SearchAudit, decoding.Comparison]:
    """Return the audit and the comparison of the searches; they do not depend on the shown step."""
    if s.length > LONGEST[s.model]:
        raise InputError(
            f"length must be at most {LONGEST[s.model]} for the {s.model}",
            got=f"length = {s.length}",
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
    """Return the score that ranks the hypotheses."""
    match s.penalty:
        case "length":
            return decoding.LengthNormalized(s.strength)
        case "GNMT":
            return decoding.GNMT(s.strength)
        case "reward":
            return decoding.WordReward(s.strength)
    return decoding.SumLogProb()


def _edited_rows(s: Settings) -> dict[tuple[str, ...], dict[str, float]]:
    """Return the seven rows of the editor: log-probabilities of the next word by prefix."""
    words = (s.first_word.strip(), s.second_word.strip(), END)
    if len(set(words)) < 3 or not all(words):
        raise InputError(
            f"first_word and second_word must be different words, and neither may be {END}",
            got=f"first_word = {s.first_word!r}, second_word = {s.second_word!r}",
        )
    texts = cells.cells(s.table)
    rows = {}
    for number, indices in enumerate(PREFIXES, 1):
        columns = zip("ABC" if s.end != "none" else "AB", words, strict=False)
        prefix = tuple(words[index] for index in indices)
        rows[prefix] = {
            word: _number(texts[f"{column}{number}"], prefix, word) for column, word in columns
        }
    return rows


def _number(text: str, prefix: tuple[str, ...], word: str) -> float:
    """Return the number in a cell. Table refuses numbers that are not log-probabilities."""
    try:
        return float(text.replace("−", "-")) if text else -math.inf
    except ValueError:
        raise InputError(
            "a cell of the table must be a natural log-probability, or empty for probability 0",
            got=f"{text!r} for {word!r} after {' '.join(prefix) or 'the start'!r}",
        ) from None


def _rows(s: Settings) -> dict[tuple[str, ...], dict[str, float]]:
    """Return a row for every prefix that a search can reach."""
    edited = _edited_rows(s)
    words = [word for word in edited[()] if word != END]
    longer = {
        prefix: edited[prefix[-2:]] for n in range(s.length) for prefix in product(words, repeat=n)
    }
    return edited | longer


def note(settings: Settings) -> str:
    """Return a note on rows that do not sum to 1, on unknown words, or on an empty prompt."""
    if settings.model == "table":
        return _note_on_sums(settings)
    lm = manual_model.model()
    if not settings.prompt.strip():
        return "The prompt is empty, so the model begins a new paragraph."
    unknown = lm.unknown(settings.prompt)
    if not unknown:
        return ""
    names = ", ".join(f"“{word}”" for word in unknown[:MOST_NAMES])
    if len(unknown) > MOST_NAMES:
        names += f" and {len(unknown) - MOST_NAMES} more"
    return (
        f"The model does not know {names}. It reads {UNKNOWN} instead, and its answers never "
        f"contain {UNKNOWN}."
    )


def _note_on_sums(settings: Settings) -> str:
    """Return a note on the rows of the table whose probabilities do not sum to 1."""
    wrong = []
    for prefix, total in decoding.Table(_edited_rows(settings)).totals().items():
        if abs(total - 1) > TOLERANCE:
            place = f"after “{' '.join(prefix)}”" if prefix else "at the start"
            wrong.append(f"{place} {decimals(total, '.2f')}")
    if not wrong:
        return ""
    sums = ", ".join(wrong[:MOST_ROWS])
    if len(wrong) > MOST_ROWS:
        sums += f", and {len(wrong) - MOST_ROWS} more"
    return (
        f"The probabilities of a row should sum to 1. These sums differ: {sums}. The search uses "
        "the numbers unchanged."
    )


def code(settings: Settings) -> str:
    """Return Python code that makes the same soundings."""
    s = settings
    shown = ROOM.take(settings)["tree"]
    assert isinstance(shown, decoding.Walk)
    end = "None"
    if s.model == "table":
        rows = _edited_rows(s)
        words = [word for word in rows[()] if word != END]
        lines = [
            "from itertools import product",
            "from math import inf",
            "from leadline import decoding",
            "",
        ]
        lines += ["rows = {", *(f"    {prefix!r}: {row!r}," for prefix, row in rows.items()), "}"]
        lines += [
            f"longer = (prefix for n in range({s.length}) for prefix in product({words!r}, "
            "repeat=n))",
            "# For a longer prefix, the row of its last two words applies.",
            "rows |= {prefix: rows[prefix[-2:]] for prefix in longer}",
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
    unused = {"prompt"} if settings.model == "table" else {"first_word", "second_word", "table"}
    return unused | ({"strength"} if settings.penalty == "none" else set())


def slider_limits(settings: Settings) -> Mapping[str, float]:
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
"""Columns of the comparison that the page shows."""

ROOM = Room(
    name="search",
    title="What did the decoder miss?",
    lead="A beam search keeps the best few hypotheses after each word. Walk through the search "
    "step by step: see the pruned hypotheses, and whether the answer is the most likely sequence.",
    settings=Settings,
    cards={
        "tree": Card("Search tree: kept and pruned hypotheses", 500, lines=3, wide=True),
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
    note=note,
    slider_limits=slider_limits,
    connect=connect,
)
