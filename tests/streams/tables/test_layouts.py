"""Layouts of rows: earlier ones are migrated wherever rows are read; what cannot be read is known."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from headrace.models.state import users
from headrace.models.state.earlier_rows import USERS_0, USERS_1, USERS_2
from headrace.streams.errors import LayoutError
from headrace.streams.settings import Settings
from headrace.streams.tables import late_writes
from headrace.streams.tables.layouts import (
    LAYOUT_KEY,
    Earlier,
    Layouts,
    carried,
    declare,
    fingerprint,
    layouts_of,
)
from headrace.streams.tables.packed_rows import pack_rows
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import RowTable, unpack
from headrace.streams.tables.written_layout import check_layouts, say_layout
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import read_partition
from headrace.streams.topics.sender import BatchSender

_HEAD: list[tuple[str, str]] = [("key", "<u8"), ("offset", "<i8"), ("updated", "<i8"), ("layout", "<u4")]
FIRST = np.dtype([*_HEAD, ("clicks", "<u4")])
SECOND = np.dtype([*_HEAD, ("clicks", "<u4"), ("likes", "<i8")])
THIRD = np.dtype([*_HEAD, ("pad", "u1", (4,)), ("likes", "<i8"), ("clicks", "<i8")])
FOURTH = np.dtype([*THIRD.descr, ("hides", "<i8")])


def _likes(rows: Any) -> Any:
    return carried(rows, np.array((0, -1, 0, 0, 0, 7), SECOND)[()], SECOND)


def _wide_clicks(rows: Any) -> Any:
    out = carried(rows, np.zeros((), THIRD)[()], THIRD)
    out["clicks"] = rows["clicks"]
    return out


declare("toys", 3, THIRD, [Earlier(2, SECOND, _wide_clicks), Earlier(1, FIRST, _likes, fingerprint(FIRST))])


def _packed(dtype: np.dtype[Any], layout: int, **columns: Any) -> list[bytes]:
    rows = np.zeros(len(columns["key"]), dtype)
    for name, values in columns.items():
        rows[name] = values
    rows["layout"] = layout
    blob, bounds = pack_rows(rows, np.arange(len(rows)))
    return [blob[a:b] for a, b in pairwise(bounds.tolist())]


class _Record:
    def __init__(self, offset: int, key: bytes, value: bytes | None) -> None:
        self.offset, self.key, self.value = offset, key, value


def _mixed() -> list[bytes]:
    """Rows of three layouts, and one that is none."""
    first = _packed(FIRST, fingerprint(FIRST), key=[1, 2], offset=[10, 20], clicks=[5, 6])
    second = _packed(SECOND, 2, key=[3], offset=[30], clicks=[7], likes=[8])
    third = _packed(THIRD, 3, key=[4], offset=[40], clicks=[9], likes=[1])
    return [first[0], b"no row", third[0], second[0], first[1]]


def test_rows_of_every_layout_are_read_as_rows_of_the_newest() -> None:
    rows, sound = unpack(_mixed(), THIRD)
    assert sound.tolist() == [True, False, True, True, True]
    assert rows["key"].tolist() == [1, 0, 4, 3, 2]
    assert rows["clicks"].tolist() == [5, 0, 9, 7, 6]
    assert rows["likes"].tolist() == [7, 0, 1, 8, 7]
    assert set(rows["layout"][sound].tolist()) == {3}


def test_what_is_missing_is_no_row_of_any_layout() -> None:
    rows, sound = unpack([None, _mixed()[0], None], THIRD)
    assert (sound.tolist(), rows["key"].tolist()) == ([False, True, False], [0, 1, 0])


def test_a_table_migrates_what_it_loads_and_counts_it() -> None:
    table = RowTable(THIRD)
    assert table.load(_mixed()) == 4
    assert (table.migrated, table.refused, table.unreadable) == (3, 1, set())
    assert table.data["clicks"][table.find([1, 2, 3, 4])].tolist() == [5, 6, 7, 9]


def test_a_row_of_a_later_layout_is_none() -> None:
    later = _packed(FOURTH, 4, key=[7], offset=[1], hides=[3])
    rows, sound = unpack([*later, _mixed()[0]], THIRD)
    assert (sound.tolist(), rows["key"].tolist()) == ([False, True], [0, 1])
    table = RowTable(THIRD)
    assert (table.load(later), table.refused, len(table)) == (0, 1, 0)


def test_a_migrated_row_is_no_newer_than_it_was() -> None:
    table = RowTable(THIRD)
    table.load(_packed(THIRD, 3, key=[1], offset=[11], clicks=[50]))
    assert table.load(_mixed()[:1]) == 0
    assert table.data["clicks"][table.find([1])].tolist() == [50]


def test_the_owner_writes_migrated_rows_again_and_no_others() -> None:
    part = StatePartition(0, RowTable(THIRD))
    records = [
        _Record(at, int(key).to_bytes(8, "little"), value)
        for at, (key, value) in enumerate(zip([1, 9, 4, 3, 2], _mixed(), strict=True))
    ]
    part.apply(records, len(records))
    part.own()
    changes = part.take()
    assert sorted(changes.rows.keys.tolist()) == [1, 2, 3]
    table = RowTable(THIRD)
    table.load(list(changes.rows))
    assert (len(table), table.migrated) == (3, 0)


def test_a_row_written_again_by_somebody_else_is_not_written_once_more() -> None:
    part = StatePartition(0, RowTable(THIRD))
    key = (1).to_bytes(8, "little")
    part.apply([_Record(0, key, _mixed()[0])], 1)
    part.apply([_Record(1, key, _packed(THIRD, 3, key=[1], offset=[10], clicks=[5], likes=[7])[0])], 2)
    part.own()
    assert not part.dirty


def _of_an_earlier_layout(count: int) -> StatePartition:
    """Return a partition that this worker owns, all rows of its changelog of an earlier layout."""
    part = StatePartition(0, RowTable(THIRD))
    keys = range(1, count + 1)
    values = _packed(SECOND, 2, key=list(keys), offset=list(keys), likes=list(keys))
    part.apply(
        [_Record(k - 1, k.to_bytes(8, "little"), value) for k, value in zip(keys, values, strict=True)], count
    )
    part.own()
    return part


def test_rows_of_an_earlier_layout_are_written_again_some_with_each_flush(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(late_writes, "OLD_ROWS", 3)
    part = _of_an_earlier_layout(8)
    assert not part.dirty, "they can be read as they are"
    touched = part.rows.find([2, 5])
    part.touch(touched)
    part.delete([7])
    taken = []
    while changes := part.take():
        taken.append(changes.rows.keys.tolist())
        assert set(changes.rows.keys.tolist()) & {2, 5} == ({2, 5} if len(taken) == 1 else set())
        assert len(changes.rows) <= (5 if len(taken) == 1 else 3)
        part.written(changes)
    assert sorted(key for keys in taken for key in keys) == [1, 2, 3, 4, 5, 6, 8], "each of them once"


def test_rows_of_an_earlier_layout_can_be_evicted_before_they_are_written_again() -> None:
    part = _of_an_earlier_layout(8)
    assert len(part.evict(max_rows=2)) >= 6
    left = part.rows.keys().tolist()
    assert part.take().rows.keys.tolist() == left


def test_rows_of_an_earlier_layout_are_migrated_once_when_they_are_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    migrated = []

    def counted(layouts: Layouts, packed: Any) -> Any:
        migrated.append(len(packed))
        return before(layouts, packed)

    before = Layouts.migrated
    monkeypatch.setattr(Layouts, "migrated", counted)
    part = _of_an_earlier_layout(5)
    part.apply([_Record(9, (9).to_bytes(8, "little"), _packed(SECOND, 2, key=[9], offset=[9])[0])], 10)
    assert migrated == [5, 1]


def test_an_evicted_row_is_found_again_in_a_changelog_of_an_earlier_layout() -> None:
    part = StatePartition(0, RowTable(THIRD))
    old = _mixed()[:1]
    part.apply([_Record(0, (1).to_bytes(8, "little"), old[0])], 1)
    part.evict(before_ms=1)
    assert part.evicted().tolist() == [1]
    assert part.revive(old) == 1
    assert part.rows.data["clicks"][part.rows.find([1])].tolist() == [5]


def test_a_changelog_of_a_newer_version_stops_the_worker() -> None:
    part = StatePartition(3, RowTable(THIRD))
    part.apply([_Record(0, LAYOUT_KEY, (3).to_bytes(8, "little"))], 1)
    check_layouts(part, "toys")
    assert part.meta == {}, "agents do not see it"
    part.apply([_Record(1, LAYOUT_KEY, (4).to_bytes(8, "little"))], 2)
    with pytest.raises(LayoutError, match=r"toys-3 has rows of layout 4, this version knows up to 3"):
        check_layouts(part, "toys")


def test_rows_that_cannot_be_migrated_stop_the_worker() -> None:
    part = StatePartition(0, users.new_table())
    old = _packed(USERS_0, fingerprint(USERS_0), key=[1], n_clicks=[2])
    part.apply([_Record(0, (1).to_bytes(8, "little"), old[0])], 1)
    assert len(part.rows) == 0
    with pytest.raises(LayoutError, match="headrace upgrade"):
        check_layouts(part, "user-state")


def _apply(part: StatePartition, key: int, value: bytes | None) -> None:
    part.apply([_Record(part.position, key.to_bytes(8, "little"), value)], part.position + 1)


def test_what_replaces_rows_that_cannot_be_migrated_may_come_in_a_later_batch() -> None:
    part = StatePartition(0, users.new_table())
    old = _packed(USERS_0, fingerprint(USERS_0), key=[1, 2, 3], n_clicks=[2, 3, 4])
    for key in (1, 2, 3):
        _apply(part, key, old[key - 1])
    _apply(part, 1, None)
    _apply(part, 2, _packed(users.ROW, 3, key=[2], offset=[1])[0])
    assert part.rows.unreadable == {3}
    with pytest.raises(LayoutError):
        check_layouts(part, "user-state")
    _apply(part, 3, None)
    check_layouts(part, "user-state")
    _apply(part, 1, old[0])
    part.reset()
    check_layouts(part, "user-state")


def test_the_last_of_the_rows_of_a_key_decides_whether_it_can_be_read() -> None:
    part = StatePartition(0, users.new_table())
    (old,) = _packed(USERS_0, fingerprint(USERS_0), key=[1], n_clicks=[2])
    (new,) = _packed(users.ROW, 3, key=[1], offset=[1])
    key = (1).to_bytes(8, "little")
    part.apply([_Record(0, key, old), _Record(1, key, new)], 2)
    assert part.rows.unreadable == set()
    part.apply([_Record(2, key, new), _Record(3, key, old)], 4)
    assert part.rows.unreadable == {1}


def test_a_scan_for_lost_rows_passes_rows_over_that_were_removed_long_ago() -> None:
    part = StatePartition(0, users.new_table())
    part.revive(_packed(USERS_0, fingerprint(USERS_0), key=[1], n_clicks=[2]))
    check_layouts(part, "user-state")


@pytest.mark.parametrize(("earlier", "mark"), [(USERS_1, fingerprint(USERS_1)), (USERS_2, 2)])
def test_users_of_the_layouts_before_keep_everything(earlier: np.dtype[Any], mark: int) -> None:
    old = np.zeros(1, earlier)
    rng = np.random.default_rng(1)
    old.view(np.uint8)[:] = rng.integers(0, 2, old.nbytes)
    old["layout"] = mark
    blob, _ = pack_rows(old, np.arange(1))
    table = users.new_table()
    assert table.load([blob]) == 1
    row = table.data[table.find(old["key"])][0]
    for name in set(earlier.names or ()) - {"layout", "pad", "pad_2"}:
        assert np.array_equal(row[name], old[name][0]), name
    assert row["layout"] == 3
    assert row["place"] == (old["place"][0] if "place" in (earlier.names or ()) else 0)
    assert row["views_from"] == old["offset"][0] + 1, "earlier views are not known"
    assert not row["cat_views"].any()


def test_the_layout_before_is_what_was_written() -> None:
    """The number is that of the rows of the code before this layout."""
    assert fingerprint(USERS_2) == 3804827770


def test_layouts_are_declared_in_order_and_once() -> None:
    with pytest.raises(ValueError, match="in order"):
        declare("toys", 3, FOURTH, [Earlier(1, FIRST, _likes)])
    with pytest.raises(ValueError, match="declared as toys"):
        declare("others", 1, THIRD)
    assert layouts_of(FOURTH) is None


@pytest.mark.broker
async def test_the_layout_is_said_once_and_again_when_the_changelog_is_lost(
    topics_made: Settings, sender: BatchSender
) -> None:
    topic = Topics(topics_made).user_state
    part = StatePartition(1, RowTable(THIRD))

    async def said() -> StatePartition:
        read = StatePartition(1, RowTable(THIRD))
        end = await read_partition(topics_made, topic, 1, lambda batch: read.apply(batch.records, 0))
        read.apply([], end)
        return read

    await say_layout(part, sender, topic)
    await say_layout(part, sender, topic)
    assert (part.position, part.written_layout) == (1, 3), "one record"
    read = await said()
    assert (read.position, read.written_layout, read.meta) == (1, 3, {})
    part.reset()
    await say_layout(part, sender, topic)
    assert (await said()).position == 2
    assert part.position == 0, "others have written before: the next write reads that"


@pytest.mark.broker
async def test_rows_without_numbered_layouts_say_nothing(topics_made: Settings, sender: BatchSender) -> None:
    part = StatePartition(0, RowTable(FOURTH))
    await say_layout(part, sender, Topics(topics_made).user_state)
    assert part.position == 0
