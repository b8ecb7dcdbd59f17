"""One partition of a state store: rows, meta records, which of them are dirty, which are evicted. Pure.

The states of a row::

    clean  --touch-->  dirty  --take-->  in flight  --written-->  clean  --evict-->  evicted
                         ^-----put_back------'                      ^-----revive-----'

A *clean* row is in the changelog as it is in memory. Of an *evicted* row only the key, the offset, the time
and a checksum stay in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from headrace.streams.tables.changes import (
    KEY_BYTES,
    U64,
    Changes,
    MergeMeta,
    Rows,
    RowSet,
    key_bytes,
    larger_mark,
    record_crc,
)
from headrace.streams.tables.evicted import EVICTED, EvictedRows
from headrace.streams.tables.row_records import row_records
from headrace.streams.tables.rows import RowTable, unpack

__all__ = ["EVICTED", "U64", "Changes", "Rows", "StatePartition", "key_bytes", "larger_mark", "record_crc"]

#: When there are more rows than the limit, rows are evicted down to this share of it: so evictions are rare.
EVICT_TO = 0.99
_NO_KEYS: U64 = np.zeros(0, np.uint64)


class ChangelogRecord(Protocol):
    """A changelog record, as aiokafka's C parser makes it."""

    offset: int
    key: bytes | None
    value: bytes | None


