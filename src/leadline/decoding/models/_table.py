"""A model as a table: log-probabilities of the next token, given all tokens so far."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline import checks
from leadline.checks import shown
from leadline.decoding.problem._arguments import LONGEST
from leadline.decoding.problem._problem import Problem, refuse_state
from leadline.errors import InputError


class Table:
    """A model that is given by its log-probabilities, for teaching and for tests.

    Args:
        rows: maps each prefix (a tuple of words) to a row: word -> natural log-probability, at
            most 0. Words that a row leaves out have probability zero. The empty prefix is the
            start, which is neither returned nor counted.

    Raises:
        InputError: a log-probability is above zero or NaN, or there is no row for the start.

    >>> rows = {(): {"a": -0.1, "b": -2.3}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": 0.0}}
    >>> table = Table(rows)
    >>> table.vocabulary
    ('a', 'b')
    >>> step, state, start = table.problem(batch=1)
    >>> step(start, state)[0].tolist()
    [[-0.1, -2.3]]
    """

    normalized = True
    sums_are_given = True
    """True: a search accepts rows that do not sum to 1; see :meth:`totals`."""

    def __init__(self, rows: Mapping[tuple[str, ...], Mapping[str, float]]):
        rows = _checked(rows)
        if () not in rows:
            raise InputError(
                "Table() needs a row for the start",
                got=f"prefixes {list(rows)[:4]}",
                cure="add a row with the key ()",
            )
        self.prefixes = tuple(sorted(rows, key=len))
        self.vocabulary = tuple(dict.fromkeys(word for row in rows.values() for word in row))
        if not self.vocabulary:
            raise InputError("Table() needs a word or more", got=f"{len(rows)} empty rows")
        self.start = len(self.vocabulary)
        """The start token, the only token that has no word in the vocabulary."""
        row_of = {prefix: i for i, prefix in enumerate(self.prefixes)}
        self._log_prob = torch.full((len(rows), self.start), -torch.inf, dtype=torch.float64)
        for prefix, row in rows.items():
            for word, log_prob in row.items():
                self._log_prob[row_of[prefix], self.vocabulary.index(word)] = log_prob
        next_rows = []
        for prefix in self.prefixes:
            after_words = [row_of.get((*prefix, word), -1) for word in self.vocabulary]
            next_rows.append([*after_words, row_of[()]])
        self._next = torch.tensor(next_rows)

    def __call__(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities (N, M) and the new state: the row of each hypothesis, (N,)."""
        is_vector = isinstance(state, Tensor) and state.dtype == torch.int64
        if not is_vector or state.shape != tokens.shape:
            refuse_state("Table", state)
        if ((state < 0) | (state >= len(self.prefixes))).any():
            refuse_state("Table", state)
        is_unknown = (tokens < 0) | (tokens > self.start)
        if is_unknown.any():
            raise InputError(
                f"Table() has the tokens 0 to {self.start}; the last token is the start",
                got=f"token {int(tokens[is_unknown][0])}",
                cure="search(*table.problem(), ...)",
            )
        after = self._next[state, tokens]
        if (after < 0).any():
            i = int((after < 0).nonzero()[0])
            prefix = (*self.prefixes[int(state[i])], self.vocabulary[int(tokens[i])])
            raise InputError(
                "Table() needs a row for every prefix that a search reaches",
                got=f"no row for {prefix!r}",
                cause="max_length is larger than the depth of the table, or eos is missing",
                cure="add the row, lower max_length, or pass eos",
            )
        return self._log_prob[after], after

    def problem(self, batch: int = 1) -> Problem:
        """Return a problem that starts ``batch`` times at the start of the table."""
        batch = checks.whole_number(batch, "batch", least=1, most=LONGEST)
        state = torch.zeros(batch, dtype=torch.int64)
        return Problem(self, state, torch.full((batch,), self.start))

    def totals(self) -> dict[tuple[str, ...], float]:
        """Return the sum of the probabilities of each row; a search accepts any sum.

        >>> table = Table({(): {"a": 0.0}, ("a",): {"a": -0.75, "b": -0.75}})
        >>> {prefix: round(total, 3) for prefix, total in table.totals().items()}
        {(): 1.0, ('a',): 0.945}
        """
        return dict(zip(self.prefixes, self._log_prob.exp().sum(1).tolist(), strict=True))

    def token(self, word: str) -> int:
        """Return the token of a word, for ``eos`` or for a reference.

        Raises:
            InputError: no row has the word.
        """
        if not isinstance(word, str) or word not in self.vocabulary:
            raise InputError(
                "token() needs a word of the table",
                got=f"{shown(word)}, not in {self.vocabulary}",
            )
        return self.vocabulary.index(word)


def _checked(rows: Any) -> dict[tuple[str, ...], dict[str, float]]:
    """Return the rows of a table with checked prefixes, words and log-probabilities."""
    plain_rows: dict[tuple[str, ...], dict[str, float]] = {}
    for prefix, row in checks.mapping(rows, "rows", least=1).items():
        if not isinstance(prefix, tuple) or not all(isinstance(word, str) for word in prefix):
            raise InputError(
                "Table() needs prefixes that are tuples of words",
                got=f"the prefix {shown(prefix)}",
                cure="('a',) is the prefix of one word" if isinstance(prefix, str) else None,
            )
        plain_rows[prefix] = {}
        for word, value in checks.mapping(row, f"table[{prefix!r}]").items():
            if not isinstance(word, str):
                raise InputError(
                    "Table() needs words that are texts",
                    got=f"{shown(word)} in table[{prefix!r}]",
                )
            plain_rows[prefix][word] = _log_prob(value, f"table[{prefix!r}][{word!r}]")
    return plain_rows


def _log_prob(value: Any, name: str) -> float:
    is_float = isinstance(value, (float, np.floating))
    plain = float(value) if is_float else checks.number(value, name)
    if not plain <= 0:
        raise InputError(
            f"{name} must be a log-probability: at most 0",
            got=f"{name} = {plain}",
            cause="it is a probability and not its logarithm",
            cure="write math.log(p)",
        )
    return plain
