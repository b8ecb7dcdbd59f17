"""A worker that counts events per key in a state store, with methods for tests."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
from transport_probes import quick_app

from headrace.streams.errors import FencedError
from headrace.streams.process import run_apps
from headrace.streams.settings import Settings
from headrace.streams.tables.store import StateStore
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import read_partition
from headrace.streams.topics.sender import BatchSender
from headrace.streams.transport.batches import batch_topic, manual

ROW = np.dtype(
    [
        ("key", "u8"),
        ("offset", "i8"),
        ("updated", "i8"),
        ("layout", "u4"),
        ("count", "u4"),
        ("rest", "u1", 64),
    ]
)


def keys(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


class Worker:
    """Counts events per key (4 decimal digits) in a table, one row for each key.

    ``member`` makes it a static member of its group: the embedded broker never removes a dead one, but lets
    it come back.
    """

    def __init__(self, settings: Settings, name: str = "w", member: str = "", **options) -> None:
        topics = Topics(settings)
        self.settings, self.name = settings, name
        self.sender = BatchSender(settings)
        static = {"consumer_group_instance_id": member} if member else {}
        self.app = quick_app(settings, "clicks", **static)
        self.table = StateStore(
            self.app, "clicks", changelog=topics.user_state, dtype=ROW, sender=self.sender, **options
        )
        self.handled: Counter[int] = Counter()
        self.batches = 0

        @self.app.agent(batch_topic(self.app, topics.events))
        async def count(stream):
            async for batch, ack in manual(stream):
                try:
                    await self.count(batch)
                except FencedError:
                    continue  # it is delivered again, to the next owner of the partition
                ack()

        self._stop, self._task = asyncio.Event(), None

    async def count(self, batch) -> None:
        part = self.table.partition(batch.partition)
        ids = keys(*(int(r.key) for r in batch))
        away = part.evicted(ids)
        if len(away):
            await self.table.restore(part.number, away)
        rows = part.rows.take(ids)
        data = part.rows.data
        for row, record in zip(rows.tolist(), batch, strict=True):
            if record.offset > data["offset"][row] or not data["count"][row]:
                data["count"][row] += 1
                data["offset"][row] = record.offset
                data["updated"][row] = record.timestamp
        part.touch(rows)
        part.set_meta(b"mark", batch.last_offset.to_bytes(8, "little", signed=True))
        await self.table.write({part.number: part.take()})
        self.handled[batch.partition] += len(batch)
        self.batches += 1

    @property
    def recovery(self):
        return self.app.tables.recovery

    def counts(self) -> dict[int, int]:
        """Return all counts; empty while some are not in the changelog yet."""
        found = {}
        if not all(part.clean for part in self.table.active.values()):
            return {}
        for part in self.table.active.values():
            data = part.rows.data[part.rows.rows()]
            found |= dict(zip(data["key"].tolist(), data["count"].tolist(), strict=True))
        return found

    async def __aenter__(self) -> Worker:
        ready = asyncio.Event()
        self._task = asyncio.create_task(
            run_apps([self.app], settings=self.settings, services=[self.sender], ready=ready, stop=self._stop)
        )
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._task, waiting}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        assert ready.is_set()
        return self

    async def stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            await asyncio.wait_for(self._task, 20)

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


async def produce(sender, settings: Settings, ids, each: int = 1) -> None:
    """Send events of some keys, ``each`` times; key k goes to partition k % 4."""
    for partition in range(4):
        mine = [k for k in ids if k % 4 == partition] * each
        await sender.send_many(
            Topics(settings).events, [(b"%d" % k, b"", None, ()) for k in mine], partition=partition
        )


async def changelog(settings: Settings, partition: int) -> list:
    found = []
    await read_partition(settings, Topics(settings).user_state, partition, lambda b: found.extend(b.records))
    return found
