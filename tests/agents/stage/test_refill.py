"""OnlineCopy over a store in memory and a changelog in a list: lost and missed rows are written again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

import numpy as np
import pytest
from stage_rows import Record, Stage, rows_of

from headrace.agents.stage.refill import CHUNK_ROWS, Apply
from headrace.serving.store.memory import MemoryStore
from headrace.streams.errors import UnavailableError
from headrace.streams.tables.rows import PackedRows


async def test_a_row_is_in_the_store_when_put_returns(stage: Stage) -> None:
    stage.change(rows_of([5, 1000], 2))
    await stage.online()
    assert await stage.store.get("u", [5, 1000, 6]) == [b"5 v2", b"1000 v2", b"6 v1"]


async def test_packed_rows(store: MemoryStore) -> None:
    feed = Stage(store).feed
    rows = PackedRows(np.array([1, 3], np.uint64), b"onethree", np.array([0, 3, 8]))
    await feed.put({3: rows})
    assert await store.get("u", [1, 3]) == [b"one", b"three"]
    await feed.drop(3, rows.keys[:1])
    assert await store.get("u", [1, 3]) == [None, b"three"]


async def test_partitions_are_written_together(store: MemoryStore) -> None:
    feed = Stage(store).feed
    feed.owned = lambda partition: partition != 5
    for n in (4, 5):
        feed.attach(n, lambda keys: [None] * len(keys), 0)
    parts = {n: PackedRows.of([n], [b"row %d" % n]) for n in (3, 4, 5, 6)}
    await feed.put(parts)
    assert await store.get("u", [3, 4, 5, 6]) == [b"row 3", b"row 4", None, None]
    assert [feed.parts[n].once >= 0 for n in (3, 4, 5)] == [True, True, False], "marks wait for what is owed"
    feed.parts[3].owed = feed.parts[4].owed = False
    store.away = True
    await feed.put({3: parts[3], 4: parts[4][:0]})
    assert [feed.parts[n].owed for n in (3, 4)] == [True, False]


async def test_a_partition_of_somebody_else_is_not_written(stage: Stage) -> None:
    await stage.feed.put({4: PackedRows.of([1], [b"not ours"])})
    stage.feed.durable(4, 10)
    stage.feed.detach(3)
    await stage.feed.put({3: PackedRows.of([1], [b"not ours"])})
    await stage.feed.drop(3, [2])
    assert stage.shown() == stage.truth()


async def test_data_lost_is_noticed_and_written_again(stage: Stage) -> None:
    stage.store.lose()
    await stage.feed.look()
    assert not stage.feed.caught_up
    assert await stage.feed.catch_up(3) > CHUNK_ROWS
    assert stage.shown() == stage.truth()
    assert stage.feed.caught_up
    assert stage.reads == [0]
    assert await stage.mark() == len(stage.log)


async def test_data_lost_right_after_a_look_is_noticed_all_the_same(stage: Stage) -> None:
    await stage.feed.look()
    stage.store.lose()
    for version in range(5):  # marks would move on
        stage.change(rows_of([1], version))
        await stage.flush()
    await stage.feed.look()
    assert not stage.feed.caught_up
    await stage.feed.catch_up(3)
    assert stage.shown() == stage.truth()


async def test_a_restart_with_older_rows(stage: Stage) -> None:
    old_rows, old_marks = dict(stage.store._rows), dict(stage.store._marks)
    stage.change(rows_of(range(100), 7))
    await stage.flush()
    stage.store._rows, stage.store._marks = old_rows, old_marks
    stage.store.restart()
    await stage.feed.look()
    await stage.feed.catch_up(3)
    assert stage.shown() == stage.truth()
    assert stage.reads == [0]


async def test_what_is_written_live_from_the_begin_on_is_not_read_again(store: MemoryStore) -> None:
    stage, go_on = Stage(store), asyncio.Event()
    feed, read_3 = stage.feed, stage.read

    async def read(partition: int, from_offset: int, apply: Apply) -> int:
        if partition == 4:
            await go_on.wait()
            return 5
        return await read_3(partition, from_offset, apply)

    feed.read_changelog = read
    feed.detach(3)
    feed.attach(4, lambda keys: [None] * len(keys), 5)  # its refill comes first, and takes long
    feed.attach(3, stage.lookup, 0)
    async with feed, asyncio.timeout(10):
        while feed.parts[3].mark is None:
            await asyncio.sleep(0)
        for version in range(3):
            stage.change(rows_of(range(100), version))
            await stage.flush()
        go_on.set()
        while not feed.caught_up:
            await asyncio.sleep(0)
        assert stage.shown() == stage.truth()
        await feed.look()
        assert await stage.mark() > 0
    assert stage.reads == []


async def test_rows_not_yet_in_the_changelog_come_back_from_memory(stage: Stage) -> None:
    stage.change(rows_of([1, 2, 900], 5))
    stage.forget([10])
    stage.expire([11])
    await stage.online()
    stage.store.lose()
    await stage.feed.look()
    await stage.feed.catch_up(3)
    assert stage.shown() == stage.truth()
    assert {1, 2, 900} < stage.shown().keys()
    assert not {10, 11} & stage.shown().keys()


async def test_while_the_store_is_away_nothing_is_kept_and_nothing_waits(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mark = await stage.mark()
    stage.store.away = True
    for version in range(2, 30):
        stage.change(rows_of(range(version * 10, version * 10 + 10), version))
        stage.forget([version])
        stage.expire([version + 100])
        await stage.flush()
        await stage.feed.look()
    part = stage.feed.parts[3]
    assert len(part.undurable()) <= 24, "what two flushes changed"
    stage.store.away = False
    assert stage.shown() != stage.truth()
    await stage.feed.look()
    await stage.feed.catch_up(3)
    assert stage.shown() == stage.truth()
    assert stage.reads == [mark], "only what came after the mark is read"
    assert await stage.mark() == len(stage.log)
    actions = [record.action for record in caplog.records if hasattr(record, "action")]
    assert actions == ["store_down", "store_up", "store_refill", "store_refill_done"]


async def test_a_store_must_answer_for_a_while_before_it_counts_as_back(stage: Stage) -> None:
    stage.feed.settle_s = 3600
    stage.store.away = True
    stage.change(rows_of([1], 3))
    await stage.online()
    stage.store.away = False
    await stage.feed.look()
    await stage.online()
    assert stage.shown()[1] == b"1 v1"
    stage.feed.settle_s = 0
    await stage.feed.look()
    await stage.feed.catch_up(3)
    assert stage.shown()[1] == b"1 v3"


async def test_a_worker_that_died_left_the_mark_behind(stage: Stage) -> None:
    mark = await stage.mark()
    stage.store.away = True
    stage.change(rows_of(range(20, 40), 4))
    stage.forget([50])
    await stage.flush()
    stage.store.away = False
    heir = Stage(stage.store, stage.log)
    assert not heir.feed.caught_up
    await heir.feed.catch_up(3)
    assert heir.reads == [mark]
    assert heir.shown() == heir.truth() == stage.truth()


async def test_nothing_is_read_when_the_mark_is_where_memory_is(stage: Stage) -> None:
    heir = Stage(stage.store, stage.log)
    assert await heir.feed.catch_up(3) == 0
    assert heir.feed.caught_up
    assert heir.reads == []


async def test_a_mark_beyond_the_changelog_belongs_to_a_topic_of_before(store: MemoryStore) -> None:
    await store.set_marks("u", {3: 5000})
    stage = Stage(store)
    stage.change(rows_of(range(10)))
    stage.durable()
    heir = Stage(store, stage.log)
    await heir.feed.catch_up(3)
    assert heir.reads == [0]
    assert heir.shown() == heir.truth()


async def test_the_mark_moves_when_what_is_before_it_has_been_written(stage: Stage) -> None:
    before = await stage.mark()
    stage.change(rows_of([1], 2))
    stage.durable()  # ahead of the store
    await stage.feed.look()
    assert await stage.mark() == before
    end = len(stage.log)
    await stage.online()
    await stage.feed.look()
    assert await stage.mark() == before, "that write may have been under way already"
    await stage.online()
    await stage.feed.look()
    assert await stage.mark() == end


async def test_data_lost_while_catching_up(stage: Stage) -> None:
    stage.store.lose()
    await stage.feed.look()
    read = stage.feed.read_changelog

    async def lossy(partition: int, from_offset: int, apply: Apply) -> int:
        end = await read(partition, from_offset, apply)
        stage.store.lose()
        return end

    stage.feed.read_changelog = lossy
    await stage.feed.catch_up(3)
    assert not stage.feed.caught_up
    stage.feed.read_changelog = read
    await stage.feed.catch_up(3)
    assert stage.feed.caught_up
    assert stage.shown() == stage.truth()


async def test_an_evicted_row_is_not_overwritten_with_what_it_was(stage: Stage) -> None:
    """Written live while the changelog is read, made durable and evicted before its old record's turn."""
    stage.store.lose()
    await stage.feed.look()
    read = stage.feed.read_changelog

    async def meanwhile(partition: int, from_offset: int, apply: Apply) -> int:
        async def later(records: Iterable[object]) -> None:
            if not stage.memory.get(699, b"").endswith(b"v9"):
                stage.change(rows_of([699], 9))
                await stage.flush()
            else:
                stage.evict([699])
            await apply(records)

        return await read(partition, from_offset, later)

    stage.feed.read_changelog = meanwhile
    await stage.feed.catch_up(3)
    assert 699 not in stage.memory
    assert stage.shown() == stage.truth()


