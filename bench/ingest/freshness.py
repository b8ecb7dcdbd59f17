"""Time from the send of an event to its count in Redis, under a load of half of the pipeline's throughput.

Each marker user clicks about once a second. The time just before ``send`` is noted for every click. Every few
ms, a reader reads the rows of all clicks that have not arrived, in one MGET. A click has arrived when
``n_clicks`` of its user includes it. So a measured delay is never too short, and too long by at most the time
between two reads and the time of a read (both are in the result). Sender, reader, load, worker, broker and
Redis share the machine's cores. The pipeline runs as in docker-compose.yml, one process per role.

As a program (``python -m ingest.freshness BROKERS PREFIX RATE SECONDS`` in bench/) it is the load.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer

from headrace.demo.stack import environment
from headrace.models.state import users as user_state
from headrace.serving.store.redis import RedisStore
from headrace.streams.clock import now_ms
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.ids import hash64
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.connection import connection
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import partition_of
from ingest.events import Mix, mixed
from ingest.measure import Process, touch_memory
from ingest.systems import OURS, ROOT, Bench, FailedError

MARKERS = 50
PROBES_PER_S = 50
POLL_S = 0.004
#: The load sends what is due this often, a batch a partition.
TICK_S = 0.01
#: Making an event of the load takes less than this.
MAKING_S = 12e-6
#: The load continues for this long after the last probe, at most as long as the warm-up.
COOL_DOWN_S = 3.0


def click(user: str, number: int, ts: int) -> bytes:
    """Return a marker's click."""
    return (
        f'{{"event_id":"probe-{user}-{number}","type":"click","user_id":"{user}",'
        f'"item_id":"item-{number % 997:06d}","ts":{ts},"surface":"home",'
        f'"context":{{"country":"DE","device":"phone"}}}}'
    ).encode()


# --- the load, a process of its own ---


async def load(settings: Settings, rate: int, seconds: float) -> dict[str, float]:
    """Send the mix, dated as it is sent, at ``rate`` events per second; return the rate reached.

    All batches are made before the first send, so that the load uses little CPU time: usually, producers are
    on other machines.
    """
    topic = Topics(settings).events
    producer = AIOKafkaProducer(
        **connection(settings),
        acks=1,
        compression_type="zstd",
        max_batch_size=64 * 1024,
    )
    await producer.start()
    try:
        began = time.time() + MAKING_S * rate * seconds
        ticks = batches(producer, settings.partitions, rate, seconds, round(began * 1000))
        await asyncio.sleep(max(0.0, began - time.time()))
        print("ready", flush=True)
        futures: set[asyncio.Future[Any]] = set()
        began = max(began, time.time())
        for number, made in enumerate(ticks):
            await asyncio.sleep(max(0.0, began + number * TICK_S - time.time()))
            for partition, builder in made:
                future = await producer.send_batch(builder, topic, partition=partition)
                futures.add(future)
                future.add_done_callback(futures.discard)
        wall = time.time() - began
        await asyncio.gather(*futures)
    finally:
        await producer.stop()
    sent = sum(builder.record_count() for made in ticks for _, builder in made)
    return {"sent": sent, "events_per_s": round(sent / wall)}


def batches(
    producer: AIOKafkaProducer, partitions: int, rate: int, seconds: float, began_ms: int
) -> list[list[tuple[int, Any]]]:
    """Return the finished batches of every tick, with their partitions."""
    tick_ms, per_tick = round(TICK_S * 1000), rate * TICK_S
    events = mixed(int(rate * seconds), Mix(seed=11, straggling=0), began_ms)
    ticks: list[list[tuple[int, Any]]] = []
    open_ones: dict[int, Any] = {}
    for n, (key, value, _) in enumerate(events):
        while n >= len(ticks) * per_tick:
            open_ones = {}
            ticks.append([])
            ts = began_ms + (len(ticks) - 1) * tick_ms
        head, tail = value.split(b'"ts":', 1)
        partition, value = partition_of(key, partitions), b'%b"ts":%d%b' % (head, ts, tail[13:])
        builder = open_ones.get(partition)
        while builder is None or builder.append(key=key, value=value, timestamp=ts) is None:
            builder = open_ones[partition] = producer.create_batch()
            ticks[-1].append((partition, builder))
    for made in ticks:
        for _, builder in made:
            builder.close()
            builder._build()  # compressed here, not when it is sent
    return ticks


# --- the prober ---


