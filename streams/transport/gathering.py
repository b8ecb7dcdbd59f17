"""Puts the records of consecutive record batches into one ``RecordList``.

aiokafka's parser makes a Python object of every record, and keeps the bytes of an answer to itself. So every
answer is remembered (``RawRecords``), and a compiled loop finds the records in it. Whatever that loop is not
certain of is read by aiokafka: old message formats, unknown codecs, damaged records.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from aiokafka import codec
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords

from .record_fields import OFFSET, find_records
from .record_list import RecordList

#: Bytes of the header of a record batch; where its size, its format and its number of records are.
HEADER, _SIZE, _MAGIC, _COUNT = 61, 8, 16, 57
#: Bytes before those that the size of a batch counts.
_OVERHEAD = 12

_NONE = 0
_DECODERS: dict[int, Callable[[bytes], Any]] = {
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}


class RawRecords(MemoryRecords):  # type: ignore[misc]
    """aiokafka's reader of the record batches of an answer; it knows where in the answer the batch is."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._raw = raw
        self._start = self._end = 0

    def next_batch(self) -> Any:
        """Return the next batch, None after the last one; raise as aiokafka's."""
        batch = super().next_batch()
        if batch is not None:
            self._start = self._end
            (size,) = struct.unpack_from(">i", self._raw, self._start + _SIZE)
            self._end = self._start + _OVERHEAD + size
        return batch

    def body(self, batch: Any) -> tuple[Any, int] | None:
        """Return the decompressed records of the batch just returned, and how many there should be.

        None: aiokafka must read it.
        """
        if self._end - self._start <= HEADER or self._raw[self._start + _MAGIC] != 2:
            return None
        (count,) = struct.unpack_from(">i", self._raw, self._start + _COUNT)
        body = memoryview(self._raw)[self._start + HEADER : self._end]
        if batch.compression_type == _NONE:
            return body, count
        decode = _DECODERS.get(batch.compression_type)
        return None if decode is None else (decode(body.tobytes()), count)


# All fetchers of the process read answers with it: aiokafka has no other place to put it.
fetcher.MemoryRecords = RawRecords


class Gathering:
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
        Bytes of the batches added, decompressed; of those that aiokafka read, an estimate.
    """

    def __init__(self, before: Sequence[Any] = ()) -> None:
        self.count, self.bytes = 0, 0
        self._lists: list[Sequence[Any]] = []
        self._payload = bytearray()
        self._fields: list[Any] = []
        self._put(before)

    def _put(self, records: Sequence[Any]) -> None:
        if len(records):
            self._lists.append(records)
            self.count += len(records)

    def add(self, source: Any, batch: Any, position: int) -> int:
        """Add the records of a batch whose offsets are not before ``position``; return how many it has.

        Raises
        ------
        CorruptRecordException
            When aiokafka cannot read the batch.
        """
        found = source.body(batch) if isinstance(source, RawRecords) else None
        fields = None if found is None else self._find(batch, *found)
        if found is None or fields is None:
            return self._add_plain(list(batch), position)
        count: int = fields.shape[1]
        if batch.base_offset < position:  # the broker sends whole batches
            fields = fields[:, fields[OFFSET] >= position]
        self._payload += found[0]
        self._fields.append(fields)
        self.bytes += len(found[0])
        self.count += fields.shape[1]
        return count

    def _find(self, batch: Any, body: Any, count: int) -> Any:
        appended_at = batch.max_timestamp if batch.timestamp_type else None
        shift = len(self._payload)
        return find_records(body, count, batch.base_offset, batch.first_timestamp, appended_at, shift)

    def _add_plain(self, records: list[Any], position: int) -> int:
        self._join()
        self._put([record for record in records if record.offset >= position])
        self.bytes += sum(len(record.key or b"") + len(record.value or b"") for record in records)
        return len(records)

    def _join(self) -> None:
        """Make one list of the batches collected since the last one."""
        if self._fields:
            fields = np.concatenate(self._fields, axis=1) if len(self._fields) > 1 else self._fields[0]
            self._lists.append(RecordList(self._payload, fields))
            self._payload, self._fields = bytearray(), []

    def records(self) -> Sequence[Any]:
        """Return all of them: a ``RecordList``, or a list when aiokafka has read one of the batches."""
        self._join()
        lists = [records for records in self._lists if len(records)]
        if not lists:
            return []
        if len(lists) == 1:
            return lists[0]
        found = [records for records in lists if isinstance(records, RecordList)]
        if len(found) == len(lists):
            return RecordList.joined(found)
        return [record for records in lists for record in records]
