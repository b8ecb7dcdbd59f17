"""How often the partitions of an installation were made more, as its workers know it."""

from __future__ import annotations

from headrace.streams.settings import Settings
from headrace.streams.topics.growths import GROWN, Growths
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import read_partition
from headrace.streams.transport.batches import RecordBatch


async def growths_of(settings: Settings) -> Growths:
    """Return the growths in the meta records of `user-state`.

    Raises
    ------
    UnavailableError
        The topic is missing or the broker stops answering.
    """
    meta: dict[bytes, bytes] = {}

    def take(batch: RecordBatch) -> None:
        meta.update((r.key, r.value) for r in batch.records if r.key == GROWN and r.value is not None)

    await read_partition(settings, Topics(settings).user_state, 0, take)
    return Growths.of(meta)
