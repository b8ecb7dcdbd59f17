"""Writes a partition to its changelog again, after the broker has lost the changelog or its last records.

The owner has all rows, in memory or evicted, so nothing is lost as long as it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from headrace.streams.tables.changes import U64, key_bytes, record_crc
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import PackedRows
from headrace.streams.tables.written_layout import say_layout
from headrace.streams.topics.lost_ends import again_if_lost

if TYPE_CHECKING:
    from headrace.streams.tables.store import StateStore
    from headrace.streams.topics.sender import BatchSender, Written

log = logging.getLogger(__name__)

#: Rows written at once.
STEP = 2000


class LostChangelogs:
    """The partitions of a state store whose changelogs have lost records."""

    def __init__(self, store: StateStore, sender: BatchSender) -> None:
        self._store, self._sender = store, sender
        self._numbers: set[int] = set()

    def add(self, number: int) -> None:
        """Note that the changelog of a partition has lost records that the partition reflects."""
        self._numbers.add(number)

    def note(self, part: StatePartition, written: Written) -> bool:
        """Return whether the offsets of a write went back: the changelog has lost what was before it."""
        lost = 0 <= written.first < part.position
        if lost:
            self.add(part.number)
        return lost

    async def write_again(self) -> None:
        """Write these partitions again: all clean rows, then all clean meta records.

        The dirty ones come with the next flush. What fails is tried again after the next write.

        Raises
        ------
        FencedError
            When another worker may own a partition.
        KafkaError
            When the broker refuses the write or cannot be reached.
        """
        while self._numbers:
            number = self._numbers.pop()  # before it is written: writes of several partitions run at once
            try:
                if (part := self._store.active.get(number)) is not None:
                    write = partial(_write_all, self._store, self._sender, part)
                    await again_if_lost(write, self._store.check_lease)
            except BaseException:
                self._numbers.add(number)
                raise


async def _write_all(store: StateStore, sender: BatchSender, part: StatePartition) -> None:
    log.warning(
        "the changelog %s-%d has lost records: all rows are written again", store.changelog, part.number,
        extra={"action": "changelog_lost", "topic": store.changelog, "partition": part.number},
    )  # fmt: skip
    part.written_layout = 0
    store.check_lease()
    await say_layout(part, sender, store.changelog)
    for keys in _steps(part.rows.keys()):
        await _write(store, sender, part, keys)
    for keys in _steps(part.evicted()):
        store.check_lease()
        await store.restore(part.number, keys)
        await _write(store, sender, part, keys)
        part.evict(max_rows=store.max_rows)
    meta = {key: value for key, value in part.meta.items() if key not in part._dirty_meta}
    if meta:
        store.check_lease()
        records = [(key, value, None, ()) for key, value in meta.items()]
        written = await sender.send_many(store.changelog, records, partition=part.number)
        _note(part, written.end, *records[-1][:2])


def _steps(keys: U64) -> Iterator[U64]:
    for start in range(0, len(keys), STEP):
        yield keys[start : start + STEP]


async def _write(store: StateStore, sender: BatchSender, part: StatePartition, keys: U64) -> None:
    store.check_lease()
    clean = part._clean(keys[part.rows.find(keys) >= 0])
    if not len(clean):
        return
    packed: PackedRows = part.rows.pack(part.rows.find(clean))
    written = await sender.send_rows(store.changelog, packed, partition=part.number)
    _note(part, written.end, key_bytes(np.asarray(packed.keys[-1:]))[0], packed[-1])


def _note(part: StatePartition, end: int, key: bytes, value: bytes) -> None:
    if end >= 0:
        part.position, part.last_crc = end, record_crc(key, value)