@dataclass(slots=True)
class Probe:
    """Sends clicks of markers and watches Redis for them."""

    settings: Settings
    store: RedisStore
    producer: AIOKafkaProducer
    waiting: dict[int, list[tuple[int, float]]] = field(default_factory=dict)  # key -> (n_clicks, sent)
    delays: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)
    clicks: dict[str, int] = field(default_factory=dict)
    seen: dict[int, bytes] = field(default_factory=dict)  # key -> row

    async def send(self, user: str) -> None:
        """Send a marker's next click."""
        number = self.clicks[user] = self.clicks.get(user, 0) + 1
        ts = now_ms()
        value, key = click(user, number, ts), hash64(user)
        topic = Topics(self.settings).events
        partition = partition_of(user.encode(), self.settings.partitions)
        self.waiting.setdefault(key, []).append((number, time.perf_counter()))
        await self.producer.send(topic, value, key=user.encode(), partition=partition, timestamp_ms=ts)

    async def watch(self) -> None:
        """Read the rows of clicks that have not arrived, until cancelled."""
        last = time.perf_counter()
        while True:
            keys = list(self.waiting)
            if keys:
                began = time.perf_counter()
                self.gaps.append(began - last)
                rows = await self.store.get("u", keys)
                last = time.perf_counter()
                self.reads.append(last - began)
                for key, row in zip(keys, rows, strict=True):
                    if row is not None and row != self.seen.get(key):
                        self.seen[key] = row
                        self._arrived(key, row, last)
            else:
                last = time.perf_counter()
            await asyncio.sleep(POLL_S)

    def _arrived(self, key: int, row: bytes, now: float) -> None:
        counted = int(unpack([row], user_state.ROW)[0]["n_clicks"][0])
        left = []
        for number, sent in self.waiting[key]:
            if number <= counted:
                self.delays.append(now - sent)
            else:
                left.append((number, sent))
        if left:
            self.waiting[key] = left
        else:
            del self.waiting[key]

    async def settle(self, timeout_s: float) -> bool:
        """Wait until every click has arrived; return whether all have."""
        deadline = time.monotonic() + timeout_s
        while self.waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return not self.waiting


async def freshness(bench: Bench, rate: int, seconds: float, warm_up_s: float) -> dict[str, Any]:
    """Return p50 and p99 (ms) of the delay, and how it was measured. Raises ``FailedError``.

    ``warm_up_s`` is the time from the load's first event to the first probe; the broker's JVM compiles its
    hot code during it.
    """
    prefix = f"{bench.fresh()}-"
    settings = await bench.topics(prefix, events=False)
    store = RedisStore(settings, read_timeout_s=2.0)
    producer = AIOKafkaProducer(**connection(settings), acks=1, linger_ms=0)
    probe = Probe(settings, store, producer)
    touch_memory(bench.touch_bytes)
    await producer.start()
    watching = asyncio.create_task(probe.watch())
    try:
        with contextlib.ExitStack() as stack:
            workers = [
                stack.enter_context(
                    Process(
                        [sys.executable, "-m", "headrace", "worker", role],
                        environment(settings),
                        bench.folder / f"freshness-{role}.log",
                        ROOT,
                    )
                )
                for role in OURS["pipeline"].split(",")
            ]
            users = [f"marker-{n:03d}" for n in range(MARKERS)]
            for user in users:  # the worker is up once all of them are in Redis
                await probe.send(user)
            if not await probe.settle(60):
                raise FailedError(f"freshness: the worker did not start:\n{workers[0].last_words()}")
            result = await _under_load(probe, bench, prefix, users, rate, seconds, warm_up_s)
            if watching.done():
                raise FailedError(f"freshness: reading Redis failed: {watching.exception()}")
            for process in workers:
                if process.ended():
                    raise FailedError(f"freshness: a worker ended:\n{process.last_words()}")
    except UnavailableError as exc:
        raise FailedError(f"freshness: {exc}") from exc
    finally:
        watching.cancel()
        await producer.stop()
        await store.close()
        await bench.empty_redis()
    return result


async def _under_load(
    probe: Probe, bench: Bench, prefix: str, users: list[str], rate: int, seconds: float, warm_up_s: float
) -> dict[str, Any]:
    brokers = probe.settings.brokers
    in_all = warm_up_s + seconds + min(COOL_DOWN_S, warm_up_s)
    command = [sys.executable, "-m", "ingest.freshness", brokers, prefix, str(rate), str(in_all)]
    log = bench.folder / "load.log"
    with Process(command, dict(os.environ), log, ROOT / "bench") as loader:
        while not log.read_text():  # it says when it has made its events
            if loader.ended():
                raise FailedError("freshness: the load ended early")
            await asyncio.sleep(0.05)
        await asyncio.sleep(warm_up_s)
        probe.delays, probe.gaps, probe.reads = [], [], []
        began = time.monotonic()
        for n in range(int(seconds * PROBES_PER_S)):
            await asyncio.sleep(max(0.0, began + n / PROBES_PER_S - time.monotonic()))
            await probe.send(users[n % len(users)])
        lost = 0 if await probe.settle(20) else sum(map(len, probe.waiting.values()))
        while not loader.ended():
            await asyncio.sleep(0.05)
    told = json.loads(log.read_text().splitlines()[-1]) if loader.returncode == 0 else {}
    if not told:
        raise FailedError(f"freshness: the load failed:\n{loader.last_words()}")
    cuts = statistics.quantiles(probe.delays, n=100)
    gap, read = statistics.median(probe.gaps) * 1000, statistics.median(probe.reads) * 1000
    return {
        "p50_ms": round(cuts[49] * 1000, 1),
        "p99_ms": round(cuts[98] * 1000, 1),
        "p90_ms": round(cuts[89] * 1000, 1),
        "max_ms": round(max(probe.delays) * 1000, 1),
        "probes": len(probe.delays),
        "lost": lost,
        "seconds": seconds,
        "load_events_per_s": told["events_per_s"],
        "wanted_events_per_s": rate,
        "between_reads_p50_ms": round(gap, 2),
        "read_p50_ms": round(read, 2),
        "polling_error_ms": [0, round(gap + read, 1)],
    }


def main() -> None:
    brokers, prefix, rate, seconds = sys.argv[1:]
    settings = Settings(brokers=brokers, topic_prefix=prefix)

    async def go() -> None:
        print(json.dumps(await load(settings, int(rate), float(seconds))), flush=True)

    asyncio.run(go())


if __name__ == "__main__":
    main()
