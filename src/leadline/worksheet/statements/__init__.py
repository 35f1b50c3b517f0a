"""The twenty statements, in the order of the course, and the extensions that are registered."""

from difflib import get_close_matches

from leadline import checks
from leadline.errors import InputError
from leadline.statistics import TOTAL_ERROR_RATE
from leadline.worksheet._statement import Statement
from leadline.worksheet.statements import autoencoders, decoding, recurrent

STATEMENTS: dict[str, Statement] = {
    statement.id: statement
    for statement in (*autoencoders.STATEMENTS, *recurrent.STATEMENTS, *decoding.STATEMENTS)
}
"""Statements by id."""

LEVEL = 1 - TOTAL_ERROR_RATE / sum(not s.is_extension for s in STATEMENTS.values())
"""Level of the intervals of one statement.

At this level the intervals of the twenty together cover with at least 95 %. An extension has the
same level and does not change it.
"""


def register(statement: Statement) -> Statement:
    """Add an extension, a statement beyond the twenty, to :data:`STATEMENTS`; return it.

    The file of the measurement registers its statement, so that a worker process, which imports
    this file, knows the statement too.

    Raises:
        InputError: the statement is no extension, or another statement has this id.
    """
    checks.instance(statement, "statement", Statement)
    if not statement.is_extension:
        raise InputError(
            "register() needs an extension",
            got="is_extension = False",
            cause="the level of every interval depends on the number of other statements",
            cure="Statement(..., is_extension=True)",
        )
    earlier = STATEMENTS.setdefault(statement.id, statement)
    if earlier != statement:
        raise InputError(
            "register() needs an id that no other statement has",
            got=f"id = {statement.id!r}, the id of {earlier.title!r}",
        )
    return statement


def select(only: tuple[str, ...] = ()) -> tuple[Statement, ...]:
    """Return the statements with the given ids or sections, in course order; by default all.

    Raises:
        InputError: an id is unknown; the message suggests the most similar one.

    >>> [statement.id for statement in select(("beam.a", "rnn"))]
    ['rnn.a', 'rnn.b', 'rnn.c', 'rnn.d', 'rnn.e', 'beam.a']
    """
    sections = _ids_by_section()
    names = checks.items(only, "only", of="ids and sections")
    for name in names:
        checks.text(name, "a name in only")
        if name not in STATEMENTS and name not in sections:
            raise InputError(
                "only must contain ids of statements or names of sections",
                got=f"only = {name}",
                cure=_existing_names(name),
            )
    return tuple(s for s in STATEMENTS.values() if not names or s.id in names or s.section in names)


def _existing_names(unknown: str) -> str:
    """Return the name that was probably meant, and the ids and sections that exist."""
    id_of_number = {s.number: s.id for s in STATEMENTS.values() if not s.is_extension}
    ids_by_section = _ids_by_section()
    # The course's numbers are short, so they are similar to many ids.
    if unknown in id_of_number:
        similar = [id_of_number[unknown]]
    else:
        similar = get_close_matches(unknown, [*STATEMENTS, *ids_by_section], n=1)
    texts = [f"perhaps {name}" for name in similar]
    texts.append(f"sections are {', '.join(ids_by_section)}")
    ranges = []
    for ids in ids_by_section.values():
        own = [name for name in ids if not STATEMENTS[name].is_extension]
        extensions = [name for name in ids if STATEMENTS[name].is_extension]
        ranges += [f"{own[0]} to {own[-1]}", *extensions]
    texts.append(f"statements are {', '.join(ranges)}")
    return "; ".join(texts)


def _ids_by_section() -> dict[str, list[str]]:
    """Return the ids of the statements of each section, in course order."""
    ids: dict[str, list[str]] = {}
    for statement in STATEMENTS.values():
        ids.setdefault(statement.section, []).append(statement.id)
    return ids
