"""Sorts more events than fit into memory by their time: sorted runs on disk, which are read together.

    files   -> runs:    at most ``RUN_ROWS`` events each, sorted, Arrow files
    runs    -> buckets: all events of a span of time, from every run that has some

Events of the same time stay in the order of the files. So the number of an event among all depends only on
the files, and on nothing that a later run of the import may do otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

I64 = npt.NDArray[np.int64]

#: Events of a run: they are in memory while it is sorted.
RUN_ROWS = 500_000
#: Events of a bucket, about.
BUCKET_ROWS = 200_000
#: Every so many events of a run, one is looked at to find where buckets begin.
_STEP = 1_009
_DONE = "sorted"


class Runs:
    """The sorted runs of an import, in a folder of this machine.

    Parameters
    ----------
    folder
        The folder; it is made.
    schema
        Of the events; ``ts`` is their time.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema = folder, schema
        self._waiting: list[pa.RecordBatch] = []
        self._rows = self._runs = 0
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def complete(self) -> bool:
        """Whether all events are in the runs."""
        return (self._folder / _DONE).exists()

    def begin(self) -> None:
        """Delete what an import that was cut off has left."""
        (self._folder / _DONE).unlink(missing_ok=True)
        for path in self._paths():
            path.unlink()
        self._waiting, self._rows, self._runs = [], 0, 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Add events, in the order of the files."""
        self._waiting.append(batch)
        self._rows += len(batch)
        if self._rows >= RUN_ROWS:
            self._write()

    def _write(self) -> None:
        table = pa.Table.from_batches(self._waiting, self._schema).combine_chunks()
        self._waiting, self._rows = [], 0
        if len(table):
            path = self._folder / f"run-{self._runs:06d}.arrow"
            self._runs += 1
            with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, self._schema) as writer:
                for batch in in_order(table).to_batches():
                    writer.write_batch(batch)

    def finish(self, told: str) -> None:
        """Write the last run, and that there are no more; ``told`` is kept with it."""
        self._write()
        for path in self._paths():  # what is said to be there must be there, also after a power failure
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
        (self._folder / _DONE).write_text(told, "utf-8")

    @property
    def told(self) -> str:
        """What ``finish`` got."""
        return (self._folder / _DONE).read_text("utf-8")

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("run-*.arrow"))

    def buckets(self) -> Iterator[tuple[int, pa.Table]]:
        """Yield all events in the order of their time, in tables, each with the number of its first event."""
        tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in self._paths()]
        times = [table.column("ts").combine_chunks().to_numpy() for table in tables]
        at = [0] * len(tables)
        first = 0
        for until in (*bounds(times, BUCKET_ROWS), None):
            parts = []
            for number, (table, ts) in enumerate(zip(tables, times, strict=True)):
                end = len(ts) if until is None else int(np.searchsorted(ts, until))
                if end > at[number]:
                    parts.append(table.slice(at[number], end - at[number]))
                    at[number] = end
            if parts:
                bucket = in_order(pa.concat_tables(parts).combine_chunks())
                yield first, bucket
                first += len(bucket)


def in_order(table: pa.Table) -> pa.Table:
    """Return a table by ``ts``; rows of the same time stay as they are."""
    ts = table.column("ts").to_numpy()
    if len(ts) < 2 or (ts[1:] >= ts[:-1]).all():
        return table
    return table.take(pa.array(np.argsort(ts, kind="stable")))


def bounds(times: list[I64], rows: int) -> list[int]:
    """Return the times at which buckets of about ``rows`` events begin, without the first, ascending.

    ``times`` are those of the runs, each sorted.
    """
    looked_at = np.sort(np.concatenate([np.zeros(0, np.int64), *(ts[::_STEP] for ts in times)]))
    every = max(1, rows // _STEP)
    return [int(ts) for ts in np.unique(looked_at[every::every])]
