"""The files of an export: Parquet, in a folder or a store, with their layout in the metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.models.learning.log_files import durable_file
from headrace.models.learning.places import Place
from headrace.streams.errors import ConfigError

#: Names of the metadata: what is in the file, and the number of its layout.
KIND, LAYOUT = b"headrace.export", b"headrace.layout"
#: Rows of a file.
FILE_ROWS = 1_000_000


def layout(schema: pa.Schema, kind: str, number: int, more: Mapping[str, str]) -> pa.Schema:
    """Return a schema that says what it is of."""
    told = {KIND.decode(): kind, LAYOUT.decode(): str(number), **more}
    return schema.with_metadata(told)


def free(folder: Place, kind: str) -> None:
    """Check that no earlier export is there: its files would be mixed with the new ones.

    Raises
    ------
    ConfigError
        There are files of this kind.
    """
    if folder.is_dir() and next(iter(folder.glob(f"{kind}-*.parquet")), None) is not None:
        raise ConfigError(f"{folder} has {kind} of an earlier export: choose another folder")


def write(
    folder: Place, kind: str, schema: pa.Schema, tables: Iterable[pa.Table], first: int = 0
) -> tuple[int, int]:
    """Write tables as files of at most about ``FILE_ROWS`` rows.

    Each file appears when it is complete. There is at least one, so that the columns are known.

    Parameters
    ----------
    first
        Number of the first file.

    Returns
    -------
    The number of rows, and the number after that of the last file.
    """
    pieces, rows, number = iter(tables), 0, first
    piece = next(pieces, schema.empty_table())
    while piece is not None:
        with (
            durable_file(folder / f"{kind}-{number:05d}.parquet") as handle,
            pq.ParquetWriter(handle, schema, compression="zstd") as out,
        ):
            size = 0
            while piece is not None and (not size or size + len(piece) <= FILE_ROWS):
                out.write_table(piece.cast(schema), row_group_size=max(1, len(piece)))
                size += len(piece)
                piece = next(pieces, None)
        rows, number = rows + size, number + 1
    return rows, number


def told_by(schema: pa.Schema, kind: str, number: int, name: str) -> dict[str, str]:
    """Return the metadata of an exported file.

    Raises
    ------
    ConfigError
        It is no such file, or of a newer layout.
    """
    told = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    if told.get(KIND.decode()) != kind:
        raise ConfigError(f"{name} was not written by `headrace export {kind}`")
    if int(told.get(LAYOUT.decode(), 0)) > number:
        raise ConfigError(f"{name} has layout {told[LAYOUT.decode()]}, this version reads {number}")
    return told


def batches(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Yield a table in pieces of at most ``rows`` rows."""
    for at in range(0, len(table), rows):
        yield table.slice(at, rows)
