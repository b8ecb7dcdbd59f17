"""Rows by 64-bit key in memory: fixed-width rows in one numpy structured array.

A row in memory and a packed row are the same bytes: ``pack`` only leaves out the zero bytes (most are zero),
``load`` and ``unpack`` put them back. The changelog, Redis and the serving mirrors hold the same packed rows,
so every reader computes values from the same bytes with the same code. Every field is aligned to its size
(with pad bytes): updates of scattered rows are four times as fast then.

Fields with a meaning here: ``key`` (uint64; 0 means no key) and, where a dtype has them, ``layout`` (uint32,
the number of the layout, see ``layouts.py``), ``updated`` (int64, ms) and the fields that say which of two
states of a row is newer (``offset``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from headrace.streams.tables.key_index import KeyIndex
from headrace.streams.tables.layouts import layouts_of, mark_of
from headrace.streams.tables.packed_rows import pack_rows, unpack_rows
from headrace.streams.tables.placed_rows import GivenRows, blank_rows
from headrace.streams.tables.room import Room
from headrace.streams.tables.taken_rows import bytes_of_rows

Rows = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Bool = npt.NDArray[np.bool_]

#: All rows, as a share.
WHOLE = (0.0, 1.0)


class PackedRows(Sequence[bytes]):
    """Packed rows in one buffer.

    Attributes
    ----------
    keys
        Their keys, uint64 ``(n,)``.
    blob, bounds
        Row ``i`` is ``blob[bounds[i]:bounds[i + 1]]``; ``bounds`` is int64 ``(n + 1,)``.
    """

    __slots__ = ("blob", "bounds", "keys")

    def __init__(self, keys: U64, blob: bytes, bounds: npt.NDArray[np.int64]) -> None:
        self.keys, self.blob, self.bounds = keys, blob, bounds

    @classmethod
    def of(cls, keys: U64 | Sequence[int], rows: Sequence[bytes]) -> PackedRows:
        """Return rows that were packed one by one, in one buffer.

        Raises
        ------
        ValueError
            When there are not as many rows as keys.
        """
        if len(keys) != len(rows):
            raise ValueError(f"{len(keys)} keys, {len(rows)} rows")
        bounds = np.fromiter(accumulate(map(len, rows), initial=0), np.int64, len(rows) + 1)
        return cls(_u64(keys), b"".join(rows), bounds)

    @classmethod
    def joined(cls, parts: Sequence[PackedRows]) -> PackedRows:
        """Concatenate packed rows, in order."""
        if len(parts) == 1:
            return parts[0]
        sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.bounds) for part in parts)])
        blob = b"".join([memoryview(part.blob)[part.bounds[0] : part.bounds[-1]] for part in parts])
        return cls(np.concatenate([part.keys for part in parts]), blob, np.cumsum(sizes))

    def chunks(self, most_bytes: int, most_rows: int) -> Iterator[PackedRows]:
        """Yield all rows in pieces of at most ``most_bytes`` and ``most_rows``; a larger row comes alone."""
        first = 0
        while first < len(self):
            full = int(np.searchsorted(self.bounds, self.bounds[first] + most_bytes, "right")) - 1
            end = min(max(full, first + 1), first + most_rows, len(self))
            yield self[first:end]
            first = end

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> PackedRows: ...
    def __getitem__(self, at: int | slice) -> bytes | PackedRows:
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            if step != 1:
                raise ValueError("packed rows are cut in one piece")
            stop = max(start, stop)
            return PackedRows(self.keys[start:stop], self.blob, self.bounds[start : stop + 1])
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        at %= len(self)
        return self.blob[self.bounds[at] : self.bounds[at + 1]]


def unpack(packed: Sequence[bytes | None], dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], Bool]:
    """Unpack rows.

    Returns
    -------
    rows, sound
        Rows of ``dtype``, ``(n,)``, and which of ``packed`` were such rows, bool ``(n,)``. Rows of an earlier
        layout are migrated. None, a row of another size or layout, and a row of key 0 are not such rows;
        ``rows`` is zero there.
    """
    rows, sound = _unpacked(packed, dtype)
    layouts = layouts_of(dtype)
    if layouts is not None and layouts.earlier and not sound.all():
        others = [at for at in np.flatnonzero(~sound).tolist() if packed[at] is not None]
        migrated = layouts.migrated([packed[at] for at in others])[0] if others else {}
        for at, row in migrated.items():
            (rows[others[at]],), sound[others[at]] = _unpacked([row], dtype)[0], True
    return rows, sound


def _unpacked(packed: Sequence[bytes | None], dtype: np.dtype[Any]) -> tuple[npt.NDArray[Any], Bool]:
    """Unpack rows of the newest layout."""
    rows = np.zeros(len(packed), dtype)
    sound = unpack_rows(packed, rows)
    sound &= rows["key"] != 0
    if "layout" in (dtype.names or ()):
        sound &= rows["layout"] == mark_of(dtype)
    rows[~sound] = np.zeros((), dtype)
    return rows, sound


class RowTable:
    """Rows of one structured dtype by 64-bit key.

    Parameters
    ----------
    dtype
        Structured dtype of a row. It must have a ``key`` field (uint64).
    blank
        Content of a new row; zeros when absent.
    order
        Names of the int64 fields that say which of two states of a row is newer, the most important first.
        Default: ``("offset",)`` when the dtype has it.

    Attributes
    ----------
    data
        The rows and spare ones, a structured array. ``take`` and ``load`` may replace it: read the attribute
        again after calling them.
    layout
        Value of the field ``layout``: the number of the layout, without one the fingerprint of the dtype.
    refused
        Number of rows that ``load`` skipped because of their size, layout or key.
    migrated
        Number of rows of earlier layouts that were migrated.
    migrated_at
        Places, among the rows given to ``load`` last, of those that were migrated.
    unreadable
        Keys of rows that ``load`` found in an earlier layout that cannot be migrated; see ``replaced``.

    Raises
    ------
    TypeError
        When ``dtype`` has no ``key``, or one of these fields has another type.
    """

    def __init__(
        self,
        dtype: np.dtype[Any],
        blank: npt.NDArray[Any] | np.void | None = None,
        order: Sequence[str] | None = None,
    ) -> None:
        fields = dtype.fields
        if fields is None or "key" not in fields:
            raise TypeError(f"a row needs fields, and one of them is its key: {dtype}")
        if order is None:
            order = ("offset",) if "offset" in fields else ()
        for name, wanted in (("key", "<u8"), ("layout", "<u4"), *((name, "<i8") for name in order)):
            if name in fields and fields[name][0] != np.dtype(wanted):
                raise TypeError(f"field {name!r} is {fields[name][0]}, not {np.dtype(wanted)}")
        self.dtype = dtype
        self.row_bytes = dtype.itemsize
        self.layouts = layouts_of(dtype)
        self.layout = mark_of(dtype)
        self.refused = self.migrated = 0
        self.migrated_at: Sequence[int] = ()
        self.unreadable: set[int] = set()
        self._room = Room(dtype)
        self.data = self._room.array
        self._blank = np.zeros(1, dtype)
        if blank is not None:
            self._blank[0] = blank
        self._fields = fields
        self._key_at = fields["key"][1]
        self._layout_at = -1
        if "layout" in fields:
            self._layout_at = fields["layout"][1]
            self._blank["layout"] = self.layout
        self._order_at = np.array([fields[name][1] for name in order], np.int64)
        self._index = KeyIndex()

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, key: int) -> bool:
        return self._index.get(key) >= 0

    @property
    def nbytes(self) -> int:
        """Return the bytes allocated for rows and index."""
        return self.data.nbytes + self._index.nbytes

    def keys(self) -> U64:
        """Return all keys, uint64 ``(n,)``, in the order of their row numbers."""
        return self._index.items()[0]

    def rows(self) -> Rows:
        """Return all row numbers in use, int64 ``(n,)``, ascending."""
        return self._index.items()[1]

    def view(self) -> npt.NDArray[Any]:
        """Return all rows ever used, without a copy, for scans of a few fields. Dropped rows have key 0."""
        return self.data[: self._index.used]

    @property
    def used(self) -> int:
        """Return the upper bound of all row numbers ever used."""
        return self._index.used

    def find(self, keys: U64 | Sequence[int]) -> Rows:
        """Return the row number of each key, int64 ``(n,)``, -1 where there is none. Never adds a row."""
        return self._index.find(_u64(keys))

    def row(self, key: int) -> int:
        """Return the row number of one key, -1 when there is none."""
        return self._index.get(key)

    def copied(self, rows: Rows) -> npt.NDArray[Any]:
        """Return copies of rows, ``(n,)``; zeros for row -1."""
        return bytes_of_rows(self.data, rows, 0, self.row_bytes).view(self.dtype).reshape(len(rows))

    def column(self, name: str, rows: Rows) -> npt.NDArray[Any]:
        """Return one field of rows, a copy, ``(n, ...)``; zeros for row -1."""
        kind, at = self._fields[name][:2]
        taken = bytes_of_rows(self.data, rows, at, kind.itemsize)
        return taken.view(kind.base).reshape(len(rows), *kind.shape)

    def take(self, keys: U64 | Sequence[int]) -> Rows:
        """Return the row number of each key, int64 ``(n,)``; add a blank row for every new key."""
        keys = _u64(keys)
        rows, new = self._index.take(keys)
        if len(new):
            self._grow()
            blank_rows(self.data, self._blank, rows[new], self._key_at, keys[new])
        return rows

    def drop(self, keys: U64 | Iterable[int]) -> int:
        """Drop keys; return how many of them had a row. Their row numbers are used again."""
        rows = self._index.drop(_u64(keys if isinstance(keys, np.ndarray | Sequence) else list(keys)))
        self.data["key"][rows] = 0
        return len(rows)

    def part(self, share: tuple[float, float] = WHOLE) -> npt.NDArray[Any]:
        """Return the rows ever used between two shares of all, such as 0.25 and 0.5; see ``view``."""
        used = self._index.used
        return self.data[int(used * share[0]) : int(used * share[1])]

    def idle(self, before_ms: int, share: tuple[float, float] = WHOLE) -> U64:
        """Return the keys of rows whose ``updated`` is before ``before_ms``, uint64 ``(n,)``.

        Only the rows between two shares of all are looked at; see ``part``.
        """
        view = self.part(share)
        keys: U64 = view["key"][(view["updated"] < before_ms) & (view["key"] != 0)]
        return keys

    def pack(self, rows: Rows, packed: PackedRows | None = None) -> PackedRows:
        """Return packed copies of rows (row numbers, ``(n,)``): ``packed``, when that has just these."""
        rows = np.ascontiguousarray(rows, np.int64)
        keys = self.data["key"][rows]
        if packed is not None and np.array_equal(packed.keys, keys):
            return packed
        return PackedRows(keys, *pack_rows(self.data, rows))

    def load(self, packed: Sequence[bytes] | npt.NDArray[Any]) -> int:
        """Store rows, packed ones or an array of the dtype; return how many were stored.

        A row never becomes older: a row here that is newer by the ``order`` fields stays. When both are
        equal, the given row is stored. Rows of an earlier layout are migrated. Rows of another size or layout
        and rows of key 0 are skipped and counted in ``refused``.
        """
        given, self.migrated_at = self._given(packed), ()
        if given.refused and self.layouts is not None and not isinstance(packed, np.ndarray):
            current, self.migrated_at, unreadable = self._migrate(packed)
            self.unreadable |= unreadable
            given = self._given(current)
        self.refused += given.refused
        rows, new = self._index.take(given.keys)
        self._grow()
        return given.put(self.data, rows, new, self._order_at)

    def current(self, packed: Sequence[bytes]) -> list[bytes]:
        """Return packed rows, those of earlier layouts migrated."""
        return self._migrate(packed)[0]

    def replaced(self, latest: Mapping[int, bytes | None]) -> None:
        """Forget unreadable rows that others have replaced.

        ``latest`` has the last packed row of every key read just now, None for a tombstone.
        """
        keys = [key for key in latest if key in self.unreadable]
        sound = unpack([latest[key] for key in keys], self.dtype)[1].tolist()
        self.unreadable.difference_update(
            key for key, read in zip(keys, sound, strict=True) if read or latest[key] is None
        )

    def _migrate(self, packed: Sequence[bytes]) -> tuple[list[bytes], list[int], set[int]]:
        """Return current packed rows, the places of the migrated ones, and the keys of unreadable ones."""
        rows = list(packed)
        if self.layouts is None or not self.layouts.earlier:
            return rows, [], set()
        _, sound = _unpacked(rows, self.dtype)
        places = np.flatnonzero(~sound).tolist()
        migrated, unreadable = self.layouts.migrated([rows[at] for at in places])
        for at, row in migrated.items():
            rows[places[at]] = row
        self.migrated += len(migrated)
        return rows, [places[at] for at in migrated], set(unreadable.values())

    def _given(self, packed: Sequence[bytes] | npt.NDArray[Any]) -> GivenRows:
        return GivenRows(packed, self.row_bytes, self._key_at, self._layout_at, self.layout)

    def reserve(self, rows: int) -> None:
        """Allocate room for rows in an empty table. Unused room costs address space, not memory."""
        if rows > len(self.data) and not self._index.used:
            with contextlib.suppress(MemoryError):
                self._room.take(rows)
            self.data = self._room.array

    def trim(self) -> None:
        """Let go of the room that is not used."""
        self._room.shrink(max(1, self._index.used))
        self.data = self._room.array

    def _grow(self) -> None:
        """Grow ``data`` to hold all row numbers in use, and some more."""
        self._room.grow(self._index.used)
        self.data = self._room.array


def _u64(keys: U64 | Sequence[int]) -> U64:
    return np.ascontiguousarray(keys, np.uint64)
