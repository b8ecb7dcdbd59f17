"""The lag of an app with an agent that does not get on, and what a held loop looks like."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import TopicPartition
from counting_worker import ROW
from fresh_topics import make_topics
from prometheus_client import generate_latest
from scraped import Scraped
from transport_probes import quick_app

from headrace.streams.app_metrics import AppMetrics
from headrace.streams.clock import ManualClock
from headrace.streams.metrics import Metrics, Sample
from headrace.streams.settings import Settings
from headrace.streams.tables.changelog import ChangelogCopy
from headrace.streams.tables.store import StateStore
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender
from headrace.streams.transport.batches import batch_topic, durable


def read(metrics: Metrics) -> Scraped:
    return Scraped(generate_latest(metrics.registry).decode())


@pytest.mark.broker
async def test_the_lag_of_an_agent_that_waits_is_seen(
    settings: Settings, running: Callable[..., Any], eventually: Callable[..., Awaitable[None]]
) -> None:
    await make_topics(settings)
    topic = Topics(settings).examples
    app, sender, metrics = quick_app(settings, "log"), BatchSender(settings), Metrics()
    go = asyncio.Event()

    @app.agent(batch_topic(app, topic))
    async def slow(stream: Any) -> None:
        async for _ in durable(stream):
            await go.wait()

    def lag(what: str) -> float | None:
        place = {"role": "log", "agent": "log_sink", "topic": topic, "partition": "1"}
        return read(metrics).one(f"headrace_lag_{what}", **place)

    async with running(app, services=[sender, AppMetrics(app, "log", metrics)]):
        await eventually(lambda: sender.known_partitions(topic) or sender.partitions_of(topic))
        await sender.send_many(topic, [(b"k", b"v", None, ())] * 7, partition=1)
        await eventually(lambda: lag("records") == 7)
        go.set()
        await eventually(lambda: lag("records") == 0)
        assert lag("seconds") == 0
        go.clear()
        began = time.time()
        await sender.send_many(topic, [(b"k", b"v", None, ())] * 3, partition=1)
        await eventually(lambda: lag("records") == 3)
        await eventually(lambda: (lag("seconds") or 0) > 0.5)
        assert (lag("seconds") or 0) < time.time() - began + 2  # a look may be a second late
        go.set()
        await eventually(lambda: lag("records") == 0)
        assert set(read(metrics).all("headrace_lag_records", topic=topic)) == {("log_sink", "1", "log")}
        assert read(metrics).one("headrace_records_total", role="log") == 10


def test_a_reader_that_fails_hides_no_other() -> None:
    metrics = Metrics()

    def broken() -> list[Sample]:
        raise RuntimeError("no value")

    metrics.read(broken)
    metrics.read(lambda: [Sample("headrace_index_items", 3)])
    metrics.count("headrace_dead_letters_total", "learn", "not_json", by=2)
    seen = read(metrics)
    assert seen.one("headrace_index_items") == 3
    assert seen.one("headrace_dead_letters_total", agent="learn") == 2
    assert seen.one("headrace_index_tail_items") is None


async def test_what_a_recovery_has_left_to_read_is_seen(settings: Settings) -> None:
    app, metrics = quick_app(settings, "log"), Metrics()
    sender = BatchSender(settings)
    store = StateStore(app, "clicks", changelog="clicks-state", dtype=ROW, sender=sender)
    clock = ManualClock()
    measured = AppMetrics(app, "log", metrics, clock)
    assert read(metrics).all("headrace_restore_records") == {}
    assert read(metrics).all("headrace_table_rows") == {}
    copies = [ChangelogCopy(TopicPartition("clicks-state", n), store.new_partition(n), 5, 25) for n in (0, 1)]
    app.tables.recovery.copies = copies
    copies[1].part.position = 23
    left = read(metrics).all("headrace_restore_records", table="clicks")
    assert left == {("0",): 20, ("1",): 2}
    measured.pace()
    assert read(metrics).all("headrace_restore_seconds") == {}, "not known yet"
    await clock.advance(2.0)
    copies[0].part.position = 10
    measured.pace()
    assert read(metrics).all("headrace_restore_seconds", table="clicks") == {("0",): 2.0 * 15 / 5}
    copies[1].part.position = 40  # it was read, and written to since
    store.active[1] = copies[1].part
    copies[1].part.rows.take([1, 2, 3])
    seen = read(metrics)
    assert seen.one("headrace_restore_records", table="clicks", partition="1") == 0
    assert seen.one("headrace_restore_seconds", table="clicks", partition="1") == 0
    assert seen.one("headrace_table_rows", table="clicks", place="memory") == 3
    assert seen.one("headrace_table_bytes", table="clicks") == copies[1].part.nbytes


def test_a_commit_that_fails_is_counted(settings: Settings) -> None:
    metrics = Metrics()
    measured = AppMetrics(quick_app(settings, "log"), "log", metrics)
    measured.committed(0.2, done=True)
    measured.committed(5.0, done=False)
    seen = read(metrics)
    assert seen.one("headrace_commit_failures_total", role="log") == 1
    assert seen.one("headrace_commit_seconds_count", role="log") == 1
