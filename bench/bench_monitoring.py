"""What monitoring costs ingest and serving: CPU of an event and of an answer with and without it, in turns.

    python bench/bench_monitoring.py [--rounds N] [--seconds N] [--requests N] [--events N]    # prints JSON

Two installations on one broker and one store, each with a process for `ingest`, `aggregate` and one for
`serve`, a catalogue, users with clicks, an online model and a ranker. ``with``: workers say their metrics and
measure recall and skew, a role `monitor` reads them every two seconds and the lag every second, and a canary
probes. ``without``: no metrics are served, and there is neither monitor nor canary. Both run all the time; in
turns, one of them gets ``events`` events and ``requests`` requests a second for some seconds.

``event_us``: CPU time of the ingest process for each event sent, median of the rounds; ``answer_ms``: that of
the serving process for each reply. The events and requests of the canary are not counted, their cost is.
``more_percent``: by how much those with monitoring are larger (the median of the rounds' ratios, each of two
spells one after the other); ``together`` is the CPU time of both processes. ``of_a_core_percent``: the
difference as a share of a core; ``watchers``: CPU of the processes of monitor and canary themselves, as a
share of a core. Smaller loads make the same work a larger share: name the load beside the figure.
``lag_age_s``: how old the lag on an open dashboard is when the next one takes its place.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from answering.caller import Caller
from bench_digest import models
from bench_serving import ROOT, ready
from ingest import events as ev
from ingest.measure import Process, Servers, servers
from lag_age import LagAge

from headrace.demo.stack import environment, free_ports
from headrace.streams.clock import now_ms
from headrace.streams.settings import Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.connection import connection
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import partition_of

MIX, COUNTRIES = ev.Mix(users=20_000, active=5000, items=20_000), ("DE", "FR", "US", "BR")
#: Events that are there before the workers start.
HISTORY = 50_000
#: After the last event and request of a spell, what is under way ends within it, s.
DRAIN_S = 1.0
#: Events are sent so often, s.
TURN_S = 0.02


@dataclass(frozen=True, slots=True)
class Spell:
    """What one installation did in a spell: CPU times, s, events that were sent and replies that came."""

    ingest_s: float
    serve_s: float
    watchers_s: float
    seconds: float
    events: int
    replies: int

    @property
    def event_us(self) -> float:
        """Return the CPU time of an event."""
        return 1e6 * self.ingest_s / self.events

    @property
    def answer_ms(self) -> float:
        """Return the CPU time of an answer."""
        return 1e3 * self.serve_s / self.replies

    @property
    def of_a_core(self) -> float:
        """Return the CPU time of ingest and serving as a share of a core."""
        return (self.ingest_s + self.serve_s) / self.seconds


@dataclass(slots=True)
class Installation:
    """One of the two; ``watchers`` are the processes of monitor and canary."""

    settings: Settings
    watched: bool
    ingest: Process
    serve: Process
    watchers: list[Process]
    producer: AIOKafkaProducer
    spells: list[Spell] = field(default_factory=list)
    sent: int = HISTORY

    def cpu_s(self) -> tuple[float, float, float]:
        """Return the CPU time so far of ingest, serving, watchers."""
        return self.ingest.cpu_s(), self.serve.cpu_s(), sum(one.cpu_s() for one in self.watchers)

    async def spell(self, events: list[ev.Record], args: argparse.Namespace) -> None:
        """Send events and requests for some seconds; note what that cost."""
        users = sorted({key.decode() for key, _, _ in events[:HISTORY]})
        async with Caller(self.settings, users, COUNTRIES) as caller:
            await caller.at_rate(10, 0.5, 10_000)
            began, cpu, first = time.monotonic(), self.cpu_s(), self.sent
            asked, _ = await asyncio.gather(
                caller.at_rate(args.requests, args.seconds, 10_000),
                self._send(events, args.events, args.seconds),
            )
            await asyncio.sleep(DRAIN_S)
        if not asked.answered:
            raise SystemExit(f"no request was answered:\n{self.serve.last_words()}")
        seconds, now = time.monotonic() - began, self.cpu_s()
        used = [after - before for before, after in zip(cpu, now, strict=True)]
        self.spells.append(Spell(*used, seconds, self.sent - first, asked.answered))

    async def _send(self, events: list[ev.Record], rate: float, seconds: float) -> None:
        """Send events at a rate; each is sent once."""
        topic, began, first = Topics(self.settings).events, time.monotonic(), self.sent
        while (passed := time.monotonic() - began) < seconds:
            due = min(first + int(passed * rate), len(events))
            for key, value, at in events[self.sent : due]:
                partition = partition_of(key, self.settings.partitions)
                await self.producer.send(topic, value, key, partition=partition, timestamp_ms=at)
            self.sent = due
            await asyncio.sleep(TURN_S)
        await self.producer.flush()


def note(text: str) -> None:
    """Print a message on stderr: stdout is for the JSON."""
    print(text, file=sys.stderr, flush=True)


async def installed(
    stack: ExitStack, ours: Servers, folder: Path, events: list[ev.Record], *, watched: bool
) -> Installation:
    """Fill the topics of an installation, and start it."""
    name = "with" if watched else "without"
    ports = free_ports(5) if watched else 0
    settings = Settings(
        brokers=ours.brokers, redis_url=ours.redis_url, topic_prefix=f"{name}-", data_dir=folder / name,
        partitions=2, metrics_port=ports,
        **({"monitor_port": ports + 4, "monitor_targets": tuple(f"127.0.0.1:{ports + n}" for n in range(3))}
           if watched else {}),
    )  # fmt: skip
    topics = Topics(settings)
    await create_topics(settings)
    await ev.fill(settings, topics.items, ev.catalogue(MIX, now_ms()), settings.partitions)
    await ev.fill(settings, topics.events, events[:HISTORY], settings.partitions)
    await ev.fill(settings, topics.models, models(), 1)

    def start(roles: str, number: int) -> Process:
        port = {"metrics_port": ports + number if watched else 0}
        env = environment(settings.model_copy(update=port))
        log = folder / f"{name}-{roles}.log"
        return stack.enter_context(
            Process([sys.executable, "-m", "headrace", "worker", roles], env, log, ROOT)
        )

    serve, ingest = start("serve", 0), start("ingest,aggregate", 1)
    await ready(settings, serve)
    watchers = [start("canary", 2), start("monitor", 3)] if watched else []
    producer = AIOKafkaProducer(**connection(settings), linger_ms=5)
    await producer.start()
    return Installation(settings, watched, ingest, serve, watchers, producer)


async def bench(args: argparse.Namespace, ours: Servers, folder: Path) -> dict[str, Any]:
    """Start both, measure in turns."""
    each = HISTORY + int((args.rounds + 1) * args.seconds * args.events) + 1
    events = ev.mixed(each, MIX, now_ms())
    with ExitStack() as stack:
        both = [await installed(stack, ours, folder, events, watched=w) for w in (False, True)]
        (watched,) = (one for one in both if one.watched)
        age = LagAge(f"http://127.0.0.1:{watched.settings.monitor_port}/stream")
        reading = asyncio.create_task(age.run())
        try:
            note("both are up")
            for turn in range(args.rounds + 1):
                for one in both if turn % 2 else reversed(both):
                    await one.spell(events, args)
                    last = one.spells[-1]
                    note(
                        f"round {turn} {'with' if one.watched else 'without'}: "
                        f"{last.event_us:.1f} us an event, {last.answer_ms:.2f} ms an answer"
                    )
        finally:
            reading.cancel()
            for one in both:
                await one.producer.stop()
    found = report(args, ours, *(one.spells[1:] for one in both))  # the first ones are warm-up
    return found | {"lag_age_s": age.figures()}


def report(
    args: argparse.Namespace, ours: Servers, without: list[Spell], beside: list[Spell]
) -> dict[str, Any]:
    """Return the figures."""
    pairs = list(zip(without, beside, strict=True))

    def more(name: str) -> float:
        ratio = statistics.median(getattr(b, name) / getattr(a, name) for a, b in pairs)
        return round(100 * (ratio - 1), 2)

    def figures(spells: list[Spell]) -> dict[str, float]:
        return {
            "event_us": round(statistics.median(s.event_us for s in spells), 2),
            "answer_ms": round(statistics.median(s.answer_ms for s in spells), 3),
            "of_a_core_percent": round(100 * statistics.median(s.of_a_core for s in spells), 2),
            "events_per_s": round(statistics.median(s.events / s.seconds for s in spells)),
            "replies_per_s": round(statistics.median(s.replies / s.seconds for s in spells), 1),
        }

    return {
        "broker": ours.kind, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2),
        "rounds": args.rounds, "seconds": args.seconds, "items": MIX.items,
        "without": figures(without), "with": figures(beside),
        "more_percent": {
            "event": more("event_us"), "answer": more("answer_ms"), "together": more("of_a_core"),
        },
        "of_a_core_percent": round(100 * statistics.median(b.of_a_core - a.of_a_core for a, b in pairs), 2),
        "watchers": round(100 * statistics.median(b.watchers_s / b.seconds for b in beside), 2),
    }  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=float, default=80, help="a second")
    parser.add_argument("--events", type=float, default=5000, help="a second")
    parser.add_argument("--seconds", type=float, default=15, help="length of a spell")
    parser.add_argument("--rounds", type=int, default=9, help="spells of each kind, after one to warm up")
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
