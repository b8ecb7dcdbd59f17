"""OnlineCopy over a store in memory and a changelog in a list: what is lost or missed comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from headrace.agents.stage.online_copy import OnlineCopy
from headrace.agents.stage.refill import CHUNK_ROWS, Apply
from headrace.serving.store.memory import MemoryStore
from headrace.serving.store.protocol import Keys, Kind
from headrace.streams.clock import SYSTEM, Clock, ManualClock
from headrace.streams.errors import UnavailableError
from headrace.streams.tables.rows import PackedRows

BLANK = b"forgotten"


class Record(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None


class StoppedClock(ManualClock):
    """Stands still; pauses only give way to other tasks."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class SlowStore(MemoryStore):
    """Takes its time, so that others get in between; a write that it goes away in may be done in part."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng

    async def _pause(self) -> None:
        for _ in range(self._rng.randrange(3)):
            await asyncio.sleep(0)

    async def put(self, kind: Kind, rows: PackedRows) -> None:
        await self._pause()
        half = len(rows) // 2
        await super().put(kind, rows[:half])
        await self._pause()
        await super().put(kind, rows[half:])
        await self._pause()
        self._answer()

    async def drop(self, kind: Kind, keys: Keys) -> None:
        await self._pause()
        await super().drop(kind, keys)
        await self._pause()
        self._answer()


class Stage:
    """A partition's rows in memory, their changelog, and the two rhythms in which they are written."""

    def __init__(
        self,
        store: MemoryStore,
        log: list[Record] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.store = store
        self.log = [] if log is None else log
        self.broker_away = False
        self.reads: list[int] = []
        self.memory: dict[int, bytes] = {}
        for record in self.log:
            self._load(record)
        self.changed: set[int] = set()
        self.gone: set[int] = set()
        self.dirty: set[int] = set()
        self.taken: dict[int, bytes | None] | None = None  # on its way to the changelog
        self.feed = OnlineCopy(
            store,
            "u",
            self.read,
            visible=lambda rows: [row != BLANK for row in rows],
            settle_s=0,
            rows_per_s=float("inf"),
            clock=clock,
        )
        self.feed.attach(3, self.lookup, len(self.log))

    def _load(self, record: Record) -> None:
        if record.key is not None and len(record.key) == 8:
            key = int.from_bytes(record.key, "little")
            if record.value is None:
                self.memory.pop(key, None)
            else:
                self.memory[key] = record.value

    async def read(self, partition: int, from_offset: int, apply: Apply) -> int:
        assert partition == 3
        self.reads.append(from_offset)
        end = len(self.log)
        for first in range(from_offset, end, 7):
            if self.broker_away:
                raise UnavailableError("no broker")
            await asyncio.sleep(0)
            await apply(self.log[first : min(end, first + 7)])
        return end

    def lookup(self, keys: npt.NDArray[np.uint64]) -> list[bytes | None]:
        assert keys.dtype == np.uint64
        return [self.memory.get(key) for key in keys.tolist()]

    def change(self, rows: dict[int, bytes]) -> None:
        self.memory.update(rows)
        self.changed |= rows.keys()
        self.gone -= rows.keys()
        self.dirty |= rows.keys()

    def forget(self, keys: Iterable[int]) -> None:
        for key in keys:
            self.change({key: BLANK})
            self.changed.discard(key)
            self.gone.add(key)

    def expire(self, keys: Iterable[int]) -> None:
        for key in keys:
            if self.memory.pop(key, None) is not None:
                self.changed.discard(key)
                self.gone.add(key)
                self.dirty.add(key)

    def evict(self, keys: Iterable[int]) -> None:
        for key in set(keys) - self.changed - self.gone - self.dirty - (self.taken or {}).keys():
            self.memory.pop(key, None)

    async def online(self) -> None:
        keys, self.changed = sorted(self.changed), set()
        gone, self.gone = sorted(self.gone), set()
        rows = [self.memory[key] for key in keys]
        await self.feed.drop(3, gone)
        await self.feed.put({3: PackedRows.of(keys, rows)})

    def take(self) -> None:
        """Take what is not durable; unless what was taken is still on its way."""
        if self.taken is None:
            self.taken, self.dirty = {key: self.memory.get(key) for key in sorted(self.dirty)}, set()

    def save(self) -> None:
        """Write to the changelog what was taken."""
        if self.taken is not None:
            for key, row in self.taken.items():
                self.log.append(Record(len(self.log), key.to_bytes(8, "little"), row))
            self.log.append(Record(len(self.log), b"m:7", b"1"))
            self.taken = None
            self.feed.durable(3, len(self.log))

    def durable(self) -> None:
        self.save()
        self.take()
        self.save()

    async def flush(self) -> None:
        await self.online()
        self.durable()

    def truth(self) -> dict[int, bytes]:
        """What readers should find: memory before changelog, and nothing of who is forgotten."""
        latest: dict[int, bytes] = {}
        for record in self.log:
            if record.key is not None and len(record.key) == 8:
                key = int.from_bytes(record.key, "little")
                if record.value is None:
                    latest.pop(key, None)
                else:
                    latest[key] = record.value
        for key in (self.dirty | (self.taken or {}).keys()) - self.memory.keys():
            latest.pop(key, None)
        return {key: row for key, row in {**latest, **self.memory}.items() if row != BLANK}

    def shown(self) -> dict[int, bytes]:
        return {key: row for (_, key), row in self.store._rows.items()}

    async def mark(self) -> int | None:
        return (await self.store.read_marks("u", [3]))[3]


def rows_of(keys: Iterable[int], version: int = 0) -> dict[int, bytes]:
    return {key: b"%d v%d" % (key, version) for key in keys}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def stage(store: MemoryStore) -> Stage:
    """A stage with 600 rows in memory and 100 evicted ones; everything is in the store."""
    stage = Stage(store)
    stage.change(rows_of(range(700)))
    await stage.flush()
    stage.change(rows_of(range(300), 1))
    await stage.flush()
    stage.log.append(Record(len(stage.log), None, b"no key"))
    stage.durable()
    stage.evict(range(250, 350))
    await stage.feed.catch_up(3)
    assert stage.shown() == stage.truth()
    assert stage.feed.caught_up
    stage.reads.clear()
    return stage


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


class Chaos:
    """Random things happen to a stage and its store, while its feed catches up beside it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.store = SlowStore(self.rng)
        self.stage = Stage(self.store, clock=StoppedClock())  # nothing waits: a seed is always the same run
        self.version = 0
        self.saved = dict(self.store._rows), dict(self.store._marks)
        calm = self.rng.choice([1, 3, 10])
        self.steps: list[tuple[float, Callable[[], Awaitable[None] | None]]] = [
            (35, self.change),
            (30, lambda: self.stage.online()),
            (8, self.begin_durable),
            (12, lambda: self.stage.save()),
            (4, lambda: self.stage.forget(self.some())),
            (3, lambda: self.stage.expire(self.some())),
            (8, lambda: self.stage.evict(self.some(30))),
            (3 / calm, self.store.lose),
            (6 / calm, self.fail),
            (3, self.save),
            (3 / calm, self.older),
            (3 / calm, self.die),
        ]
        self.helper = asyncio.create_task(self.catch_up())

    async def catch_up(self) -> None:
        while True:
            await asyncio.sleep(0)
            feed = self.stage.feed
            if self.rng.random() < 0.2:
                await feed.look()
            if feed.parts[3].owed and not feed._away:
                with contextlib.suppress(UnavailableError):
                    await feed.catch_up(3)

    def some(self, at_most: int = 5) -> list[int]:
        return self.rng.sample(range(40), self.rng.randint(1, at_most))

    def change(self) -> None:
        self.version += 1
        self.stage.change(rows_of(self.some(), self.version))

    def fail(self) -> None:
        self.store.away = not self.store.away

    def save(self) -> None:
        self.saved = dict(self.store._rows), dict(self.store._marks)

    def older(self) -> None:
        self.store._rows, self.store._marks = map(dict, self.saved)  # type: ignore[assignment]
        self.store.restart()

    async def die(self) -> None:
        """The worker dies; what was not durable is delivered to the next one again."""
        self.helper.cancel()
        await asyncio.wait({self.helper})
        again = {
            key: self.stage.memory.get(key) for key in self.stage.dirty | (self.stage.taken or {}).keys()
        }
        self.stage = Stage(self.store, self.stage.log, clock=StoppedClock())
        self.stage.change({key: row or b"what it was" for key, row in again.items()})
        self.stage.forget(key for key, row in again.items() if row == BLANK)
        self.stage.expire(key for key, row in again.items() if row is None)
        self.helper = asyncio.create_task(self.catch_up())

    async def begin_durable(self) -> None:
        """What is taken for the changelog is taken for the store at the same moment."""
        self.stage.take()
        await self.stage.online()

    async def step(self) -> None:
        weights, moves = zip(*self.steps, strict=True)
        (move,) = self.rng.choices(moves, weights)
        waiting = move()
        if waiting is not None:
            await waiting
        for _ in range(self.rng.randrange(6)):
            await asyncio.sleep(0)

    async def calm_down(self) -> None:
        self.store.away = False
        stage = self.stage
        while stage.changed or stage.gone or stage.dirty or stage.taken is not None:
            await stage.online()
            stage.durable()
        await stage.feed.look()
        for _ in range(5000):
            if stage.feed.caught_up:
                break
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(100))
async def test_whatever_happens_the_store_ends_up_right(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if seed % 2:
        monkeypatch.setattr(
            "headrace.agents.stage.refill.LOOK_S", 0.0
        )  # marks move on with every piece that is read
    chaos = Chaos(seed)
    for _ in range(10):
        for _ in range(chaos.rng.randint(1, 40)):
            await chaos.step()
            assert not chaos.helper.done(), chaos.helper
        await chaos.calm_down()
        assert chaos.stage.feed.caught_up
        assert chaos.stage.shown() == chaos.stage.truth()
    chaos.helper.cancel()
