"""How fresh lists are on an idle stack, as the canary measures it, over a real Kafka where there is one.

    python bench/bench_canary.py [--seconds N] [--items N] [--broker auto|kafka|embedded]    # prints JSON

A catalogue of ``items``; one worker with the roles `ingest` and `aggregate`, one with `serve`, each a
process; nobody else asks or sends anything. The canary runs in the process of the benchmark, and probes
without a rest.

``event``: from the send of an event to the first reply that reflects it; ``publish``, ``withdraw``: from the
send of an item, and of its tombstone, to the first list with it, and without it. Each probe asks again 20 ms
after the last reply, so its time has a round trip and up to such a pause too much. ``p50_ms``, ``p99_ms`` are
of the probes that ended after ``warm`` seconds; ``missed``: nothing came in 10 s.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench_serving import ROOT, catalogue, ready
from ingest.events import fill
from ingest.measure import Process, Servers, servers

from headrace.agents.canary import PROBES, Canary, Probe
from headrace.agents.wiring import Wiring
from headrace.demo.stack import environment
from headrace.serving.store.memory import MemoryStore
from headrace.streams.clock import now_ms
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender


class Noted(Canary):
    """The canary; it keeps the time of every probe."""

    def __init__(self, wiring: Wiring) -> None:
        self.ended: list[tuple[str, float | None]] = []
        super().__init__(wiring)

    def note(self, kind: Probe, seconds: float | None) -> None:
        """Keep how long a probe took; None: it was missed."""
        self.ended.append((kind, seconds))


def figures(ended: list[tuple[str, float | None]], kind: str) -> dict[str, Any]:
    """Return the figures of the probes of one kind."""
    took = [seconds for one, seconds in ended if one == kind and seconds is not None]
    out: dict[str, Any] = {"probes": len(took), "missed": sum(e == (kind, None) for e in ended)}
    if took:
        out |= {f"p{q}_ms": round(1000 * float(np.percentile(took, q)), 1) for q in (50, 99)}
    return out


async def bench(args: argparse.Namespace, ours: Servers, folder: Path) -> dict[str, Any]:
    """Start the stack; measure."""
    settings = Settings(
        brokers=ours.brokers, redis_url=ours.redis_url, topic_prefix="bench-", data_dir=folder / "data",
        partitions=2, canary_every_s=0.05, canary_publish_every_s=0.05,
    )  # fmt: skip
    await create_topics(settings)
    await fill(settings, Topics(settings).items, catalogue(args.items, now_ms()), settings.partitions)
    command, env = [sys.executable, "-m", "headrace", "worker"], environment(settings)
    sender = BatchSender(settings)
    with (
        Process([*command, "serve"], env, folder / "serve.log", ROOT) as serve,
        Process([*command, "ingest,aggregate"], env, folder / "ingest.log", ROOT),
    ):
        await ready(settings, serve)
        canary = Noted(Wiring(settings, sender, sender, MemoryStore()))
        await sender.start()
        await canary.start()
        try:
            until = time.monotonic() + 120
            while {kind for kind, seconds in canary.ended if seconds is not None} != set(PROBES):
                if time.monotonic() > until:
                    raise SystemExit(f"the canary sees nothing:\n{serve.last_words()}")
                await asyncio.sleep(0.1)
            await asyncio.sleep(args.warm)
            canary.ended.clear()
            load = os.getloadavg()[0]
            await asyncio.sleep(args.seconds)
            ended = list(canary.ended)
        finally:
            await canary.stop()
            await sender.stop()
    return {
        "broker": ours.kind, "items": args.items, "seconds": args.seconds, "load": round(load, 2),
        "cores": os.cpu_count(), **{kind: figures(ended, kind) for kind in PROBES},
    }  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm", type=float, default=5, help="probes of so many seconds are left out")
    parser.add_argument("--broker", choices=("auto", "kafka", "embedded"), default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, servers(args.broker) as ours:
        text = json.dumps(asyncio.run(bench(args, ours, Path(folder))), indent=1)
    print(text)
    if args.json:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
