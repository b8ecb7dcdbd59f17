"""The Parquet log of labelled examples: schema, writing one file, reading all of them.

`log_files` has the names of the files. A record that is delivered twice gives two rows with the same
partition, offset and record timestamp; reading keeps one of them. (The timestamp tells the records of a topic
from those of a topic of the same name that was deleted before it.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.models.features.spec import SPEC
from headrace.models.learning.log_files import LogFile, durable_file, files_in, path_of, reading
from headrace.models.learning.places import Place, dataset, source
from headrace.streams.messages.schemas import Example

log = logging.getLogger(__name__)

#: Rows that are written, and read, at once.
GROUP_ROWS = 65_536
_TEXT = (
    "request_id",
    "user_id",
    "item_id",
    "surface",
    "country",
    "device",
    "ranker",
    "leaves",
    "settings",
    "spec",
    "label",
)
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
    "unshown": pa.bool_(),
    "duration_ms": pa.int64(),
}
#: What tells one record from every other: partition, offset, and timestamp (null in files of version 0.1.0).
IDENTITY = ("log_partition", "log_offset", "log_ts")
SCHEMA = pa.schema(
    [
        *(pa.field(n, pa.string()) for n in _TEXT),
        *(pa.field(n, t) for n, t in _PLAIN.items()),
        pa.field("sources", pa.list_(pa.string())),
        pa.field("features", pa.list_(pa.float32(), len(SPEC))),
        pa.field("log_partition", pa.int32()),
        pa.field("log_offset", pa.int64()),
        pa.field("log_ts", pa.int64()),
    ],
    metadata={"features": ",".join(SPEC.names), "spec": SPEC.version},
)


def table_of(
    examples: Sequence[Example], partition: int, offsets: Sequence[int], timestamps: Sequence[int]
) -> pa.Table:
    """Return examples as a table of ``SCHEMA``; ``offsets`` and ``timestamps`` (ms) are of their records."""
    columns = {name: [getattr(e, name) for e in examples] for name in (*_TEXT, *_PLAIN, "sources")}
    flat = np.frombuffer(b"".join(e.features for e in examples), "<f4")
    arrays: list[pa.Array] = [pa.array(columns[f.name], f.type) for f in list(SCHEMA)[: len(columns)]]
    arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), len(SPEC)))
    arrays.append(pa.array(np.full(len(examples), partition, np.int32)))
    arrays.append(pa.array(np.asarray(offsets, np.int64)))
    arrays.append(pa.array(np.asarray(timestamps, np.int64)))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def write(folder: Place, table: pa.Table, partition: int) -> Place:
    """Write one file durably and return its path; raise ``OSError`` when the disk does not take it."""
    offsets, first_ts = table.column("log_offset"), table.column("log_ts")[0].as_py()
    path = path_of(folder, partition, offsets[0].as_py(), offsets[len(offsets) - 1].as_py(), first_ts)
    with durable_file(path) as handle:
        pq.write_table(table, handle, compression="zstd", row_group_size=GROUP_ROWS)
    return path


def read(folder: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the log's rows that have this feature list, oldest first, each record once; may be empty.

    The whole log is in memory then: training reads it in pieces (`training_set`). Files that cannot be read
    are left out, with a warning.
    """
    if not folder.is_dir():
        return SCHEMA.empty_table()
    wanted = None if columns is None else sorted({*columns, "ts", *IDENTITY})
    with reading(folder):
        ours = [file.path for file, _ in readable(files_in(folder))]
        if not ours:
            return SCHEMA.empty_table()
        table = dataset(ours, SCHEMA).to_table(columns=wanted)
    table = table.filter(pa.array(once(table)))
    return table.take(pa.array(np.argsort(table.column("ts").to_numpy(), kind="stable")))


def readable(files: Sequence[LogFile]) -> Iterator[tuple[LogFile, pq.FileMetaData]]:
    """Yield the files of this code's feature list with their footers; tell of those that cannot be read.

    A file of another feature list has rows of another length; its metadata has the version of the list.
    """
    for file in files:
        try:
            footer = pq.read_metadata(source(file.path))
        except (pa.ArrowException, OSError) as exc:
            log.warning(
                "%s is left out, it cannot be read: %s", file.path, exc, extra={"action": "log_file_skipped"}
            )
            continue
        if (footer.metadata or {}).get(b"spec", b"").decode() == SPEC.version:
            yield file, footer


def once(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Return which rows are the first of their record, bool ``(n,)``."""
    keys = [pc.fill_null(table.column(n), -1).to_numpy() for n in IDENTITY if n in table.column_names]
    order = np.lexsort(keys)
    repeats = np.ones(max(0, len(order) - 1), bool)
    for key in keys:
        sorted_key = key[order]
        repeats &= sorted_key[1:] == sorted_key[:-1]
    out = np.ones(len(order), bool)
    out[order[1:][repeats]] = False
    return out


def features_of(table: pa.Table | pa.RecordBatch) -> npt.NDArray[np.float32]:
    """Return the logged feature rows, float32 ``(n, len(SPEC))``."""
    column = table.column("features")
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    flat: npt.NDArray[np.float32] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, len(SPEC))
