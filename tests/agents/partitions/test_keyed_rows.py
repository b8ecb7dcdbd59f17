"""Rows by key, and rows in a queue, against plain lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.agents.partitions.keyed_rows import KeyedRows
from headrace.agents.partitions.row_queue import SMALLEST, RowQueue

ROW = np.dtype([("order", "i8"), ("what", "i8")])


def rows_of(orders: list[int]) -> np.ndarray:
    out = np.zeros(len(orders), ROW)
    out["order"] = orders
    out["what"] = range(len(orders))
    return out


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 50)), max_size=8)),
        st.tuples(st.just("forget"), st.integers(0, 60)),
        st.tuples(st.just("cut"), st.integers(0, 60)),
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_it_finds_what_a_list_would_find(steps: list[tuple[str, object]]) -> None:
    table, plain, before = KeyedRows(ROW, "order"), list[tuple[int, int]](), 0
    for step, given_ in steps:
        if step == "add":
            pairs = [(k, max(o, before)) for k, o in given_]  # type: ignore[attr-defined]
            plain += pairs
            table.add(np.array([k for k, _ in pairs], np.uint64), rows_of([o for _, o in pairs]))
        elif step == "forget":
            before = max(before, given_)  # type: ignore[call-overload]
            table.forget(before)
            plain = [(k, o) for k, o in plain if o >= before]
        else:
            table.cut(given_)  # type: ignore[arg-type]
            plain = [(k, o) for k, o in plain if o < given_]  # type: ignore[operator]
        keys, rows = table.find(np.array([1, 3, 3, 9], np.uint64))
        found = sorted(zip(keys.tolist(), rows["order"].tolist(), strict=True))
        assert found == sorted(pair for pair in plain if pair[0] in {1, 3, 9})


def test_memory_follows_what_is_kept() -> None:
    """A window of 1000 rows that moves, in batches of one to 40 rows."""
    rng, table, at = np.random.default_rng(1), KeyedRows(ROW, "order"), 0
    most = 0
    for _ in range(2000):
        n = int(rng.integers(1, 40))
        table.add(rng.integers(0, 1 << 60, n).astype(np.uint64), rows_of(list(range(at, at + n))))
        at += n
        table.forget(at - 1000)
        most = max(most, len(table))
    assert 1000 <= len(table) <= most <= 2100


def test_a_queue_is_a_list_whose_numbers_go_on() -> None:
    rng, queue, plain, first = np.random.default_rng(2), RowQueue(np.int64), list[int](), 0
    for step in range(3000):
        new = rng.integers(0, 1000, int(rng.integers(0, 9))).tolist()
        queue.push(np.array(new, np.int64))
        plain += new
        if step % 3 == 0 and plain:
            n = int(rng.integers(0, min(20, len(plain) - first + 1)))
            first += n
            queue.forget(first)
        if step % 50 == 0 and len(plain) > first + 2:
            queue.cut(len(plain) - 2)
            del plain[-2:]
        assert queue.end - queue.first == len(queue) == len(plain) - first
        assert queue.rows().tolist() == plain[first:]
        assert queue.nbytes <= 8 * max(SMALLEST, 6 * len(queue) + 60)
    if len(queue) > 1:
        numbers = np.array([queue.end - 1, queue.first])
        assert queue.at(numbers).tolist() == [plain[-1], plain[first]]


@pytest.mark.parametrize("n", [0, 1, 200])
def test_an_empty_queue_has_rows_to_look_at(n: int) -> None:
    queue = RowQueue(ROW)
    queue.push(rows_of(list(range(n))))
    queue.forget(queue.end)
    assert len(queue.rows()) == len(queue) == 0
    queue.push(rows_of([7]))
    assert queue.rows()["order"].tolist() == [7]
    assert queue.first == n
