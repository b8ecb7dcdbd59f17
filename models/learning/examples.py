"""The Parquet log of labelled examples: schema, writing one file, reading them all.

    <data_dir>/examples/p<partition>-<first offset>-<last offset>.parquet

A file is written under another name, synced and renamed, so that a reader never sees half of one. A record
that is delivered twice gives two rows of the same (partition, offset); reading keeps one of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from headrace.models.features.spec import SPEC
from headrace.streams.messages.schemas import Example

log = logging.getLogger(__name__)

FOLDER = "examples"
_TEXT = ("request_id", "user_id", "item_id", "surface", "country", "device", "ranker", "spec")
_PLAIN = {
    "position": pa.int16(),
    "ts": pa.int64(),
    "propensity": pa.float64(),
    "explored": pa.bool_(),
    "score": pa.float64(),
    "clicked": pa.bool_(),
    "dwell_ms": pa.int32(),
    "liked": pa.bool_(),
    "hidden": pa.bool_(),
}
SCHEMA = pa.schema(
    [
        *(pa.field(n, pa.string()) for n in _TEXT),
        *(pa.field(n, t) for n, t in _PLAIN.items()),
        pa.field("features", pa.list_(pa.float32(), len(SPEC))),
        pa.field("log_partition", pa.int32()),
        pa.field("log_offset", pa.int64()),
    ],
    metadata={"features": ",".join(SPEC.names), "spec": SPEC.version},
)


def table_of(examples: Sequence[Example], partition: int, offsets: Sequence[int]) -> pa.Table:
    """Return the examples as a table of ``SCHEMA``."""
    columns = {name: [getattr(e, name) for e in examples] for name in (*_TEXT, *_PLAIN)}
    flat = np.frombuffer(b"".join(e.features for e in examples), "<f4")
    arrays: list[pa.Array] = [pa.array(columns[f.name], f.type) for f in list(SCHEMA)[: len(columns)]]
    arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), len(SPEC)))
    arrays.append(pa.array(np.full(len(examples), partition, np.int32)))
    arrays.append(pa.array(np.asarray(offsets, np.int64)))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def write(data_dir: Path, table: pa.Table, partition: int) -> Path:
    """Write one file durably and return its path."""
    folder = data_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    offsets = table.column("log_offset")
    first, last = offsets[0].as_py(), offsets[len(offsets) - 1].as_py()
    path = folder / f"p{partition:05d}-{first:015d}-{last:015d}.parquet"
    aside = path.with_suffix(".tmp")
    with aside.open("wb") as handle:
        pq.write_table(table, handle, compression="zstd")
        handle.flush()
        os.fsync(handle.fileno())
    aside.replace(path)
    folder_fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_fd)  # the rename itself must survive
    finally:
        os.close(folder_fd)
    return path


def read(data_dir: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the log's rows that have this feature list, oldest first, each record once; may be empty.

    Files that cannot be read are left out, with a warning.
    """
    folder = data_dir / FOLDER
    files = sorted(str(p) for p in folder.glob("*.parquet")) if folder.is_dir() else []
    if not files:
        return SCHEMA.empty_table()
    wanted = None if columns is None else sorted({*columns, "ts", "log_partition", "log_offset"})
    # A file of another feature list has rows of another length. The metadata has the version of the list.
    ours = [f for f in files if _spec_of(f) == SPEC.version]
    if not ours:
        return SCHEMA.empty_table()
    table = ds.dataset(ours, format="parquet", schema=SCHEMA).to_table(columns=wanted)
    return table.take(pa.array(_once(table)))


def _spec_of(file: str) -> str:
    """Return the version of the feature list a file was written for, "" when it cannot be read."""
    try:
        return str((pq.read_schema(file).metadata or {}).get(b"spec", b"").decode())
    except (pa.ArrowException, OSError) as exc:
        log.warning("%s is left out, it cannot be read: %s", file, exc, extra={"action": "log_file_skipped"})
        return ""


def _once(table: pa.Table) -> npt.NDArray[np.int64]:
    """Return the positions of the first row of each (partition, offset), ordered by time."""
    partition = table.column("log_partition").to_numpy()
    offset = table.column("log_offset").to_numpy()
    ts = table.column("ts").to_numpy()
    order = np.lexsort((offset, partition))
    p, o = partition[order], offset[order]
    first = order[np.r_[True, (p[1:] != p[:-1]) | (o[1:] != o[:-1])]] if len(order) else order
    return first[np.argsort(ts[first], kind="stable")]


def features_of(table: pa.Table) -> npt.NDArray[np.float32]:
    """Return the logged feature rows, float32 ``(n, len(SPEC))``."""
    column = table.column("features").combine_chunks()
    flat: npt.NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, len(SPEC))
