from __future__ import annotations

import numpy as np
import pytest

from headrace.serving.old_rows import OldRows
from headrace.streams.tables.rows import RowTable

ROW = np.dtype([("key", "<u8"), ("time", "<i8")])


def table(times: list[int]) -> RowTable:
    out = RowTable(ROW)
    rows = out.take(np.arange(1, len(times) + 1, dtype=np.uint64))
    out.data["time"][rows] = times
    return out


def drop(old: OldRows, rows: RowTable, before: int, loaded: int = 16) -> int:
    chosen = old.choose(rows, before, loaded)
    rows.drop(rows.data["key"][chosen])
    return len(chosen)


def test_all_old_rows_are_found_in_turn_and_no_others() -> None:
    rows = table([n % 100 for n in range(5000)])
    old = OldRows(10_000, "time")
    found = [drop(old, rows, 10) for _ in range(5000 // 64 + 1)]
    assert max(found) <= 64
    assert sum(found) == 500
    assert rows.data["time"][rows.rows()].min() == 10
    assert drop(old, rows, 10) == 0


def test_a_large_batch_makes_it_look_at_more() -> None:
    rows = table([0] * 5000)
    assert drop(OldRows(10_000, "time"), rows, 1, loaded=1000) == 4000


def test_it_does_not_look_after_every_small_batch() -> None:
    rows, old = table([0] * 5000), OldRows(10_000, "time")
    assert [drop(old, rows, 1, loaded=1) for _ in range(32)] == [*[0] * 15, 64] * 2
    assert len(OldRows(4999, "time").choose(rows, 0, 1)) == 0
    rows.take(np.arange(5001, 6001, dtype=np.uint64))
    assert drop(OldRows(len(rows) - 1, "time"), rows, -1, loaded=1) == 1, "too many are too many at once"


@pytest.mark.parametrize("few", [3, 900])
def test_a_small_table_keeps_its_rows(few: int) -> None:
    assert drop(OldRows(1000, "time"), table([0] * few), 10) == 0


def test_of_too_many_rows_the_oldest_of_those_looked_at_go() -> None:
    rows = table(np.random.default_rng(0).permutation(4000).tolist())
    old = OldRows(3000, "time")
    assert drop(old, rows, 0) == 1000
    assert rows.data["time"][rows.rows()].min() == 1000, "all rows were looked at"
    for n in range(40):
        key = np.array([10_000 + n], np.uint64)
        rows.data["time"][rows.take(key)] = 5000 + n
        drop(old, rows, 0)
        assert len(rows) == 3000
    assert set(range(5000, 5040)) <= set(rows.data["time"][rows.rows()].tolist())


def test_old_rows_go_before_any_others() -> None:
    rows = table([5] * 1000 + [100] * 1000)
    old = OldRows(1500, "time")
    assert drop(old, rows, 10, loaded=500) == 1000
    assert len(rows) == 1000
