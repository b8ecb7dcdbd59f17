from __future__ import annotations

import numpy as np
import pytest

from headrace.streams.tables import room
from headrace.streams.tables.room import Room
from headrace.streams.tables.rows import RowTable

ROW = np.dtype([("key", "<u8"), ("n", "<i8"), ("rest", "u1", (1008,))])


def test_a_large_array_grows_where_it_is() -> None:
    large = Room(np.int64)
    large.grow(200_000)
    large.array[:] = np.arange(len(large.array))
    before = large.array
    large.grow(5_000_000)
    assert np.shares_memory(before, large.array), "it was not copied"
    before[7] = -7
    assert large.array[7] == -7
    assert large.array[8 : len(before)].tolist() == list(range(8, len(before)))
    assert not large.array[len(before) :].any()


def test_small_arrays_grow_by_a_copy() -> None:
    small = Room(np.int64)
    for n in range(1, 1000):
        small.grow(n)
        assert len(small.array) >= n
        small.array[n - 1] = n
    assert small.array[:999].tolist() == list(range(1, 1000))
    assert not small.array[999:].any()


def test_without_addresses_an_array_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(room.mmap, "mmap", refused)
    large = Room(np.int64)
    large.grow(200_000)
    large.array[:] = 3
    size = len(large.array)
    large.grow(400_000)
    assert (large.array[:size] == 3).all()
    assert not large.array[size:].any()


def test_a_table_that_grows_is_not_copied_and_keeps_its_rows() -> None:
    table = RowTable(ROW)
    keys = np.arange(1, 20_001, dtype=np.uint64)
    rows = table.take(keys[:2000])
    table.data["n"][rows] = keys[:2000]
    before = table.data
    for start in range(2000, 20_000, 500):
        part = keys[start : start + 500]
        rows = table.take(part)
        table.data["n"][rows] = part
    assert np.shares_memory(before, table.data)
    assert table.data["n"][table.find(keys)].tolist() == keys.tolist()


def test_room_that_was_reserved_and_not_used_is_let_go() -> None:
    table = RowTable(ROW)
    table.reserve(100_000)
    rows = table.take(np.arange(1, 1001, dtype=np.uint64))
    table.trim()
    assert len(table.data) == 1000
    table.data["n"][rows] = 5
    table.take(np.arange(1, 5001, dtype=np.uint64))
    assert (table.data["n"][rows] == 5).all()
    assert table.data["n"].sum() == 5000
