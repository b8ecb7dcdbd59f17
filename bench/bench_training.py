"""Memory and time of a training on a large Parquet log; and of merging its small files.

    python bench/bench_training.py [--rows 2000000] [--trees 120] [--folder LOG]    # prints a JSON object

The log is synthetic, with the real schema: columns are counts, ranks, shares, flags, each distributed like
the real ones. ``slots``: the first pass, which finds each shown slot once. ``training``: all of it, in a
process as in production: that pass, a ranker without the newest fifth, its evaluation, and the ranker of all
examples. ``merge``: 200 small files become one. ``--folder`` keeps the log, and uses it again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.models.features.spec import SPEC
from headrace.models.learning import compaction
from headrace.models.learning import examples as example_log
from headrace.models.learning.log_files import files_in
from headrace.models.learning.ranker import RankerParams
from headrace.models.learning.train_process import train_apart
from headrace.models.learning.training import TrainJob
from headrace.streams.settings import DAY_MS, Settings

T0 = 1_790_000_000_000
FILE_ROWS, SLOTS = 500_000, 20


def features(n: int, rng: np.random.Generator) -> np.ndarray:  # type: ignore[type-arg]
    """Return feature rows ``(n, len(SPEC))``, every column by the kind of its name."""
    x = np.empty((n, len(SPEC)), np.float32)
    for i, name in enumerate(SPEC.names):
        if name == "position":
            x[:, i] = np.arange(n) % SLOTS
        elif name in {"surface", "device", "hour"}:
            x[:, i] = rng.integers(0, 24 if name == "hour" else 4, n)
        elif name.endswith(("_preferred", "_followed", "_last", "seen_before")):
            x[:, i] = rng.random(n) < 0.2
        elif "rank" in name:
            x[:, i] = rng.integers(1, 501, n)
        elif "clicks" in name or "shown" in name or "total" in name or name == "user_session_len":
            x[:, i] = np.floor(np.exp(2 * rng.standard_normal(n, dtype=np.float32)))
        elif name.startswith(("next_", "together_")):
            x[:, i] = rng.random(n, np.float32) * (rng.random(n, np.float32) < 0.4)
        else:
            x[:, i] = rng.random(n, np.float32)
    return x


def table(first: int, n: int, rng: np.random.Generator) -> pa.Table:
    """Return ``n`` examples; lists of ``SLOTS`` slots, one list every millisecond."""
    at = np.arange(first, first + n)
    x = features(n, rng)
    chance = 0.15 * x[:, SPEC.index("item_ctr_24h")] * np.exp(-x[:, SPEC.index("position")] / 10)
    texts = {"request_id": at // SLOTS, "user_id": at // SLOTS % 200_003, "item_id": at * 7919 % 20_011}
    columns: dict[str, Any] = {name: pa.array(value).cast(pa.string()) for name, value in texts.items()}
    for name in ("surface", "country", "device", "ranker"):
        columns[name] = pa.repeat(name, n)
    columns |= {
        "spec": pa.repeat(SPEC.version, n),
        "position": pa.array((at % SLOTS).astype(np.int16)),
        "ts": pa.array(T0 + at // SLOTS),
        "score": pa.array(rng.random(n)),
        "clicked": pa.array(rng.random(n) < chance),
        "sources": pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32)), pa.repeat("next", n)),
        "features": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), len(SPEC)),
        "log_partition": pa.repeat(pa.scalar(0, pa.int32()), n),
        "log_offset": pa.array(at),
        "log_ts": pa.array(T0 + at // SLOTS),
    }
    empty = [pa.repeat(pa.scalar(0).cast(f.type), n) for f in example_log.SCHEMA if f.name not in columns]
    names = [f.name for f in example_log.SCHEMA if f.name not in columns]
    columns |= dict(zip(names, empty, strict=True))
    return pa.Table.from_arrays([columns[f.name] for f in example_log.SCHEMA], schema=example_log.SCHEMA)


def make_log(folder: Path, rows: int) -> None:
    rng = np.random.default_rng(1)
    for first in range(0, rows, FILE_ROWS):
        example_log.write(folder, table(first, min(FILE_ROWS, rows - first), rng), 0)


async def measured(job: TrainJob) -> dict[str, Any]:
    """Run a job in a process; return its rows, seconds, and peak memory (RSS), MB."""
    began = time.perf_counter()
    task, peak = asyncio.create_task(train_apart(job)), 0.0
    while not task.done():
        peak = max(peak, *map(peak_mb, children()), 0.0)
        await asyncio.wait({task}, timeout=0.1)
    result = task.result()
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "peak_rss_mb": round(peak),
        **({"rows": result.rows, "metrics": result.metrics} if result else {}),
    }


def children() -> list[str]:
    """Return the process ids of the children of this thread."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


def peak_mb(pid: str) -> float:
    """Return the largest memory (RSS) of a process until now, MB."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


def merge(folder: Path) -> dict[str, Any]:
    """Merge 200 files of 500 rows, dated three days ago."""
    rng = np.random.default_rng(2)
    for n in range(200):
        example_log.write(folder, table(n * 500, 500, rng), 0)
    began = time.perf_counter()
    example_log.write(folder, table(10**6, 1, rng).set_column(*_dated(T0 + 3 * DAY_MS)), 0)
    done = compaction.tend(folder, [0], keep_ms=0, now=T0 + 3 * DAY_MS)
    took = time.perf_counter() - began
    left = files_in(folder)
    return {"seconds": round(took, 2), "sources": done.sources, "files_left": len(left)}


def _dated(ts: int) -> tuple[int, pa.Field, pa.Array]:
    at = example_log.SCHEMA.get_field_index("log_ts")
    return at, example_log.SCHEMA.field(at), pa.array([ts])


async def main(rows: int, trees: int, folder: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as own:
        log = folder or Path(own) / "log"
        began = time.perf_counter()
        if not files_in(log):
            make_log(log, rows)
        sample = Settings().train_sample_rows
        job = TrainJob(log, RankerParams(trees=trees), 1, 1, rows, sample)
        slots = TrainJob(log, job.params, 10**12, 1, rows, sample)
        return {
            "rows": rows,
            "trees": trees,
            "sample_rows": sample,
            "log_mb": round(sum(f.path.stat().st_size for f in files_in(log)) / 1e6),
            "log_seconds": round(time.perf_counter() - began, 1),
            "merge": merge(Path(own) / "small"),
            "slots": await measured(slots),
            "training": await measured(job),
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--trees", type=int, default=120)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(main(options.rows, options.trees, options.folder)), indent=2))
