"""Evicted rows: out of memory, in a file without a name, and back as they were; pure, no broker."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from state_rows import ROW, Record, contents, keys, put

from headrace.streams.tables.packed_rows import pack_rows
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import RowTable
from headrace.streams.tables.spill import SEGMENT_BYTES, SPARE_SEGMENTS, SpillFolder

LASTING_ROW = np.dtype([*((name, ROW[name]) for name in ROW.names or ()), ("lasting", "?"), ("pad", "u1", 7)])


@pytest.fixture
def folder(tmp_path: Path) -> SpillFolder:
    return SpillFolder(tmp_path / "spill")


@pytest.fixture
def part(folder: SpillFolder) -> StatePartition:
    return StatePartition(0, RowTable(ROW), spills=folder)


def fill(part: StatePartition, ids: range, updated: int = 0) -> None:
    for key in ids:
        put(part, key, offset=key + 10, count=key * 2, updated=updated)
    part.written(part.take())


def rows(ids: range) -> dict[int, tuple[int, int]]:
    return {key: (key + 10, key * 2) for key in ids}


def packed(key: int, offset: int, count: int, updated: int = 0) -> bytes:
    row = np.zeros(1, ROW)
    row[0] = (key, offset, updated, RowTable(ROW).layout, count)
    return pack_rows(row, np.zeros(1, np.int64))[0]


def feed(part: StatePartition, *entries: tuple[int, bytes | None]) -> None:
    """Apply changelog records after those known."""
    start = part.position
    records = [Record(start + i, key.to_bytes(8, "little"), row) for i, (key, row) in enumerate(entries)]
    part.apply(records, start + len(records))


def test_only_clean_rows_are_evicted(part: StatePartition) -> None:
    for key in range(1, 11):
        put(part, key, offset=key, count=key, updated=key * 10)
    changes = part.take()
    assert not len(part.evict(before_ms=1000)), "not yet in the changelog"
    part.written(changes)
    put(part, 1, offset=20, count=2, updated=5)
    assert sorted(part.evict(before_ms=50).tolist()) == [2, 3, 4]  # 1 is dirty
    assert len(part.rows) == 7
    assert part.evicted(keys(1, 2, 5, 99)).tolist() == [2]
    assert part.evicted_count == 3
    part.written(part.take())
    assert sorted(part.evict(max_rows=4).tolist()) == [1, 5, 6, 7]
    assert len(part.rows) == 3
    assert not len(part.evict(max_rows=4))


def test_rows_used_since_the_last_look_stay(part: StatePartition) -> None:
    fill(part, range(1, 101))
    assert part.evict(max_rows=80).tolist() == list(range(1, 22))  # none is used more than another
    for key in (22, 23, 30):
        put(part, key, offset=200, count=0)
    part.written(part.take())
    assert part.evict(max_rows=70).tolist() == [24, 25, 26, 27, 28, 29, 31, 32, 33, 34]


def test_evicted_rows_come_back_as_they_were(part: StatePartition, tmp_path: Path) -> None:
    fill(part, range(1, 1001))
    assert len(part.evict(before_ms=1)) == 1000
    assert contents(part) == {}
    assert part.away.spill_bytes == SEGMENT_BYTES
    assert not list((tmp_path / "spill").iterdir()), "the file has no name"
    assert not len(part.restore(keys(5, 7, 7, 2000)))
    assert contents(part) == {5: (15, 10), 7: (17, 14)}
    assert part.evicted_count == 998
    assert not len(part.restore(part.evicted()))
    assert contents(part) == rows(range(1, 1001))
    assert (part.evicted_count, part.away.spill_bytes, part.dirty) == (0, 0, False)


def test_room_in_the_file_is_used_again(part: StatePartition) -> None:
    ids = np.arange(1, 60_001, dtype=np.uint64)
    rng = np.random.default_rng(1)
    made = part.rows.take(ids)
    part.rows.data["count"][made] = ids
    part.evict(before_ms=1)
    whole = part.away.spill_bytes
    for _ in range(100):
        some = rng.choice(ids, 6000, replace=False)
        assert not len(part.restore(some))
        part.evict(before_ms=1)
    assert part.away.spill_bytes <= 2 * whole + SPARE_SEGMENTS * SEGMENT_BYTES
    assert part.evicted_count == 60_000
    assert not len(part.restore(ids))
    assert part.rows.data["count"][part.rows.find(ids)].tolist() == ids.tolist()


def test_a_deleted_key_is_not_evicted_any_more(part: StatePartition) -> None:
    fill(part, range(1, 4))
    part.evict(before_ms=1)
    part.delete([1, 1])
    assert sorted(part.evicted().tolist()) == [2, 3]
    feed(part, (3, None))
    assert part.evicted().tolist() == [2]
    part.reset()
    assert (part.evicted_count, part.away.spill_bytes) == (0, 0)


def test_a_newer_row_of_the_changelog_takes_the_place_of_an_evicted_one(part: StatePartition) -> None:
    fill(part, range(1, 4))
    part.evict(before_ms=1)
    feed(part, (1, packed(1, 12, 9)), (2, packed(2, 12, 4)), (9, packed(9, 1, 1)))
    assert contents(part) == {1: (12, 9), 2: (12, 4), 9: (1, 1)}
    assert part.evicted().tolist() == [3]
    part.own()
    assert not part.dirty


def test_a_late_write_of_an_evicted_row_is_written_over(part: StatePartition) -> None:
    fill(part, range(1, 4))
    part.evict(before_ms=1)
    feed(part, (1, packed(1, 9, 1)))
    assert contents(part) == {1: (11, 2)}, "the evicted row is newer"
    assert not part.dirty
    part.own()
    assert list(part.take().rows) == [packed(1, 11, 2)]


def test_expired_rows_get_tombstones_in_memory_or_not(part: StatePartition) -> None:
    for key, updated in ((1, 10), (2, 20), (3, 30), (4, 10)):
        put(part, key, 1, 1, updated)
    part.written(part.take())
    part.evict(before_ms=15)
    assert sorted(part.expire(25).tolist()) == [1, 2, 4]
    changes = part.take()
    assert sorted(changes.deleted.tolist()) == [1, 2, 4]
    assert not changes.rows
    assert part.evicted_count == 0
    assert contents(part) == {3: (1, 1)}


def test_lasting_rows_never_expire_evicted_or_not(folder: SpillFolder) -> None:
    part = StatePartition(0, RowTable(LASTING_ROW), spills=folder, lasting="lasting")
    for key in range(1, 9):
        put(part, key, 1, 1, updated=key % 2)
    part.rows.data["lasting"][part.rows.find(keys(1, 2, 3, 4))] = True
    part.written(part.take())
    part.evict(before_ms=1)
    assert sorted(part.evicted().tolist()) == [2, 4, 6, 8]
    assert sorted(part.expire(2**60).tolist()) == [5, 6, 7, 8]
    assert not len(part.restore(keys(2)))
    part.rows.data["lasting"][part.rows.find(keys(2))] = False
    assert part.expire(2**60).tolist() == [2]
    with pytest.raises(TypeError, match="no bool field 'count'"):
        StatePartition(0, RowTable(ROW), lasting="count")


def test_rows_that_the_disk_lost_are_recognised_in_the_changelog(part: StatePartition) -> None:
    fill(part, range(1, 4))
    part.evict(before_ms=1)
    os.pwrite(part.away._spill._fd, bytes(part.away._spill._end), 0)
    assert sorted(part.restore(keys(1, 2)).tolist()) == [1, 2]
    assert sorted(part.away.unreadable(part.evicted()).tolist()) == [1, 2, 3]
    assert (
        part.revive([packed(1, 11, 2), packed(2, 9, 0), packed(3, 13, 7), packed(7, 1, 1), b"rubbish"]) == 1
    )
    assert contents(part) == {1: (11, 2)}, "2 is an older state, 3 one that never was, 7 was never here"
    feed(part, (2, packed(2, 11, 1)))
    assert 2 not in part.rows, "older than the row that cannot be read"
    feed(part, (3, packed(3, 14, 1)))
    assert contents(part)[3] == (14, 1)
    assert part.evicted().tolist() == [2]
