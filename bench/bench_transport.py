"""Events per second of an agent that only counts: stock Faust and the batch transport, on the same broker.

    python bench/bench_transport.py            # prints one JSON object

150-byte events over 4 partitions of an embedded broker. ``events_per_cpu_s`` divides by the CPU time of the
worker process between its first and last event. Also measured: writing with ``BatchSender``; the delay of
single records, in turns with a bare aiokafka consumer (the broker's own delay); the CPU time of an idle
worker.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from headrace.demo.embedded import EmbeddedBroker
from headrace.streams.app import make_app
from headrace.streams.process import run, run_apps
from headrace.streams.settings import Settings
from headrace.streams.topics.connection import connection
from headrace.streams.topics.sender import BatchSender
from headrace.streams.transport.batches import batch_topic, durable
from headrace.streams.transport.patience import QUIET_S

STOCK_EVENTS = 60_000
BATCH_EVENTS = 600_000
LONE_RECORDS, LONE_EVERY_S = 200, 0.05
EVENT = (
    b'{"event_id":"%010d","type":"click","user_id":"user%06d","item_id":"item%06d",'
    b'"ts":1760000000000,"surface":"home"}'
)


class Counter:
    """Counts events; the clocks start at the first event."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.seen = wanted, 0
        self.done = asyncio.Event()
        self.started = (0.0, 0.0)
        self.result: dict[str, float] = {}

    def add(self, n: int) -> None:
        if not self.seen:
            self.started = (time.perf_counter(), time.process_time())
        self.seen += n
        if self.seen >= self.wanted and not self.result:
            wall, cpu = time.perf_counter() - self.started[0], time.process_time() - self.started[1]
            self.result = {
                "events": self.seen,
                "events_per_s": round(self.seen / wall),
                "events_per_cpu_s": round(self.seen / cpu),
            }
            self.done.set()


async def stock(brokers: str, topic: str) -> dict[str, float]:
    import faust

    with tempfile.TemporaryDirectory() as folder:
        app = faust.App(
            "bench-stock", broker=f"kafka://{brokers}", web_enabled=False, topic_disable_leader=True,
            datadir=folder, cython_optimizations=True,
        )  # fmt: skip
        counter = Counter(STOCK_EVENTS)

        @app.agent(app.topic(topic, value_type=bytes, value_serializer="raw"))
        async def count(stream):
            async for _ in stream:
                counter.add(1)

        await app.start()
        await counter.done.wait()
        await app.stop()
    return counter.result


async def batch(brokers: str, topic: str) -> dict[str, float]:
    settings = Settings(brokers=brokers)
    app = make_app(settings, "bench")
    counter, stop = Counter(BATCH_EVENTS), asyncio.Event()

    @app.agent(batch_topic(app, topic))
    async def count(stream):
        async for records in durable(stream):
            counter.add(len(records))
            if counter.done.is_set():
                stop.set()

    await run_apps([app], settings=settings, stop=stop)
    return counter.result


class Delays:
    """Delays of single records, sent ``LONE_EVERY_S`` apart."""

    def __init__(self) -> None:
        self._sent: dict[bytes, float] = {}
        self._delays: list[float] = []

    def arrived(self, value: bytes | None) -> None:
        if value in self._sent:
            self._delays.append((time.perf_counter() - self._sent[value]) * 1000)

    async def feed(self, sender: BatchSender, topic: str) -> None:
        for _ in range(LONE_RECORDS):
            body = b"%d" % time.perf_counter_ns()
            self._sent[body] = time.perf_counter()
            await (await sender.send_one(topic, body, key=body))
            await asyncio.sleep(LONE_EVERY_S)
        await asyncio.sleep(0.2)

    def result(self) -> dict[str, float]:
        cuts = statistics.quantiles(self._delays, n=100)
        return {"records": len(self._delays), "p50_ms": round(cuts[49], 2), "p99_ms": round(cuts[98], 2)}


async def own(brokers: str, topic: str) -> dict[str, float]:
    """The broker's own delay: a bare aiokafka consumer that does nothing else."""
    delays = Delays()
    consumer = AIOKafkaConsumer(
        topic,
        **connection(Settings(brokers=brokers)),
        fetch_max_wait_ms=250,
        isolation_level="read_committed",
    )
    async with consumer:

        async def read() -> None:
            async for record in consumer:
                delays.arrived(record.value)

        sender = BatchSender(Settings(brokers=brokers))
        await sender.start()
        reading = asyncio.create_task(read())
        await asyncio.sleep(0.5)
        await delays.feed(sender, topic)
        reading.cancel()
        await sender.stop()
    return delays.result()


async def lone(brokers: str, topic: str) -> dict[str, float]:
    settings = Settings(brokers=brokers)
    app = make_app(settings, "lone")
    sender, stop, ready = BatchSender(settings), asyncio.Event(), asyncio.Event()
    delays = Delays()
    idle: list[float] = []

    @app.agent(batch_topic(app, topic))
    async def read(stream):
        async for records in durable(stream):
            for record in records:
                delays.arrived(record.value)

    async def feed() -> None:
        await ready.wait()
        await asyncio.sleep(0.5)
        await delays.feed(sender, topic)
        await asyncio.sleep(QUIET_S)
        cpu = time.process_time()
        await asyncio.sleep(5)
        idle.append((time.process_time() - cpu) / 5)
        stop.set()

    feeding = asyncio.create_task(feed())
    await run_apps([app], settings=settings, services=[sender], ready=ready, stop=stop)
    await feeding
    return {**delays.result(), "idle_cpu_share": round(idle[0], 4)}


async def fill(brokers: str) -> dict[str, float]:
    admin = AIOKafkaAdminClient(**connection(Settings(brokers=brokers)))
    await admin.start()
    await admin.create_topics([NewTopic(name, 4, 1) for name in ("stock", "batch", "lone")])
    await admin.close()
    sender = BatchSender(Settings(brokers=brokers))
    await sender.start()
    padding = b" " * (150 - len(EVENT % (0, 0, 0)))
    for topic, n in (("stock", STOCK_EVENTS), ("batch", BATCH_EVENTS)):
        events = [
            (b"user%06d" % (i % 5000), EVENT % (i, i % 5000, i % 900) + padding, None, ()) for i in range(n)
        ]
        wall, cpu = time.perf_counter(), time.process_time()
        await sender.send_keyed(topic, events)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await sender.stop()
    return {"records_per_s": round(n / wall), "records_per_cpu_s": round(n / cpu)}


def worker(mode: str, brokers: str) -> dict[str, float]:
    out = subprocess.run(
        [sys.executable, __file__, mode, brokers], check=True, capture_output=True, text=True, timeout=120
    ).stdout
    result: dict[str, float] = json.loads(out.splitlines()[-1])
    return result


MODES = {"stock": stock, "batch": batch, "own": own, "lone": lone}


def main() -> None:
    if len(sys.argv) == 3:
        mode, brokers = sys.argv[1:]
        print(json.dumps(run(MODES[mode](brokers, "lone" if mode == "own" else mode))))
        return
    with EmbeddedBroker() as broker:
        figures: dict[str, object] = {"sender": run(fill(broker.bootstrap))}
        for mode in MODES:
            figures[mode] = worker(mode, broker.bootstrap)
    stock_rate, batch_rate = (figures[mode]["events_per_cpu_s"] for mode in ("stock", "batch"))  # type: ignore[index]
    print(
        json.dumps({"bench": "transport", **figures, "batch_over_stock": round(batch_rate / stock_rate, 1)})
    )


if __name__ == "__main__":
    main()
