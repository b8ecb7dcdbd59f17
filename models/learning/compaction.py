"""Upkeep of the Parquet log: small files become large ones, and old ones are deleted.

    10 s files of an hour that is over  ->  one file          by record time, for each partition
    files of a day that is over         ->  one file          (several, when they are larger than LARGE_BYTES)

The merged file is written aside, synced and renamed; then its sources are deleted. A crash in between leaves
rows twice, never a row less. Readers drop the repeats, and so does the next merge. In a store, the sources
are withdrawn, and deleted later (`withdrawn`).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.models.learning import examples as example_log
from headrace.models.learning.log_files import (
    LogFile,
    deleting,
    durable_file,
    files_in,
    path_of,
    remove,
    remove_unfinished,
)
from headrace.models.learning.places import Place, source
from headrace.streams.settings import DAY_MS, HOUR_MS

log = logging.getLogger(__name__)

#: Larger files are not merged any more.
LARGE_BYTES = 256 * 1024 * 1024


class InterruptedMergeError(Exception):
    """The process stops: the file that was being merged is given up."""


@dataclass(slots=True)
class Upkeep:
    """What one run did: files merged, files that were made of them, files deleted for their age."""

    sources: int = 0
    merged: int = 0
    expired: int = 0


def tend(
    folder: Place,
    partitions: Collection[int],
    *,
    keep_ms: int,
    now: int,
    stopping: Callable[[], bool] = lambda: False,
) -> Upkeep:
    """Delete old files and merge small ones, of some partitions of a log.

    Does nothing while a reader is at work. Memory is bounded by the identities of a merged file's rows.

    Parameters
    ----------
    partitions
        Partitions that this process owns: files of others are not touched.
    keep_ms
        Age at which a file is deleted, ms; 0 = never. One wrong clock deletes nothing: a file is as old as
        the newest of its records, its examples and its writing; the present is the newest record of the log,
        or ``now`` if that is earlier.
    now
        The time, ms.
    stopping
        Whether to give up; asked before every piece of a file.

    Raises
    ------
    OSError
        The disk is full, or read-only. Every row is still there.
    """
    done = Upkeep()
    if not folder.is_dir():
        return done
    with deleting(folder) as may:
        if may and not stopping():
            remove_unfinished(folder, partitions, stopping)
            files = files_in(folder)
            present = min(now, max((file.ts for file in files), default=0))
            for partition in partitions:
                ours = [file for file in files if file.partition == partition]
                old = [file for file in ours if keep_ms > 0 and _older(file, present - keep_ms)]
                if old:
                    remove(old)
                done.expired += len(old)
                for group in _groups([file for file in ours if file not in old], present):
                    _merge(folder, group, stopping)
                    done.merged += 1
                    done.sources += len(group)
    return done


def _older(file: LogFile, bound: int) -> bool:
    """Return whether a file's newest record, its newest example, and its writing are before ``bound``."""
    return file.ts < bound and _modified(file) < bound and _newest_row(file) < bound


def _modified(file: LogFile) -> int:
    return file.path.stat().st_mtime_ns // 1_000_000


def _newest_row(file: LogFile) -> int:
    """Return the largest time in a file by its statistics, ms; 0 for a file that cannot be read."""
    try:
        footer = pq.read_metadata(source(file.path))
    except (pa.ArrowException, OSError):
        return 0
    groups = [footer.row_group(g) for g in range(footer.num_row_groups)]
    columns = [group.column(c) for group in groups for c in range(group.num_columns)]
    times = [c.statistics.max for c in columns if c.path_in_schema in {"ts", "log_ts"} and c.is_stats_set]
    return max((ts or 0 for ts in times), default=0)


def _groups(files: Sequence[LogFile], present: int) -> Iterator[list[LogFile]]:
    """Yield the files of one partition that become one: of an hour or a day that is not the present one.

    Files dated in the future are merged too: a wrong clock must not leave small files behind.
    """

    def period(file: LogFile) -> tuple[int, int]:
        day = file.ts // DAY_MS
        return (HOUR_MS, file.ts // HOUR_MS) if day == present // DAY_MS else (DAY_MS, day)

    small = [file for file in files if file.path.stat().st_size < LARGE_BYTES]
    over = [file for file in small if file.ts // HOUR_MS != present // HOUR_MS]
    for _, members in groupby(over, key=period):
        yield from _runs(list(members))


def _runs(files: Sequence[LogFile]) -> Iterator[list[LogFile]]:
    """Yield the files in runs of about ``LARGE_BYTES``, those of each schema together; no single files."""
    by_schema: dict[bytes, list[LogFile]] = {}
    for file in files:
        try:
            schema = pq.read_schema(source(file.path))
        except (pa.ArrowException, OSError) as exc:
            log.warning("%s is not merged, it cannot be read: %s", file.path, exc)
            continue
        by_schema.setdefault(schema.serialize().to_pybytes(), []).append(file)
    for alike in by_schema.values():
        run: list[LogFile] = []
        size = 0
        for file in alike:
            run.append(file)
            size += file.path.stat().st_size
            if size >= LARGE_BYTES:
                yield run
                run, size = [], 0
        if len(run) > 1:
            yield run


def _merge(folder: Place, files: Sequence[LogFile], stopping: Callable[[], bool]) -> None:
    """Write one file with every row of ``files`` once, then delete them."""
    identities = pa.concat_tables(
        [pq.read_table(source(file.path), columns=_identity(file)) for file in files]
    )
    keep = example_log.once(identities)
    first, ts = min(file.first for file in files), min(file.ts for file in files)
    last = max(file.last for file in files)
    path = path_of(folder, files[0].partition, first, last, ts, secrets.token_hex(4))
    with durable_file(path) as handle:
        schema = pq.read_schema(source(files[0].path))
        with pq.ParquetWriter(handle, schema, compression="zstd") as writer:
            for table in _pieces(files, keep):
                if stopping():
                    raise InterruptedMergeError
                writer.write_table(table, row_group_size=example_log.GROUP_ROWS)
    remove(files, by=path)


def _identity(file: LogFile) -> list[str]:
    return [name for name in example_log.IDENTITY if name in pq.read_schema(source(file.path)).names]


def _pieces(files: Sequence[LogFile], keep: npt.NDArray[np.bool_]) -> Iterator[pa.Table]:
    """Yield the kept rows of the files, about ``GROUP_ROWS`` at once."""
    waiting: list[pa.Table] = []
    at = 0
    for file in files:
        for batch in pq.ParquetFile(source(file.path)).iter_batches(example_log.GROUP_ROWS):
            part = pa.Table.from_batches([batch]).filter(pa.array(keep[at : at + len(batch)]))
            at += len(batch)
            waiting.append(part)
            if sum(map(len, waiting)) >= example_log.GROUP_ROWS:
                yield pa.concat_tables(waiting)
                waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
