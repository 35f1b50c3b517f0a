"""Hypotheses in the rows of a model, beside a model whose rows are all copied at every step."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from leadline.decoding.search._rows import Rows

families = st.integers(1, 3).flatmap(
    lambda items: st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.lists(st.integers(0, width - 1), min_size=items * width, max_size=items * width),
            min_size=1,
            max_size=6,
        ).map(lambda steps: (items, width, np.array(steps)))
    )
)


@given(families)
def test_what_a_row_holds_is_its_hypothesis(family):
    """Ids are the states: what is read in the order of ranks is what copies of every state give, and few are moved."""
    items, width, steps = family
    first = np.arange(items * width) // width * width
    rows, state = Rows(items * width), np.arange(items * width)  # as the model has it
    ranked = state.copy()  # as the search means it
    for t, parents in enumerate(steps + first, start=1):
        sources = rows.move(parents.tolist(), is_same_shape=True)
        dead = len(ranked) - len(np.unique(parents))
        if sources is None:
            assert not dead
        else:
            assert (np.array(sources) != np.arange(len(sources))).sum() == dead
            state = state[sources]
        ranked = ranked[parents]
        assert np.array_equal(rows.by_rank(state), ranked)
        tokens = 100 * t + np.arange(len(ranked))
        state, ranked = 1000 * state + rows.by_row(tokens), 1000 * ranked + tokens
        assert np.array_equal(rows.by_rank(state), ranked)


def test_rows_follow_ranks_where_their_number_changes():
    rows = Rows(1)
    assert rows.move([0, 0, 0], is_same_shape=False) == [0, 0, 0]
    rows.move([2, 0, 1], is_same_shape=True)
    assert rows.by_row([0, 1, 2]) == [1, 2, 0]
    assert rows.move([0, 1], is_same_shape=False) == [2, 0]  # where their parents are
    assert rows.by_row([0, 1]) == [0, 1]
