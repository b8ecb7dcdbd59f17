"""A serving worker over a broker, with everything it needs: latency, CPU of an answer, saturation, overload.

    python bench/bench_serve.py [--items N] [--broker kafka|embedded|both] [--plot FILE]    # prints JSON

A catalogue of ``items``, of which the role ``index`` has written a snapshot; events of 50,000 users, counted
by ``ingest`` and ``aggregate``; a ranker with three objectives and an online model on `models`. One worker
with the role ``serve`` answers requests of those users, 20 slots from about 500 candidates each. It has a
core of its own when there are two; all else shares the others. Figures of each broker:

``p50_ms``, ``p90_ms``, ``p99_ms``: at ``--rate`` requests a second, from the send of a request to its reply,
at the caller; ``with_events`` the same while other processes count ``--events-per-s`` events.
``saturation_per_s``: full answers a second while 32 requests wait at any time; ``cpu_ms_per_answer``: CPU
time of the process for each, all its threads; ``cpu_ms_at_rate`` the same at ``--rate``, less what it uses
when nobody asks. ``overload``: three times saturation, with the default deadline of 150 ms:
``in_deadline_at_caller`` is the share of replies that the caller had in time, ``out_in_200_ms`` of those that
left the worker within 200 ms of the request; ``refused``: replies that are an error instead of a list, by
code, ``errors``: all of them; ``empty``: lists without items; ``rungs``: lists by how much there was time
for; ``timeline``: the same in each second. ``stages``: p50 and p99 of every stage at ``--rate``, read from
the worker's metrics. ``restart_s``: from the start of a new process to its first full list, after the old
one was told to stop. ``machine.pace_ms``: how fast the machine was before and after (``machine_pace.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import ClientSession
from answering.caller import Caller, Outcome
from bench_scoring import trained
from bench_serving import catalogue
from ingest.events import COUNTRIES, Mix, fill, mixed
from ingest.measure import Positions, Process, Servers, core_apart, cpu_s, servers
from machine_pace import pace_ms
from prometheus_client.parser import text_string_to_metric_families

from headrace.agents.stage.pointing import publication
from headrace.demo.embedded import free_port
from headrace.demo.stack import environment
from headrace.models.features.spec import ONLINE_NAMES
from headrace.models.learning import online, pointers, ranker
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.shelf import Shelf
from headrace.serving.snapshot.folder import folder_of
from headrace.streams.clock import now_ms
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

ROOT = Path(__file__).parents[1]
WAITING = 32
DEADLINE_MS = 150
#: Saturation is measured after so long, s.
SETTLE_S = 2.0
#: Nobody asks for so long, for the CPU time of an idle worker, s.
IDLE_S = 5.0
RUNGS = ("full", "fewer", "first", "popular")


@dataclass(slots=True)
class World:
    """What is measured, and where it is."""

    settings: Settings
    folder: Path
    users: list[str]
    metrics_port: int
    own_core: frozenset[int]

    def worker(self, roles: str, *, serving: bool = False) -> Process:
        """Return a worker."""
        s = self.settings
        if serving:
            s = s.model_copy(update={"metrics_port": self.metrics_port})
        command = [sys.executable, "-m", "headrace", "worker", roles]
        log = self.folder / f"{roles.split(',')[0]}.log"
        return Process(command, environment(s), log, ROOT, self.own_core if serving else frozenset())


async def make(args: argparse.Namespace, ours: Servers, folder: Path) -> World:
    """Write the catalogue, the events and the models; build the snapshot."""
    prefix = f"bench-{ours.kind}-"
    settings = Settings(
        brokers=ours.brokers,
        redis_url=ours.redis_url,
        topic_prefix=prefix,
        data_dir=folder / "data",
        partitions=2,
    )
    topics, now = Topics(settings), now_ms()
    await create_topics(settings)
    await fill(settings, topics.items, catalogue(args.items, now, digits=6), settings.partitions)
    events = mixed(args.events, Mix(), now)
    await fill(settings, topics.events, events, settings.partitions)
    await models(settings, topics.models)
    users = sorted({key.decode() for key, _, _ in events})
    world = World(settings, folder, users, free_port(), args.own_core)
    with world.worker("index") as process:
        await until((folder_of(settings) / "CURRENT").exists, process, "snapshot", 900)
    return world


async def models(settings: Settings, topic: str) -> None:
    """Publish a ranker with three objectives, and an online model."""
    value, version = ranker.encode(trained(20_000, 120).objectives, 1, {})
    wanted = pointers.made_live(pointers.Pointers(), version, 1, "bench", "")
    n, rng = len(ONLINE_NAMES), np.random.default_rng(1)
    weights = OnlineWeights(
        np.zeros(n, np.float32),
        np.ones(n, np.float32),
        rng.standard_normal(n).astype(np.float32) / 9,
        -1.0,
        "",
    )
    record = (online.NAME.encode(), online.encode(weights, 1, {})[0], None, ())
    sender = BatchSender(settings)
    await sender.start()
    await sender.send_many(topic, [*publication(Shelf(), wanted, [(version, value)]), record], partition=0)
    await sender.stop()


async def counted(positions: Positions, settings: Settings, process: Process) -> None:
    """Wait until all events are counted."""
    topics = Topics(settings)

    async def behind() -> int:
        left = 0
        for role, topic in (("ingest", topics.events), ("aggregate", topics.item_events)):
            ends = await positions.ends(topic, settings.partitions)
            done = await positions.committed(settings.name(f"headrace-{role}"), topic)
            left += sum(end - done.get(p, 0) for p, end in ends.items())
        return left

    for _ in range(600):
        if process.ended():
            raise SystemExit(process.last_words())
        if await positions.ends(topics.item_events, 1) != {0: 0} and not await behind():
            return
        await asyncio.sleep(0.5)
    raise SystemExit("the events were not counted")


async def until(true: Any, process: Process, what: str, seconds: float) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        if process.ended() or time.monotonic() > end:
            raise SystemExit(f"no {what}\n{process.last_words()}")
        await asyncio.sleep(0.2)


class Scrape:
    """The metrics of the worker at one moment."""

    def __init__(self, text: str) -> None:
        self._samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def rungs(self) -> dict[str, float]:
        """Return lists by rung."""
        return {r: self._samples.get(("headrace_rungs_total", ("rung", r)), 0.0) for r in RUNGS}

    def buckets(self, name: str) -> dict[str, dict[float, float]]:
        """Return, by the value of its one label, upper bounds and how many are below."""
        out: dict[str, dict[float, float]] = {}
        for (sample, *labels), value in self._samples.items():
            told = dict(labels)
            if sample == f"{name}_bucket":
                bound = float(told.pop("le"))
                out.setdefault("".join(told.values()), {})[bound] = value
        return out

    @staticmethod
    async def of(port: int) -> Scrape:
        """Ask a worker."""
        async with ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            return Scrape(await answer.text())


def between(before: Scrape, after: Scrape, name: str) -> dict[str, dict[str, float | int | None]]:
    """Return number, p50 and p99 (ms) of what came between two moments, from the buckets."""
    old, out = before.buckets(name), {}
    for stage, bounds in after.buckets(name).items():
        below = sorted((le, n - old.get(stage, {}).get(le, 0.0)) for le, n in bounds.items())
        total = below[-1][1]
        if total:
            out[stage] = {"n": int(total), "p50_ms": quantile(below, 0.5), "p99_ms": quantile(below, 0.99)}
    return out


def quantile(below: list[tuple[float, float]], q: float) -> float | None:
    """Return a quantile (ms), between the bounds of its bucket as if all in it were spread evenly."""
    wanted, low, under = q * below[-1][1], 0.0, 0.0
    for bound, count in below:
        if count >= wanted:
            if math.isinf(bound):
                return None
            return round(1000 * (low + (bound - low) * (wanted - under) / max(count - under, 1e-9)), 3)
        low, under = bound, count
    return None


async def overload(world: World, caller: Caller, rate: float, seconds: float) -> dict[str, Any]:
    """Ask for more than can be answered in full."""
    before = last = await Scrape.of(world.metrics_port)
    timeline: list[dict[str, float]] = []

    async def watch() -> None:
        nonlocal last
        while True:
            await asyncio.sleep(1)
            now = await Scrape.of(world.metrics_port)
            timeline.append({r: n - last.rungs()[r] for r, n in now.rungs().items()})
            last = now

    watching = asyncio.create_task(watch())
    out = await caller.at_rate(rate, seconds, DEADLINE_MS)
    watching.cancel()
    after = await Scrape.of(world.metrics_port)
    return {
        "rate_per_s": round(rate), "sent": out.sent, "unanswered": out.sent - out.answered,
        "errors": out.errors, "refused": dict(sorted(out.refused.items())), "empty": out.empty,
        "in_deadline_at_caller": round(out.within(DEADLINE_MS / 1000) / max(out.answered, 1), 5),
        "out_in_200_ms": in_time(before, after, out.answered),
        "degraded": out.degraded,
        "rungs": {r: int(n - before.rungs()[r]) for r, n in after.rungs().items()},
        **out.percentiles(50, 90, 99),
        "timeline": timeline, "slow_by_second": by_second(out),
    }  # fmt: skip


def in_time(before: Scrape, after: Scrape, answered: int) -> float | None:
    """Return the share of replies that left the worker within 200 ms, the bucket that is nearest above."""
    old, new = (s.buckets("headrace_reply_seconds").get("home", {}) for s in (before, after))
    late = (new.get(math.inf, 0) - old.get(math.inf, 0)) - (new.get(0.2, 0) - old.get(0.2, 0))
    return round(1 - late / answered, 5) if answered else None


def by_second(out: Outcome) -> list[float]:
    """Return the slowest reply of the requests of each second, ms."""
    found: dict[int, float] = {}
    for at, took in zip(out.at, out.times, strict=True):
        found[int(at)] = max(found.get(int(at), 0.0), took)
    return [round(1000 * found[second], 1) for second in sorted(found)]


async def bench(args: argparse.Namespace, ours: Servers, folder: Path) -> dict[str, Any]:
    """Measure on one broker."""
    world = await make(args, ours, folder)
    out: dict[str, Any] = {"items": args.items, "rate_per_s": args.rate}
    # Without `ingest`, rows in Redis may be old, and replies say so.
    with world.worker("ingest,aggregate") as process:
        async with Positions(ours.brokers) as positions:
            await counted(positions, world.settings, process)
        return out | await measure(args, world)


async def measure(args: argparse.Namespace, world: World) -> dict[str, Any]:
    """Measure while the events are counted."""
    out: dict[str, Any] = {}
    async with Caller(world.settings, world.users, COUNTRIES) as caller:
        with world.worker("serve", serving=True) as serve:
            out["start_s"] = round(await caller.first(300), 1)
            note(f"first list after {out['start_s']} s")
            await caller.at_rate(args.rate, 5, 2000)  # warm
            idle_before, began = cpu_s(serve.pid), time.perf_counter()
            await asyncio.sleep(IDLE_S)
            idle_per_s = (cpu_s(serve.pid) - idle_before) / (time.perf_counter() - began)
            before, used, began = await Scrape.of(world.metrics_port), cpu_s(serve.pid), time.perf_counter()
            found = await caller.at_rate(args.rate, args.seconds, DEADLINE_MS)
            used, took = cpu_s(serve.pid) - used, time.perf_counter() - began
            after = await Scrape.of(world.metrics_port)
            out |= found.percentiles(50, 90, 99)
            out["full"] = round(found.full / max(found.sent, 1), 4)
            out["cpu_ms_at_rate"] = round(1000 * (used - idle_per_s * took) / max(found.answered, 1), 3)
            out["idle_cpu_per_s"] = round(idle_per_s, 4)
            out["stages"] = between(before, after, "headrace_stage_seconds")
            await caller.in_flight(WAITING, SETTLE_S)  # no deadline of the requests before is believed now
            used = cpu_s(serve.pid)
            most = await caller.in_flight(WAITING, args.seconds / 2)
            out["cpu_ms_per_answer"] = round(1000 * (cpu_s(serve.pid) - used) / max(most.full, 1), 3)
            out["saturation_per_s"] = round(most.full / most.seconds, 1)
            note(json.dumps({k: v for k, v in out.items() if k != "stages"}))
            out["with_events"] = await with_events(args, world, caller)
            out["overload"] = await overload(world, caller, 3 * out["saturation_per_s"], args.overload_s)
        with world.worker("serve", serving=True):
            out["restart_s"] = round(await caller.first(120), 2)
    return out


async def with_events(args: argparse.Namespace, world: World, caller: Caller) -> dict[str, Any]:
    """Measure at the rate while other processes count events."""
    topics, per_turn = Topics(world.settings), max(1, args.events_per_s // 10)
    records = mixed(per_turn * 50, Mix(seed=8), now_ms())

    async def send() -> None:
        began, turn = time.perf_counter(), 0
        while True:
            at = turn % 50 * per_turn
            stamp = now_ms()
            part = [(k, v, stamp) for k, v, _ in records[at : at + per_turn]]
            await fill(world.settings, topics.events, part, world.settings.partitions)
            turn += 1
            await asyncio.sleep(max(0.0, began + turn / 10 - time.perf_counter()))

    sending = asyncio.create_task(send())
    found = await caller.at_rate(args.rate, args.seconds, DEADLINE_MS)
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    return {
        "events_per_s": args.events_per_s,
        "unanswered": found.sent - found.answered,
        **found.percentiles(50, 90, 99),
    }


def note(text: str) -> None:
    """Say how far it is."""
    print(text, file=sys.stderr, flush=True)


def plot(found: dict[str, Any], path: Path) -> None:
    """Draw which rungs were taken in each second of the overload."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), squeeze=False)[:, 0]
    for axis, (broker, one) in zip(axes, found.items(), strict=True):
        over = one["overload"]
        seconds = range(1, len(over["timeline"]) + 1)
        axis.stackplot(seconds, [[t[r] for t in over["timeline"]] for r in RUNGS], labels=RUNGS)
        axis.set_title(f"{broker}: {over['rate_per_s']} requests/s, three times what is answered in full")
        axis.set_xlabel("s", loc="right")
        axis.set_ylabel("lists/s")
        axis.margins(0)
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, frameon=False)
    figure.savefig(path)


def brokers(name: str) -> Iterator[str]:
    """Yield the brokers to measure on."""
    yield from ("kafka", "embedded") if name == "both" else (name,)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    parser.add_argument("--events-per-s", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--overload-s", type=float, default=60)
    parser.add_argument("--broker", choices=("kafka", "embedded", "both"), default="both")
    parser.add_argument("--plot", type=Path, help="write the rungs under overload to this picture")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.own_core = core_apart()
    found: dict[str, Any] = {}
    paces = [pace_ms()]
    for kind in brokers(args.broker):
        with tempfile.TemporaryDirectory() as folder, servers(kind) as ours:
            found[kind] = asyncio.run(bench(args, ours, Path(folder)))
        paces.append(pace_ms())
    machine = {
        "cores": os.cpu_count(), "own_core": sorted(args.own_core), "load_average": os.getloadavg()[0],
        "pace_ms": paces,
    }  # fmt: skip
    text = json.dumps({"machine": machine, **found}, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text)
    if args.plot:
        plot(found, args.plot)


if __name__ == "__main__":
    main()
