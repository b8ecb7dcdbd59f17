"""Copies of the changelogs with the new number of partitions, in topics of their own.

A changelog cannot be changed in place: a tombstone for a row that has moved would look, to whoever reads all
partitions, as if the row were gone. So it is made anew::

    user-state                 rows, 4 partitions     stays as it is until all copies are complete
    user-state-growing         the copy, 8 partitions
    user-state                 deleted, and made again of the copy

The copy of `user-state` is the last one to go. It has two marks: ``COMPLETE``, when all copies are there,
and ``CLOSED``, when no worker can start any more. From then on only the copies count, whatever becomes of the
changelogs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import numpy as np

from headrace.console.repartitioning.tables import STEP, Homes, Table, read_table, rows_of, tables_of
from headrace.streams.settings import Settings
from headrace.streams.tables.layouts import LAYOUT_KEY
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.growths import staging_of
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader, read_partition
from headrace.streams.topics.sender import BatchSender, OutRecord
from headrace.streams.transport.batches import RecordBatch

#: Keys of the marks, and of no rows: those have keys of 8 bytes.
COMPLETE, CLOSED = b"staging-complete", b"staging-closed"

#: Ends of partitions that have had records, by topic.
Ends = dict[str, dict[int, int]]


async def ends_of(settings: Settings, topics: Topics) -> Ends:
    """Return the end offsets of what workers write: any that had run since would have moved them.

    That are the changelogs; and `impressions`, which `serve` writes alone, and `item-events`. A partition
    that has just been added is empty, and does not count.
    """
    asked = [table.topic for table in tables_of(topics)] + [topics.impressions, topics.item_events]
    async with open_reader(settings, asked) as reader:
        _, ends = await reader.bounds()
    out: Ends = {topic: {} for topic in asked}
    for tp in sorted(ends):
        if ends[tp]:
            out[tp.topic][tp.partition] = ends[tp]
    return out


class Marks(NamedTuple):
    """What the marks say.

    Attributes
    ----------
    made_of
        The ends of the logs that the copies were made of; None when they are not complete.
    closed
        Whether only the copies count.
    """

    made_of: Ends | None
    closed: bool


async def read_marks(settings: Settings, topics: Topics) -> Marks:
    """Return what the marks in the copy of `user-state` say.

    Raises
    ------
    UnavailableError
        There is no such copy or the broker stops answering.
    """
    found: dict[bytes, bytes] = {}

    def take(batch: RecordBatch) -> None:
        found.update((r.key, r.value) for r in batch.records if r.key in {COMPLETE, CLOSED})

    await read_partition(settings, staging_of(topics.user_state), 0, take)
    ends = msgspec.json.decode(found[COMPLETE], type=Ends) if COMPLETE in found else None
    return Marks(ends, CLOSED in found)


async def mark(sender: BatchSender, topics: Topics, key: bytes, ends: Ends) -> None:
    """Write a mark; ``ends`` are those of the logs that the copies were made of."""
    record: OutRecord = (key, msgspec.json.encode(ends), None, ())
    await sender.send_many(staging_of(topics.user_state), [record], partition=0)


class Copier:
    """Writes the rows of changelogs into their copies.

    Parameters
    ----------
    topics
        Names of the topics.
    new
        Number of partitions of the copies.
    """

    def __init__(self, settings: Settings, sender: BatchSender, topics: Topics, new: int) -> None:
        self._settings, self._sender, self._topics, self._new = settings, sender, topics, new
        self._homes = Homes(new)

    async def copy(self, table: Table, number: int, metas: Mapping[int, Mapping[bytes, bytes]]) -> int:
        """Copy a partition of a changelog; return how many rows it has.

        Give the partition of `user-state` before that of `shown-state`.

        Parameters
        ----------
        metas
            Meta records of each partition of the copy that gets rows of this one.
        """
        part = await read_table(self._settings, table, number)
        if table.topic == self._topics.user_state:
            self._homes = Homes(self._new)
            self._homes.learn(part)
        for to in metas:
            await self._send(table, to, [(LAYOUT_KEY, _layout(part), None, ())])
        count = 0
        for packed, rows in rows_of(part):
            homes = self._homes.of(table, self._topics, rows)
            for to in np.unique(homes[homes >= 0]).tolist():  # what has expired is left out
                some = np.flatnonzero(homes == to).tolist()
                kept = PackedRows.of(packed.keys[some], [packed[i] for i in some])
                await self._sender.send_rows(staging_of(table.topic), kept, partition=to)
            count += len(packed)
        for to, meta in metas.items():  # after the rows: a mark must not be there before what it covers
            await self._send(table, to, [(key, value, None, ()) for key, value in meta.items()])
        return count

    async def _send(self, table: Table, partition: int, records: list[OutRecord]) -> None:
        await self._sender.send_many(staging_of(table.topic), records, partition=partition)


def _layout(part: StatePartition) -> bytes:
    number = 0 if part.rows.layouts is None else part.rows.layouts.number
    return number.to_bytes(8, "little")


async def copy_back(settings: Settings, sender: BatchSender, topic: str, number: int) -> int:
    """Write a partition of a copy to the changelog; return how many records."""
    count, held = 0, list[OutRecord]()

    async def take(batch: RecordBatch) -> None:
        nonlocal count
        held.extend((r.key, r.value, None, ()) for r in batch.records if r.key not in {COMPLETE, CLOSED})
        count += len(batch.records)
        for at in range(0, len(held), STEP):
            await sender.send_many(topic, held[at : at + STEP], partition=number)
        held.clear()

    await read_partition(settings, staging_of(topic), number, take)
    return count
