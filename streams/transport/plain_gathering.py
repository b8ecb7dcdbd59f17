"""Collects the records of consecutive record batches as aiokafka's objects: where little is read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

#: Number of records used to estimate the size of a record batch.
SAMPLES = 16


class PlainGathering:
    """Collects records, batch by batch.

    Parameters
    ----------
    before
        Records before them, left over the last time.

    Attributes
    ----------
    count
        Number of records so far.
    bytes
        About as many bytes the batches added have, decompressed.
    """

    def __init__(self, before: Sequence[Any] = ()) -> None:
        self.count, self.bytes = 0, 0
        self.lists: list[Sequence[Any]] = []
        self.put(before)

    def put(self, records: Sequence[Any]) -> None:
        """Add records."""
        if len(records):
            self.lists.append(records)
            self.count += len(records)

    def add(self, batch: Any, position: int) -> int:
        """Add the records of a batch whose offsets are not before ``position``; return how many it has.

        Raises
        ------
        CorruptRecordException
            When the batch is damaged.
        """
        records = list(batch)
        self.put(
            [record for record in records if record.offset >= position]
        )  # the broker sends whole batches
        self.bytes += _estimated_bytes(records)
        return len(records)

    def records(self) -> Sequence[Any]:
        """Return all of them."""
        return self.lists[0] if len(self.lists) == 1 else [r for records in self.lists for r in records]


def _estimated_bytes(records: list[Any]) -> int:
    sample = records[:: len(records) // SAMPLES + 1]
    size = sum(len(record.key or b"") + len(record.value or b"") for record in sample)
    return size * len(records) // max(1, len(sample))


def records_before(records: Sequence[Any], offset: int) -> Sequence[Any]:
    """Return the records of a partition, in offset order, that are before an offset."""
    return records[: bisect_left(records, offset, key=lambda record: record.offset)]
