"""One partition of a columnar table: rows, meta records, what is not written yet, what was evicted. Pure.

What a partition remembers of a key::

    in `rows`, clean   --touch-->  dirty  --take, written-->  clean  --evict-->  only (key, offset, updated)
                                                                <--revive--
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

#: Above the limit rows are evicted down to this share of it, so that it is not done for every few rows.
EVICT_TO = 0.99
_NO_KEYS: U64 = np.zeros(0, np.uint64)


class Record(Protocol):
    """A changelog record, as aiokafka's C parser makes it."""

    offset: int
    key: bytes | None
    value: bytes | None


class StatePartition:
    """Rows and meta records of one partition, and what of them is not in the changelog yet.

    Rows are changed in place, in ``rows.data``; then ``touch`` is told. An evicted key is not in ``rows``:
    ask ``evicted`` before ``rows.take`` would make a blank row of it.

    Attributes
    ----------
    number
        The partition.
    rows
        The rows in memory.
    meta
        Meta records by key. Change them with ``set_meta``.
    position
        Offset in the changelog after the last record that ``rows`` and ``meta`` reflect; own writes count.
    refused
        Changelog records that are not rows of this layout.
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
        #: crc32 of the record before ``position``, by which a snapshot knows its changelog again; -1 unknown.
        self.last_crc = -1
        #: Whether it is a snapshot's, and the record before ``position`` has not been compared yet.
        self.from_file = False
        #: Whether this worker is, or was last, its writer.
        self.owned = False
        self._merge_meta = merge_meta
        self._order = tuple(order)
        self._dirty = RowSet()
        self._deleted: set[int] = set()
        self._dirty_meta: set[bytes] = set()
        self._takes = self._put_back = 0
        self._in_flight: dict[int, Changes] = {}  # taken, and not known to be in the changelog
        self._evicted = EvictedRows()
        # Keys whose latest changelog record is older than what is in memory: somebody wrote who no longer
        # owned the partition. Compaction would keep that record and drop ours.
        self._overwritten: set[int] = set()
        self._overwritten_meta: set[bytes] = set()

    @property
    def refused(self) -> int:
        """How many changelog records were not rows of this layout."""
        return self.rows.refused

    @property
    def dirty(self) -> bool:
        """Whether something was changed since the last ``take``."""
        return bool(self._dirty or self._deleted or self._dirty_meta)

    @property
    def clean(self) -> bool:
        """Whether everything here is in the changelog."""
        return not (self.dirty or self._in_flight)

    @property
    def evicted_count(self) -> int:
        """How many rows are not in memory."""
        return len(self._evicted)

    @property
    def nbytes(self) -> int:
        """Bytes allocated for rows, their index and the evicted keys."""
        return self.rows.nbytes + self._evicted.nbytes

    # -- changing

    def touch(self, rows: Rows) -> None:
        """Note that rows (row numbers; repeated ones are fine) were changed."""
        self._dirty.add(rows, len(self.rows.data))

    def delete(self, keys: U64 | Sequence[int]) -> None:
        """Drop keys, evicted ones too; the next ``take`` has tombstones for them."""
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
            When the key is 8 bytes long, as a row's is.
        """
        if len(key) == KEY_BYTES:
            raise ValueError(f"a meta key must not be {KEY_BYTES} bytes long: {key!r}")
        if self.meta.get(key) != value:
            self.meta[key] = value
            self._dirty_meta.add(key)

    def take(self) -> Changes:
        """Return what was changed since the last time.

        It has to go to ``StateStore.write`` or ``put_back``: its rows are not evicted before.
        """
        rows = self._dirty.rows()
        self._dirty.clear()
        deleted, self._deleted = self._deleted, set()
        if deleted:
            gone = np.fromiter(deleted, np.uint64, len(deleted))
            back = self.rows.find(gone)
            if (back >= 0).any():  # made anew since: the row, not a tombstone after it
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
        """Note that the changelog has what was taken."""
        self._in_flight.pop(changes.number, None)

    def put_back(self, changes: Changes) -> None:
        """Undo a ``take`` whose changes were not written: they are dirty again, as they are now."""
        if self._in_flight.pop(changes.number, None) is None:
            return
        self._put_back += 1
        rows = self.rows.find(changes.rows.keys)
        self.touch(rows[rows >= 0])
        self._deleted.update(changes.deleted.tolist())
        self._dirty_meta.update(key for key in changes.meta if key in self.meta)

    def promise(self) -> tuple[int, int]:
        """Return a promise about everything in memory now; ``kept`` tells whether the changelog has it."""
        return self._takes + self.dirty, self._put_back

    def kept(self, promise: tuple[int, int]) -> bool | None:
        """Return True when the changelog has what was promised, False when not yet, None when it cannot be
        told any more."""
        takes, put_back = promise
        if put_back != self._put_back:
            return None
        return self._takes >= takes and min(self._in_flight, default=takes + 1) > takes

    # -- memory

    def evict(self, before_ms: int | None = None, max_rows: int | None = None) -> U64:
        """Drop clean rows from memory, remembering their keys; return the keys.

        Parameters
        ----------
        before_ms
            Rows with ``updated`` before it.
        max_rows
            When there are more rows than this, the longest idle ones, down to a little less than it.
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
        """Return those of ``keys``, which are in memory, whose rows are in the changelog as they are."""
        if self._dirty:
            keys = keys[~self._dirty.has(self.rows.find(keys))]
        for changes in self._in_flight.values():
            keys = keys[~np.isin(keys, changes.rows.keys)]
        return keys

    def evicted(self, keys: U64 | None = None) -> U64:
        """Return those of ``keys`` (None: all) that exist but are not in memory."""
        return self._evicted.keys(keys)

    def revive(self, packed: Sequence[bytes]) -> int:
        """Bring evicted rows back; return how many came.

        Rows that are not, to the byte, those evicted are passed over: an online store may lag behind, or know
        of what a crash undid.
        """
        before = len(self._evicted)
        keys = unpack(packed, self.rows.dtype)[0]["key"]
        same = self._evicted.same(keys, packed)
        self._load(keys[same], [packed[i] for i in same.tolist()])
        return before - len(self._evicted)

    def evicted_rows(self) -> npt.NDArray[Any]:
        """Return what is remembered of evicted rows: a copy, of dtype ``EVICTED``."""
        return self._evicted.copy()

    def set_evicted_rows(self, evicted: npt.NDArray[Any]) -> None:
        """Take over what is remembered of evicted rows, except of those in memory."""
        self._evicted.load(evicted[self.rows.find(evicted["key"]) < 0])

    def forget_evicted(self, keys: U64) -> None:
        """Stop looking for evicted keys: they are nowhere to be found."""
        self._evicted.drop(keys)

    def expire(self, before_ms: int) -> U64:
        """Delete clean rows, in memory or not, with ``updated`` before ``before_ms``; return their keys."""
        old = self._clean(self.rows.idle(before_ms))
        if len(self._evicted):
            old = np.concatenate([old, self._evicted.idle(before_ms)])
        if len(old):
            self.delete(old)
        return old

    # -- reading the changelog

    def reset(self) -> None:
        """Forget everything, as if nothing had been read."""
        self.rows.drop(self.rows.keys())
        self._evicted.drop(self._evicted.keys())
        self.meta.clear()
        self._overwritten.clear()
        self._overwritten_meta.clear()
        self.position, self.last_crc, self.from_file = 0, -1, False

    def reserve(self, rows: int) -> None:
        """Make room for that many rows in an empty partition, all at once: untouched, it is address space."""
        if rows > len(self.rows.data) and not len(self.rows.view()):
            with contextlib.suppress(MemoryError):
                self.rows.data = np.zeros(rows, self.rows.dtype)

    def trim(self) -> None:
        """Give back the room that is not used."""
        with contextlib.suppress(ValueError):  # somebody looks at the array
            self.rows.data.resize(max(1, len(self.rows.view())))

    def apply(self, records: Sequence[Record], position: int) -> None:
        """Apply changelog records, in order; afterwards everything before ``position`` is reflected.

        A row never goes back: an older one than that in memory loses, and is noted to be written over.
        """
        if records:
            told = row_records(records)
            for key, value in told.meta:
                self._read_meta(key, value)
            if len(told.deleted):
                self._forget(told.deleted)
                self._overwritten.difference_update(told.deleted.tolist())
            if told.rows:
                self._load(told.keys, told.rows)
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
        """Note the keys whose last record here is older than the row in memory."""
        written, sound = unpack(values, self.rows.dtype)
        written = written[sound]
        # The last record of each key: unique of the reversed array finds the first.
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
        """Become the writer: what somebody else's late records would hide is to be written again."""
        keys = np.fromiter(self._overwritten, np.uint64, len(self._overwritten))
        rows = self.rows.find(keys)
        self.touch(rows[rows >= 0])
        self._dirty_meta.update(self._overwritten_meta & self.meta.keys())
        self._overwritten, self._overwritten_meta = set(), set()

    def successor(self) -> StatePartition:
        """Return another partition object with the same state; this one must not be used any more."""
        part = StatePartition(self.number, self.rows)
        part.__dict__.update(self.__dict__)
        return part
