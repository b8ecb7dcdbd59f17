"""Records without a Python object each: the bytes of several record batches, and where the records are.

    payload   key value | key value | ...      bytes of all batches, decompressed
    fields    offset, timestamp, where key, value and headers are: int64, one column for each record

A Python object is made only for a record that somebody looks at. Whoever reads whole columns makes none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .record_fields import (
    HEADERS,
    KEY,
    N_HEADERS,
    OFFSET,
    TIMESTAMP,
    VALUE,
    VALUE_SIZE,
    Record,
    make_records,
    with_header,
)

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


#: Rows with places in the payload.
_PLACES = [KEY, VALUE, HEADERS]


class RecordList(Sequence[Record]):
    """Records of one partition, in offset order. It does not change.

    Parameters
    ----------
    payload
        Bytes that the records are in.
    fields
        As ``record_fields.find_records`` returns them, ``(FIELDS, n)``.
    """

    __slots__ = ("_made", "fields", "payload")

    def __init__(self, payload: bytes | bytearray, fields: I64) -> None:
        self.payload = payload
        self.fields = fields
        self._made: list[Record] | None = None  # after the first iteration: some readers go through it twice

    def __len__(self) -> int:
        return len(self.fields[OFFSET])

    def _all(self) -> list[Record]:
        if self._made is None:
            self._made = make_records(self.payload, self.fields)
        return self._made

    def __iter__(self) -> Iterator[Record]:
        return iter(self._all())

    def __reversed__(self) -> Iterator[Record]:
        return reversed(self._all())

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> RecordList: ...
    def __getitem__(self, at: int | slice) -> Record | RecordList:
        if isinstance(at, slice):
            return RecordList(self.payload, self.fields[:, at])
        if self._made is not None:
            return self._made[at]
        place = range(len(self))[at]
        return make_records(self.payload, self.fields[:, place : place + 1])[0]

    @classmethod
    def joined(cls, lists: Sequence[RecordList]) -> RecordList:
        """Return the records of all lists, in their order, without the bytes before the first key of each."""
        payloads, fields, size = [], [], 0
        for records in lists:
            start = int(records.fields[KEY].min(initial=len(records.payload)))
            moved = records.fields.copy()
            moved[_PLACES] += size - start
            payloads.append(memoryview(records.payload)[start:])
            fields.append(moved)
            size += len(payloads[-1])
        return cls(b"".join(payloads), np.concatenate(fields, axis=1))

    def where(self, chosen: Bool | I64) -> RecordList:
        """Return the records chosen by a bool mask ``(n,)`` or by positions ``(m,)``."""
        return RecordList(self.payload, self.fields[:, chosen])

    @property
    def offsets(self) -> I64:
        """Offsets, int64 ``(n,)``."""
        return self._row(OFFSET)

    @property
    def timestamps(self) -> I64:
        """Timestamps, int64 ``(n,)``, ms."""
        return self._row(TIMESTAMP)

    @property
    def parts(self) -> I64:
        """Where keys begin in ``payload``, their sizes, where values begin, their sizes, int64 ``(4, n)``.

        The size of null is -1.
        """
        rows: I64 = self.fields[KEY : VALUE_SIZE + 1]
        return rows

    def _row(self, number: int) -> I64:
        row: I64 = self.fields[number]
        return row

    def with_header(self, name: str) -> Bool:
        """Return which records have a header with this name (ASCII), bool ``(n,)``."""
        if not self.fields[N_HEADERS].any():
            return np.zeros(len(self), np.bool_)
        return with_header(self.payload, self.fields, name.encode("ascii"))


def offsets_of(records: Sequence[Any]) -> I64:
    """Return the offsets of records of any kind, int64 ``(n,)``."""
    if isinstance(records, RecordList):
        return records.offsets
    return np.array([r.offset for r in records], np.int64)


def timestamps_of(records: Sequence[Any]) -> I64:
    """Return the timestamps of records of any kind, int64 ``(n,)``, ms."""
    if isinstance(records, RecordList):
        return records.timestamps
    return np.array([r.timestamp for r in records], np.int64)


def chosen(records: Sequence[Any], places: Bool | I64) -> Sequence[Any]:
    """Return the records of any kind chosen by a bool mask ``(n,)`` or by positions ``(m,)``."""
    if isinstance(records, RecordList):
        return records.where(places)
    return [records[i] for i in (np.flatnonzero(places) if places.dtype == np.bool_ else places).tolist()]
