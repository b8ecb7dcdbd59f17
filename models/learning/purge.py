"""Takes the rows of a user out of the Parquet log: files that have some are written again without them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.models.learning import examples as example_log
from headrace.models.learning.log_files import LogFile, deleting, durable_file, files_in, path_of, remove
from headrace.models.learning.places import Place, source
from headrace.streams.errors import UnavailableError


def rows_of(folder: Place, user_id: str) -> dict[str, int]:
    """Return by name of a file how many rows it has of a user; files without any are left out."""
    return {file.path.name: n for file in files_in(folder) if (n := _rows(file, user_id))}


def without(folder: Place, user_id: str) -> int:
    """Take the rows of a user out of a log; return how many there were.

    A crash in between leaves rows twice, never a row of another user less.

    Raises
    ------
    UnavailableError
        A reader is at work: try again when the training is over.
    OSError
        The disk is full, or read-only.
    """
    taken = 0
    if not folder.is_dir():
        return taken
    with deleting(folder) as may:
        if not may:
            raise UnavailableError(f"the training log in {folder} is being read: try again in a few minutes")
        for file in files_in(folder):
            if n := _rows(file, user_id):
                _rewrite(folder, file, user_id)
                taken += n
    return taken


def _rows(file: LogFile, user_id: str) -> int:
    table = pq.read_table(source(file.path), columns=["user_id"], filters=[("user_id", "=", user_id)])
    return int(table.num_rows)


def _rewrite(folder: Place, file: LogFile, user_id: str) -> None:
    path = path_of(folder, file.partition, file.first, file.last, file.ts, secrets.token_hex(4))
    with durable_file(path) as handle:
        schema = pq.read_schema(source(file.path))
        with pq.ParquetWriter(handle, schema, compression="zstd") as writer:
            for table in _others(file, user_id):
                writer.write_table(table, row_group_size=example_log.GROUP_ROWS)
    remove([file], by=path)


def _others(file: LogFile, user_id: str) -> Iterator[pa.Table]:
    for batch in pq.ParquetFile(source(file.path)).iter_batches(example_log.GROUP_ROWS):
        table = pa.Table.from_batches([batch])
        yield table.filter(pc.not_equal(table.column("user_id"), user_id))