async def test_a_row_made_durable_and_evicted_while_it_was_read_is_found(stage: Stage) -> None:
    stage.change(rows_of([699], 9))
    await stage.online()  # before it begins
    stage.store.lose()
    await stage.feed.look()
    read = stage.feed.read_changelog

    async def meanwhile(partition: int, from_offset: int, apply: Apply) -> int:
        async def later(records: Iterable[object]) -> None:
            if stage.dirty:
                stage.durable()
                stage.evict([699])
            await apply(records)

        return await read(partition, from_offset, later)

    stage.feed.read_changelog = meanwhile
    await stage.feed.catch_up(3)
    assert 699 not in stage.memory
    assert stage.shown() == stage.truth()
    assert len(stage.reads) == 2


async def test_the_changelog_is_away(stage: Stage) -> None:
    stage.store.lose()
    stage.broker_away = True
    await stage.feed.look()
    with pytest.raises(UnavailableError, match="no broker"):
        await stage.feed.catch_up(3)
    assert not stage.feed.caught_up
    stage.broker_away = False
    await stage.feed.catch_up(3)
    assert stage.shown() == stage.truth()


async def test_the_store_goes_away_while_catching_up(stage: Stage) -> None:
    stage.store.lose()
    await stage.feed.look()
    read = stage.feed.read_changelog

    async def cut(partition: int, from_offset: int, apply: Apply) -> int:
        async def later(records: list[Record]) -> None:
            stage.store.away = records[0].offset > 500
            await apply(records)

        return await read(partition, from_offset, later)

    stage.feed.read_changelog = cut
    with pytest.raises(UnavailableError):
        await stage.feed.catch_up(3)
    stage.store.away = False
    stage.feed.read_changelog = read
    await stage.feed.look()
    assert not stage.feed.caught_up
    await stage.feed.catch_up(3)
    assert stage.shown() == stage.truth()


