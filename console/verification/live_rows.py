"""The live rows that ``headrace verify`` checks: the newest row of every key of a changelog partition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.streams.settings import Settings
from headrace.streams.tables.row_records import row_records
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.reader import read_partition

Rows = npt.NDArray[np.void]


class Latest:
    """The newest row of every key of one changelog partition.

    Of two rows of a key, the one with the larger ``order`` fields is newer; with equal fields, the later
    record. The later record may have the older row: a worker that had lost the partition, but did not know it
    yet, may have written it.

    Attributes
    ----------
    rows
        Packed rows by key.
    meta
        The last value of every meta record.
    refused
        Number of records that are not rows of this dtype, or whose key is not that of the row. Those that a
        tombstone in the same batch deletes are not counted.
    """

    def __init__(self, dtype: np.dtype[Any], order: Sequence[str]) -> None:
        self._dtype = dtype
        self._order = list(order)
        self._ages: dict[int, tuple[int, ...]] = {}
        self.rows: dict[int, bytes] = {}
        self.meta: dict[bytes, bytes] = {}
        self.refused = 0

    def apply(self, records: Iterable[Any]) -> None:
        """Apply changelog records, in their order."""
        split = row_records(list(records))
        self.meta.update((key, value) for key, value in split.meta if value is not None)
        for gone in split.deleted.tolist():
            self.rows.pop(gone, None)
            self._ages.pop(gone, None)
        rows, sound = unpack(split.rows, self._dtype)
        sound &= rows["key"] == split.keys
        self.refused += int((~sound).sum())
        ages = list(zip(*(rows[name].tolist() for name in self._order), strict=True))
        for at in np.flatnonzero(sound).tolist():
            key = int(split.keys[at])
            if ages[at] >= self._ages.get(key, ages[at]):
                self.rows[key], self._ages[key] = split.rows[at], ages[at]

    def table(self) -> Rows:
        """Return the rows as an array, ``(n,)``, in the order of ``rows``."""
        return unpack(list(self.rows.values()), self._dtype)[0]


async def latest_rows(
    settings: Settings, topic: str, partition: int, dtype: np.dtype[Any], order: Sequence[str]
) -> Latest:
    """Read a changelog partition to its present end."""
    latest = Latest(dtype, order)
    await read_partition(settings, topic, partition, latest.apply)
    return latest
