"""The compacted topics of others, `users` and `items`: the last record of each moved key is carried over.

Whoever looks a key up looks into the partition where it belongs now. The old record stays where it is: all
who read the topic skip what is in the wrong partition. A tombstone is not carried: applied again, it would
clear what a user has done since.

A producer may write a newer record to the new partition before the carried one. Then that newer one is
written again after it, so that it is the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from aiokafka import TopicPartition

from headrace.console.repartitioning.tables import STEP
from headrace.streams.settings import Settings
from headrace.streams.topics.murmur2 import partitions_of_keys
from headrace.streams.topics.names import FORWARDED
from headrace.streams.topics.reader import open_reader, read_partition, read_to
from headrace.streams.topics.sender import BatchSender, OutRecord
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.plain_gathering import records_before

#: Header of a record that was carried over.
CARRIED = "headrace-carried"


def overtaken(records: Sequence[Any]) -> dict[bytes, Any]:
    """Return, by key, the newer record that was written before the carried one, which is the last of its key.

    ``records`` are those of a new partition, in their order.
    """
    newer: dict[bytes, Any] = {}
    out: dict[bytes, Any] = {}
    for record in records:
        if any(name == CARRIED for name, _ in record.headers):
            if record.key in newer:
                out[record.key] = newer[record.key]
        elif record.key:
            newer[record.key] = record
            out.pop(record.key, None)
    return out


async def carry(
    settings: Settings, sender: BatchSender, topic: str, parent: int, cut: int, old: int, new: int
) -> int:
    """Carry the records of a partition over to its new ones; return how many.

    What was carried before is not carried again.

    Parameters
    ----------
    cut
        Offset up to which the records of the partition were counted. Those after it are sent on by `ingest`.
    """
    latest: dict[bytes, Any] = {}

    def take(batch: RecordBatch) -> None:
        latest.update((r.key, r) for r in records_before(batch.records, cut) if r.key)

    await read_partition(settings, topic, parent, take)
    keys = list(latest)
    homes = partitions_of_keys([*keys], new)
    count = 0
    for child in range(parent + old, new, old):
        there = {r.key for r in await _all(settings, topic, child)}
        wanted = [keys[i] for i in np.flatnonzero(homes == child).tolist()]
        out = [_carried(latest[k]) for k in wanted if k not in there and latest[k].value is not None]
        for at in range(0, len(out), STEP):
            await sender.send_many(topic, out[at : at + STEP], partition=child)
        count += len(out)
        while again := overtaken(await _all(settings, topic, child)):
            records = [(r.key, r.value, r.timestamp, list(r.headers)) for r in again.values()]
            await sender.send_many(topic, records, partition=child)
    return count


def _carried(record: Any) -> OutRecord:
    headers = [header for header in record.headers if header[0] != FORWARDED]
    return record.key, record.value, record.timestamp, [*headers, (CARRIED, b"1")]


async def _all(settings: Settings, topic: str, partition: int) -> list[Any]:
    out: list[Any] = []

    def take(batch: RecordBatch) -> None:
        out.extend(batch.records)

    await read_partition(settings, topic, partition, take)
    return out


async def sent_on_waiting(settings: Settings, topic: str, cuts: Sequence[int]) -> int:
    """Return how many records after the cuts were sent on from another partition.

    They are where they belonged, are sent on no second time, and would be refused after the growth.
    """
    count = 0
    async with open_reader(settings, [topic]) as reader:
        begins, ends = await reader.bounds()
        start = {
            tp: min(max(begins[tp], cuts[tp.partition]), ends[tp])
            for tp in reader.partitions
            if tp.partition < len(cuts)
        }
        until = {TopicPartition(*tp): ends[tp] for tp in start}
        async for part in read_to(reader, start, until):
            records = records_before(part.records, until[part.tp])
            count += sum(any(name == FORWARDED for name, _ in r.headers) for r in records)
    return count
