"""aggregate_items: reads `item-events`; writes `item-features`, `item-neighbours`, Redis; keeps item rows.

Two things are passed over, so that every count is exact after a crash: records a row already reflects (its
offset), and records that track_users wrote twice (their number does not exceed the source's high-water mark).
"""

from __future__ import annotations

import asyncio
from typing import Any

import faust
import numpy as np
import numpy.typing as npt
from mode import Service

from agents.wiring import Flusher, StoreWriter, Wiring
from models.item_rows import COUNTRY, ITEM, MARK, load_rows, row_key
from models.item_stats import ItemStats
from models.neighbours import Neighbours
from streams.columns import ITEM_EVENT, KIND, read_item_events, sound_item_events
from streams.errors import RejectedError
from streams.sender import OutRecord
from streams.tail import read_partition
from streams.transport import RecordBatch, batch_topic, manual

NAME = "aggregate_items"

I64 = npt.NDArray[np.int64]
Out = list[OutRecord]


class Partition:
    """State of one partition, and what of it is not durable yet. Pure: no broker, no clock."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stats = ItemStats()
        self.neighbours = Neighbours()
        self.marks: dict[int, int] = {}
        self._dirty: tuple[set[int], set[int], set[int]] = (set(), set(), set())

    def apply(self, events: npt.NDArray[np.void], offsets: I64) -> int:
        """Apply a batch; return how many records were new."""
        fresh = self._new(events)
        if not fresh.all():
            events, offsets = events[fresh], offsets[fresh]
        if not len(events):
            return 0
        pair = events["kind"] == KIND["pair"]
        items, countries = self.stats.apply(events[~pair], offsets[~pair])
        neighbours = self.neighbours.apply(events[pair], offsets[pair])
        for dirty, rows in zip(self._dirty, (items, countries, neighbours), strict=True):
            dirty.update(rows.tolist())
        return len(events)

    def _new(self, events: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Return which records are not a source's repetition; numbers of one source only grow."""
        fresh = np.ones(len(events), bool)
        source, seq = events["source_partition"], events["source_seq"]
        for number in np.unique(source).tolist():
            at = np.flatnonzero(source == number)
            mine = seq[at]
            before = np.maximum.accumulate(np.r_[self.marks.get(number, -1), mine[:-1]])
            fresh[at] = mine > before
            self.marks[number] = max(self.marks.get(number, -1), int(mine.max()))
        return fresh

    def take(self) -> tuple[Out, Out, list[tuple[int, bytes]], list[tuple[int, bytes]]]:
        """Return and reset what is not durable: `item-features`, `item-neighbours`, rows for the store.

        The marks come last: once they are durable, so is everything they stand for.
        """
        rows = [np.array(sorted(d), np.int64) for d in self._dirty]
        self._dirty = (set(), set(), set())
        tables = (self.stats.table, self.stats.countries, self.neighbours.table)
        packed = [
            list(zip(t.data["key"][r].tolist(), t.pack(r), strict=True))
            for t, r in zip(tables, rows, strict=True)
        ]
        features: Out = [(row_key(ITEM, k), row, None, ()) for k, row in packed[0]]
        features += [(row_key(COUNTRY, k), row, None, ()) for k, row in packed[1]]
        if features or packed[2]:
            features += [
                (row_key(MARK, source), mark.to_bytes(8, "little", signed=True), None, ())
                for source, mark in self.marks.items()
            ]
        pairs: Out = [(k.to_bytes(8, "little"), row, None, ()) for k, row in packed[2]]
        return features, pairs, packed[0], packed[2]

    def recover(self, records: RecordBatch) -> None:
        """Take back rows and marks from `item-features`."""
        load_rows(self.stats, records.records)
        for record in records:
            if record.value is not None and record.key[:1] == MARK:
                self.marks[int.from_bytes(record.key[1:], "little")] = int.from_bytes(
                    record.value, "little", signed=True
                )


class ItemStage:
    """The partitions this process owns, and their way to Kafka and Redis."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.partitions: dict[int, Partition] = {}
        self.flusher = Flusher(self._write, wiring.settings.flush_every_ms / 1000)
        self._store = StoreWriter(wiring.store)

    async def partition(self, number: int) -> Partition:
        """Return a partition's state, read back from its changelogs when it is new here."""
        part = self.partitions.get(number)
        if part is None:
            settings, topics = self.wiring.settings, self.wiring.topics
            async with self.flusher.locked():
                part = Partition(number)
                table = part.neighbours.table
                await read_partition(settings, topics.item_features, number, part.recover)

                def load(records: RecordBatch) -> None:
                    table.load([r.value for r in records if r.value is not None])

                await read_partition(settings, topics.neighbours, number, load)
                self.partitions[number] = part
        return part

    def revoked(self) -> None:
        """Forget all state: every partition is assigned anew, and read back by whoever gets it."""
        self.partitions.clear()
        self.flusher.forget()

    async def apply(self, batch: RecordBatch) -> None:
        """Decode a batch and apply it."""
        part = await self.partition(batch.partition)
        size = ITEM_EVENT.itemsize
        whole = [r for r in batch if r.value and not len(r.value) % size]
        bad = {r.offset for r in batch} - {r.offset for r in whole}
        if whole:
            events, offsets = read_item_events([r.value for r in whole], [r.offset for r in whole])
            sound = sound_item_events(events)
            if not sound.all():
                bad |= set(offsets[~sound].tolist())
                sound = ~np.isin(offsets, sorted(bad))
                events, offsets = events[sound], offsets[sound]
            part.apply(events, offsets)
        if bad:
            wrong = RejectedError("undecodable", "", f"not packed item events of {size} bytes each")
            await self.wiring.bury(NAME, batch, [(r, wrong) for r in batch if r.offset in bad])

    async def _write(self) -> None:
        taken = [(part.number, *part.take()) for part in self.partitions.values()]
        topics, sender = self.wiring.topics, self.wiring.sender
        await asyncio.gather(
            *(sender.send_many(topics.neighbours, pairs, partition=n) for n, _, pairs, _, _ in taken if pairs)
        )
        await asyncio.gather(
            *(sender.send_many(topics.item_features, rows, partition=n) for n, rows, _, _, _ in taken if rows)
        )
        for _, _, _, items, neighbours in taken:
            if neighbours:
                await self._store.put("n", *zip(*neighbours, strict=True))
            if items:
                await self._store.put("i", *zip(*items, strict=True))


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    stage = ItemStage(wiring)

    @app.agent(batch_topic(app, wiring.topics.item_events), name=NAME)
    async def aggregate_items(stream: Any) -> None:
        async for batch, ack in manual(stream):
            await stage.apply(batch)
            await stage.flusher.hold(ack)

    @app.on_partitions_revoked.connect
    async def _revoked(_app: Any, revoked: Any, **_: Any) -> None:
        stage.revoked()

    return []
