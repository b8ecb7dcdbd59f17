"""Speed of recovery: a worker without a snapshot reads a changelog of a million user rows.

The live code makes the rows from the benchmark's events, packs and writes them. The rows of one pass over the
events are written again under other keys until there are enough. The worker is the real one; the number of
records and the time come from its log message about the recovery.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from headrace.demo.stack import environment
from headrace.models.state.users import UserState, new_table
from headrace.streams.messages.columns import event_columns
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows, RowTable
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender
from ingest.events import Record, chunks
from ingest.measure import Process, touch_memory
from ingest.systems import ROOT, Bench, FailedError

RECOVERED = re.compile(r"Recovered \d+ partitions of \d+ tables: (\d+) records read in ([\d.]+) s")
BATCH = 4000
#: Rows packed and written at a time; this limits the memory.
BLOCK = 20_000


def made(events: list[Record], settings: Settings) -> RowTable:
    """Return the rows that the events make, of all partitions in one table."""
    table = new_table()
    users = UserState(table, settings.session_gap_ms)
    decode = msgspec.json.Decoder(Event).decode
    rng = np.random.default_rng(2)
    for n, part in enumerate(chunks(events, BATCH)):
        columns = event_columns(
            [decode(value) for _, value, _ in part], range(n * BATCH, n * BATCH + len(part))
        )
        columns.category = rng.integers(1, 41, len(part)).astype(np.uint64)
        columns.creator = rng.integers(1, 2001, len(part)).astype(np.uint64)
        users.apply(columns)
    return table


def blocks(table: RowTable, count: int, partitions: int) -> Iterator[list[PackedRows]]:
    """Yield packed rows for each partition, ``count`` in all and no key twice."""
    rng = np.random.default_rng(3)
    keys = np.unique(rng.integers(1, 1 << 63, count + count // 100 + 10).astype(np.uint64))
    keys = rng.permutation(keys)[:count]
    copy = RowTable(table.dtype, table._blank[0])
    for start in range(0, count, BLOCK):
        new = keys[start : start + BLOCK]
        from_row = (start + np.arange(len(new))) % len(table)
        values = table.view()[from_row]
        values["key"] = new
        copy.load(values)
        yield [copy.pack(copy.find(new[p::partitions])) for p in range(partitions)]
        copy.drop(new)


async def write_rows(settings: Settings, table: RowTable, count: int) -> int:
    """Write ``count`` rows to `user-state`, evenly over its partitions; return the bytes of their values."""
    topic, size = Topics(settings).user_state, 0
    sender = BatchSender(settings)
    await sender.start()
    try:
        for parts in blocks(table, count, settings.partitions):
            await asyncio.gather(
                *(sender.send_rows(topic, rows, partition=p) for p, rows in enumerate(parts))
            )
            size += sum(len(rows.blob) for rows in parts)
    finally:
        await sender.stop()
    return size


async def recovery(bench: Bench, count: int, runs: int) -> dict[str, Any]:
    """Return rows per second of every run, and the details. Raises ``FailedError``."""
    prefix = f"{bench.fresh()}-"
    settings = await bench.topics(prefix, events=False)
    table = made(bench.events, settings)
    began = time.monotonic()
    size = await write_rows(settings, table, count)
    wrote = time.monotonic() - began
    seen: list[dict[str, float]] = [await _recover_once(bench, settings, count) for _ in range(runs)]
    return {
        "rows": count,
        "rows_per_s": [round(count / s["seconds"]) for s in seen],
        "runs": seen,
        "changelog_mb": round(size / 1e6),
        "written_rows_per_s": round(count / wrote),
    }


async def _recover_once(bench: Bench, settings: Settings, count: int) -> dict[str, float]:
    """Start a worker without a snapshot, wait for its log message about the recovery, and end it."""
    env = environment(settings.model_copy(update={"snapshot_every_s": 0.0}))
    log = bench.folder / "recovery.log"
    command = [sys.executable, "-m", "headrace", "worker", "ingest"]
    touch_memory(bench.touch_bytes)
    with Process(command, env, log, ROOT) as process:
        began = time.monotonic()
        while True:
            await asyncio.sleep(0.1)
            for match in RECOVERED.finditer(log.read_text(errors="replace")):
                if int(match[1]) >= count:
                    return {
                        "seconds": float(match[2]),
                        "from_start_s": round(time.monotonic() - began, 2),
                        "cpu_s": round(process.cpu_s(), 2),
                        "peak_mb": process.peak_mb(),
                    }
            if process.ended() or time.monotonic() - began > 120:
                raise FailedError(f"recovery: {process.returncode}:\n{process.last_words()}")
