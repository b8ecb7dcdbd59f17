"""Snapshots: the rows of a partition in a file, so that a start reads only the rest of the changelog.

A file is ``header (1 KiB) | rows | evicted rows | meta records``. The header has the size of each part and
the changelog offset that the file reflects. A file that does not fit in every respect is refused: reading the
changelog from its beginning is always right, only slower.

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

from headrace.streams.clock import now_ms
from headrace.streams.tables.partition import EVICTED, StatePartition

log = logging.getLogger(__name__)

VERSION = 1
HEADER_BYTES = 1024
#: Bytes of rows copied at once. This blocks the event loop for 1-2 ms.
CHUNK_BYTES = 4 * 1024 * 1024
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
        self._temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        self._crc = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = self._temporary.open("wb")
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
    """
    header: dict[str, Any] = {
        "version": VERSION,
        "topic": topic,
        "partition": part.number,
        "layout": part.rows.layout,
        "row_bytes": part.rows.row_bytes,
        "position": part.position,
        "last_crc": part.last_crc,
        "written_s": now_ms() // 1000,
    }
    file = await asyncio.to_thread(_File, snapshot_path(folder, topic, part.number))
    try:
        # A row that is evicted or restored meanwhile may be missing among the rows. So the file has all that
        # was evicted before, meanwhile, and afterwards: a restored row may lie in a place that was copied
        # before.
        with part.noting_evictions() as meanwhile:
            before = part.evicted_rows()
            header["rows"] = await _append_rows(part, file)
            evicted = np.concatenate([before, *meanwhile, part.evicted_rows()])
        evicted = evicted[np.unique(evicted["key"], return_index=True)[1]]
        meta = json.dumps({key.hex(): value.hex() for key, value in part.meta.items()}).encode()
        promise = part.promise()
        header["cold"], header["meta_bytes"] = len(evicted), len(meta)
        await asyncio.to_thread(file.append, evicted.view(np.uint8))
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


def read_snapshot(part: StatePartition, folder: Path, topic: str, begin: int, end: int) -> bool:
    """Fill an empty partition from its snapshot.

    Parameters
    ----------
    begin, end
        First offset and end offset of the changelog partition now.

    Returns
    -------
    False when there is no snapshot that fits; the partition is empty then.
    """
    path = snapshot_path(folder, topic, part.number)
    try:
        with path.open("rb") as file:
            header = _read_header(file, part, topic, begin, end, path.stat().st_size)
            _read_body(file, part, header)
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


def _read_header(
    file: BinaryIO, part: StatePartition, topic: str, begin: int, end: int, size: int
) -> dict[str, Any]:
    try:
        header = json.loads(file.read(HEADER_BYTES))
        whole = HEADER_BYTES + header["rows"] * header["row_bytes"] + header["cold"] * EVICTED.itemsize
        whole += header["meta_bytes"]
        position, version = int(header["position"]), header["version"]
        age = now_ms() / 1000 - int(header["written_s"])
    except (ValueError, TypeError, KeyError) as exc:
        raise _MisfitError(f"its header cannot be read ({exc!r})") from exc
    wanted = {
        "version": VERSION,
        "topic": topic,
        "partition": part.number,
        "layout": part.rows.layout,
        "row_bytes": part.rows.row_bytes,
    }
    for name, value in wanted.items():
        if header.get(name) != value:
            raise _MisfitError(f"its {name} is {header.get(name)!r}, not {value!r}")
    if size != whole or min(header["rows"], header["cold"], header["meta_bytes"]) < 0:
        raise _MisfitError(f"version {version} of it has {size} bytes, not {whole}")
    if not -60 <= age <= MAX_AGE_S:
        raise _MisfitError(f"it is {age / 3600:.1f} hours old, at most {MAX_AGE_S // 3600} are allowed")
    if not begin <= position <= end:
        raise _MisfitError(f"it reflects offset {position}, the changelog goes from {begin} to {end}")
    return dict(header)


def _read_body(file: BinaryIO, part: StatePartition, header: dict[str, Any]) -> None:
    step, left, crc = max(1, CHUNK_BYTES // part.rows.row_bytes), header["rows"], 0
    part.reserve(left)
    chunk = np.empty(min(step, left), part.rows.dtype)
    while left:
        rows = chunk[: min(step, left)]
        content = rows.view(np.uint8).data
        if file.readinto(content) != len(content):  # type: ignore[attr-defined]
            raise _MisfitError("it ends early")
        crc = zlib.crc32(content, crc)
        part.rows.load(rows)
        left -= len(rows)
    evicted = file.read(header["cold"] * EVICTED.itemsize)
    meta = file.read()
    if _header_crc(header, zlib.crc32(meta, zlib.crc32(evicted, crc))) != header["crc"]:
        raise _MisfitError("its checksum is wrong")
    part.set_evicted_rows(np.frombuffer(evicted, EVICTED))
    part.meta.update({bytes.fromhex(key): bytes.fromhex(value) for key, value in json.loads(meta).items()})
