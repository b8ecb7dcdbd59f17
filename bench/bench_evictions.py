"""Cost of evictions: the user stage, with half of the users of every batch evicted, and without evictions.

    python bench/bench_evictions.py [--rows N] [--events N] [--runs N]      # prints one JSON object

A worker (role `ingest`, one partition, no Redis at all) first gets one event of each of ``2 * rows`` users,
then ``events`` events of random ones of them. Measured is the second part: CPU time (user and system) of the
worker until everything is committed, less what it uses when idle. With ``HEADRACE_MEMORY_ROWS=rows`` a user
is in memory with probability one half; without evictions all are. ``changelog_scans`` counts how often the
worker read a changelog for evicted rows. ``spill_bytes``: size of the file of evicted rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ingest.events import Record, fill
from ingest.measure import ROOT, Positions, Process

from headrace.demo.embedded import EmbeddedBroker, free_port
from headrace.demo.stack import environment
from headrace.streams.clock import now_ms
from headrace.streams.process import run
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics

#: What the worker says when it reads a changelog for evicted rows.
SCAN = "the changelog is read for them"
IDLE_S = 5.0
ITEMS = 20_000


def events_of(users: np.ndarray, first: int) -> list[Record]:
    """Return a click of each of ``users``, in order; ``first`` is the number of the first event."""
    items = np.random.default_rng(first).integers(0, ITEMS, len(users)).tolist()
    now, out = now_ms(), list[Record]()
    for n, (user, item) in enumerate(zip(users.tolist(), items, strict=True), first):
        body = (
            f'{{"event_id":"e{n:014x}","type":"click","user_id":"user-{user:07d}",'
            f'"item_id":"item-{item:06d}","ts":{now},"surface":"home","context":{{"country":"DE","device":"phone"}}}}'
        )
        out.append((b"user-%07d" % user, body.encode(), now))
    return out


def spill_bytes(pid: int) -> int:
    """Return the bytes on the disk of the files that a process has open in its spill folder."""
    found = [fd.stat() for fd in Path(f"/proc/{pid}/fd").iterdir() if "/spill/" in str(fd.readlink())]
    return sum({stat.st_ino: stat.st_blocks * 512 for stat in found}.values())


class Stage:
    """A worker and its topics."""

    def __init__(self, settings: Settings, process: Process, positions: Positions) -> None:
        self._settings, self._process, self._positions = settings, process, positions

    async def take(self, records: list[Record]) -> None:
        """Give it events, and wait until they are committed."""
        topic, group = Topics(self._settings).events, self._settings.name("headrace-ingest")
        before = sum((await self._positions.ends(topic, 1)).values())
        await fill(self._settings, topic, records, 1)
        deadline = time.monotonic() + 60 + len(records) / 1000
        while sum((await self._positions.committed(group, topic)).values()) < before + len(records):
            if self._process.ended() or time.monotonic() > deadline:
                raise SystemExit(f"the worker did not take all events:\n{self._process.last_words()}")
            await asyncio.sleep(0.1)

    async def idle(self) -> float:
        """Return CPU seconds for each second of idling."""
        before = self._process.cpu_s()
        await asyncio.sleep(IDLE_S)
        return (self._process.cpu_s() - before) / IDLE_S


async def once(rows: int, events: int, memory_rows: int) -> dict[str, Any]:
    """Run a worker; return its figures."""
    with EmbeddedBroker() as broker, tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        settings = Settings(
            brokers=broker.bootstrap,
            redis_url=f"redis://127.0.0.1:{free_port()}/0",  # nothing answers there
            partitions=1,
            memory_rows=memory_rows,
            snapshot_every_s=0,
            data_dir=Path(folder) / "data",
        )
        await create_topics(settings)
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "headrace", "worker", "ingest"]
        async with Positions(broker.bootstrap) as positions:
            with Process(command, environment(settings), log, ROOT) as process:
                stage = Stage(settings, process, positions)
                await stage.take(events_of(np.arange(2 * rows), 0))
                idle = await stage.idle()
                users = np.random.default_rng(1).integers(0, 2 * rows, events)
                records = events_of(users, 2 * rows)
                cpu, began = process.cpu_s(), time.monotonic()
                await stage.take(records)
                wall = time.monotonic() - began
                cpu = process.cpu_s() - cpu - idle * wall
                return {
                    "events_per_cpu_s": round(events / cpu),
                    "peak_mb": process.peak_mb(),
                    "spill_bytes": spill_bytes(process.pid),
                    "changelog_scans": log.read_text(errors="replace").count(SCAN),
                }


def middle(seen: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians, and the largest number of scans."""
    out = {name: round(statistics.median(s[name] for s in seen)) for name in seen[0]}
    return out | {"changelog_scans": max(s["changelog_scans"] for s in seen)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="rows in memory with evictions")
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--runs", type=int, default=1)
    args = parser.parse_args()
    limits = {"with_evictions": args.rows, "without_evictions": 4 * args.rows}
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in limits}
    for _ in range(args.runs):  # one after the other, so that both meet the same machine
        for name, limit in limits.items():
            seen[name].append(run(once(args.rows, args.events, limit)))
    result: dict[str, Any] = {"rows": args.rows, "users": 2 * args.rows, "events": args.events}
    result |= {name: middle(runs) for name, runs in seen.items()}
    speed = [result[name]["events_per_cpu_s"] for name in limits]
    print(json.dumps({**result, "runs": args.runs, "ratio": round(speed[0] / speed[1], 3)}))


if __name__ == "__main__":
    main()
