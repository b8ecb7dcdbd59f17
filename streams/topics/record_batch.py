"""Builds Kafka's record batch (message format v2) around records that were encoded in bulk.

https://kafka.apache.org/documentation/#recordbatch

aiokafka's builder encodes records one by one, from Python objects. Here a compiled loop encodes them
(``framing.frame_records``), and Python writes only the header of the batch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from aiokafka import codec
from aiokafka.record.util import calc_crc32c

#: Base offset, length, leader epoch (-1: the broker sets it), magic, CRC.
_BEFORE = struct.Struct(">qiibI")
#: Attributes, last offset delta, first and largest timestamp, producer id and epoch, base sequence, count.
_AFTER = struct.Struct(">hiqqqhii")
#: Bytes of a batch before its records: the broker's limit for a message is a limit for all of the batch.
HEADER_BYTES = _BEFORE.size + _AFTER.size
_LENGTH_FROM = 12  # bytes up to the length field, itself included: it counts the bytes after it
_MAGIC = 2

#: Compression levels for packed rows and columns of numbers. zstd's default, 3, makes them a quarter smaller
#: and takes nearly twice as long. aiokafka's default for lz4, 9, takes several times as long.
ZSTD_LEVEL, LZ4_LEVEL = -5, 1
#: Compression -> its number in the attributes, and the function that compresses.
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
    newest_ms: int | None = None,
) -> bytes:
    """Return the bytes of a record batch.

    Parameters
    ----------
    payload, count
        The encoded records, as ``frame_records`` returns them, and their number.
    timestamp_ms
        Timestamp of the first of them, ms since the epoch.
    compression
        none, gzip, snappy, lz4 or zstd. Not used when it does not make the payload smaller.
    producer
        Id, epoch and base sequence of an idempotent producer.
    newest_ms
        Largest timestamp of them; None: all have that of the first.
    """
    number, compress = _CODECS[compression]
    packed = compress(payload)
    if len(packed) >= len(payload):
        number, packed = 0, payload
    newest_ms = timestamp_ms if newest_ms is None else newest_ms
    after = _AFTER.pack(number, count - 1, timestamp_ms, newest_ms, *producer, count)
    size = HEADER_BYTES + len(packed)
    crc = calc_crc32c(after + packed)
    return _BEFORE.pack(0, size - _LENGTH_FROM, -1, _MAGIC, crc) + after + packed


class FramedBatch:
    """A batch of encoded records: goes to aiokafka's ``send_batch`` in place of its builder.

    Parameters as of ``record_batch``.
    """

    def __init__(
        self, payload: bytes, count: int, timestamp_ms: int, compression: str, newest_ms: int | None = None
    ) -> None:
        self._payload, self._count = payload, count
        self._timestamp_ms, self._newest_ms, self._compression = timestamp_ms, newest_ms, compression
        self._producer = (-1, -1, -1)
        self._buffer: bytes | None = None

    def append(self, **_: object) -> None:
        """Add no record and return None, as a full builder does."""

    def close(self) -> None:
        """Do nothing: the batch is always closed."""

    def closed(self) -> bool:
        """Return True: no record can be added."""
        return True

    def record_count(self) -> int:
        """Return the number of records."""
        return self._count

    def size(self) -> int:
        """Return the size in bytes: without compression until the batch is built, compressed afterwards."""
        return HEADER_BYTES + len(self._payload) if self._buffer is None else len(self._buffer)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytes:
        if self._buffer is None:  # the result is kept: aiokafka may send it again
            self._buffer = record_batch(
                self._payload,
                self._count,
                self._timestamp_ms,
                self._compression,
                self._producer,
                self._newest_ms,
            )
            self._payload = b""
        return self._buffer
