"""One partition of a state store: rows, meta records, which of them are dirty, which are evicted.

The states of a row::

    clean  --touch-->  dirty  --take-->  in flight  --written-->  clean  --evict-->  evicted
                         ^-----put_back------'                      ^-----restore----'

A *clean* row is in the changelog as it is in memory. An *evicted* row is in a spill file on the local disk;
only its key, its offset, its time and its place there are in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.streams.tables.changes import (
    KEY_BYTES,
    U64,
    Bool,
    ChangelogRecord,
    Changes,
    MergeMeta,
    Rows,
    RowSet,
    key_bytes,
    larger_mark,
    record_crc,
)
from headrace.streams.tables.evicted import EvictedRows
from headrace.streams.tables.late_writes import LateWrites
from headrace.streams.tables.layouts import LAYOUT_KEY, number_in
from headrace.streams.tables.row_records import row_records
from headrace.streams.tables.rows import WHOLE, PackedRows, RowTable, unpack
from headrace.streams.tables.second_chance import SecondChance
from headrace.streams.tables.spill import Spill, SpillFolder

__all__ = ["U64", "Changes", "Rows", "StatePartition", "key_bytes", "larger_mark", "record_crc"]

#: When there are more rows than the limit, rows are evicted down to this share of it, but not many at once: a
#: batch waits for it.
EVICT_TO, EVICT_ROWS = 0.99, 4096
_NO_KEYS: U64 = np.zeros(0, np.uint64)


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
    lasting
        Name of a bool field; rows in which it is true never expire.
    spills
        Folder of the spill file of evicted rows; default: the system's folder of temporary files.

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
    away
        The evicted rows.
    """

    def __init__(
        self,
        number: int,
        rows: RowTable,
        merge_meta: MergeMeta = larger_mark,
        order: Sequence[str] = ("offset",),
        *,
        lasting: str | None = None,
        spills: SpillFolder | None = None,
    ) -> None:
        if lasting is not None and (
            lasting not in (rows.dtype.names or ()) or rows.dtype[lasting] != np.bool_
        ):
            raise TypeError(f"rows have no bool field {lasting!r}")
        self.number = number
        self.rows = rows
        self.meta: dict[bytes, bytes] = {}
        self.away = EvictedRows(Spill(spills or SpillFolder()), order[0], lasting)
        self.position = 0
        #: crc32 of the record before ``position``, -1: not known. A snapshot tells the changelog by it.
        self.last_crc = -1
        #: Whether the state comes from a snapshot whose ``last_crc`` was not compared with the changelog yet.
        self.from_file = False
        #: Whether this worker owns the partition, or was its last owner.
        self.owned = False
        #: Number of the newest layout that the changelog says it has, see ``LAYOUT_KEY``.
        self.written_layout = 0
        #: Whether records of another writer were read while this object was in use: objects built on it (of a
        #: stage) may be out of date.
        self.foreign = False
        self._merge_meta = merge_meta
        self._lasting = lasting
        self._dirty = RowSet()
        self._deleted: set[int] = set()
        self._dirty_meta: set[bytes] = set()
        self._takes = self._put_back = 0
        # Taken, not known to be in the changelog: the changes, and the numbers of their rows.
        self._in_flight: dict[int, tuple[Changes, RowSet]] = {}
        self._chance = SecondChance()
        self._late = LateWrites(order)

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
        return len(self.away)

    @property
    def nbytes(self) -> int:
        """Bytes allocated in memory for rows, their index and the evicted keys."""
        return self.rows.nbytes + self.away.nbytes

    # -- changing

    def touch(self, rows: Rows) -> None:
        """Mark rows as dirty (row numbers, int64 ``(n,)``; repeated ones are fine)."""
        self._dirty.add(rows, len(self.rows.data))
        self._chance.use(rows, len(self.rows.data))

    def delete(self, keys: U64 | Sequence[int]) -> None:
        """Delete keys, evicted ones too; the next ``take`` contains their tombstones."""
        wanted = np.unique(np.asarray(keys, np.uint64))
        self._forget(wanted)
        self._deleted.update(wanted.tolist())

    def _forget(self, keys: U64) -> None:
        rows = self.rows.find(keys)
        self._dirty.discard(rows[rows >= 0])
        self.rows.drop(keys)
        self.away.drop(keys)

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

    def take(self, packed: PackedRows | None = None) -> Changes:
        """Return all changes since the last ``take``, and some rows whose record is of an earlier layout.

        Give them to ``StateStore.write`` or to ``put_back``: until then their rows cannot be evicted.

        Parameters
        ----------
        packed
            Rows packed just now. When they are all the changed ones, they are not packed again.
        """
        taken, self._dirty = self._dirty, RowSet()
        deleted, self._deleted = self._deleted, set()
        gone = np.fromiter(deleted, np.uint64, len(deleted))
        reborn = _NO_KEYS
        if deleted:
            back = self.rows.find(gone)
            taken.add(back[back >= 0], len(self.rows.data))
            gone, reborn = gone[back < 0], gone[back >= 0]
        old = self.rows.find(self._late.take_old())
        taken.add(old[old >= 0], len(self.rows.data))
        meta, self._dirty_meta = {key: self.meta[key] for key in sorted(self._dirty_meta)}, set()
        rows = self.rows.pack(taken.rows(), packed)
        self._late.rewritten(rows.keys)
        changes = Changes(self, self._takes + 1, rows, gone, meta, reborn)
        if changes:
            self._takes += 1
            self._in_flight[changes.number] = changes, taken
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
        self._deleted.update(changes.deleted.tolist(), changes.reborn.tolist())
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
        """Move clean rows from memory to the disk. When the disk cannot be written, they stay in memory.

        Parameters
        ----------
        before_ms
            Evict rows whose ``updated`` is before this time (ms).
        max_rows
            When there are more rows than this, evict rows that were not used lately. When there are many
            more, only a part of them is evicted: call it again later.

        Returns
        -------
        Keys of the evicted rows, uint64 ``(n,)``.
        """
        moved = [_NO_KEYS]
        if before_ms is not None:
            moved.append(self.away.move(self.rows, self._clean(self.rows.idle(before_ms))))
        if max_rows is not None and len(self.rows) > max_rows:
            surplus = len(self.rows) - max_rows
            wanted = max(min(surplus, EVICT_ROWS), surplus // 16)
            wanted += min(max_rows - int(max_rows * EVICT_TO), EVICT_ROWS)
            for keys in self._chance.candidates(self.rows, wanted, self._held):
                moved.append(self.away.move(self.rows, keys))
                if len(moved[-1]) < len(keys):
                    break
        return np.concatenate(moved)

    def _held(self, rows: Rows) -> Bool:
        """Return which rows (numbers) are not clean, bool ``(n,)``."""
        held = self._dirty.has(rows)
        for _, taken in self._in_flight.values():
            held |= taken.has(rows)
        return held

    def _clean(self, keys: U64) -> U64:
        """Return those of ``keys`` whose rows are clean; all of ``keys`` must be in memory."""
        return keys[~self._held(self.rows.find(keys))]

    def evicted(self, keys: U64 | None = None) -> U64:
        """Return the evicted ones among ``keys`` (None: all evicted keys)."""
        return self.away.keys(keys)

    def restore(self, keys: U64) -> U64:
        """Bring evicted rows back into memory.

        Returns
        -------
        Keys whose rows cannot be read from the disk, uint64 ``(m,)``. They stay evicted; see ``revive``.
        """
        return self.away.restore(self.rows, np.unique(self.evicted(keys)))

    def revive(self, packed: Sequence[bytes]) -> int:
        """Bring evicted rows that were read from the changelog back into memory; return how many.

        A row is skipped when its bytes are not those of the evicted row: it is an older state of it.
        """
        keys = unpack(packed := self.rows.current(packed), self.rows.dtype)[0]["key"]
        same = self.away.same(keys, packed)
        self.rows.load([packed[i] for i in np.flatnonzero(same).tolist()])
        before = len(self.away)
        self.away.drop(np.unique(keys[same]))
        return before - len(self.away)

    def packed(self, keys: U64) -> PackedRows:
        """Return the packed rows of those of ``keys`` that have one, in memory or evicted, in any order.

        Raises
        ------
        LostRowsError
            When an evicted row cannot be read.
        """
        rows = self.rows.find(keys)
        away = self.away.keys(keys[rows < 0])
        return PackedRows.joined([self.rows.pack(rows[rows >= 0]), self.away.read(away)])

    def add(self, packed: PackedRows, max_rows: int | None = None) -> None:
        """Add rows that ``packed`` returned; those beyond ``max_rows`` are evicted at once."""
        self.rows.load(list(packed))
        self.away.settle(self.rows, packed.keys)
        if max_rows is not None and len(self.rows) > max_rows:
            self.away.move(self.rows, np.unique(packed.keys[self.rows.find(packed.keys) >= 0]))

    def expire(self, before_ms: int, share: tuple[float, float] = WHOLE) -> U64:
        """Delete clean and evicted rows with ``updated`` before ``before_ms``; return their keys.

        Only the rows between two shares of all are looked at; see ``RowTable.part``.
        """
        old = self._clean(self.rows.idle(before_ms, share))
        if self._lasting is not None:
            old = old[~self.rows.data[self._lasting][self.rows.find(old)]]
        old = np.concatenate([old, self.away.idle(before_ms, share)])
        if len(old):
            self.delete(old)
        return old

    # -- reading the changelog

    def reset(self) -> None:
        """Forget everything: the state is that before the first changelog record."""
        self.rows.drop(self.rows.keys())
        self.away.clear()
        self.meta.clear()
        self._late.clear()
        self.rows.unreadable.clear()
        self.position, self.last_crc, self.from_file, self.written_layout = 0, -1, False, 0

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
                self._late.deleted(split.deleted)
            if split.rows:
                self._load(split.keys, split.rows)
            if self.rows.unreadable:
                self.rows.replaced(split.latest())
            last = records[-1]
            self.last_crc = record_crc(last.key, last.value) if last.offset == position - 1 else -1
        elif position != self.position:
            self.last_crc = -1
        self.position = position

    def _read_meta(self, key: bytes, value: bytes | None) -> None:
        if key == LAYOUT_KEY:
            self.written_layout = max(self.written_layout, number_in(value))
            return
        known = self.meta.get(key)
        if value is None:
            self.meta.pop(key, None)
            return
        kept = value if known is None else self._merge_meta(key, known, value)
        self.meta[key] = kept
        self._late.compare_meta(key, value, kept)

    def _load(self, keys: U64, values: list[bytes]) -> None:
        taken, migrated_at = self.rows.load(values), self.rows.migrated_at
        if self.away.settle(self.rows, keys) or taken < len(values) or self._late:
            self._late.compare(values, self.rows)
        self._late.note_layouts(keys, migrated_at)

    def own(self) -> None:
        """Become the owner; mark as dirty what the changelog has last as an older state."""
        keys, meta = self._late.take()
        rows = self.rows.find(keys)
        self.touch(rows[rows >= 0])
        self._dirty_meta.update(meta & self.meta.keys())

    def successor(self) -> StatePartition:
        """Return a new partition object with the same state; this one must not be used any more."""
        part = StatePartition(self.number, self.rows)
        part.__dict__.update(self.__dict__)
        part.foreign = False
        return part
