"""What ``headrace digest`` costs the readers: interactive requests with and without it, in turns.

    python bench/bench_digest.py [--items N] [--users N] [--requests N] [--rounds N]    # prints JSON

A serving worker in a process of its own, over a real Kafka where there is one: a catalogue of ``items``,
``users`` with ten clicks each, an online model and a ranker with three objectives. ``requests`` lists a
second are asked for at fixed times, all the time. In every second spell, ``headrace digest`` runs too; at the
end of the spell it is stopped with Ctrl-C, and goes on in the next one.

``p50_ms``, ``p99_ms``: from the request to its reply at the caller, without and with the digest, all spells
together; ``p99_ratio`` is the second by the first. ``in_time``: share of full lists. ``lists_per_s``: of the
digest. ``lists_per_cpu_s``: of the CPU time of the worker that the spells with it took more than those
without. Load and digest take CPU of the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bench_scoring import trained
from bench_serving import JSON, ROOT, catalogue, ready
from ingest.events import fill
from ingest.measure import Process, Servers, cpu_s, servers

from headrace.demo.stack import environment
from headrace.models.features.spec import ONLINE_NAMES
from headrace.models.learning import online, ranker
from headrace.models.learning.online import OnlineWeights
from headrace.serving.requests.client import RecClient
from headrace.streams.clock import now_ms
from headrace.streams.errors import HeadraceError
from headrace.streams.messages.schemas import Event, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics

CLICKS, PART = 10, 50


@dataclass
class Spells:
    """What was measured in the spells of one kind."""

    waits: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0
    lists: int = 0
    full: int = 0
    errors: int = 0

    def figures(self) -> dict[str, Any]:
        """Return the figures of the interactive requests."""
        p50, p99 = (round(1000 * float(np.percentile(self.waits, q)), 2) for q in (50, 99))
        return {
            "replies": len(self.waits), "errors": self.errors, "p50_ms": p50, "p99_ms": p99,
            "in_time": round(self.full / max(1, len(self.waits)), 4),
            "cpu_per_s": round(self.cpu / self.seconds, 3),
        }  # fmt: skip


def clicks(items: int, users: int, now: int) -> list[tuple[bytes, bytes, int]]:
    """Return clicks of the last half hour, most of them on few items."""
    rng = np.random.default_rng(2)
    at = (items * rng.random(users * CLICKS) ** 3).astype(np.int64)
    out = []
    for n, item in enumerate(at.tolist()):
        user = f"user-{n % users}"
        event = Event(f"e-{n}", "click", user, f"item-{item:08d}", now - 1_800_000 + n % 1_700_000)
        out.append((user.encode(), JSON.encode(event), now))
    return out


def models() -> list[tuple[bytes, bytes, int]]:
    """Return the records of an online model and a ranker."""
    n = len(ONLINE_NAMES)
    weights = np.random.default_rng(1).standard_normal(n).astype(np.float32) / 9
    model = OnlineWeights(np.zeros(n, np.float32), np.ones(n, np.float32), weights, -1.0, "o1")
    found = {
        online.NAME: online.encode(model, now_ms(), {}),
        ranker.NAME: ranker.encode(trained(20_000, 120).objectives, now_ms(), {}),
    }
    return [(name.encode(), body, now_ms()) for name, (body, _) in found.items()]


class Readers:
    """Ask for lists at fixed times, for ever; what they wait is noted in the spells of the moment."""

    def __init__(self, client: RecClient, args: argparse.Namespace) -> None:
        self._client, self._args = client, args
        self._asked = 0
        self.spells: Spells | None = None

    async def ask(self) -> None:
        """Ask until cancelled."""
        begin, tasks = time.monotonic(), set()
        while True:
            for _ in range(int((time.monotonic() - begin) * self._args.requests) - self._asked):
                self._asked += 1
                task = asyncio.create_task(self._one(self._asked, self.spells))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(0.001)

    async def _one(self, number: int, spells: Spells | None) -> None:
        user = f"user-{number * 7 % self._args.users}"
        began = time.monotonic()
        try:
            reply = await self._client.recommend(RecRequest(f"r-{number}", user, "home"))
        except (HeadraceError, TimeoutError):
            if spells is not None:
                spells.errors += 1
            return
        if spells is not None:
            spells.waits.append(time.monotonic() - began)
            spells.full += not {"deadline", "rung:first", "rung:fewer"} & set(reply.degraded)


class Digest:
    """``headrace digest``, run in spells."""

    def __init__(self, settings: Settings, folder: Path, users: int) -> None:
        self._folder, self._env = folder, environment(settings)
        (folder / "users.txt").write_text("\n".join(f"user-{n}" for n in range(users)))

    def process(self) -> Process:
        """Return the command, to be started."""
        users, out = self._folder / "users.txt", self._folder / "lists.parquet"
        command = [sys.executable, "-m", "headrace", "digest", str(users), "--out", str(out)]
        log = self._folder / "digest.log"
        return Process([*command, "--part", str(PART)], self._env, log, ROOT)

    def lists(self) -> int:
        """Return how many users have a list."""
        return PART * len(list((self._folder / "lists.parquet.parts").glob("part-*.parquet")))

    async def stop(self, process: Process) -> None:
        """Stop it; it must not be over."""
        if process.ended():
            raise SystemExit(f"the digest is over, give it more --digest-users:\n{process.last_words()}")
        os.kill(process.pid, signal.SIGTERM)  # SIGINT is ignored where a shell has put us into the background
        while not process.ended():
            await asyncio.sleep(0.05)

    async def flows(self, process: Process) -> None:
        """Wait until it gets lists."""
        before, until = self.lists(), time.monotonic() + 120
        while self.lists() == before:
            if process.ended() or time.monotonic() > until:
                raise SystemExit(f"the digest gets no list:\n{process.last_words()}")
            await asyncio.sleep(0.05)


async def spell(readers: Readers, spells: Spells, serve: Process, digest: Digest, seconds: float) -> None:
    """Measure for some seconds."""
    began, cpu, lists = time.monotonic(), cpu_s(serve.pid), digest.lists()
    readers.spells = spells
    await asyncio.sleep(seconds)
    readers.spells = None
    spells.seconds += time.monotonic() - began
    spells.cpu += cpu_s(serve.pid) - cpu
    spells.lists += digest.lists() - lists


async def bench(args: argparse.Namespace, ours: Servers, folder: Path) -> dict[str, Any]:
    """Fill the topics, start the workers, measure in turns."""
    settings = Settings(
        brokers=ours.brokers, redis_url=ours.redis_url, topic_prefix="bench-", data_dir=folder / "data",
        partitions=2, bulk_share=args.share,
    )  # fmt: skip
    topics, now = Topics(settings), now_ms()
    await create_topics(settings)
    await fill(settings, topics.items, catalogue(args.items, now), settings.partitions)
    await fill(settings, topics.events, clicks(args.items, args.users, now), settings.partitions)
    await fill(settings, topics.models, models(), 1)
    command, env = [sys.executable, "-m", "headrace", "worker"], environment(settings)
    without, beside = Spells(), Spells()
    digest = Digest(settings, folder, args.digest_users)
    with (
        Process([*command, "serve"], env, folder / "serve.log", ROOT) as serve,
        Process([*command, "ingest,aggregate"], env, folder / "ingest.log", ROOT),
    ):
        await ready(settings, serve)
        while any(row.records for row in await lag(settings) if row.agent in {"ingest", "aggregate"}):
            await asyncio.sleep(0.5)
        async with RecClient(settings, "readers", timeout_s=10) as client:
            readers = Readers(client, args)
            asking = asyncio.create_task(readers.ask())
            await asyncio.sleep(min(5.0, args.seconds))  # warm
            for _ in range(args.rounds):
                await spell(readers, without, serve, digest, args.seconds)
                with digest.process() as running:
                    await digest.flows(running)
                    await spell(readers, beside, serve, digest, args.seconds)
                    await digest.stop(running)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    return report(args, ours, without, beside)


def report(args: argparse.Namespace, ours: Servers, without: Spells, beside: Spells) -> dict[str, Any]:
    """Return the figures."""
    more = beside.cpu - without.cpu * beside.seconds / without.seconds
    first, second = without.figures(), beside.figures()
    return {
        "broker": ours.kind, "items": args.items, "users": args.users, "requests_per_s": args.requests,
        "share": args.share, "rounds": args.rounds, "seconds": args.seconds,
        "without": first, "with_digest": second,
        "p99_ratio": round(second["p99_ms"] / first["p99_ms"], 3),
        "lists": beside.lists, "lists_per_s": round(beside.lists / beside.seconds, 1),
        "lists_per_cpu_s": round(beside.lists / more, 1) if more > 0 else None,
    }  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=5000, help="users with clicks; they ask for lists")
    parser.add_argument("--digest-users", type=int, default=1_000_000, help="users of the digest")
    parser.add_argument("--requests", type=float, default=50, help="lists a second for readers")
    parser.add_argument("--seconds", type=float, default=20, help="length of a spell")
    parser.add_argument("--rounds", type=int, default=5, help="spells without, and with the digest")
    parser.add_argument("--share", type=float, default=0.5, help="HEADRACE_BULK_SHARE")
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
