"""The decoders of files: snapshots of tables, and the manifest of a snapshot of the catalogue."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from headrace.serving.snapshot.files import (
    _TYPES,
    COLUMNS,
    FORMAT,
    MANIFEST,
    Manifest,
    SnapshotError,
    ids_version,
    places_of,
    read_manifest,
    size_of,
)
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import RowTable
from headrace.streams.tables.snapshots import read_snapshot, snapshot_path, write_snapshot
from headrace.streams.transport.places import Place

_FOLDER = tempfile.TemporaryDirectory(prefix="headrace-fuzz-")  # removed when the process ends
_TOPIC, _PLACE = "user-state", Path(_FOLDER.name)
_ROW = np.dtype([("key", "<u8"), ("offset", "<i8"), ("updated", "<i8"), ("layout", "<u4"), ("count", "<u4")])


def partition() -> StatePartition:
    """Return an empty partition."""
    return StatePartition(0, RowTable(_ROW))


def snapshot_of_table(data: bytes) -> None:
    """Read the snapshot of a partition: it fits, or it is not used and the partition is empty."""
    snapshot_path(_PLACE, _TOPIC, 0).write_bytes(data)
    part = partition()
    if not read_snapshot(part, _PLACE, _TOPIC, 0, 105, max_rows=8):
        assert not len(part.rows)
        assert not part.meta


def manifest(data: bytes) -> None:
    """Read the manifest of a catalogue whose files are all empty."""
    folder = _PLACE / "catalogue"
    folder.mkdir(exist_ok=True)
    for name in _TYPES:
        (folder / name).write_bytes(bytes(size_of(name, _LENGTHS[name])))
    (folder / MANIFEST).write_bytes(data)
    places_of(folder, read_manifest(folder))


def _table() -> bytes:
    part = partition()
    rows = part.rows.take(np.arange(1, 20, dtype=np.uint64))
    part.rows.data["offset"][rows] = np.arange(19)
    part.position, part.last_crc, part.meta = 24, 1234, {b"m:\x00": b"\xff" * 8}

    async def kept(_: tuple[int, int]) -> bool:
        return True

    assert asyncio.run(write_snapshot(part, _PLACE, _TOPIC, kept))
    return snapshot_path(_PLACE, _TOPIC, 0).read_bytes()


def _place() -> str:
    return Place(5).text()


_ONE_MORE = ("text_bounds", "list_starts", "name_bounds", "category_starts", "creator_starts")
_LENGTHS = dict.fromkeys(_TYPES, 0) | dict.fromkeys(_ONE_MORE, 1) | {"key_table": 2}
assert _LENGTHS.keys() >= COLUMNS.keys()
TABLE = _table()
MANIFEST_OF_NOTHING = json.dumps(
    msgspec.to_builtins(
        Manifest(FORMAT, ids_version(), "1", "", 0, 0, {0: _place()}, 1, _LENGTHS, dict.fromkeys(_TYPES, "")),
        str_keys=True,
    )
).encode()
MANIFEST_ERRORS = (SnapshotError,)