class StatePartition:
    """Rows and meta records of one partition, and which of them are not in the changelog yet.

    Change rows in place, in ``rows.data``, then call ``touch``. An evicted key is not in ``rows``, and
    ``rows.take`` would make a blank row for it: call ``evicted`` first.

    Parameters
    ----------
    number
        Number of the partition.
    rows
        Table of its rows.
    merge_meta
        Chooses between two values of a meta record.
    order
        Names of the int64 fields that say which of two states of a row is newer, the most important first.

    Attributes
    ----------
    number
        Number of the partition.
    rows
        The rows in memory.
    meta
        Meta records by key. Change them with ``set_meta``.
    position
        Changelog offset after the last record that ``rows`` and ``meta`` reflect. Own writes count.
    refused
        Number of changelog records that are not rows of this layout.
    """

    def __init__(
        self,
        number: int,
        rows: RowTable,
        merge_meta: MergeMeta = larger_mark,
        order: Sequence[str] = ("offset",),
    ) -> None:
        self.number = number
        self.rows = rows
        self.meta: dict[bytes, bytes] = {}
        self.position = 0
        #: crc32 of the record before ``position``, -1 when not known. A snapshot stores it, to check later
        #: that the changelog is still the same one.
        self.last_crc = -1
        #: Whether the state comes from a snapshot whose ``last_crc`` was not compared with the changelog yet.
        self.from_file = False
        #: Whether this worker owns the partition, or was its last owner.
        self.owned = False
        self._merge_meta = merge_meta
        self._order = tuple(order)
        self._dirty = RowSet()
        self._deleted: set[int] = set()
        self._dirty_meta: set[bytes] = set()
        self._takes = self._put_back = 0
        self._in_flight: dict[int, Changes] = {}  # taken, not known to be in the changelog
        self._evicted = EvictedRows()
        # Keys whose last changelog record is older than the row in memory: a worker wrote it that no longer
        # owned the partition. Compaction would keep that record and drop the newer one.
        self._overwritten: set[int] = set()
        self._overwritten_meta: set[bytes] = set()

    @property
    def refused(self) -> int:
        """Number of changelog records that were not rows of this layout."""
        return self.rows.refused

    @property
    def dirty(self) -> bool:
        """Whether a row or a meta record was changed since the last ``take``."""
        return bool(self._dirty or self._deleted or self._dirty_meta)

    @property
    def clean(self) -> bool:
        """Whether the changelog has every row and meta record."""
        return not (self.dirty or self._in_flight)

    @property
    def evicted_count(self) -> int:
        """Number of evicted rows."""
        return len(self._evicted)

    @property
    def nbytes(self) -> int:
        """Bytes allocated for rows, their index and the evicted keys."""
        return self.rows.nbytes + self._evicted.nbytes

    # -- changing

    def touch(self, rows: Rows) -> None:
        """Mark rows as dirty (row numbers, int64 ``(n,)``; repeated ones are fine)."""
        self._dirty.add(rows, len(self.rows.data))

    def delete(self, keys: U64 | Sequence[int]) -> None:
        """Delete keys, evicted ones too; the next ``take`` contains their tombstones."""
        wanted = np.asarray(keys, np.uint64)
        self._forget(wanted)
        self._deleted.update(wanted.tolist())

    def _forget(self, keys: U64) -> None:
        rows = self.rows.find(keys)
        self._dirty.discard(rows[rows >= 0])
        self.rows.drop(keys)
        self._evicted.drop(keys)

    def set_meta(self, key: bytes, value: bytes) -> None:
        """Set a meta record.

        Raises
        ------
        ValueError
            When the key is 8 bytes long: such keys are those of rows.
        """
        if len(key) == KEY_BYTES:
            raise ValueError(f"a meta key must not be {KEY_BYTES} bytes long: {key!r}")
        if self.meta.get(key) != value:
            self.meta[key] = value
            self._dirty_meta.add(key)

    def take(self) -> Changes:
        """Return all changes since the last ``take``.

        Give them to ``StateStore.write`` or to ``put_back``: until then their rows cannot be evicted.
        """
        rows = self._dirty.rows()
        self._dirty.clear()
        deleted, self._deleted = self._deleted, set()
        if deleted:
            gone = np.fromiter(deleted, np.uint64, len(deleted))
            back = self.rows.find(gone)
            if (back >= 0).any():  # deleted, then made again: write the row, and no tombstone after it
                rows = np.union1d(rows, back[back >= 0])
                gone = gone[back < 0]
        else:
            gone = _NO_KEYS
        meta = {key: self.meta[key] for key in sorted(self._dirty_meta)}
        self._dirty_meta = set()
        changes = Changes(self, self._takes + 1, self.rows.pack(rows), gone, meta)
        if changes:
            self._takes += 1
            self._in_flight[changes.number] = changes
        return changes

    def written(self, changes: Changes) -> None:
        """Note that the changelog has these changes."""
        self._in_flight.pop(changes.number, None)

    def put_back(self, changes: Changes) -> None:
        """Undo a ``take`` that was not written: its keys are dirty again, with the values they have now."""
        if self._in_flight.pop(changes.number, None) is None:
            return
        self._put_back += 1
        rows = self.rows.find(changes.rows.keys)
        self.touch(rows[rows >= 0])
        self._deleted.update(changes.deleted.tolist())
        self._dirty_meta.update(key for key in changes.meta if key in self.meta)

    def promise(self) -> tuple[int, int]:
        """Return a token for the present state; ``kept`` says whether the changelog has that state."""
        return self._takes + self.dirty, self._put_back

    def kept(self, promise: tuple[int, int]) -> bool | None:
        """Return whether the changelog has the state for which ``promise`` was returned.

        True: it has. False: not yet. None: not known any more, because changes were put back since.
        """
        takes, put_back = promise
        if put_back != self._put_back:
            return None
        return self._takes >= takes and min(self._in_flight, default=takes + 1) > takes

    # -- memory

    def evict(self, before_ms: int | None = None, max_rows: int | None = None) -> U64:
        """Drop clean rows from memory and remember their keys.

        Parameters
        ----------
        before_ms
            Evict rows whose ``updated`` is before this time (ms).
        max_rows
            When there are more rows than this, evict the longest idle ones, down to ``EVICT_TO`` of it.

        Returns
        -------
        Keys of the evicted rows, uint64 ``(n,)``.
        """
        keys = self._clean(self.rows.idle(before_ms)) if before_ms is not None else _NO_KEYS
        self._evicted.move(self.rows, keys)
        surplus = (
            0 if max_rows is None or len(self.rows) <= max_rows else len(self.rows) - int(max_rows * EVICT_TO)
        )
        if surplus:
            every = self._clean(self.rows.keys())
            updated = self.rows.data["updated"][self.rows.find(every)]
            if surplus < len(every):
                every = every[np.argpartition(updated, surplus)[:surplus]]
            self._evicted.move(self.rows, every)
            keys = np.concatenate([keys, every])
        return keys

    def _clean(self, keys: U64) -> U64:
        """Return those of ``keys`` whose rows are clean; all of ``keys`` must be in memory."""
        if self._dirty:
            keys = keys[~self._dirty.has(self.rows.find(keys))]
        for changes in self._in_flight.values():
            keys = keys[~np.isin(keys, changes.rows.keys)]
        return keys

    def evicted(self, keys: U64 | None = None) -> U64:
        """Return the evicted ones among ``keys`` (None: all evicted keys)."""
        return self._evicted.keys(keys)

    def revive(self, packed: Sequence[bytes]) -> int:
        """Bring evicted rows back into memory; return how many.

        A row is skipped when its bytes are not those of the evicted row: the online store may have an older
        row, or one that never reached the changelog because a worker crashed.
        """
        before = len(self._evicted)
        keys = unpack(packed, self.rows.dtype)[0]["key"]
        same = self._evicted.same(keys, packed)
        self._load(keys[same], [packed[i] for i in same.tolist()])
        return before - len(self._evicted)

    def noting_evictions(self) -> contextlib.AbstractContextManager[list[npt.NDArray[Any]]]:
        """Collect what is evicted meanwhile (dtype ``EVICTED``), also of rows that are restored again."""
        return self._evicted.noting()

    def evicted_rows(self) -> npt.NDArray[Any]:
        """Return a copy of what is known of evicted rows, dtype ``EVICTED``, ``(n,)``."""
        return self._evicted.copy()

    def set_evicted_rows(self, evicted: npt.NDArray[Any]) -> None:
        """Add evicted rows (dtype ``EVICTED``, ``(n,)``), except those whose rows are in memory."""
        self._evicted.load(evicted[self.rows.find(evicted["key"]) < 0])

    def forget_evicted(self, keys: U64) -> None:
        """Forget evicted keys whose rows were found nowhere."""
        self._evicted.drop(keys)

    def expire(self, before_ms: int) -> U64:
        """Delete clean and evicted rows with ``updated`` before ``before_ms``; return their keys."""
        old = self._clean(self.rows.idle(before_ms))
        if len(self._evicted):
            old = np.concatenate([old, self._evicted.idle(before_ms)])
        if len(old):
            self.delete(old)
        return old

    # -- reading the changelog

    def reset(self) -> None:
        """Forget everything: the state is that before the first changelog record."""
        self.rows.drop(self.rows.keys())
        self._evicted.drop(self._evicted.keys())
        self.meta.clear()
        self._overwritten.clear()
        self._overwritten_meta.clear()
        self.position, self.last_crc, self.from_file = 0, -1, False

    def reserve(self, rows: int) -> None:
        """Allocate room for rows in an empty partition. Unused room costs address space, not memory."""
        if rows > len(self.rows.data) and not len(self.rows.view()):
            with contextlib.suppress(MemoryError):
                self.rows.data = np.zeros(rows, self.rows.dtype)

    def trim(self) -> None:
        """Free the room that is not used."""
        with contextlib.suppress(ValueError):  # the array is referenced elsewhere
            self.rows.data.resize(max(1, len(self.rows.view())))

    def apply(self, records: Sequence[ChangelogRecord], position: int) -> None:
        """Apply changelog records, in offset order; ``position`` is the changelog offset after them.

        A row never becomes older. When a record is older than the row in memory, the row stays, and ``own``
        marks it as dirty, so that it is written again.
        """
        if records:
            split = row_records(records)
            for key, value in split.meta:
                self._read_meta(key, value)
            if len(split.deleted):
                self._forget(split.deleted)
                self._overwritten.difference_update(split.deleted.tolist())
            if split.rows:
                self._load(split.keys, split.rows)
            last = records[-1]
            self.last_crc = record_crc(last.key, last.value) if last.offset == position - 1 else -1
        elif position != self.position:
            self.last_crc = -1
        self.position = position

    def _read_meta(self, key: bytes, value: bytes | None) -> None:
        known = self.meta.get(key)
        if value is None:
            self.meta.pop(key, None)
            return
        kept = value if known is None else self._merge_meta(key, known, value)
        self.meta[key] = kept
        (self._overwritten_meta.discard if kept == value else self._overwritten_meta.add)(key)

    def _load(self, keys: U64, values: list[bytes]) -> None:
        taken = self.rows.load(values)
        if taken < len(values) or self._overwritten:
            self._compare(values)
        if len(self._evicted):
            self._evicted.settle(keys, self.rows)

    def _compare(self, values: list[bytes]) -> None:
        """Note the keys whose last record in ``values`` is older than the row in memory."""
        written, sound = unpack(values, self.rows.dtype)
        written = written[sound]
        # Keep the last record of each key: `unique` finds the first one of the reversed array.
        _, at = np.unique(written["key"][::-1], return_index=True)
        written = written[len(written) - 1 - at]
        rows = self.rows.find(written["key"])
        written, rows = written[rows >= 0], rows[rows >= 0]
        older, equal = np.zeros(len(rows), bool), np.ones(len(rows), bool)
        for name in self._order:
            there, here = written[name], self.rows.data[name][rows]
            older |= equal & (there < here)
            equal &= there == here
        self._overwritten.difference_update(written["key"][~older].tolist())
        self._overwritten.update(written["key"][older].tolist())

    def own(self) -> None:
        """Become the owner; mark as dirty what is newer in memory than its last changelog record.

        A former owner wrote those records too late.
        """
        keys = np.fromiter(self._overwritten, np.uint64, len(self._overwritten))
        rows = self.rows.find(keys)
        self.touch(rows[rows >= 0])
        self._dirty_meta.update(self._overwritten_meta & self.meta.keys())
        self._overwritten, self._overwritten_meta = set(), set()

    def successor(self) -> StatePartition:
        """Return a new partition object with the same state; this one must not be used any more."""
        part = StatePartition(self.number, self.rows)
        part.__dict__.update(self.__dict__)
        return part
