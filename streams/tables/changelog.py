"""Reading changelogs into table partitions, in bulk: to their ends, or on and on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.tables.partition import StatePartition, record_crc
from headrace.streams.topics.reader import Reader, open_reader, read_to
from headrace.streams.transport.fetching import Fetched

log = logging.getLogger(__name__)

#: Asked for at once from each partition.
FETCH_BYTES = 8 * 1024 * 1024
#: Rows applied at once, as they lie in memory: packed ones on their way there fit into a CPU's cache.
APPLY_BYTES = 2048 * 1024
APPLY_ROWS = 4000
#: Room made for rows that may come. What is not used is address space only, and given back.
MAX_ROOM_BYTES = 2 * 1024**3
RETRY_S = 1.0


@dataclass(slots=True)
class Copy:
    """A changelog partition, and the table partition it is read into.

    Attributes
    ----------
    begin, end
        Its bounds, as they were when reading began.
    max_rows
        Rows kept in memory, None for all.
    """

    tp: TopicPartition
    part: StatePartition
    begin: int
    end: int
    max_rows: int | None = None

    def start(self) -> int:
        """Return the offset to read from."""
        # What came from a file may be of another topic of that name: its last record is read again.
        return self.part.position - self.part.from_file

    def done(self) -> bool:
        """Return whether it is all there."""
        return self.part.position >= self.end and not self.part.from_file

    def reserve(self) -> None:
        """Make room for all rows that may come: growing step by step costs more than reading."""
        rows = min(self.end - self.part.position, MAX_ROOM_BYTES // self.part.rows.row_bytes)
        self.part.reserve(rows if self.max_rows is None else min(rows, self.max_rows + APPLY_ROWS))

    def take(self, reader: Reader, fetched: Fetched) -> int:
        """Apply what was fetched; return how many records. Nothing is applied of another changelog."""
        records, position = fetched.records, fetched.position
        if self.part.from_file and (records or position >= self.end):
            if records and not self._same(records[0]):
                self._start_anew(reader)
                return 0
            self.part.from_file = False
            if records and records[0].offset == self.part.position - 1:
                records = records[1:]
        self.part.apply(records, max(position, self.part.position))
        self.part.evict(max_rows=self.max_rows)
        return len(records)

    def _same(self, first: Any) -> bool:
        """Return whether the first record read fits the snapshot: its last one, or one after it."""
        if first.offset != self.part.position - 1:
            return True
        return record_crc(first.key, first.value) == self.part.last_crc

    def _start_anew(self, reader: Reader) -> None:
        log.warning(
            "the snapshot of %s-%d is of another changelog of that name: it is not used",
            *self.tp,
            extra={"action": "snapshot_refused"},
        )
        self.part.reset()
        reader.seek(self.tp, self.begin)


def open_changelogs(
    settings: Settings, topics: Iterable[str], row_bytes: int
) -> AbstractAsyncContextManager[Reader]:
    """Return a reader of changelogs whose rows take up to ``row_bytes`` bytes; ``start`` it.

    Raises
    ------
    NoTopicError
        When a topic does not exist.
    """
    rows = max(1, min(APPLY_BYTES // row_bytes, APPLY_ROWS))
    settings = settings.model_copy(update={"batch_max_records": rows})
    return open_reader(settings, set(topics), fetch_bytes=FETCH_BYTES)


async def read_to_end(reader: Reader, copies: Iterable[Copy]) -> int:
    """Read all copies to their ends; return how many records that took.

    Raises
    ------
    UnavailableError
        When the broker stops answering.
    """
    pending = {copy.tp: copy for copy in copies if not copy.done()}
    for copy in pending.values():
        copy.reserve()
    begins = {tp: copy.start() for tp, copy in pending.items()}
    count = 0
    async for part in read_to(reader, begins, {tp: copy.end for tp, copy in pending.items()}):
        count += pending[part.tp].take(reader, part)
        await asyncio.sleep(0)  # what comes next is asked for meanwhile
    for copy in pending.values():
        copy.part.trim()
    return count


async def follow(settings: Settings, copies: Iterable[Copy], row_bytes: int) -> None:
    """Keep copies up to date until cancelled."""
    by_tp = {copy.tp: copy for copy in copies}
    while True:
        try:
            async with open_changelogs(settings, {tp.topic for tp in by_tp}, row_bytes) as reader:
                reader.start({tp: copy.start() for tp, copy in by_tp.items()})
                while True:
                    for part in await reader.fetch(1.0):
                        by_tp[part.tp].take(reader, part)
                        await asyncio.sleep(0)  # this loop has other things to do
        except (KafkaError, OSError, UnavailableError) as exc:
            log.warning("Standby partitions could not be followed, trying again: %r", exc)
            await asyncio.sleep(RETRY_S)
