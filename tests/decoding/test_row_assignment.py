"""Rows that stay in place give the same states as rows that are copied at every step."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from leadline.decoding.search.beam._row_assignment import RowAssignment

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
def test_each_row_holds_the_state_of_its_hypothesis(family):
    """The states are ids. Only rows without a child receive another state."""
    items, width, steps = family
    first = np.arange(items * width) // width * width
    assignment = RowAssignment(items * width)
    state = np.arange(items * width)  # in the order of the rows
    ranked = state.copy()  # in the order of the ranks
    for t, parents in enumerate(steps + first, start=1):
        sources = assignment.move(parents.tolist(), is_same_shape=True)
        dead = len(ranked) - len(np.unique(parents))
        if sources is None:
            assert not dead
        else:
            assert (np.array(sources) != np.arange(len(sources))).sum() == dead
            state = state[sources]
        ranked = ranked[parents]
        assert np.array_equal(assignment.by_rank(state), ranked)
        tokens = 100 * t + np.arange(len(ranked))
        state = 1000 * state + assignment.by_row(tokens)
        ranked = 1000 * ranked + tokens
        assert np.array_equal(assignment.by_rank(state), ranked)


def test_rows_follow_the_ranks_if_their_number_changes():
    assignment = RowAssignment(1)
    assert assignment.move([0, 0, 0], is_same_shape=False) == [0, 0, 0]
    assignment.move([2, 0, 1], is_same_shape=True)
    assert assignment.by_row([0, 1, 2]) == [1, 2, 0]
    assert assignment.move([0, 1], is_same_shape=False) == [2, 0]  # the rows of their parents
    assert assignment.by_row([0, 1]) == [0, 1]
