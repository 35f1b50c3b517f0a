"""The twenty statements, in the order of the course, and the extensions that are registered."""

from leadline import checks
from leadline.errors import InputError, nearest
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
        InputError: an id is unknown; the message lists the ids, nearest first.

    >>> [statement.id for statement in select(("beam.a", "rnn"))]
    ['rnn.a', 'rnn.b', 'rnn.c', 'rnn.d', 'rnn.e', 'beam.a']
    """
    sections = {statement.section for statement in STATEMENTS.values()}
    names = checks.items(only, "only", of="ids and sections")
    for name in names:
        checks.text(name, "a name in only")
        if name not in STATEMENTS and name not in sections:
            raise InputError(
                "only must contain ids of statements or names of sections",
                got=f"only = {name}",
                cure="one of " + ", ".join(nearest(name, [*STATEMENTS, *sorted(sections)])),
            )
    return tuple(s for s in STATEMENTS.values() if not names or s.id in names or s.section in names)
