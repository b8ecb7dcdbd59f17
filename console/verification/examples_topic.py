"""The examples of one partition."""

from __future__ import annotations

import polars as pl

from headrace.oracle.records.frames import RAW, raw_records
from headrace.oracle.records.shown import read_examples
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader, read_to


async def examples_of(settings: Settings, partition: int) -> tuple[pl.DataFrame, int]:
    """Read one partition of `examples` to its present end.

    Returns
    -------
    examples, kept_from
        ``EXAMPLES``; and the time (ms) before which examples may have been deleted, 0 when none was.
    """
    topic = Topics(settings).examples
    frames = [read_examples(RAW.to_frame(), max_bytes=settings.max_event_bytes)]
    first: int | None = None
    async with open_reader(settings, [topic], [partition]) as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            if first is None and part.records:
                first = int(part.records[0].timestamp)
            raw = raw_records(topic, partition, part.records)
            frames.append(read_examples(raw, max_bytes=settings.max_event_bytes))
    return pl.concat(frames), (first or 0) if any(begins.values()) else 0
