"""``headrace import examples``: exported examples become files of the training log.

An example keeps the place in the log that it had. So one that is imported twice, or into the installation
that it is from, counts once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from headrace.console.exported import examples as exported
from headrace.console.exported.files import told_by
from headrace.console.imported.sources import InputFile
from headrace.console.screen import Reporter
from headrace.models.features.spec import SPEC
from headrace.models.learning.examples import GROUP_ROWS
from headrace.models.learning.log_files import durable_file, folder_of, path_of
from headrace.models.learning.places import Place, source
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings

#: Rows that are read, and written as one file for each partition.
ROWS = 200_000
#: More than the offsets of a partition.
_APART = 1 << 40


def import_examples(settings: Settings, files: Sequence[InputFile], report: Reporter) -> int:
    """Write the examples of exported files to the training log; return how many.

    Raises
    ------
    ConfigError
        A file is no such export, or has other features than this version. Nothing was written then.
    """
    for file in files:
        _check(file)
    done, folder = 0, folder_of(settings)
    for file in files:
        with pq.ParquetFile(source(file.at), pre_buffer=True) as parquet:
            for number, batch in enumerate(parquet.iter_batches(ROWS)):
                table = exported.logged(pa.Table.from_batches([batch]))
                _write(folder, table, settings.partitions, f"{file.digest}/{number}")
                done += len(table)
                report(done, f"examples; {file.at.name}")
    return done


def _check(file: InputFile) -> None:
    if file.kind != "parquet":
        raise ConfigError(f"{file} was not written by `headrace export {exported.KIND}`")
    try:
        schema = pq.read_schema(source(file.at))
    except (pa.ArrowException, OSError) as exc:
        raise ConfigError(f"{file}: cannot be read: {exc}") from exc
    told = told_by(schema, exported.KIND, exported.LAYOUT, str(file))
    if told.get("spec") != SPEC.version:
        raise ConfigError(
            f"{file} has features of version {told.get('spec')}, "
            f"this version of Headrace has {SPEC.version}: nothing can be learnt from them"
        )


def _write(folder: Place, table: pa.Table, partitions: int, name: str) -> None:
    """Write rows as one file for each partition; the same rows give the same names."""
    theirs = table.column("log_partition").to_numpy()
    numbers = theirs % partitions
    # Records of several partitions that become one may have the same offset and the same time.
    moved = table.column("log_offset").to_numpy() + (theirs // partitions).astype(np.int64) * _APART
    for column, values in (("log_partition", numbers.astype(np.int32)), ("log_offset", moved)):
        at = table.column_names.index(column)
        table = table.set_column(at, table.schema.field(at), pa.array(values))
    for partition in np.unique(numbers).tolist():
        mine = table.filter(pa.array(numbers == partition))
        mine = mine.sort_by([("log_ts", "ascending"), ("log_offset", "ascending")])
        offsets = mine.column("log_offset").to_numpy()
        first_ts = mine.column("log_ts")[0].as_py() or 0
        token = xxhash.xxh32_hexdigest(name.encode())
        path = path_of(folder, partition, int(offsets.min()), int(offsets.max()), first_ts, token)
        with durable_file(path) as handle:
            pq.write_table(mine, handle, compression="zstd", row_group_size=GROUP_ROWS)
