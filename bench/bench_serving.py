"""A serving worker under load, over a real Kafka: stalls of its loop, candidate stage, time to retrieval.

    python bench/bench_serving.py [--items N] [--seconds S] [--publish N] [--requests N]    # prints JSON

The worker that answers has a core of its own when there are two; all else shares the others.

A catalogue of ``items`` is loaded. Then ``publish`` items a second are published, as many old ones are
withdrawn, and ``requests`` lists a second are asked for, at fixed times. One published item after the other
is by a creator whom one user follows; this user is asked for until the item is on the list. ``publish_*_ms``
is the time from its send to the reply: too long by up to the time between two requests, and a reply's way.

``stall_*_ms``: how late the worker's loop comes back to a timer, other processes on the machine included;
``held_*_ms``: the CPU time of the loop's thread in between, which is its own doing. ``pieces``: what it does
at one stretch: how often, the longest CPU time, and all of it, ms; ``gc``: passes of the garbage collector.
``stage_*_ms``: all sources, merge, filters and rests of one request; ``stage_cpu_*_ms`` the same in CPU time.
``replies``, ``reply_*_ms``: lists. ``refused``: replies that are an error instead, by code, as
``overloaded`` and ``rate_limited``; they count in no other figure. ``errors``: requests without any reply.
``degraded``: lists that lack something.
``load_items_per_s``: items that a worker reads from the topic until it answers, and per CPU-second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer
from ingest.events import fill
from ingest.measure import Process, Servers, core_apart, cpu_s, servers

from headrace.demo.stack import environment
from headrace.serving.requests.client import RecClient
from headrace.streams.clock import now_ms
from headrace.streams.errors import HeadraceError
from headrace.streams.messages.schemas import Item, RecReply, RecRequest, UserProfile
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.connection import connection
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import partition_of

ROOT = Path(__file__).parents[1]
JSON = msgspec.json.Encoder()
PROBES = 64
CATEGORIES, CREATORS = 200, 20_000


def record(key: str, value: Item | UserProfile) -> tuple[bytes, bytes, int]:
    """Return key, value and time of a record."""
    return key.encode(), JSON.encode(value), now_ms()


def catalogue(n: int, now: int, digits: int = 8) -> list[tuple[bytes, bytes, int]]:
    """Return items published in the last 30 days, most of them old; their names have so many digits."""
    rng = np.random.default_rng(0)
    ages = (rng.random(n) ** 2 * 30 * 86_400_000).astype(np.int64)
    category, creator = rng.integers(0, CATEGORIES, n), rng.integers(0, CREATORS, n)
    return [
        record(f"item-{i:0{digits}d}", Item(
            item_id=f"item-{i:0{digits}d}", title=f"Item number {i} of many",
            category=f"category-{category[i]}", creator_id=f"creator-{creator[i]}",
            tags=[f"tag-{i % 997}", f"tag-{i % 31}"], language="en",
            published_ts=int(now - ages[i]), duration_ms=60_000,
        ))
        for i in range(n)
    ]  # fmt: skip


class Load:
    """Publishes, asks, and notes when a published item is on a list."""

    def __init__(self, settings: Settings, args: argparse.Namespace) -> None:
        self.settings, self.topics, self.args = settings, Topics(settings), args
        self.found: list[float] = []
        self.replies: list[float] = []
        self.errors = self.degraded = 0
        self.refused: Counter[str] = Counter()
        self._probe: tuple[int, str, float] | None = None
        self._made = 0
        self._asked = 0

    async def run(self) -> None:
        """Run for the time asked for."""
        until = time.monotonic() + self.args.seconds
        producer = AIOKafkaProducer(**connection(self.settings), linger_ms=2)
        await producer.start()
        try:
            async with RecClient(self.settings, "bench", timeout_s=5) as client:
                await asyncio.gather(self._publish(producer, until), self._ask(client, until))
        finally:
            await producer.stop()

    async def _publish(self, producer: AIOKafkaProducer, until: float) -> None:
        """Send what is due every 10 ms; begin a probe when none is open."""
        begin, sent = time.monotonic(), 0
        while (now := time.monotonic()) < until:
            due = int((now - begin) * self.args.publish)
            for _ in range(due - sent):
                self._made += 1
                item = Item(
                    item_id=f"new-{self._made}", title=f"New item number {self._made}",
                    category=f"category-{self._made % CATEGORIES}",
                    creator_id=f"creator-{self._made % CREATORS}",
                    published_ts=now_ms(),
                )  # fmt: skip
                await self._send(producer, item.item_id.encode(), JSON.encode(item))
                old = f"item-{self._made:08d}".encode()
                await self._send(producer, old, None)
            sent = due
            if self._probe is None:
                await self._begin_probe(producer)
            await asyncio.sleep(0.01)

    async def _begin_probe(self, producer: AIOKafkaProducer) -> None:
        number = len(self.found) % PROBES
        name = f"probe-{len(self.found)}"
        item = Item(item_id=name, title=name, creator_id=f"probe-creator-{number}", published_ts=now_ms())
        began = time.monotonic()
        await self._send(producer, item.item_id.encode(), JSON.encode(item))
        self._probe = number, name, began

    async def _send(self, producer: AIOKafkaProducer, key: bytes, value: bytes | None) -> None:
        partition = partition_of(key, self.settings.partitions)
        await producer.send(self.topics.items, value, key, partition=partition)

    async def _ask(self, client: RecClient, until: float) -> None:
        begin, tasks = time.monotonic(), set()
        while (now := time.monotonic()) < until:
            due = int((now - begin) * self.args.requests)
            for _ in range(due - self._asked):
                self._asked += 1
                task = asyncio.create_task(self._one(client))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.002)
        await asyncio.gather(*tasks)

    async def _one(self, client: RecClient) -> None:
        probe = self._probe
        user = f"probe-user-{probe[0]}" if probe else f"user-{self._asked % 1000}"
        began = time.monotonic()
        try:
            reply = await client.recommend(
                RecRequest(
                    request_id=f"r-{self._asked}", user_id=user, surface="home", n=100, deadline_ms=2000
                )
            )
        except (HeadraceError, TimeoutError):
            self.errors += 1
            return
        self.take(reply, began, time.monotonic(), probe)

    def take(self, reply: RecReply, began: float, now: float, probe: tuple[int, str, float] | None) -> None:
        """Note a reply that is here ``now`` to a request sent when it ``began``; an error is no list."""
        if reply.error is not None:
            self.refused[reply.error.code] += 1
            return
        self.replies.append(now - began)
        self.degraded += bool(reply.degraded)
        if probe and probe is self._probe and any(i.item_id == probe[1] for i in reply.items):
            self.found.append(now - probe[2])
            self._probe = None


async def bench(args: argparse.Namespace, ours: Servers, folder: Path) -> dict[str, Any]:
    """Load the catalogue, start the workers, run the load."""
    settings = Settings(
        brokers=ours.brokers, redis_url=ours.redis_url, topic_prefix="bench-", data_dir=folder / "data",
        plugins=("retrieval.inside:Inside",), partitions=2,
    )  # fmt: skip
    topics, own = Topics(settings), args.own_core
    await create_topics(settings)
    await fill(settings, topics.items, catalogue(args.items, now_ms()), settings.partitions)
    profiles = [
        record(f"probe-user-{n}", UserProfile(f"probe-user-{n}", followed_creators=[f"probe-creator-{n}"]))
        for n in range(PROBES)
    ]
    await fill(settings, topics.users, profiles, settings.partitions)
    env = environment(settings) | {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "bench"), os.environ.get("PYTHONPATH", "")]),
        "BENCH_INSIDE": str(folder / "inside.json"),
        "BENCH_INSIDE_FROM": str(folder / "begin"),
    }
    command = [sys.executable, "-m", "headrace", "worker"]
    with (
        Process([*command, "serve"], env, folder / "serve.log", ROOT, own) as serve,
        Process([*command, "ingest,aggregate"], env, folder / "ingest.log", ROOT),
    ):
        load_s, load_cpu_s = await ready(settings, serve)
        load = Load(settings, args)
        (folder / "begin").touch()
        await load.run()
        await asyncio.sleep(2)
        inside = json.loads((folder / "inside.json").read_text())
        memory = int((Path(f"/proc/{serve.pid}/statm").read_text().split())[1]) * os.sysconf("SC_PAGESIZE")
    return _report(args, load, inside, load_s, load_cpu_s, memory)


async def ready(settings: Settings, serve: Process) -> tuple[float, float]:
    """Wait until lists are answered; return the time and CPU time of the worker until then, s."""
    began = time.monotonic()
    async with RecClient(settings, "ready", timeout_s=5) as client:
        while time.monotonic() - began < 900:
            if serve.ended():
                raise SystemExit(serve.last_words())
            try:
                request = RecRequest(request_id="ready", user_id="nobody", surface="home", deadline_ms=5000)
                if (await client.recommend(request)).items:
                    return time.monotonic() - began, cpu_s(serve.pid)
            except (HeadraceError, TimeoutError):
                pass
            await asyncio.sleep(0.2)
    raise SystemExit("the worker did not answer")


def _report(
    args: argparse.Namespace,
    load: Load,
    inside: dict[str, Any],
    load_s: float,
    load_cpu_s: float,
    memory: int,
) -> dict[str, Any]:
    out: dict[str, Any] = {
        "items": args.items, "own_core": sorted(args.own_core),
        "published_per_s": args.publish, "requests_per_s": args.requests,
        "replies": len(load.replies), "refused": dict(sorted(load.refused.items())),
        "errors": load.errors, "degraded": load.degraded,
        "probes": len(load.found),
        "candidates": round(inside["candidates"] or 0, 1),
    }  # fmt: skip
    for name, times in (("publish", load.found), ("reply", load.replies)):
        for q in (50, 99):
            out[f"{name}_p{q}_ms"] = round(1000 * float(np.percentile(times, q)), 1) if times else None
    for ours, theirs in (("stall", "late"), ("held", "held"), ("stage", "stage"), ("stage_cpu", "stage_cpu")):
        for q in ("p50", "p99", "max"):
            out[f"{ours}_{q}_ms"] = round(inside[theirs][q], 3)
    out["pieces"] = {
        name: {what: round(value, 1) for what, value in each.items()}
        for name, each in inside["pieces"].items()
    }
    return out | {
        "start_s": round(load_s, 1),
        "load_items_per_s": round(args.items / load_s),
        "load_items_per_cpu_s": round(args.items / load_cpu_s),
        "serve_mb": round(memory / 2**20),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--publish", type=int, default=1000, help="items a second")
    parser.add_argument("--requests", type=int, default=100, help="lists a second")
    parser.add_argument("--broker", choices=("auto", "kafka", "embedded"), default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.own_core = core_apart()
    with tempfile.TemporaryDirectory() as folder, servers(args.broker) as ours:
        text = json.dumps(asyncio.run(bench(args, ours, Path(folder))), indent=1)
    print(text)
    if args.json:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
