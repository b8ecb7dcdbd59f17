"""The changes of a partition of a state store, and their changelog records."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.streams.tables.rows import PackedRows

if TYPE_CHECKING:
    from headrace.streams.tables.partition import StatePartition

U64: TypeAlias = npt.NDArray[np.uint64]
Rows: TypeAlias = npt.NDArray[np.int64]
Bool: TypeAlias = npt.NDArray[np.bool_]
#: Called with a meta key, the known value and the value just read; returns the one to keep.
MergeMeta: TypeAlias = Callable[[bytes, bytes, bytes], bytes]

KEY_BYTES = 8


class ChangelogRecord(Protocol):
    """A changelog record, as aiokafka's C parser makes it."""

    offset: int
    key: bytes | None
    value: bytes | None


def larger_mark(key: bytes, known: bytes, new: bytes) -> bytes:
    """Return the larger of two high-water marks: their first 8 bytes, little-endian, signed.

    When the values differ in length or are shorter, return ``new``.
    """
    if len(known) == len(new) >= 8:
        return max(new, known, key=lambda v: int.from_bytes(v[:8], "little", signed=True))
    return new


@dataclass(slots=True)
class Changes:
    """The changes that one ``StatePartition.take`` returned.

    In the changelog rows come first, then tombstones, then meta records: a high-water mark must not be there
    before the rows that it covers. Before the rows come tombstones of keys that were deleted and made again:
    else the deleted row could look newer than the new one.

    Attributes
    ----------
    partition
        The partition that was changed.
    number
        Counts the takes of the partition, from 1.
    rows
        Changed rows, packed.
    deleted
        Deleted keys, uint64 ``(m,)``.
    meta
        Changed meta records by key.
    reborn
        Keys of ``rows`` that were deleted before, uint64 ``(k,)``.
    """

    partition: StatePartition
    number: int
    rows: PackedRows
    deleted: U64
    meta: dict[bytes, bytes]
    reborn: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))

    def __len__(self) -> int:
        return len(self.reborn) + len(self.rows) + len(self.deleted) + len(self.meta)

    def first(self) -> list[tuple[bytes, bytes | None, None, tuple[()]]]:
        """Return the changelog records before the rows: tombstones of keys made again."""
        return [(key, None, None, ()) for key in key_bytes(self.reborn)]

    def rest(self) -> list[tuple[bytes, bytes | None, None, tuple[()]]]:
        """Return the changelog records that follow the rows: tombstones, then meta records."""
        return [
            *((key, None, None, ()) for key in key_bytes(self.deleted)),
            *((key, value, None, ()) for key, value in self.meta.items()),
        ]

    def records(self) -> list[tuple[bytes, bytes | None, None, tuple[()]]]:
        """Return all changelog records, in the order of writing."""
        rows = zip(key_bytes(self.rows.keys), self.rows, strict=True)
        return [*self.first(), *((key, row, None, ()) for key, row in rows), *self.rest()]

    def last(self) -> tuple[bytes, bytes | None]:
        """Return key and value of the last changelog record."""
        if self.meta or len(self.deleted):
            key, value, *_ = self.rest()[-1]
            return key, value
        return key_bytes(self.rows.keys[-1:])[0], self.rows[-1]


def key_bytes(keys: U64) -> list[bytes]:
    """Return the record keys of row keys: 8 bytes each, little-endian."""
    blob = np.ascontiguousarray(keys, "<u8").tobytes()
    return [blob[i : i + KEY_BYTES] for i in range(0, len(blob), KEY_BYTES)]


class RowSet:
    """A set of row numbers, fast for adding many and for reading all."""

    def __init__(self) -> None:
        self._flags: Bool = np.zeros(0, bool)
        self._any = False

    def __bool__(self) -> bool:
        return self._any

    def add(self, rows: Rows, capacity: int) -> None:
        """Add rows; ``capacity`` is larger than every row number."""
        if not len(rows):
            return
        if capacity > len(self._flags):
            grown = np.zeros(capacity, bool)
            grown[: len(self._flags)] = self._flags
            self._flags = grown
        self._flags[rows] = True
        self._any = True

    def discard(self, rows: Rows) -> None:
        """Remove rows."""
        self._flags[rows[rows < len(self._flags)]] = False

    def has(self, rows: Rows) -> Bool:
        """Return which rows are in the set, bool ``(n,)``."""
        if not self._any:
            return np.zeros(len(rows), bool)
        inside = rows < len(self._flags)
        return inside & self._flags[np.where(inside, rows, 0)]

    def rows(self) -> Rows:
        """Return all rows, int64 ``(n,)``, ascending."""
        return np.flatnonzero(self._flags) if self._any else np.zeros(0, np.int64)

    def clear(self) -> None:
        """Remove all rows."""
        if self._any:
            self._flags[:] = False
            self._any = False


def rows_once(mentioned: Sequence[Rows], capacity: int) -> Rows:
    """Return every row mentioned, int64 ``(n,)``, ascending; ``capacity`` is larger than each of them."""
    if not mentioned:
        return np.zeros(0, np.int64)
    rows = np.concatenate(mentioned)
    if len(rows) < capacity // 16:
        return np.unique(rows)
    flags = np.zeros(capacity, bool)  # of many rows faster than sorting them
    flags[rows] = True
    return np.flatnonzero(flags)


def record_crc(key: bytes | None, value: bytes | None) -> int:
    """Return the crc32 of the key and the value of a changelog record."""
    return zlib.crc32(value or b"", zlib.crc32(key or b""))
