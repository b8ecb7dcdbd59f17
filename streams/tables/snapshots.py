"""Snapshots: the rows of a partition in a file, so that a start reads only the rest of the changelog.

A file is ``header (1 KiB) | rows | evicted rows | meta records``. Rows in memory are copied as they are,
evicted rows are packed, in pieces (``_piece``). The header has the size of each part and the changelog offset
that the file reflects. A file that does not fit in every respect is refused: reading the changelog from its
beginning is always right, only slower.

Rows are copied in pieces while agents change them. So a row in the file is as of the file's offset *or
newer*. Therefore the file gets its final name only when the changelog has everything that the file may hold.
Reading the changelog from the offset then gives the right rows: a row never becomes older, and every newer
state of a row is in the changelog.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from headrace.streams import unfinished
from headrace.streams.clock import now_ms
from headrace.streams.tables.changes import U64
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import PackedRows

log = logging.getLogger(__name__)

VERSION = 2
HEADER_BYTES = 1024
#: Bytes of rows copied at once. This blocks the event loop for 1-2 ms.
CHUNK_BYTES = 4 * 1024 * 1024
#: Evicted rows read from the disk at once.
CHUNK_ROWS = 1000
#: An older file is not used: compaction keeps a tombstone for a day (delete.retention.ms). When the tombstone
#: is gone, a row deleted after the snapshot would come back.
MAX_AGE_S = 12 * 3600


class _MisfitError(Exception):
    """A snapshot does not fit; the message says why."""


def snapshot_path(folder: Path, topic: str, partition: int) -> Path:
    """Return the path of the snapshot of a changelog partition."""
    return folder / f"{topic}-{partition}.snapshot"


class _File:
    """A snapshot file while it is written, under a temporary name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._crc = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = unfinished.create(path)
        self._temporary = Path(self._file.name)
        self._file.write(bytes(HEADER_BYTES))

    def append(self, data: Any) -> None:
        """Write bytes or an array."""
        view = memoryview(data).cast("B")
        self._crc = zlib.crc32(view, self._crc)
        self._file.write(view)

    def finish(self, header: dict[str, Any]) -> None:
        """Write the header and flush the file to the disk."""
        packed = json.dumps({**header, "crc": _header_crc(header, self._crc)}).encode()
        if len(packed) > HEADER_BYTES:
            raise ValueError(f"the header has {len(packed)} bytes, at most {HEADER_BYTES} fit")
        self._file.seek(0)
        self._file.write(packed.ljust(HEADER_BYTES))
        self._file.flush()
        os.fsync(self._file.fileno())

    def publish(self) -> None:
        """Rename the file to its final name."""
        self._temporary.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Close the file; remove it when it was not published."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def _header_crc(header: dict[str, Any], body_crc: int) -> int:
    fields = sorted((name, value) for name, value in header.items() if name != "crc")
    return zlib.crc32(json.dumps(fields).encode(), body_crc)


async def write_snapshot(
    part: StatePartition,
    folder: Path,
    topic: str,
    durable: Callable[[tuple[int, int]], Awaitable[bool]],
    partitions: int = 0,
) -> bool:
    """Write a snapshot; return whether it was published.

    Parameters
    ----------
    part
        A partition that this worker owns.
    folder, topic
        Folder of the snapshots, and full name of the changelog topic.
    durable
        Called with ``part.promise()``. Waits until the changelog has that state and returns True, or returns
        False when that will not happen.
    partitions
        Number of partitions of the topic: when it is another one, the file is of other rows.

    Raises
    ------
    LostRowsError
        When an evicted row cannot be read from the disk.
    OSError
        When the file cannot be written.
    """
    header: dict[str, Any] = {
        "version": VERSION,
        "topic": topic,
        "partition": part.number,
        "partitions": partitions,
        "layout": part.rows.layout,
        "row_bytes": part.rows.row_bytes,
        "position": part.position,
        "last_crc": part.last_crc,
        "written_s": now_ms() // 1000,
    }
    file = await asyncio.to_thread(_File, snapshot_path(folder, topic, part.number))
    try:
        # A row that is evicted while rows are copied is among the evicted ones afterwards. Only a row that is
        # brought back, to a place that was copied before, is nowhere: so these are noted.
        with part.away.noting() as back:
            header["rows"] = await _append_rows(part, file)
            keys = [part.evicted(), *back]
        header["spilled_bytes"] = await _append_spilled(part, file, np.concatenate(keys))
        meta = json.dumps({key.hex(): value.hex() for key, value in part.meta.items()}).encode()
        promise = part.promise()
        header["meta_bytes"] = len(meta)
        await asyncio.to_thread(file.append, meta)
        await asyncio.to_thread(file.finish, header)
        if not await durable(promise):
            return False
        await asyncio.to_thread(file.publish)
        return True
    finally:
        await asyncio.shield(asyncio.to_thread(file.close))


