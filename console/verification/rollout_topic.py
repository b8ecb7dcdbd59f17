"""The counts of the present rollout, and the examples that they are of."""

from __future__ import annotations

import polars as pl

from headrace.models.features.spec import SPEC
from headrace.oracle.features.arms import KEYS, ArmRecord, counted, read_record
from headrace.oracle.records.frames import raw_records
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader, read_to
from headrace.streams.transport.plain_gathering import records_before


async def newest_counts(settings: Settings) -> list[ArmRecord]:
    """Return the newest counts on `models`, of each kind that has some."""
    newest: dict[str, ArmRecord] = {}
    kinds = {key: kind for kind, key in KEYS.items()}
    async with open_reader(settings, [Topics(settings).models]) as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            for record in part.records:
                kind = kinds.get(record.key)
                if kind is not None and record.value is not None:
                    found = read_record(record.value, kind)
                    newest |= {kind: found} if found is not None else {}
    return list(newest.values())


async def counted_again(settings: Settings, record: ArmRecord) -> pl.DataFrame | None:
    """Return the examples of a record (``counted``); None when not all of them are there."""
    topic, frames = Topics(settings).examples, list[pl.DataFrame]()
    async with open_reader(settings, [topic]) as reader:
        begins, ends = await reader.bounds()
        start = {tp: record.begin.get(tp.partition, 0) for tp in reader.partitions}
        until = {tp: record.read.get(tp.partition, 0) for tp in reader.partitions}
        if any(begins[tp] > start[tp] < until[tp] or ends[tp] < until[tp] for tp in reader.partitions):
            return None
        start = {tp: max(at, begins[tp]) for tp, at in start.items()}
        async for part in read_to(reader, start, {tp: max(until[tp], start[tp]) for tp in start}):
            records = records_before(part.records, until[part.tp])
            raw = raw_records(topic, part.tp.partition, records)
            frames.append(counted(raw, record, max_bytes=settings.max_event_bytes, spec=SPEC.version))
    empty = counted(raw_records(topic, 0, []), record, max_bytes=settings.max_event_bytes, spec="")
    return pl.concat([empty, *frames])
