"""Evicted rows: in memory their key, offset, time and place; the rows themselves are in a spill file."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.streams.tables.changes import U64
from headrace.streams.tables.rows import WHOLE, PackedRows, RowTable
from headrace.streams.tables.spill import SEGMENT_BYTES, Spill

Bool: TypeAlias = npt.NDArray[np.bool_]

#: ``offset`` is the row's most important order field. ``updated`` is ``NEVER`` for a row that never expires.
#: ``at``, ``size`` and ``crc`` are place, size and crc32 of the packed row in the spill file.
EVICTED = np.dtype(
    [("key", "<u8"), ("offset", "<i8"), ("updated", "<i8"), ("at", "<i8"), ("size", "<u4"), ("crc", "<u4")]
)
NEVER = np.iinfo(np.int64).max
#: Rows moved at once.
_STEP = 4096
#: Segments of the spill file that are emptied at most for each step.
_EMPTIED = 2
_NO_KEYS: U64 = np.zeros(0, np.uint64)


class LostRowsError(OSError):
    """Evicted rows cannot be read back from the disk."""


class EvictedRows:
    """The evicted rows of a partition.

    Parameters
    ----------
    spill
        Holds the rows.
    order
        The order field of rows that decides first which of two states is newer.
    lasting
        Name of the bool field that is true in rows that never expire.
    """

    def __init__(self, spill: Spill, order: str = "offset", lasting: str | None = None) -> None:
        self._table = RowTable(EVICTED)
        self._spill = spill
        self._order, self._lasting = order, lasting
        self._notes: list[U64] | None = None

    def __len__(self) -> int:
        return len(self._table)

    @property
    def nbytes(self) -> int:
        """Return the bytes allocated in memory."""
        return self._table.nbytes + self._spill.index_bytes

    @property
    def spill_bytes(self) -> int:
        """Return the size of the spill file, bytes."""
        return self._spill.nbytes

    def keys(self, among: U64 | None = None) -> U64:
        """Return all keys, or those of ``among`` that are here."""
        if not len(self._table):
            return _NO_KEYS
        if among is not None:
            return among[self._table.find(among) >= 0]
        view = self._table.view()
        keys: U64 = view["key"][view["key"] != 0]
        return keys

    def move(self, rows: RowTable, keys: U64) -> U64:
        """Evict: move the rows of ``keys`` from ``rows`` to the spill file.

        Returns
        -------
        The keys that were evicted, the first of ``keys``: fewer than all when the disk cannot be written.
        """
        moved = 0
        for start in range(0, len(keys), _STEP):
            part = keys[start : start + _STEP]
            self._fill_holes(rows)
            done = self._move(rows, part)
            moved += done
            if done < len(part):
                break
        return keys[:moved]

    def _move(self, rows: RowTable, keys: U64) -> int:
        packed = rows.pack(rows.find(keys))
        at = self._spill.write(packed)
        keys = keys[: len(at)]
        source, to = rows.find(keys), self._table.take(keys)
        noted = np.empty(len(keys), EVICTED)
        noted["key"], noted["at"] = keys, at
        noted["offset"], noted["updated"] = rows.data[self._order][source], rows.data["updated"][source]
        if self._lasting is not None:
            noted["updated"][rows.data[self._lasting][source]] = NEVER
        noted["size"] = np.diff(packed.bounds)[: len(at)]
        noted["crc"] = _crcs(packed[: len(at)])
        self._table.data[to] = noted
        rows.drop(keys)
        return len(keys)

    def _fill_holes(self, rows: RowTable) -> None:
        """Move the rows of nearly empty segments of the file, so that these can be used again."""
        for _ in range(_EMPTIED):
            segment = self._spill.sparse()
            if segment < 0 or not self._spill.folder.usable:
                return
            keys = self.keys(np.unique(self._spill.keys_in(segment)))
            keys = keys[self._table.data["at"][self._table.find(keys)] // SEGMENT_BYTES == segment]
            bad = self.restore(rows, keys)
            self._move(rows, keys[~np.isin(keys, bad)])

    def restore(self, rows: RowTable, keys: U64) -> U64:
        """Bring evicted rows back into ``rows``; all of ``keys`` must be evicted, and none repeated.

        Returns
        -------
        Keys whose rows cannot be read, uint64 ``(m,)``. They stay evicted.
        """
        bad = [_NO_KEYS]
        for start in range(0, len(keys), _STEP):
            part, packed, sound = self._read(keys[start : start + _STEP])
            rows.load(packed if sound.all() else [packed[i] for i in np.flatnonzero(sound).tolist()])
            if self._notes is not None:
                self._notes.append(part[sound])
            self.drop(part[sound])
            bad.append(part[~sound])
        return np.concatenate(bad)

    def _read(self, keys: U64) -> tuple[U64, list[bytes], Bool]:
        """Return the keys in the order of the file, their packed rows, and which are as they were written."""
        here = self._table.data[self._table.find(keys)]
        order = np.argsort(here["at"])
        here = here[order]
        packed = self._spill.read(here["at"], here["size"].astype(np.int64))
        sound: Bool = here["crc"] == np.array([zlib.crc32(row) for row in packed], np.uint32)
        if not sound.all():
            self._spill.folder.broken(f"{np.count_nonzero(~sound)} rows cannot be read back")
        return here["key"], packed, sound

    def read(self, keys: U64) -> PackedRows:
        """Return packed rows of evicted keys, in any order.

        Raises
        ------
        LostRowsError
            When a row cannot be read.
        """
        keys, packed, sound = self._read(keys)
        if not sound.all():
            raise LostRowsError(f"{np.count_nonzero(~sound)} evicted rows cannot be read from the disk")
        return PackedRows.of(keys, packed)

    def unreadable(self, keys: U64) -> U64:
        """Return those of ``keys`` (evicted ones) whose rows cannot be read, in any order."""
        keys, _, sound = self._read(keys)
        return keys[~sound]

    def same(self, keys: U64, packed: Sequence[bytes]) -> Bool:
        """Return which of ``packed`` are the very bytes of the evicted row of their key, bool ``(n,)``."""
        here = self._table.find(keys)
        crcs = np.array([zlib.crc32(row) for row in packed], np.uint32)
        alike: Bool = self._table.data["crc"][np.maximum(here, 0)] == crcs
        return alike & (here >= 0)

    @contextlib.contextmanager
    def noting(self) -> Iterator[list[U64]]:
        """Collect the keys of rows that are brought back meanwhile."""
        notes: list[U64] = []
        self._notes = notes
        try:
            yield notes
        finally:
            self._notes = None

    def settle(self, rows: RowTable, keys: U64) -> bool:
        """Compare keys just loaded into ``rows`` with the evicted rows; the newer one of each pair counts.

        Afterwards it is in memory. Only when an evicted row is needed and cannot be read, the loaded one is
        dropped from ``rows``, and the key stays evicted.

        Returns
        -------
        Whether evicted rows were brought back.
        """
        keys = self.keys(np.unique(keys)) if len(self._table) else _NO_KEYS
        loaded = rows.find(keys)
        keys, loaded = keys[loaded >= 0], loaded[loaded >= 0]
        if not len(keys):
            return False
        newer = rows.data[self._order][loaded] > self._table.data["offset"][self._table.find(keys)]
        self.drop(keys[newer])
        rows.drop(self.restore(rows, keys[~newer]))
        return not newer.all()

    def idle(self, before_ms: int, share: tuple[float, float] = WHOLE) -> U64:
        """Return the keys of rows whose ``updated`` is before ``before_ms``; see ``RowTable.idle``."""
        return self._table.idle(before_ms, share)

    def drop(self, keys: U64) -> None:
        """Forget keys, none of them repeated, and give up their rows in the spill file."""
        here = self._table.find(keys) if len(self._table) else np.zeros(0, np.int64)
        gone = self._table.data[here[here >= 0]]
        self._spill.free(gone["at"], gone["size"].astype(np.int64))
        if len(gone):
            self._table.drop(keys)

    def clear(self) -> None:
        """Forget all keys."""
        self._table = RowTable(EVICTED)
        self._spill.clear()


def _crcs(packed: PackedRows) -> list[int]:
    blob = memoryview(packed.blob)
    return [zlib.crc32(blob[start:end]) for start, end in pairwise(packed.bounds.tolist())]
