"""Tests that every online store must pass."""

from __future__ import annotations

import numpy as np

from headrace.serving.store.calls import CHUNK_BYTES
from headrace.serving.store.protocol import OnlineStore
from headrace.streams.tables.rows import PackedRows, RowTable

ROW = np.dtype([("key", "u8"), ("offset", "i8"), ("body", "V2032")])


def rows_of(keys: np.ndarray, offset: int = 0) -> np.ndarray:
    rows = np.zeros(len(keys), ROW)
    rows["key"], rows["offset"] = keys, offset
    rows["body"] = np.frombuffer(np.random.default_rng(offset).bytes(2032 * len(keys)), "V2032")
    return rows


async def test_rows_come_back_as_they_were_written(store: OnlineStore) -> None:
    await store.put("u", PackedRows.of([1, 2**64 - 1, 3], [b"a", b"\r\n$1\r\n-\x00", b"c" * 3000]))
    await store.put("i", PackedRows.of([1], [b"another kind"]))
    assert await store.get("u", [3, 2, 2**64 - 1, 1]) == [b"c" * 3000, None, b"\r\n$1\r\n-\x00", b"a"]
    await store.put("u", PackedRows.of([1], [b"newer"]))
    await store.drop("u", [3, 77])
    assert await store.get("u", [1, 3]) == [b"newer", None]
    assert await store.get("i", [1]) == [b"another kind"]
    for nothing in (store.put("u", PackedRows.of([], [])), store.drop("u", [])):
        await nothing
    assert await store.get("u", []) == []


async def test_rows_of_several_kinds_are_read_together(store: OnlineStore) -> None:
    keys = list(range(1, 60))  # in a cluster, of many slots
    await store.put("u", PackedRows.of(keys, [b"user %d" % key for key in keys]))
    await store.put("s", PackedRows.of([7], [b"shown"]))
    found = await store.get_several([("u", [*keys[::-1], 99]), ("n", []), ("s", [8, 7]), ("u", [3, 3])])
    assert found == [
        [*(b"user %d" % key for key in keys[::-1]), None],
        [],
        [None, b"shown"],
        [b"user 3", b"user 3"],
    ]
    assert await store.get_several([("u", []), ("s", [])]) == [[], []]


def packed(keys: np.ndarray, offset: int) -> PackedRows:
    table = RowTable(ROW)
    rows = rows_of(keys, offset)
    rows["body"][::2] = np.void(bytes(2032))  # packed rows are of many lengths
    table.load(rows)
    return table.pack(table.find(keys))


async def test_packed_rows_come_back(store: OnlineStore) -> None:
    keys = np.random.default_rng(5).integers(1, 2**64, 2 * CHUNK_BYTES // 1024, np.uint64)
    rows = packed(keys, 0)
    assert len(set(map(len, rows))) > 1
    assert len(rows.blob) > CHUNK_BYTES, "several chunks"
    await store.put("n", rows)
    assert await store.get("n", keys.tolist()) == list(rows)
    newer = packed(keys, 1)
    await store.put("n", newer[:50])
    await store.put("n", PackedRows.joined([newer[50:60], newer[60:]]))
    assert await store.get("n", keys.tolist()) == list(newer)
    await store.drop("n", keys[:10])
    assert await store.get("n", keys[:11].tolist()) == [None] * 10 + [newer[10]]


async def test_marks_are_kept_by_kind_and_partition(store: OnlineStore) -> None:
    assert await store.read_marks("u", [0, 7]) == {0: None, 7: None}
    assert await store.set_marks("u", {0: 5, 7: 12}) == {0, 7}
    assert await store.set_marks("i", {0: 1}) == {0}
    assert await store.read_marks("u", [0, 1, 7]) == {0: 5, 1: None, 7: 12}
    assert await store.read_marks("i", [0, 7]) == {0: 1, 7: None}
    assert await store.read_marks("i", []) == {}


async def test_a_mark_moves_only_from_where_it_was_seen(store: OnlineStore) -> None:
    assert await store.set_marks("u", {0: 0, 1: 3}, {0: None, 1: None}) == {0, 1}
    assert await store.set_marks("u", {0: 9, 1: 9}, {0: 0, 1: 2}) == {0}
    assert await store.set_marks("u", {0: 10}, {0: None}) == set()
    assert await store.read_marks("u", [0, 1]) == {0: 9, 1: 3}


async def test_marks_can_be_written_before_any_is_read(store: OnlineStore) -> None:
    assert await store.set_marks("u", {0: 4}, {0: None}) == {0}
    assert await store.read_marks("u", [0]) == {0: 4}


async def test_beats_are_kept_by_kind_and_partition(store: OnlineStore) -> None:
    await store.beat("u", [])
    assert await store.beating("u", [0, 1]) == set()
    await store.set_marks("u", {0: 5, 1: 0, 12: 3})
    await store.set_marks("n", {1: 0})
    await store.beat("u", [0, 12])
    await store.beat("n", [1])
    assert await store.beating("u", [0, 1, 12]) == {0, 12}
    assert await store.beating("n", range(3)) == {1}
    assert await store.beating("u", []) == set()


async def test_beats_say_what_they_were_given(store: OnlineStore) -> None:
    assert await store.beats("u", [0, 1]) == {}
    await store.set_marks("u", {0: 0, 1: 0})
    text = b'{"events": {"last": 7}}\r\n\x00'
    await store.beat("u", [0, 1], {1: text, 2: b"not of these"})
    assert await store.beats("u", [0, 1, 2]) == {0: b"1", 1: text}
    await store.beat("u", [1])
    assert await store.beats("u", [1]) == {1: b"1"}
    assert await store.beats("n", [1]) == {}


async def test_a_partition_without_a_mark_has_no_beat(store: OnlineStore) -> None:
    """Its rows may have been lost, and the mark with them."""
    await store.set_marks("u", {0: 0})
    await store.beat("u", [0, 1])
    assert await store.beating("u", [0, 1]) == {0}


async def test_beats_can_be_taken_back(store: OnlineStore) -> None:
    await store.set_marks("u", {0: 0, 1: 0})
    await store.set_marks("n", {0: 0})
    await store.beat("u", [0, 1])
    await store.beat("n", [0])
    await store.silence("u", [0, 7])
    await store.silence("u", [])
    assert await store.beating("u", [0, 1]) == {1}
    assert await store.beating("n", [0]) == {0}
