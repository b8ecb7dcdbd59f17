"""Rows that a stopped process writes late: the new owner notices, and writes its newer rows again."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from stage_rows import Stage, StoppedClock, rows_of

from headrace.agents.stage.overwritten import LONG_S
from headrace.serving.store.memory import MemoryStore
from headrace.serving.store.protocol import Keys, Kind
from headrace.streams.errors import UnavailableError
from headrace.streams.tables.rows import PackedRows


class Stopping(MemoryStore):
    """While ``stopped`` is not set, a write waits, as that of a process that was stopped in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped, self.waits = asyncio.Event(), asyncio.Event()
        self.stopped.set()

    async def _wait(self) -> None:
        if not self.stopped.is_set():
            self.waits.set()
            await self.stopped.wait()

    async def put(self, kind: Kind, rows: PackedRows) -> None:
        await self._wait()
        await super().put(kind, rows)

    async def drop(self, kind: Kind, keys: Keys) -> None:
        await self._wait()
        await super().drop(kind, keys)


class Pair:
    """A worker that owns the partition, and another one on the same store and changelog."""

    def __init__(self, clock: StoppedClock | None = None) -> None:
        self.store = Stopping()
        self.clock = clock or StoppedClock()
        self.old = Stage(self.store, clock=self.clock)
        self.old.change(rows_of(range(50)))

    async def begin(self) -> None:
        await self.old.feed.catch_up(3)
        for _ in range(4):  # a position is safe two writes later
            await self.old.flush()
        await self.old.feed.look()

    async def stop_in_the_middle(self) -> asyncio.Task[None]:
        """Begin a write of row 7 that does not arrive."""
        self.store.stopped.clear()
        self.old.change(rows_of([7], 1))
        writing = asyncio.create_task(self.old.online())
        await self.store.waits.wait()
        return writing

    async def take_over(self) -> Stage:
        """Let the other worker own the partition, and write a newer row 7."""
        going_on, self.store.stopped = self.store.stopped, asyncio.Event()
        self.store.stopped.set()
        self.old.feed.owned = lambda partition: False
        new = Stage(self.store, self.old.log, self.clock)
        await new.feed.catch_up(3)
        new.change(rows_of([7], 2))
        await new.flush()
        self.store.stopped = going_on
        return new


@pytest.mark.parametrize("moved", [0, 3])
async def test_the_owner_writes_its_rows_again(moved: int) -> None:
    """Also when the mark of the new owner has moved on meanwhile."""
    pair = Pair()
    await pair.begin()
    writing = await pair.stop_in_the_middle()
    new = await pair.take_over()
    for _ in range(moved):
        await new.feed.look()
        await new.feed.put({3: PackedRows.of([], [])})
    pair.store.stopped.set()
    await writing
    assert new.shown()[7] == b"7 v1", "the late row has replaced the newer one"
    await new.feed.look()
    assert not new.feed.caught_up
    await new.feed.catch_up(3)
    assert new.shown() == new.truth()
    assert min(new.reads) > 0, "it reads only what came after the mark of the former owner"
    await new.feed.look()
    assert new.feed.caught_up


async def test_before_the_first_mark_everything_is_written_again() -> None:
    pair = Pair()
    pair.old.durable()
    writing = await pair.stop_in_the_middle()
    new = await pair.take_over()
    pair.store.stopped.set()
    await writing
    assert await new.mark() == -1
    await new.feed.look()
    await new.feed.catch_up(3)
    assert new.shown() == new.truth()


async def test_a_refill_that_was_stopped() -> None:
    pair = Pair()
    await pair.begin()
    pair.old.change(rows_of([7], 1))
    pair.old.durable()
    pair.store.stopped.clear()
    writing = asyncio.create_task(pair.old.feed.catch_up(3))
    await pair.store.waits.wait()
    new = await pair.take_over()
    pair.store.stopped.set()
    await asyncio.wait({writing})
    assert new.shown()[7] == b"7 v1"
    await new.feed.look()
    await new.feed.catch_up(3)
    assert new.shown() == new.truth()


async def test_a_row_that_is_removed_late() -> None:
    pair = Pair()
    await pair.begin()
    pair.store.stopped.clear()
    writing = asyncio.create_task(pair.old.feed.drop(3, np.array([7], np.uint64)))
    await pair.store.waits.wait()
    new = await pair.take_over()
    pair.store.stopped.set()
    await writing
    assert 7 not in new.shown()
    await new.feed.look()
    await new.feed.catch_up(3)
    assert new.shown() == new.truth()


async def test_a_worker_that_owns_the_partition_again_sees_it_by_the_time() -> None:
    pair = Pair()
    await pair.begin()
    writing = await pair.stop_in_the_middle()
    await pair.take_over()  # it leaves again
    await pair.clock.advance(LONG_S + 1)
    pair.old.feed.owned = lambda partition: True
    pair.store.stopped.set()
    await writing
    await pair.old.feed.look()
    assert not pair.old.feed.caught_up


async def test_a_store_that_is_away_is_told_later() -> None:
    pair = Pair()
    await pair.begin()
    writing = await pair.stop_in_the_middle()
    new = await pair.take_over()
    await new.feed.look()

    async def fails(kind: Kind, partitions: object) -> dict[int, int | None]:
        raise UnavailableError("no answer")

    read_marks, pair.store.read_marks = pair.store.read_marks, fails  # type: ignore[method-assign]
    pair.store.stopped.set()
    await writing
    pair.store.read_marks = read_marks  # type: ignore[method-assign]
    await new.feed.look()
    assert new.feed.caught_up, "nobody knows yet"
    await pair.old.feed.look()
    await new.feed.look()
    assert not new.feed.caught_up
    await new.feed.catch_up(3)
    assert new.shown() == new.truth()


async def test_writes_in_time_move_no_mark() -> None:
    pair = Pair()
    await pair.begin()
    for version in range(5):
        pair.old.change(rows_of([7], version))
        await pair.old.flush()
        await pair.old.feed.look()
    assert pair.old.feed.caught_up
    assert not pair.old.feed.overwritten
