"""Columns of events -> record batches of `events`, by partition, without a Python object of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from headrace.console.imported.arriving import HEADER, mark
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings
from headrace.streams.topics.column_records import CLOSE, OPEN, PLAIN, TEXT, json_rows, keyed_frame
from headrace.streams.topics.murmur2 import partitions_of_parts
from headrace.streams.topics.record_batch import HEADER_BYTES, FramedBatch
from headrace.streams.topics.sender import BATCH_BYTES

I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

#: Fields in the order in which they are written; those of ``context`` come last.
_FIELDS = (
    "event_id", "type", "user_id", "item_id", "ts", "dwell_ms", "request_id", "position", "surface", "scope",
)  # fmt: skip
_CONTEXT = ("country", "device", "age")
#: More than a record has besides key and value; and more than the header of the first one has.
_RECORD_ROOM, _MARK_ROOM = 40, 128


class Made(NamedTuple):
    """Batches for one partition, and the number after their last event."""

    batches: list[FramedBatch]
    until: int


def _text(array: pa.Array) -> tuple[Any, I32, Any]:
    """Return the bytes of texts, their bounds, and which are there (None: all)."""
    _, bounds, data = array.buffers()
    at = np.frombuffer(bounds, np.int32)[array.offset : array.offset + len(array) + 1]
    there = None
    if array.null_count:
        there = np.ascontiguousarray(array.is_valid().to_numpy(zero_copy_only=False)).view(np.uint8)
    return (b"" if data is None else np.frombuffer(data, np.uint8)), at, there


def _piece(table: pa.Table, name: str) -> tuple[int, bytes, Any, Any, Any] | None:
    """Return a column for ``json_rows``, None when it says nothing."""
    array = table.column(name).combine_chunks()
    if array.null_count == len(array):
        return None
    plain = not pa.types.is_string(array.type)
    return (
        PLAIN if plain else TEXT,
        f'"{name}":'.encode(),
        *_text(array.cast(pa.string()) if plain else array),
    )


def bodies(table: pa.Table) -> tuple[bytes, I64]:
    """Return the events as JSON, one after the other, and their bounds, int64 ``(n + 1,)``."""
    pieces = [piece for name in _FIELDS if (piece := _piece(table, name)) is not None]
    context = [piece for name in _CONTEXT if (piece := _piece(table, name)) is not None]
    if context:
        pieces += [(OPEN, b'"context":', None, None, None), *context, (CLOSE, b"", None, None, None)]
    return json_rows(pieces, len(table))


def batches_of(
    settings: Settings, job: str, table: pa.Table, first: int, partitions: int, sent: Mapping[int, int]
) -> dict[int, Made]:
    """Return the record batches of some events, by partition.

    Parameters
    ----------
    job
        Name of the import.
    table
        Events of ``event_columns.SCHEMA`` in the order of their time, at least one.
    first
        Number of the first of them.
    sent
        By partition: events with smaller numbers are in the topic.

    Raises
    ------
    ConfigError
        An event is larger than the workers take.
    """
    blob, bounds = bodies(table)
    sizes = np.diff(bounds)
    if int(sizes.max()) > settings.max_event_bytes:
        event = table.column("event_id")[int(sizes.argmax())].as_py()
        raise ConfigError(
            f"event {event} has {int(sizes.max())} bytes, at most {settings.max_event_bytes} "
            "(HEADRACE_MAX_EVENT_BYTES)"
        )
    keys, key_bounds, _ = _text(table.column("user_id").combine_chunks())
    key_sizes = np.diff(key_bounds).astype(np.int64)
    parts = np.stack([key_bounds[:-1].astype(np.int64), key_sizes])
    of = partitions_of_parts(keys, parts, partitions)
    ts = np.ascontiguousarray(table.column("ts").combine_chunks().to_numpy())
    room = _RECORD_ROOM + sizes + key_sizes
    most = min(BATCH_BYTES, settings.max_message_bytes) - HEADER_BYTES - _MARK_ROOM
    out = dict[int, Made]()
    for partition in range(partitions):
        rows = np.flatnonzero(of == partition)
        rows = rows[rows + first >= sent.get(partition, 0)]
        if not len(rows):
            continue
        made = []
        for some in _cut(rows, room[rows], most):
            told = mark(job, first + int(some[0]), first + int(some[-1]))
            frame = keyed_frame(keys, key_bounds, blob, bounds, ts, some, HEADER.encode(), told)
            payload, count, oldest, newest = frame
            made.append(FramedBatch(payload, count, oldest, settings.bulk_compression, newest))
        out[partition] = Made(made, first + int(rows[-1]) + 1)
    return out


def _cut(rows: I64, room: I64, most: int) -> list[I64]:
    """Cut rows into pieces that take at most ``most`` bytes, or have one row."""
    ends = np.cumsum(room)
    out, at = list[I64](), 0
    while at < len(rows):
        before = int(ends[at - 1]) if at else 0
        end = max(at + 1, int(np.searchsorted(ends, before + most, "right")))
        out.append(rows[at:end])
        at = end
    return out
