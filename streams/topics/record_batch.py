"""Kafka's record batch (message format v2) around records framed in bulk.

https://kafka.apache.org/documentation/#recordbatch

aiokafka's own builder takes records one by one, each as objects; here they are framed by a compiled loop
(``headrace.streams.topics.framing.frame_records``) and only the header is written in Python.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from aiokafka import codec
from aiokafka.record.util import calc_crc32c

#: Base offset, length, leader epoch (-1: the broker's), magic, CRC.
_BEFORE = struct.Struct(">qiibI")
#: Attributes, last offset delta, first and largest timestamp, producer id and epoch, base sequence, count.
_AFTER = struct.Struct(">hiqqqhii")
_LENGTH_FROM = 12  # the length is of what comes after it
_MAGIC = 2

#: Levels for packed rows and columns of numbers. zstd's default, 3, takes nearly twice as long for a quarter
#: less; aiokafka's of lz4, 9, several times as long.
ZSTD_LEVEL, LZ4_LEVEL = -5, 1
#: Compression -> its number in the attributes, and how it is done.
_CODECS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "none": (0, bytes),
    "gzip": (1, codec.gzip_encode),
    "snappy": (2, codec.snappy_encode),
    "lz4": (3, lambda payload: codec.lz4_encode(payload, level=LZ4_LEVEL)),
    "zstd": (4, lambda payload: codec.zstd_encode(payload, level=ZSTD_LEVEL)),
}


def record_batch(
    payload: bytes,
    count: int,
    timestamp_ms: int,
    compression: str = "none",
    producer: tuple[int, int, int] = (-1, -1, -1),
) -> bytes:
    """Return a record batch.

    Parameters
    ----------
    payload, count
        The records, as ``frame_records`` gives them, and their number.
    timestamp_ms
        Of all of them.
    compression
        none, gzip, snappy, lz4 or zstd.
    producer
        Id, epoch and base sequence of an idempotent producer.
    """
    number, compress = _CODECS[compression]
    packed = compress(payload)
    if len(packed) >= len(payload):
        number, packed = 0, payload
    after = _AFTER.pack(number, count - 1, timestamp_ms, timestamp_ms, *producer, count)
    size = _BEFORE.size + len(after) + len(packed)
    crc = calc_crc32c(after + packed)
    return _BEFORE.pack(0, size - _LENGTH_FROM, -1, _MAGIC, crc) + after + packed


class FramedBatch:
    """A batch of framed records, to be given to aiokafka's ``send_batch`` instead of its builder."""

    def __init__(self, payload: bytes, count: int, timestamp_ms: int, compression: str) -> None:
        self._payload, self._count = payload, count
        self._timestamp_ms, self._compression = timestamp_ms, compression
        self._producer = (-1, -1, -1)
        self._buffer: bytes | None = None

    def append(self, **_: object) -> None:
        """Take no more records, as a builder does that is full."""

    def close(self) -> None:
        """Nothing to close."""

    def closed(self) -> bool:
        """Return True: nothing can be added."""
        return True

    def record_count(self) -> int:
        """Return the number of records."""
        return self._count

    def size(self) -> int:
        """Return the size in bytes, before compression until it is built."""
        return len(self._payload) + _BEFORE.size + _AFTER.size if self._buffer is None else len(self._buffer)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._buffer is None:  # kept for when it has to be sent again
            self._buffer = record_batch(
                self._payload, self._count, self._timestamp_ms, self._compression, self._producer
            )
            self._payload = b""
        return self._buffer
