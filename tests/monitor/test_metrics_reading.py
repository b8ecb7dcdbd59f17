"""Reading workers over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headrace.agents.stage.metrics_reading import MetricsReading, addresses
from headrace.demo.embedded import free_port
from headrace.streams.metrics import Metrics
from headrace.streams.metrics_server import MetricsServer
from headrace.streams.scraping import Target, by_label

WANTED = ("headrace_records_total",)


@asynccontextmanager
async def served(metrics: Metrics, port: int) -> AsyncIterator[None]:
    server = MetricsServer(metrics, "127.0.0.1", port)
    await server.start()
    try:
        yield
    finally:
        await server.stop()


async def test_workers_come_go_and_start_again() -> None:
    port, other = free_port(), free_port()
    reading = MetricsReading([Target("127.0.0.1", port), Target("127.0.0.1", other)], WANTED)
    metrics = Metrics()
    metrics.count("headrace_records_total", "ingest", "track_users", "events", by=100)
    try:
        async with served(metrics, port):
            await reading.read()
            first, second = (reading.workers[f"127.0.0.1:{p}"] for p in (port, other))
            assert (first.trouble, first.more, first.seconds) == ("", {}, 0.0)
            assert by_label(reading.total(), *WANTED) == {"": 100}
            assert "does not answer" in second.trouble
            metrics.count("headrace_records_total", "ingest", "track_users", "events", by=7)
            await reading.read()
            assert by_label(reading.more(), *WANTED) == {"": 7}
            assert first.seconds > 0
        await reading.read()
        assert "does not answer" in first.trouble
        assert reading.more() == reading.total() == {}
        again = Metrics()
        again.count("headrace_records_total", "ingest", "track_users", "events", by=3)
        async with served(again, port):
            await reading.read()
            assert by_label(reading.more(), *WANTED) == {"": 3}
    finally:
        await reading.close()


async def test_a_name_that_cannot_be_resolved_is_told() -> None:
    reading = MetricsReading([Target("no-such-host.invalid", 1)], WANTED)
    try:
        await reading.read()
        (worker,) = reading.workers.values()
        assert "cannot be resolved" in worker.trouble
    finally:
        await reading.close()
    assert await addresses(Target("127.0.0.1", 1)) == ["127.0.0.1"]
    assert isinstance(await addresses(Target("localhost", 1)), list)
