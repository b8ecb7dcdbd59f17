"""RowTable partitions: dirty rows, changelog records, eviction, late writers; pure, no broker."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from state_rows import ROW, Record, contents, keys, put

from headrace.streams.tables.changes import rows_once
from headrace.streams.tables.packed_rows import pack_rows
from headrace.streams.tables.partition import StatePartition, key_bytes, larger_mark, record_crc
from headrace.streams.tables.rows import RowTable


def partition() -> StatePartition:
    return StatePartition(0, RowTable(ROW))


def packed(key: int, offset: int, count: int, updated: int = 0) -> bytes:
    row = np.zeros(1, ROW)
    row[0] = (key, offset, updated, RowTable(ROW).layout, count)
    return pack_rows(row, np.zeros(1, np.int64))[0]


def log(*entries: tuple[bytes | int, bytes | None], start: int = 0) -> list[Record]:
    return [
        Record(start + at, key.to_bytes(8, "little") if isinstance(key, int) else key, value)
        for at, (key, value) in enumerate(entries)
    ]


def feed(part: StatePartition, records: list[Record]) -> None:
    part.apply(records, records[-1].offset + 1)


@pytest.mark.parametrize("capacity", [10, 10_000])
def test_few_and_many_rows_are_told_once_and_in_order(capacity: int) -> None:
    assert rows_once([], capacity).tolist() == []
    mentioned = [np.array([7, 2], np.int64), np.array([], np.int64), np.array([9, 2], np.int64)]
    assert rows_once(mentioned, capacity).tolist() == [2, 7, 9]
    assert rows_once(mentioned, capacity).dtype == np.int64


def test_take_returns_what_was_touched_once_and_in_order():
    part = partition()
    for key in (7, 3, 9):
        put(part, key, offset=key, count=1)
    put(part, 3, offset=4, count=2)
    part.set_meta(b"m:1", b"a")
    assert part.dirty
    changes = part.take()
    assert changes.rows.keys.tolist() == [7, 3, 9]
    assert list(changes.rows) == [packed(7, 7, 1), packed(3, 4, 2), packed(9, 9, 1)]
    assert changes.meta == {b"m:1": b"a"}
    assert not part.dirty
    assert not part.take()
    assert not part.clean
    part.written(changes)
    assert part.clean


def test_records_are_rows_then_tombstones_then_meta():
    part = partition()
    part.set_meta(b"mark", b"1")
    put(part, 1, 1, 1)
    put(part, 2, 1, 1)
    part.delete([2])
    records = part.take().records()
    assert [(k, v is None) for k, v, _, _ in records] == [
        (key_bytes(keys(1))[0], False),
        (key_bytes(keys(2))[0], True),
        (b"mark", False),
    ]


def test_a_key_deleted_and_made_anew_is_a_row_not_a_tombstone():
    part = partition()
    put(part, 1, 5, 5)
    part.delete([1])
    assert 1 not in part.rows
    put(part, 1, 6, 1)
    changes = part.take()
    assert changes.rows.keys.tolist() == [1]
    assert list(changes.rows) == [packed(1, 6, 1)]
    assert not len(changes.deleted)


def test_a_key_made_anew_with_a_lower_offset_is_not_taken_for_the_deleted_one():
    """A user expires who had clicked; an impression makes the row again, and it has no offset of a click."""
    part = partition()
    put(part, 1, 5, 5)
    records = part.take().records()
    part.delete([1])
    put(part, 1, -1, 7)
    again = part.take()
    records += again.records()
    assert len(again) == len(again.records())
    found = partition()
    feed(found, log(*((key, value) for key, value, *_ in records)))
    assert contents(found) == contents(part)
    part.put_back(again)
    assert [key for key, *_ in part.take().first()] == key_bytes(keys(1)), "until it is written"


def test_what_was_not_written_is_dirty_again_as_it_is_now():
    part = partition()
    put(part, 1, 5, 5)
    put(part, 2, 5, 5)
    part.set_meta(b"m", b"1")
    part.delete([8])
    changes = part.take()
    put(part, 1, 6, 6)
    part.delete([2])
    part.put_back(changes)
    part.put_back(changes)  # only once
    again = part.take()
    assert list(again.rows) == [packed(1, 6, 6)]
    assert sorted(again.deleted.tolist()) == [2, 8]
    assert again.meta == {b"m": b"1"}


def test_a_meta_key_is_not_a_row_key():
    with pytest.raises(ValueError, match="8 bytes"):
        partition().set_meta(b"12345678", b"")


def test_changelog_rows_tombstones_and_meta_are_applied_in_order():
    part = partition()
    feed(
        part,
        log(
            (1, packed(1, 10, 1)),
            (2, packed(2, 11, 1)),
            (b"m", b"x"),
            (1, packed(1, 12, 2)),
            (2, None),
            (3, packed(3, 13, 1)),
            (3, None),
            (3, packed(3, 1, 7)),  # anew: an older offset does not matter any more
            (b"gone", b"1"),
            (b"gone", None),
            (None, b"no key"),
        ),
    )
    assert contents(part) == {1: (12, 2), 3: (1, 7)}
    assert part.meta == {b"m": b"x"}
    assert part.position == 11
    assert not part.dirty
    part.own()
    assert not part.dirty


def test_larger_marks_win_and_other_meta_is_the_latest():
    def mark(n: int) -> bytes:
        return n.to_bytes(8, "little", signed=True)

    assert larger_mark(b"m", mark(-1), mark(-2)) == mark(-1)
    assert larger_mark(b"m", mark(300), mark(2**40)) == mark(2**40)
    assert larger_mark(b"m", b"old", b"new") == b"new"
    part = partition()
    feed(part, log((b"mark", mark(500)), (b"mark", mark(300)), (b"name", b"a"), (b"name", b"b")))
    assert part.meta == {b"mark": mark(500), b"name": b"b"}
    part.own()
    assert part.take().meta == {b"mark": mark(500)}, "the changelog ends with the smaller one"


def test_rows_of_another_layout_are_refused_and_counted():
    part = partition()
    feed(part, log((1, b"short"), (2, bytes(ROW.itemsize)), (3, packed(3, 1, 1))))
    assert contents(part) == {3: (1, 1)}
    assert part.refused == 2
    assert part.position == 3


def test_a_late_writer_loses_and_is_written_over():
    part = partition()
    feed(part, log((1, packed(1, 100, 50)), (2, packed(2, 100, 50))))
    feed(part, log((1, packed(1, 90, 45)), start=2))  # a worker that was paused
    assert contents(part) == {1: (100, 50), 2: (100, 50)}
    assert not part.dirty, "a standby copy writes nothing"
    part.own()
    changes = part.take()
    assert list(changes.rows) == [packed(1, 100, 50)]


def test_a_late_writer_overwritten_by_the_owner_is_no_concern():
    part = partition()
    feed(part, log((1, packed(1, 100, 50)), (1, packed(1, 90, 45))))
    feed(part, log((1, packed(1, 100, 50)), start=2))
    part.own()
    assert not part.dirty
    feed(part, log((1, packed(1, 90, 45)), (1, None), start=3))
    part.own()
    assert not part.dirty
    assert contents(part) == {}


def test_a_promise_is_kept_when_all_of_it_was_written():
    part = partition()
    assert part.kept(part.promise()) is True
    put(part, 1, 1, 1)
    early = part.take()
    put(part, 2, 1, 1)
    promise = part.promise()
    part.written(early)
    assert part.kept(promise) is False
    late = part.take()
    put(part, 3, 1, 1)  # after the promise
    assert part.kept(promise) is False
    part.written(late)
    assert part.kept(promise) is True
    part.put_back(part.take())
    assert part.kept(promise) is None


def test_the_last_record_is_known_by_its_checksum():
    part = partition()
    feed(part, log((1, packed(1, 1, 1)), (b"m", b"x")))
    assert part.last_crc == record_crc(b"m", b"x")
    part.apply([], 9)  # a hole: what was before it is not known
    assert (part.position, part.last_crc) == (9, -1)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_chunks_give_the_same_as_one_record_at_a_time(data):
    entries = data.draw(
        st.lists(
            st.tuples(
                st.one_of(st.integers(1, 4), st.sampled_from([b"a", b"mark"])),
                st.one_of(st.none(), st.integers(0, 5)),
            ),
            max_size=25,
        )
    )
    made = [
        (key, None if n is None else packed(key, n, n) if isinstance(key, int) else n.to_bytes(8, "little"))
        for key, n in entries
    ]
    records = log(*made)
    one, many = partition(), partition()
    for record in records:
        one.apply([record], record.offset + 1)
    rest = records
    while rest:
        n = data.draw(st.integers(1, len(rest)))
        feed(many, rest[:n])
        rest = rest[n:]
    assert contents(one) == contents(many)
    assert one.meta == many.meta
    for part in (one, many):
        part.own()
    a, b = one.take(), many.take()
    assert {r[0]: r[1] for r in a.records()} == {r[0]: r[1] for r in b.records()}
    assert a.meta == b.meta
    # What was written over, the changelog then says, too: a compacted one gives the same again.
    compacted = {r.key: r.value for r in [*records, *(Record(99, k, v) for k, v, _, _ in a.records())]}
    again = partition()
    feed(again, log(*compacted.items(), (b"end", b"")))
    again.meta.pop(b"end")
    assert contents(again) == contents(one)
    assert again.meta == one.meta
