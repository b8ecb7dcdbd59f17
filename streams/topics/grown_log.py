"""Reads the log of a partition back over its growths: from its parents' partitions, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from headrace.streams.settings import Settings
from headrace.streams.topics.growths import Growths, Segment
from headrace.streams.topics.reader import read_since
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.record_list import chosen, offsets_of


async def read_log_since(
    settings: Settings,
    topic: str,
    partition: int,
    growths: Growths,
    since_ms: int,
    before_offset: int,
    apply: Callable[[RecordBatch, Segment], Awaitable[None]],
) -> int:
    """Read the records before ``before_offset`` of a partition, and before them those of its parents.

    In each partition reading begins at the first record dated ``since_ms`` or later.

    Parameters
    ----------
    apply
        Called with every batch, and the segment that it is of.

    Returns
    -------
    int
        Number of records read.

    Raises
    ------
    UnavailableError
        When the broker stops answering.
    """
    count = 0
    for segment in growths.segments(topic, partition, settings.partitions):
        end = before_offset if segment.end is None else segment.end
        if segment.partition == partition:
            end = min(end, before_offset)

        async def take(batch: RecordBatch, segment: Segment = segment) -> None:
            here = offsets_of(batch.records) >= segment.begin
            if not here.all():
                batch = RecordBatch(batch.topic, batch.partition, chosen(batch.records, here))
            if batch.records:
                await apply(batch, segment)

        count += await read_since(settings, topic, segment.partition, since_ms, end, take)
    return count
