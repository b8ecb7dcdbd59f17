"""Builds Kafka's record batch (message format v2) around records that were encoded in bulk.

https://kafka.apache.org/documentation/#recordbatch

aiokafka's builder encodes records one by one, from Python objects. Here a compiled loop encodes them
(``framing.frame_records``), and Python writes only the header of the batch.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import cramjam
import xxhash
from aiokafka import codec

from headrace.streams.transport.crc32c import crc32c

#: Base offset, length, leader epoch (-1: the broker sets it), magic, CRC.
_BEFORE = struct.Struct(">qiibI")
#: Attributes, last offset delta, first and largest timestamp, producer id and epoch, base sequence, count.
_AFTER = struct.Struct(">hiqqqhii")
#: Bytes of a batch before its records: the broker's limit for a message is a limit for all of the batch.
HEADER_BYTES = _BEFORE.size + _AFTER.size
_LENGTH_FROM = 12  # bytes up to the length field, itself included: it counts the bytes after it
_MAGIC = 2

#: Compression level for packed rows and columns of numbers. zstd's default, 3, makes them a quarter smaller
#: and takes nearly twice as long.
ZSTD_LEVEL = -5
#: Largest block of an lz4 frame -> what its header says of the frame: version 1, independent blocks without
#: checksums of this size.
_LZ4_BLOCKS = {1 << 20: b"\x60\x60", 1 << 22: b"\x60\x70"}
_LZ4_MAGIC, _LZ4_END = b"\x04\x22\x4d\x18", bytes(4)
_LZ4_AS_IT_IS = 1 << 31  # in the size of a block that is not compressed


def lz4_frame(payload: bytes) -> bytes:
    """Return an lz4 frame with all bytes in one block.

    aiokafka makes blocks of 64 kB: they are a tenth larger, and take a third longer.
    """
    for most, described in _LZ4_BLOCKS.items():
        if len(payload) <= most:
            block, kind = memoryview(cramjam.lz4.compress_block(payload, store_size=False)), 0
            if len(block) >= len(payload):
                block, kind = memoryview(payload), _LZ4_AS_IT_IS
            check = bytes([xxhash.xxh32_intdigest(described) >> 8 & 0xFF])
            size = (len(block) | kind).to_bytes(4, "little")
            return b"".join((_LZ4_MAGIC, described, check, size, block, _LZ4_END))
    return bytes(codec.lz4_encode(payload, level=1))


#: Compression -> its number in the attributes, and the function that compresses.
_CODECS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "none": (0, bytes),
    "gzip": (1, codec.gzip_encode),
    "snappy": (2, codec.snappy_encode),
    "lz4": (3, lz4_frame),
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
    before = _BEFORE.pack(0, size - _LENGTH_FROM, -1, _MAGIC, crc32c(after, packed))
    return b"".join((before, after, packed))


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
