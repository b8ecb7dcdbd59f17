from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.embeddings.recent import RecentClicks
from headrace.models.embeddings.towers import PLACES


def as_columns(clicks: list[tuple[int, int]], start: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    users, items = (np.array(column, np.uint64).reshape(-1) for column in zip(*clicks, strict=True))
    return users, items, np.arange(start, start + len(clicks), dtype=np.int64)


@given(
    st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 99)), min_size=1, max_size=60), max_size=4)
)
def test_what_was_clicked_before_each_click(batches: list[list[tuple[int, int]]]) -> None:
    table, history, start = RecentClicks(), defaultdict[int, list[int]](list), 0
    for batch in batches:
        found = table.add(*as_columns(batch, start))
        start += len(batch)
        for (user, item), row in zip(batch, found.tolist(), strict=True):
            before = history[user][-PLACES:][::-1]
            assert row == before + [0] * (PLACES - len(before))
            history[user].append(item)


def test_the_users_who_clicked_long_ago_go() -> None:
    table = RecentClicks(max_users=100)
    table.add(*as_columns([(n, n) for n in range(1, 101)]))
    table.add(*as_columns([(1, 7)], 1000))
    table.add(*as_columns([(500, 8)], 1001))
    assert len(table) == 90, "one, and a tenth"
    again = table.add(*as_columns([(1, 9), (2, 9), (100, 9)], 1002))
    assert again[:, 0].tolist() == [7, 0, 100]
    assert table.add(*as_columns([(1, 9)], 2000))[0, :3].tolist() == [9, 7, 1]


def test_no_clicks() -> None:
    none = np.zeros(0, np.uint64)
    assert RecentClicks().add(none, none, none.astype(np.int64)).shape == (0, PLACES)
