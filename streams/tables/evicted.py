"""Evicted rows: key, offset, time and checksum of rows that are not in memory any more. Pure.

That is enough to recognise a row when it is read again, and to expire it.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.streams.tables.changes import U64, Rows
from headrace.streams.tables.rows import RowTable

#: ``crc`` is the crc32 of the packed row.
EVICTED = np.dtype([("key", "<u8"), ("offset", "<i8"), ("updated", "<i8"), ("layout", "<u4"), ("crc", "<u4")])
#: Rows evicted at once.
_STEP = 4096
_NO_KEYS: U64 = np.zeros(0, np.uint64)


class EvictedRows:
    """Keys of evicted rows with their offset, time and checksum."""

    def __init__(self) -> None:
        self._table = RowTable(EVICTED, order=("offset",))
        self._notes: list[npt.NDArray[Any]] | None = None

    def __len__(self) -> int:
        return len(self._table)

    @property
    def nbytes(self) -> int:
        """Return the bytes allocated."""
        return self._table.nbytes

    def keys(self, among: U64 | None = None) -> U64:
        """Return all keys, or those of ``among`` that are here."""
        if not len(self._table):
            return _NO_KEYS
        return self._table.keys() if among is None else among[self._table.find(among) >= 0]

    def move(self, rows: RowTable, keys: U64) -> None:
        """Evict: drop the rows of ``keys`` from ``rows`` and note them here."""
        for start in range(0, len(keys), _STEP):
            part = keys[start : start + _STEP]
            from_rows = rows.find(part)
            to: Rows = self._table.take(part)
            for name in ("offset", "updated"):
                self._table.data[name][to] = rows.data[name][from_rows]
            self._table.data["crc"][to] = [zlib.crc32(row) for row in rows.pack(from_rows)]
            if self._notes is not None:
                self._notes.append(self._table.data[to])
            rows.drop(part)

    @contextlib.contextmanager
    def noting(self) -> Iterator[list[npt.NDArray[Any]]]:
        """Collect what is evicted meanwhile, dtype ``EVICTED``, also of rows that are restored again."""
        notes: list[npt.NDArray[Any]] = []
        self._notes = notes
        try:
            yield notes
        finally:
            self._notes = None

    def same(self, keys: U64, packed: Sequence[bytes]) -> npt.NDArray[np.intp]:
        """Return the positions in ``packed`` of rows with the very bytes of the evicted row, ``(m,)``."""
        here = self._table.find(keys)
        crcs = np.array([zlib.crc32(row) for row in packed], np.uint32)
        return np.flatnonzero((here >= 0) & (self._table.data["crc"][np.maximum(here, 0)] == crcs))

    def settle(self, keys: U64, rows: RowTable) -> None:
        """Compare keys just loaded into ``rows`` with the evicted rows; the newer one of each pair counts.

        When the evicted row is newer, the loaded one is dropped from ``rows``; else the key is not evicted
        any more.
        """
        here = self._table.find(keys)
        keys, here = keys[here >= 0], here[here >= 0]
        if not len(keys):
            return
        loaded = rows.find(keys)
        older = rows.data["offset"][np.maximum(loaded, 0)] < self._table.data["offset"][here]
        stale = (loaded < 0) | older
        rows.drop(keys[stale])
        self._table.drop(keys[~stale])

    def idle(self, before_ms: int) -> U64:
        """Return the keys of rows whose ``updated`` is before ``before_ms``, uint64 ``(n,)``."""
        return self._table.idle(before_ms)

    def drop(self, keys: U64) -> None:
        """Forget keys."""
        if len(self._table):
            self._table.drop(keys)

    def copy(self) -> npt.NDArray[Any]:
        """Return all evicted rows, dtype ``EVICTED``, ``(n,)``."""
        return self._table.data[self._table.rows()]

    def load(self, evicted: npt.NDArray[Any]) -> None:
        """Add evicted rows that ``copy`` returned."""
        self._table.load(evicted)
