"""Events of the past, as files and as an installation sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fresh_topics import make_topics

from headrace.console.imported.bad_rows import BadRows
from headrace.console.imported.event_job import EventImport, Imported, Wanted
from headrace.console.imported.mapping import FieldMap
from headrace.console.imported.sources import find, input_file
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.topics.admin import create_topics

KINDS = ("click", "click", "click", "skip", "dwell", "like", "save", "follow", "hide")


def past_events(
    n: int, now: int, *, days: int = 40, users: int = 30, items: int = 25, seed: int = 1
) -> pa.Table:
    """Return events of the last ``days`` days until an hour ago, in no order."""
    rng = np.random.default_rng(seed)
    kinds = np.array(KINDS)[rng.integers(len(KINDS), size=n)]
    # Visits of a few clicks, so that there are sessions and pairs.
    visits = rng.integers(now - days * DAY_MS, now - 3_600_000, size=n // 5 + 1)
    ts = visits[rng.integers(len(visits), size=n)] + rng.integers(600_000, size=n)
    return pa.table(
        {
            "event_id": [f"past-{seed}-{i}" for i in range(n)],
            "type": kinds,
            "user_id": [f'us"er-{i}' for i in rng.integers(users, size=n)],
            "item_id": [f"item-{i}" for i in rng.integers(items, size=n)],
            "ts": ts,
            "dwell_ms": pa.array(rng.integers(120_000, size=n), mask=kinds != "dwell"),
            "request_id": pa.nulls(n, pa.string()),
            "scope": pa.array(np.where(rng.random(n) < 0.5, "creator", "item"), mask=kinds != "hide"),
            "country": np.array(["DE", "BR", ""])[rng.integers(3, size=n)],
            "age": pa.array(rng.integers(10, 80, size=n), mask=rng.random(n) < 0.5),
        }
    )


def as_files(table: pa.Table, folder: Path, n: int = 3) -> list[Path]:
    """Write a table as ``n`` Parquet files of several row groups."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"part-{i}.parquet" for i in range(n)]
    ends = [i * len(table) // n for i in range(n + 1)]
    for path, begin, end in zip(paths, ends[:-1], ends[1:], strict=True):
        pq.write_table(table.slice(begin, end - begin), path, row_group_size=97)
    return paths


async def lasting_topics(settings: Settings, days: int = 400) -> None:
    """Make all topics; `events` keeps its records for so long."""
    await create_topics(settings, days)
    await make_topics(settings)


async def imported(settings: Settings, paths: list[Any], bad: Path | None = None, **wanted: Any) -> Imported:
    """Import files of events, as the command does."""
    files = [input_file(at) for at in find([str(path) for path in paths])]
    about = Wanted(**{"mapping": FieldMap(), **wanted})
    with BadRows(bad) as rows:
        return await EventImport(settings, files, about, rows, settings.data_dir / "work").run()
