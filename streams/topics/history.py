"""Reading again what a partition said a while ago: a window over the log is rebuilt from the log."""

from __future__ import annotations

from collections.abc import Callable

from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.reader import open_reader
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.fetching import REQUEST_TIMEOUT_S


async def read_since(
    settings: Settings,
    topic: str,
    partition: int,
    since_ms: int,
    before_offset: int,
    apply: Callable[[RecordBatch], None],
) -> int:
    """Read the records before ``before_offset``, from the first one dated ``since_ms`` or later.

    Every record before that one is older than ``since_ms``, so the running maximum of the timestamps read is
    the partition's own wherever it is at least ``since_ms``.

    Returns
    -------
    int
        How many records were read.

    Raises
    ------
    UnavailableError
        When the broker stops answering.
    """
    count = 0
    async with open_reader(settings, [topic], [partition], begin=False) as reader:
        (tp,) = reader.partitions
        found = (await reader.offsets_for_time(since_ms)).get(tp)
        if found is None or found >= before_offset:
            return 0
        begins, _ = await reader.bounds()
        position = max(begins[tp], found)
        reader.start({tp: position})
        while position < before_offset:
            fetched = await reader.fetch(REQUEST_TIMEOUT_S)
            if not fetched:
                raise UnavailableError(f"{topic}-{partition}: nothing arrives past offset {position}")
            for part in fetched:
                position = part.position
                records = part.records
                if records and records[-1].offset >= before_offset:
                    records = [r for r in records if r.offset < before_offset]
                if records:
                    count += len(records)
                    apply(RecordBatch(topic, partition, records))
    return count
