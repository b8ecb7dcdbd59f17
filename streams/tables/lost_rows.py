"""Evicted rows that cannot be read from the disk: they are read from the changelog, all in one scan."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np

from headrace.streams.settings import Settings
from headrace.streams.tables.changes import U64
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.row_records import row_records
from headrace.streams.topics.reader import read_partition

log = logging.getLogger(__name__)

#: Evicted rows that are checked at once.
CHECK_ROWS = 4000


async def restore_lost(part: StatePartition, settings: Settings, changelog: str) -> None:
    """Bring all evicted rows that cannot be read from the disk back into memory.

    Parameters
    ----------
    changelog
        Full name of the changelog topic.

    Raises
    ------
    UnavailableError
        When the broker does not answer.
    """
    wanted = await unreadable(part)
    log.error(
        "%d evicted rows of %s-%d cannot be read from the disk; the changelog is read for them",
        len(wanted),
        changelog,
        part.number,
        extra={"action": "spill_lost", "partition": part.number, "rows": len(wanted)},
    )

    def look(batch: Any) -> None:
        split = row_records(batch.records)
        part.revive([split.rows[i] for i in np.flatnonzero(np.isin(split.keys, wanted)).tolist()])

    await read_partition(settings, changelog, part.number, look)
    lost = part.away.unreadable(part.evicted(wanted))
    if len(lost):
        log.error("%s-%d lacks %d rows that were evicted", changelog, part.number, len(lost))
        part.away.drop(lost)


async def unreadable(part: StatePartition) -> U64:
    """Check all evicted rows; return the keys of those that cannot be read, uint64 ``(n,)``."""
    every, bad = part.evicted(), list[U64]()
    for start in range(0, len(every), CHECK_ROWS):
        bad.append(part.away.unreadable(part.evicted(every[start : start + CHECK_ROWS])))
        await asyncio.sleep(0)  # lets other tasks of this event loop run
    return np.concatenate(bad)