async def _append_rows(part: StatePartition, file: _File) -> int:
    """Copy the rows into the file, chunk by chunk while they change; return how many."""
    count, start, step = 0, 0, max(1, CHUNK_BYTES // part.rows.row_bytes)
    while start < len(part.rows.view()):  # the length is read each time: rows are added meanwhile
        chunk = part.rows.view()[start : start + step]
        chunk = chunk[chunk["key"] != 0]  # a copy
        count += len(chunk)
        start += step
        await asyncio.to_thread(file.append, chunk.view(np.uint8))
    return count


async def _append_spilled(part: StatePartition, file: _File, keys: U64) -> int:
    """Copy the rows of ``keys`` that still have one into the file; return how many bytes that are."""
    size = 0
    for start in range(0, len(keys), CHUNK_ROWS):
        piece = _piece(part.packed(keys[start : start + CHUNK_ROWS]))
        size += len(piece)
        await asyncio.to_thread(file.append, piece)
    return size


def _piece(packed: PackedRows) -> bytes:
    """Return packed rows as bytes: how many, their keys, where each ends (8 bytes each), the rows."""
    start, end = packed.bounds[0], packed.bounds[-1]
    ends = packed.bounds[1:] - start
    return b"".join(
        [len(packed).to_bytes(8, "little"), packed.keys.tobytes(), ends.tobytes(), packed.blob[start:end]]
    )


def read_snapshot(
    part: StatePartition,
    folder: Path,
    topic: str,
    begin: int,
    end: int,
    max_rows: int | None = None,
    partitions: int = 0,
) -> bool:
    """Fill an empty partition from its snapshot.

    Parameters
    ----------
    begin, end
        First offset and end offset of the changelog partition now.
    max_rows
        Most rows in memory; the others are evicted. None: all are in memory.
    partitions
        Number of partitions of the topic.

    Returns
    -------
    False when there is no snapshot that fits; the partition is empty then.
    """
    path = snapshot_path(folder, topic, part.number)
    try:
        with path.open("rb") as file:
            header = _read_header(file, part, topic, begin, end, path.stat().st_size, partitions)
            _read_body(_Body(file), part, header, max_rows)
    except FileNotFoundError:
        return False
    except (_MisfitError, OSError) as exc:
        log.warning(
            "snapshot %s is not used: %s", path, exc, extra={"action": "snapshot_refused", "path": str(path)}
        )
        part.reset()
        return False
    part.position, part.last_crc = header["position"], header["last_crc"]
    part.from_file = part.last_crc >= 0 and part.position > begin
    return True


#: Fields of the header that are whole numbers.
_NUMBERS = ("rows", "row_bytes", "spilled_bytes", "meta_bytes", "position", "last_crc", "crc")


def _read_header(
    file: BinaryIO, part: StatePartition, topic: str, begin: int, end: int, size: int, partitions: int
) -> dict[str, Any]:
    try:
        header = json.loads(file.read(HEADER_BYTES))
        odd = [name for name in _NUMBERS if type(header[name]) is not int]
        position, version = header["position"], header["version"]
        age = now_ms() / 1000 - int(header["written_s"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as exc:
        raise _MisfitError(f"its header cannot be read ({exc!r})") from exc
    if odd:
        raise _MisfitError(f"its header cannot be read ({odd[0]} is no whole number)")
    whole = (
        HEADER_BYTES + header["rows"] * header["row_bytes"] + header["spilled_bytes"] + header["meta_bytes"]
    )
    wanted = {
        "version": VERSION,
        "topic": topic,
        "partition": part.number,
        "partitions": partitions,
        "layout": part.rows.layout,
        "row_bytes": part.rows.row_bytes,
    }
    if "partitions" not in header:  # an older version wrote the file
        del wanted["partitions"]
    for name, value in wanted.items():
        if header.get(name) != value:
            raise _MisfitError(f"its {name} is {header.get(name)!r}, not {value!r}")
    if size != whole or min(header["rows"], header["spilled_bytes"], header["meta_bytes"]) < 0:
        raise _MisfitError(f"version {version} of it has {size} bytes, not {whole}")
    if not -60 <= age <= MAX_AGE_S:
        raise _MisfitError(f"it is {age / 3600:.1f} hours old, at most {MAX_AGE_S // 3600} are allowed")
    if not begin <= position <= end:
        raise _MisfitError(f"it reflects offset {position}, the changelog goes from {begin} to {end}")
    return dict(header)


class _Body:
    """The part of a file after its header, while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.crc = 0

    def into(self, content: memoryview) -> None:
        """Fill ``content``."""
        if self._file.readinto(content) != len(content):  # type: ignore[attr-defined]
            raise _MisfitError("it ends early")
        self.crc = zlib.crc32(content, self.crc)

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        content = self._file.read(size)
        if len(content) != size:
            raise _MisfitError("it ends early")
        self.crc = zlib.crc32(content, self.crc)
        return content


def _read_body(body: _Body, part: StatePartition, header: dict[str, Any], max_rows: int | None) -> None:
    step, left = max(1, CHUNK_BYTES // part.rows.row_bytes), header["rows"]
    part.rows.reserve(left if max_rows is None else min(left, max_rows + step))
    chunk = np.empty(min(step, left), part.rows.dtype)
    while left:
        rows = chunk[: min(step, left)]
        body.into(rows.view(np.uint8).data)
        part.rows.load(rows)
        part.evict(max_rows=max_rows)
        left -= len(rows)
    left = header["spilled_bytes"]
    while left:
        packed = _read_piece(body, left)
        part.add(packed, max_rows)
        left -= 8 + 16 * len(packed) + len(packed.blob)
    meta = body.read(header["meta_bytes"])
    if _header_crc(header, body.crc) != header["crc"]:
        raise _MisfitError("its checksum is wrong")
    part.meta.update({bytes.fromhex(key): bytes.fromhex(value) for key, value in json.loads(meta).items()})


def _read_piece(body: _Body, left: int) -> PackedRows:
    """Read a piece of at most ``left`` bytes."""
    count = int.from_bytes(body.read(8), "little")
    if 8 + 16 * count > left:
        raise _MisfitError("its evicted rows cannot be read")
    keys, ends = np.frombuffer(body.read(8 * count), "<u8"), np.frombuffer(body.read(8 * count), "<i8")
    bounds = np.concatenate([np.zeros(1, np.int64), ends])
    if (np.diff(bounds) < 0).any() or 8 + 16 * count + bounds[-1] > left:
        raise _MisfitError("its evicted rows cannot be read")
    return PackedRows(keys, body.read(int(bounds[-1])), bounds)
