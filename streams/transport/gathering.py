"""Puts the records of consecutive record batches into one ``RecordList``.

aiokafka's parser makes a Python object of every record, and keeps the bytes of an answer to itself. So every
answer is remembered (``RawRecords``), and a compiled loop finds the records in it. Whatever that loop is not
certain of is read by aiokafka: old message formats, unknown codecs, damaged records. Processes that are not
workers read with ``plain_gathering``, which needs neither numpy nor a compiled loop.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import cramjam
import numpy as np
import zstandard
from aiokafka import codec
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords

from .crc32c import crc32c
from .plain_gathering import PlainGathering
from .record_fields import OFFSET, find_records
from .record_list import RecordList

#: Bytes of the header of a record batch; where its size, its format, its checksum (of all bytes after it) and
#: its number of records are.
HEADER, _SIZE, _MAGIC, _CRC, _COUNT = 61, 8, 16, 17, 57
#: Bytes before those that the size of a batch counts.
_OVERHEAD = 12
#: A body that says it is larger is decompressed step by step: its header may be wrong.
MOST_BYTES = 64 * 1024 * 1024


def _gunzip(body: memoryview) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    out = inflate.decompress(body)
    if not inflate.eof or inflate.unused_data:
        raise zlib.error("not one gzip member")
    return out


class _Zstd(threading.local):
    """A decompressor in each thread: to make one takes as long as 16 kB of records."""

    def __init__(self) -> None:
        self.decompress = zstandard.ZstdDecompressor().decompress


_zstd = _Zstd()


def _unzstd(body: memoryview) -> Any:
    """Return the records of a zstd body: one frame that says its size; else cramjam reads it."""
    try:
        if 0 < zstandard.frame_content_size(body) <= MOST_BYTES:
            return _zstd.decompress(body, allow_extra_data=False)
    except zstandard.ZstdError:
        pass
    return cramjam.zstd.decompress(body)


#: Codecs by their number; as aiokafka's, without copies before and after, and gzip in C.
_NONE = 0
_DECODERS: dict[int, Callable[[memoryview], Any]] = {
    1: _gunzip,
    2: lambda body: codec.snappy_decode(body.tobytes()),
    3: cramjam.lz4.decompress,
    4: _unzstd,
}


class RawRecords(MemoryRecords):  # type: ignore[misc]
    """aiokafka's reader of the record batches of an answer; it knows where in the answer the batch is."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self._raw = raw
        self._start = self._end = 0

    def gathering(self, before: Sequence[Any]) -> Gathering:
        """Return what collects the records of this answer, after those left over from before."""
        return Gathering(self, before)

    def next_batch(self) -> Any:
        """Return the next batch, None after the last one; raise as aiokafka's."""
        batch = super().next_batch()
        if batch is not None:
            self._start = self._end
            (size,) = struct.unpack_from(">i", self._raw, self._start + _SIZE)
            self._end = self._start + _OVERHEAD + size
        return batch

    def is_whole(self, batch: Any) -> bool:
        """Return whether the checksum of the batch just returned is right."""
        if self._end - self._start <= HEADER or self._raw[self._start + _MAGIC] != 2:
            return bool(batch.validate_crc())
        (crc,) = struct.unpack_from(">I", self._raw, self._start + _CRC)
        return int(crc) == crc32c(memoryview(self._raw)[self._start + _CRC + 4 : self._end])

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
        try:
            return None if decode is None else (decode(body), count)
        except (zlib.error, cramjam.DecompressionError):
            return None  # aiokafka says what is wrong


def gather_from_now_on() -> None:
    """Make all fetchers of this process remember the bytes of answers; aiokafka has no place for one."""
    fetcher.MemoryRecords = RawRecords


class Gathering(PlainGathering):
    """Collects records of an answer in one ``RecordList``; parameters and attributes as of its base.

    Parameters
    ----------
    source
        The answer.
    """

    def __init__(self, source: RawRecords, before: Sequence[Any] = ()) -> None:
        super().__init__(before)
        self._source = source
        self._payload = bytearray()
        self._fields: list[Any] = []

    def add(self, batch: Any, position: int) -> int:
        """Add the records of the batch that the answer has just returned; otherwise as the base."""
        found = self._source.body(batch)
        fields = None if found is None else self._find(batch, *found)
        if found is None or fields is None:
            self._join()
            return super().add(batch, position)
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

    def _join(self) -> None:
        """Make one list of the batches collected since the last one."""
        if self._fields:
            fields = np.concatenate(self._fields, axis=1) if len(self._fields) > 1 else self._fields[0]
            self.lists.append(RecordList(self._payload, fields))
            self._payload, self._fields = bytearray(), []

    def records(self) -> Sequence[Any]:
        """Return all of them: a ``RecordList``, or a list when aiokafka has read one of the batches."""
        self._join()
        self.lists = [records for records in self.lists if len(records)]
        found = [records for records in self.lists if isinstance(records, RecordList)]
        if len(found) > 1 and len(found) == len(self.lists):
            return RecordList.joined(found)
        return super().records()
