"""Reads changelogs into partitions of state stores: to the end (recovery) or for ever (standby)."""

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

#: Bytes fetched at once from each partition.
FETCH_BYTES = 8 * 1024 * 1024
#: Limits of the rows applied at once, in unpacked bytes and in rows: small enough for the CPU's cache.
APPLY_BYTES = 2048 * 1024
APPLY_ROWS = 4000
#: Largest room allocated for rows before reading. The unused part costs address space only, and is freed.
MAX_ROOM_BYTES = 2 * 1024**3
RETRY_S = 1.0


@dataclass(slots=True)
class ChangelogCopy:
    """A changelog partition and the state store's partition that it is read into.

    Attributes
    ----------
    tp
        The changelog partition.
    part
        The partition of the state store.
    begin, end
        First offset and end offset of the changelog partition when reading began.
    max_rows
        Most rows in memory, None: all.
    """

    tp: TopicPartition
    part: StatePartition
    begin: int
    end: int
    max_rows: int | None = None

    def start(self) -> int:
        """Return the offset to read from."""
        # A snapshot may be of another topic of the same name: read the record before its position too.
        return self.part.position - self.part.from_file

    def done(self) -> bool:
        """Return whether the partition has everything before ``end``."""
        return self.part.position >= self.end and not self.part.from_file

    def reserve(self) -> None:
        """Allocate room for all rows that may come: growing step by step costs more than reading."""
        rows = min(self.end - self.part.position, MAX_ROOM_BYTES // self.part.rows.row_bytes)
        self.part.rows.reserve(rows if self.max_rows is None else min(rows, self.max_rows + APPLY_ROWS))

    def take(self, reader: Reader, fetched: Fetched) -> int:
        """Apply fetched records; return how many.

        When the snapshot turns out to be of another changelog, nothing is applied and reading starts at
        ``begin``.
        """
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
        """Return whether the first record read can follow the snapshot.

        The record just before the snapshot's position must have the snapshot's checksum. A later first record
        fits too: compaction removed that one.
        """
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
    """Return a reader of changelogs (a context manager).

    Parameters
    ----------
    topics
        Full names of the changelog topics.
    row_bytes
        Size of the largest row, unpacked.

    Raises
    ------
    NoTopicError
        When a topic does not exist.
    """
    rows = max(1, min(APPLY_BYTES // row_bytes, APPLY_ROWS))
    settings = settings.model_copy(update={"batch_max_records": rows})
    return open_reader(settings, set(topics), fetch_bytes=FETCH_BYTES)


async def read_to_end(reader: Reader, copies: Iterable[ChangelogCopy]) -> int:
    """Read all copies to their ends; return how many records were applied.

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
        await asyncio.sleep(0)  # lets the consumer request the next records
    for copy in pending.values():
        copy.part.rows.trim()
    return count


async def follow(settings: Settings, copies: Iterable[ChangelogCopy], row_bytes: int) -> None:
    """Keep copies up to date until cancelled."""
    by_tp = {copy.tp: copy for copy in copies}
    while True:
        try:
            async with open_changelogs(settings, {tp.topic for tp in by_tp}, row_bytes) as reader:
                reader.start({tp: copy.start() for tp, copy in by_tp.items()})
                while True:
                    for part in await reader.fetch(1.0):
                        by_tp[part.tp].take(reader, part)
                        await asyncio.sleep(0)  # lets other tasks of this event loop run
        except (KafkaError, OSError, UnavailableError) as exc:
            log.warning("Standby partitions could not be read, trying again: %r", exc)
            await asyncio.sleep(RETRY_S)
