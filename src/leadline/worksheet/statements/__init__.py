"""The twenty statements, in the order of the course."""

from leadline import checks
from leadline.errors import InputError, nearest
from leadline.statistics import REGISTERED_STATEMENTS
from leadline.worksheet._statement import Statement
from leadline.worksheet.statements import autoencoders, decoding, recurrent

STATEMENTS: dict[str, Statement] = {
    statement.id: statement
    for statement in (*autoencoders.STATEMENTS, *recurrent.STATEMENTS, *decoding.STATEMENTS)
}
"""Statements by id."""

# The level of every interval depends on this number.
assert len(STATEMENTS) == REGISTERED_STATEMENTS


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
