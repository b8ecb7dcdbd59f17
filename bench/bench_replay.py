"""Full-speed replay: events per CPU-second of the worker. Prints one JSON object.

    python bench/bench_replay.py GLOBO_PATH [--clicks N] [--runs N]

The events are in the topic before the worker starts, so that the producer does not limit it. The cost is all
CPU time (user and system) of the worker from its start until no agent lags. The CPU time of starting and 6 s
of idling is measured first, subtracted, and shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from headrace.demo.embedded import EmbeddedBroker, EmbeddedRedis
from headrace.demo.replay import replay
from headrace.streams.process import run
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics

STAGES = {"user_stage": "ingest", "pipeline": "ingest,aggregate"}
TICK = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


async def drained(settings: Settings, events: int, roles: str) -> None:
    topics = Topics(settings)
    watched = {topics.events} if "aggregate" not in roles else {topics.events, topics.item_events}
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        rows = [r for r in await lag(settings) if r.topic in watched]
        read = sum(max(0, r.committed) for r in rows if r.topic == topics.events)
        if read >= events and not any(r.records for r in rows) and {r.topic for r in rows} == watched:
            return
        await asyncio.sleep(0.1)
    raise SystemExit("the worker did not catch up within 300 s")


async def once(path: Path, clicks: int, roles: str) -> dict[str, float]:
    with EmbeddedBroker() as broker, EmbeddedRedis() as redis:
        settings = Settings(brokers=broker.bootstrap, redis_url=redis.url)
        await create_topics(settings)
        sent = await replay(settings, path, "globo", limit=clicks) if clicks else None
        env = {**os.environ, "HEADRACE_BROKERS": settings.brokers, "HEADRACE_REDIS_URL": settings.redis_url}
        worker = subprocess.Popen(
            [sys.executable, "-m", "headrace", "worker", roles],
            env=env,
            stdout=subprocess.DEVNULL,
        )
        try:
            began = time.monotonic()
            if clicks:
                await drained(settings, clicks, roles)
            else:
                await asyncio.sleep(6)
            out = {"cpu_s": cpu_s(worker.pid), "wall_s": time.monotonic() - began}
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(20)
    if sent is not None:
        out["produced_per_s"] = sent.events_per_s
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--clicks", type=int, default=397_233)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in STAGES}
    idle: dict[str, list[float]] = {name: [] for name in STAGES}
    for _ in range(args.runs):
        for name, roles in STAGES.items():
            idle[name].append(run(once(args.path, 0, roles))["cpu_s"])
            runs[name].append(run(once(args.path, args.clicks, roles)))
    result: dict[str, object] = {"events": args.clicks, "runs": args.runs}
    for name, seen in runs.items():
        start = statistics.median(idle[name])
        cpu = statistics.median(r["cpu_s"] for r in seen)
        result[name] = {
            "events_per_cpu_s": round(args.clicks / (cpu - start)),
            "events_per_cpu_s_with_start": round(args.clicks / cpu),
            "events_per_s": round(args.clicks / statistics.median(r["wall_s"] for r in seen)),
            "cpu_s": round(cpu, 2),
            "idle_cpu_s": round(start, 2),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
