"""CPU cost of importing past events: of the import itself, and of the workers that count them. Prints JSON.

    python bench/bench_import.py [--events N] [--days D] [--runs N] [--broker NAME] [--json PATH]

A Parquet file with events of ``--days`` days goes into a new installation without workers, by
``headrace import events``. Then workers (``ingest,aggregate``) start and count them. All figures are events
per CPU-second (user and system) of these processes, medians of the runs:

    check             read, checked and sorted: the command with --check
    import            the whole command, from its start to its end
    workers           what the workers take, without what they used to start and to idle
    import_and_count  both together: the events of a second, on one core

The CPU time of the broker during the import is in ``details``. In the end the workers have committed every
event.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ingest.measure import ONE_THREAD, Process, Servers, cpu_s, servers
from ingest.systems import scratch

from headrace.streams.clock import now_ms
from headrace.streams.process import run
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics

ROLES = "ingest,aggregate"
#: An idle worker is measured for so long, s.
IDLE_S = 8.0
LONGEST_S = 900


def past(n: int, days: int, now: int, seed: int = 1) -> pa.Table:
    """Return events: visits of a few minutes, items of very different popularity."""
    rng = np.random.default_rng(seed)
    visits = np.sort(rng.integers(now - days * DAY_MS, now - 7_200_000, size=n // 8 + 1))
    visit = np.sort(rng.integers(len(visits), size=n))
    user = rng.integers(max(10, n // 20), size=len(visits))[visit]
    item = (rng.pareto(1.1, size=n) * 20).astype(np.int64) % max(10, n // 50)
    kinds = np.array(["click", "skip", "dwell", "like"])[rng.choice(4, size=n, p=[0.6, 0.1, 0.25, 0.05])]
    return pa.table(
        {
            "event_id": pa.array([f"{seed:08x}{i:024x}" for i in range(n)]),
            "type": kinds,
            "user_id": np.char.add("user-", user.astype("U")),
            "item_id": np.char.add("item-", item.astype("U")),
            "ts": visits[visit] + rng.integers(600_000, size=n),
            "dwell_ms": pa.array(rng.integers(120_000, size=n), mask=kinds != "dwell"),
            "country": np.array(["DE", "BR", "US"])[rng.integers(3, size=n)],
            "device": np.array(["mobile", "tv"])[rng.integers(2, size=n)],
        }
    )


def command(settings: Settings, *arguments: str) -> float:
    """Run ``headrace``; return its CPU time, s."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "headrace", *arguments],
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"headrace {arguments[0]} failed: {done.stderr[-1000:]}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        **ONE_THREAD,
        "HEADRACE_BROKERS": settings.brokers,
        "HEADRACE_REDIS_URL": settings.redis_url,
        "HEADRACE_TOPIC_PREFIX": settings.topic_prefix,
        "HEADRACE_DATA_DIR": str(settings.data_dir),
    }


async def counted(settings: Settings, events: int) -> None:
    """Wait until all events, and what they made of items, are committed."""
    topics = Topics(settings)
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        rows = [r for r in await lag(settings) if r.topic in (topics.events, topics.item_events)]
        read = sum(max(0, r.committed) for r in rows if r.topic == topics.events)
        if read >= events and not any(r.records for r in rows):
            return
        await asyncio.sleep(0.2)
    raise SystemExit(f"the workers did not count the events within {LONGEST_S} s")


async def working(settings: Settings, events: int, log: Path) -> tuple[float, float]:
    """Run workers until they have counted the events; return their CPU time and the time it took, s."""
    began = time.monotonic()
    with Process([sys.executable, "-m", "headrace", "worker", ROLES], environment(settings), log) as worker:
        if events:
            await counted(settings, events)
        else:
            await asyncio.sleep(IDLE_S)
        return cpu_s(worker.pid), time.monotonic() - began


async def once(
    where: Servers, number: int, path: Path, events: int, days: int, folder: Path
) -> dict[str, float]:
    """Import and count once, in installations of their own."""
    out: dict[str, float] = {}
    made = []
    for name in ("idle", "loaded"):
        settings = Settings(
            brokers=where.brokers,
            redis_url=where.redis_url,
            topic_prefix=f"{name}{number}-",
            data_dir=folder / f"{name}{number}",
        )
        await create_topics(settings, days + 30)
        made.append(settings)
    idle, loaded = made
    out["check_cpu_s"] = command(
        loaded, "import", "events", str(path), "--check", "--work", str(folder / f"c{number}")
    )
    broker = cpu_s(where.broker_pid)
    began = time.monotonic()
    out["import_cpu_s"] = command(loaded, "import", "events", str(path))
    out["import_wall_s"] = time.monotonic() - began
    out["broker_cpu_s"] = cpu_s(where.broker_pid) - broker
    out["idle_cpu_s"], _ = await working(idle, 0, folder / "idle.log")
    out["workers_cpu_s"], out["workers_wall_s"] = await working(loaded, events, folder / "loaded.log")
    return {name: round(value, 3) for name, value in out.items()}


def figures(runs: list[dict[str, float]], events: int) -> dict[str, int]:
    """Return events per CPU-second, the medians of the runs."""

    def rate(seconds: Any) -> int:
        return round(events / statistics.median(max(1e-3, seconds(run)) for run in runs))

    return {
        "check": rate(lambda r: r["check_cpu_s"]),
        "import": rate(lambda r: r["import_cpu_s"]),
        "workers": rate(lambda r: r["workers_cpu_s"] - r["idle_cpu_s"]),
        "import_and_count": rate(lambda r: r["import_cpu_s"] + r["workers_cpu_s"] - r["idle_cpu_s"]),
    }


async def measure(args: argparse.Namespace, where: Servers, folder: Path) -> dict[str, Any]:
    path = folder / "past.parquet"
    pq.write_table(past(args.events, args.days, now_ms()), path)
    runs = [await once(where, number, path, args.events, args.days, folder) for number in range(args.runs)]
    told = {"events": args.events, "days": args.days, "bytes_in_file": path.stat().st_size}
    return {**figures(runs, args.events), "details": {**told, "broker": where.kind, "runs": runs}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--broker", choices=("auto", "kafka", "embedded"), default="auto")
    parser.add_argument("--json", type=Path, help="write the result to this file, too")
    args = parser.parse_args()
    with scratch() as folder, servers(args.broker) as where:
        result = run(measure(args, where, Path(folder)))
    print(json.dumps(result))
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
