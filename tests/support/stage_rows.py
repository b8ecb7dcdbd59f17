"""A stage over a store in memory and a changelog in a list, for tests of its copy in Redis."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.agents.stage.online_copy import OnlineCopy
from headrace.agents.stage.refill import Apply
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
    """A clock that does not move; pauses only let other tasks run."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class SlowStore(MemoryStore):
    """A slow store: other tasks run during its calls. A write during which it fails may be done in part."""

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
    """A partition's rows in memory, their changelog, and the two kinds of flushes."""

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
        self.taken: dict[int, bytes | None] | None = None  # being written to the changelog
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
        """Take the changes that are not durable, unless taken changes are still being written."""
        if self.taken is None:
            self.taken, self.dirty = {key: self.memory.get(key) for key in sorted(self.dirty)}, set()

    def save(self) -> None:
        """Write the taken changes to the changelog."""
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
        """The rows that readers should find: from memory, else the changelog; none of forgotten users."""
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
