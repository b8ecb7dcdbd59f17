"""Reads the log of a partition back over its growths: from its parents' partitions, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from headrace.streams.settings import Settings
from headrace.streams.topics.growths import Growths, Segment
from headrace.streams.topics.reader import Reader, open_reader, read_since
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.record_list import chosen, offsets_of


async def in_logs_of(reader: Reader, growths: Growths) -> Growths:
    """Return growths with what the logs of a reader's partitions have of those that were cut.

    Raises
    ------
    KafkaError
        When the broker does not answer.
    """
    out: list[dict[str, list[int]]] = []
    for growth in growths.all:
        places = {
            tp: growth.place(tp.topic, tp.partition) for tp in reader.partitions if tp.partition < growth.old
        }
        kept = {topic: list(growth.cuts[topic]) for topic in {tp.topic for tp in places}}
        for tp, offset in (await reader.kept(places)).items():
            kept[tp.topic][tp.partition] = offset
        out.append(kept)
    return growths.in_logs(out)


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

    In each partition reading begins at the first record dated ``since_ms`` or later. A parent's log that was
    made again since, or has lost records before the cut, is not read there: other records are in their place.

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
    KafkaError
        When it does not answer at all.
    """
    count = 0
    if growths.all:
        async with open_reader(settings, [topic], growths.parents(partition)) as reader:
            growths = await in_logs_of(reader, growths)
    for segment in growths.segments(topic, partition, settings.partitions):
        end = before_offset if segment.end is None else segment.end
        if segment.partition == partition:
            end = min(end, before_offset)
        if end <= segment.begin:
            continue

        async def take(batch: RecordBatch, segment: Segment = segment) -> None:
            here = offsets_of(batch.records) >= segment.begin
            if not here.all():
                batch = RecordBatch(batch.topic, batch.partition, chosen(batch.records, here))
            if batch.records:
                await apply(batch, segment)

        count += await read_since(settings, topic, segment.partition, since_ms, end, take)
    return count
