"""Places by a value: the compiled ones are those of a stable sort."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.features.places import ranks

SCORES = st.one_of(st.integers(-2, 5).map(float), st.floats(width=32))


@given(st.lists(SCORES, max_size=80))
def test_ranks_are_those_of_a_stable_sort(values: list[float]) -> None:
    score = np.array(values, np.float32)
    expected = np.zeros(len(score), np.float32)
    at = np.flatnonzero(score > 0)
    expected[at[np.argsort(-score[at], kind="stable")]] = np.arange(1, len(at) + 1)
    found = ranks(score)
    assert found.dtype == np.float32
    assert found.tolist() == expected.tolist()


def test_a_column_of_a_table_is_read_where_it_is() -> None:
    table = np.array([[0.5, 9], [3, 9], [1, 9], [0, 9], [3, 9]], np.float32)
    assert ranks(table[:, 0]).tolist() == [4, 1, 3, 0, 2]
