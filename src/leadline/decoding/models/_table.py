"""A model that is written down: log-probabilities of the next token, given all tokens so far."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from leadline import checks
from leadline.checks import shown
from leadline.decoding.models._problem import Problem, refuse_state
from leadline.decoding.search._settings import LONGEST
from leadline.errors import InputError


class Table:
    """Given log-probabilities, for teaching and for tests.

    Args:
        rows: prefix (a tuple of words) -> word -> natural log-probability, at most 0. Words that a row leaves out have
            probability zero. The empty prefix is the start, which is neither returned nor counted.

    Raises:
        InputError: a log-probability above zero or NaN, or no row for the start.

    >>> table = Table({(): {"a": -0.1, "b": -2.3}, ("a",): {"a": -0.7, "b": -0.7}, ("b",): {"a": 0.0}})
    >>> table.vocabulary
    ('a', 'b')
    >>> step, state, start = table.problem(batch=1)
    >>> step(start, state)[0].tolist()
    [[-0.1, -2.3]]
    """

    normalized = True
    sums_are_given = True
    """A table is searched as it stands; see :meth:`totals`."""

    def __init__(self, rows: Mapping[tuple[str, ...], Mapping[str, float]]):
        rows = _checked(rows)
        if () not in rows:
            raise InputError(
                "a table has a row for the start",
                got=f"prefixes {list(rows)[:4]}",
                cure="add a row ()",
            )
        self.prefixes = tuple(sorted(rows, key=len))
        self.vocabulary = tuple(dict.fromkeys(word for row in rows.values() for word in row))
        if not self.vocabulary:
            raise InputError("a table has a word or more", got=f"{len(rows)} empty rows")
        self.start = len(self.vocabulary)
        """The start symbol: the one token that the vocabulary does not have."""
        node = {prefix: i for i, prefix in enumerate(self.prefixes)}
        self._log_prob = torch.full((len(rows), self.start), -torch.inf, dtype=torch.float64)
        for prefix, row in rows.items():
            for word, log_prob in row.items():
                self._log_prob[node[prefix], self.vocabulary.index(word)] = log_prob
        self._next = torch.tensor(
            [
                [node.get((*prefix, word), -1) for word in self.vocabulary] + [node[()]]
                for prefix in self.prefixes
            ]
        )

    def __call__(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The step function; the state is the row of each hypothesis' prefix."""
        if (
            not isinstance(state, Tensor)
            or state.dtype != torch.int64
            or state.shape != tokens.shape
        ):
            refuse_state("Table", state)
        if ((state < 0) | (state >= len(self.prefixes))).any():
            refuse_state("Table", state)
        if ((tokens < 0) | (tokens > self.start)).any():
            wrong = int(tokens[(tokens < 0) | (tokens > self.start)][0])
            raise InputError(
                f"a table knows the tokens 0 to {self.start}, the last being its start",
                got=f"token {wrong}",
                cure="search(*table.problem(), ...)",
            )
        after = self._next[state, tokens]
        if (after < 0).any():
            i = int((after < 0).nonzero()[0])
            raise InputError(
                "the table has a row for every prefix that is reached",
                got=f"no row for {(*self.prefixes[int(state[i])], self.vocabulary[int(tokens[i])])!r}",
                cause="max_length is larger than the table is deep, or the end token was not named",
                cure="add the row, lower max_length, or pass eos",
            )
        return self._log_prob[after], after

    def problem(self, batch: int = 1) -> Problem:
        """The table at its start, ``batch`` times."""
        batch = checks.whole_number(batch, "batch", least=1, most=LONGEST)
        return Problem(
            self, torch.zeros(batch, dtype=torch.int64), torch.full((batch,), self.start)
        )

    def totals(self) -> dict[tuple[str, ...], float]:
        """What the probabilities of each row add up to. A search takes the rows as they stand, whatever that is.

        >>> table = Table({(): {"a": 0.0}, ("a",): {"a": -0.75, "b": -0.75}})
        >>> {prefix: round(total, 3) for prefix, total in table.totals().items()}
        {(): 1.0, ('a',): 0.945}
        """
        return dict(zip(self.prefixes, self._log_prob.exp().sum(1).tolist(), strict=True))

    def token(self, word: str) -> int:
        """The index of a word: for ``eos``, or for a reference.

        Raises:
            InputError: no row has such a word.
        """
        if not isinstance(word, str) or word not in self.vocabulary:
            raise InputError(
                "a table knows the words of its rows",
                got=f"{shown(word)}, not in {self.vocabulary}",
            )
        return self.vocabulary.index(word)


def _checked(rows: Any) -> dict[tuple[str, ...], dict[str, float]]:
    """The rows of a table, each log-probability a number of at most 0 or ``-inf``."""
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for prefix, row in checks.mapping(rows, "rows", least=1).items():
        if not isinstance(prefix, tuple) or not all(isinstance(word, str) for word in prefix):
            raise InputError(
                "a prefix is a tuple of words",
                got=f"the prefix {shown(prefix)}",
                cure="('a',) is the prefix of one word" if isinstance(prefix, str) else None,
            )
        found[prefix] = {}
        for word, value in checks.mapping(row, f"table[{prefix!r}]").items():
            if not isinstance(word, str):
                raise InputError(
                    "the words of a table are texts", got=f"{shown(word)} in table[{prefix!r}]"
                )
            found[prefix][word] = _log_prob(value, f"table[{prefix!r}][{word!r}]")
    return found


def _log_prob(value: Any, name: str) -> float:
    is_float = isinstance(value, (float, np.floating))
    plain = float(value) if is_float else checks.number(value, name)
    if not plain <= 0:
        raise InputError(
            "a log-probability is at most 0",
            got=f"{name} = {plain}",
            cause="a probability where its logarithm is meant",
            cure="write math.log(p)",
        )
    return plain