async def test_a_partition_that_goes_away_is_not_caught_up_with(stage: Stage) -> None:
    stage.store.lose()
    await stage.feed.look()
    read = stage.feed.read_changelog

    async def revoked(partition: int, from_offset: int, apply: Apply) -> int:
        stage.feed.detach(3)
        return await read(partition, from_offset, apply)

    stage.feed.read_changelog = revoked
    assert await stage.feed.catch_up(3) == 0
    assert stage.shown() == {}


async def test_a_partition_that_may_be_somebody_elses_is_left_alone(stage: Stage) -> None:
    owned = False
    stage.feed.owned = lambda partition: owned
    stage.change(rows_of([1], 8))
    await stage.flush()
    stage.store.lose()
    await stage.feed.look()
    assert await stage.feed.catch_up(3) == 0
    assert stage.shown() == {}
    owned = True
    await stage.feed.look()
    await stage.feed.catch_up(3)
    assert stage.shown() == stage.truth()


async def test_attached_again_it_still_knows_what_is_not_durable(stage: Stage) -> None:
    stage.change(rows_of([1], 8))
    await stage.online()
    stage.store.lose()
    stage.feed.attach(3, stage.lookup, len(stage.log))
    await stage.feed.catch_up(3)
    assert stage.shown() == stage.truth()


async def test_it_does_all_that_by_itself(
    store: MemoryStore, eventually: Callable[..., Awaitable[None]]
) -> None:
    stage = Stage(store)
    stage.change(rows_of(range(500)))
    stage.durable()
    async with stage.feed:
        await eventually(lambda: stage.feed.caught_up)
        assert stage.shown() == stage.truth()
        store.lose()
        await eventually(lambda: stage.feed.caught_up and stage.shown() == stage.truth())
        store.away = True
        stage.change(rows_of(range(20), 1))
        await stage.flush()
        store.away = False
        await eventually(lambda: stage.feed.caught_up)
        assert stage.shown() == stage.truth()
        stage.change(rows_of(range(20), 2))
        for _ in range(3):
            await stage.flush()
    assert await stage.mark() == len(stage.log) - 2, "moved on at the end"
