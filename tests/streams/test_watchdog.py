"""A consumer that does not read any more is restarted; one that waits for something is not."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import generate_latest
from scraped import Scraped
from transport_probes import collecting, committed_is, quick_app
from transport_worker import fill

from headrace.streams.app import HeadraceApp
from headrace.streams.errors import HeadraceError
from headrace.streams.metrics import Metrics
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import batch_topic, durable
from headrace.streams.transport.stuck import LOOKS, Reading, Stuck, StuckWatch
from headrace.streams.watchdog import Watchdog

pytestmark = pytest.mark.broker

#: Long enough that a busy machine looks often enough within it.
AFTER_S = 1.5
RESTARTED = "headrace_consumer_restarts_total"


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(batch_max_records=100, fetch_max_wait_ms=50, watchdog_s=AFTER_S)


def restarts(metrics: Metrics) -> float:
    return sum(Scraped(generate_latest(metrics.registry).decode()).all(RESTARTED).values())


def _fetcher(app: HeadraceApp) -> Any:
    return app.consumer._thread._consumer._fetcher


def no_fetch_runs(app: HeadraceApp) -> Callable[[], bool]:
    """Return a condition: the fetches that had begun are over."""
    fetcher = _fetcher(app)
    return lambda: all(fetch.done() for fetch in list(fetcher._pending_tasks))


def kill_fetch_task(app: HeadraceApp) -> Callable[[], bool]:
    fetcher, over = _fetcher(app), no_fetch_runs(app)
    app.consumer._thread.thread_loop.call_soon_threadsafe(fetcher._fetch_task.cancel)
    return lambda: fetcher._fetch_task.done() and over()


def hang_fetches(app: HeadraceApp) -> Callable[[], bool]:
    hung: list[Any] = []

    async def hang(*request: Any) -> None:
        hung.append(request)
        await asyncio.get_running_loop().create_future()

    _fetcher(app)._proc_fetch_request = hang
    return lambda: bool(hung)


def pause_unknown_to_the_app(app: HeadraceApp) -> Callable[[], bool]:
    assignment = app.consumer._thread._assignment()
    for tp in assignment.tps:
        assignment.state_value(tp).pause()
    return no_fetch_runs(app)


@pytest.mark.parametrize("spoil", [kill_fetch_task, hang_fetches, pause_unknown_to_the_app])
async def test_a_consumer_that_does_not_read_joins_again_and_loses_and_repeats_nothing(
    spoil: Callable[[HeadraceApp], Callable[[], bool]],
    topics_made: Settings,
    sender: Any,
    running: Callable[..., Any],
    eventually: Callable[..., Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings, topic = topics_made, Topics(topics_made).events
    await fill(sender, topic, 300, partitions=2)
    app, got, metrics = quick_app(settings, "dog"), [], Metrics()
    collecting(app, topic, got)
    with caplog.at_level(logging.ERROR):
        async with running(app, services=[Watchdog(app, "dog", settings, metrics)]):
            await eventually(lambda: len(got) == 600)
            assert restarts(metrics) == 0
            before = app.consumer._thread._consumer
            await eventually(spoil(app))
            await fill(sender, topic, 500, partitions=2)
            await eventually(lambda: len(set(got)) == 1600, timeout=60.0)
            assert app.consumer._thread._consumer is not before
            for partition in (0, 1):
                await eventually(committed_is(settings, "dog", topic, partition, 800), timeout=20.0)
    assert set(Counter(got).values()) == {1}, "what was acked is not read again"
    assert 1 <= restarts(metrics) <= 2, "one for each partition that was not read"
    told = [r for r in caplog.records if getattr(r, "action", "") == "consumer_restart"]
    assert {(r.topic, r.role) for r in told} == {(topic, "dog")}  # type: ignore[attr-defined]
    assert len(told) == restarts(metrics)


async def test_a_batch_that_runs_at_a_restart_finishes_and_counts_once(
    topics_made: Settings,
    sender: Any,
    running: Callable[..., Any],
    eventually: Callable[..., Awaitable[None]],
) -> None:
    settings, topic, other = topics_made, Topics(topics_made).events, Topics(topics_made).users
    app, got, others, metrics = quick_app(settings, "busy"), [], [], Metrics()
    go = asyncio.Event()
    collecting(app, other, others)

    @app.agent(batch_topic(app, topic))
    async def slow(stream: Any) -> None:
        async for batch in durable(stream):
            await go.wait()
            got.extend(record.offset for record in batch)

    async with running(app, services=[Watchdog(app, "busy", settings, metrics)]):
        await fill(sender, topic, 50, partitions=1)
        await eventually(lambda: app.consumer.longest_body_s() > 0)
        await eventually(kill_fetch_task(app))
        await fill(sender, other, 50, partitions=1)
        await eventually(lambda: app.rebalancing, timeout=60.0)
        go.set()
        await eventually(committed_is(settings, "busy", topic, 0, 50), timeout=30.0)
        await eventually(lambda: len(others) == 50, timeout=30.0)
        await eventually(lambda: restarts(metrics) == 1)
    assert got == list(range(50))


class Looks:
    """Counts the looks of a watchdog, and those that saw records that wait to be read."""

    def __init__(self, dog: Watchdog) -> None:
        self.count = self.waiting = 0
        watch = dog._watch
        assert watch is not None
        look = watch.look

        def counted(found: list[Reading], now_s: float) -> list[Stuck]:
            self.count += 1
            self.waiting += any(end > (at or 0) for _, at, end, _ in found)
            return look(found, now_s)

        watch.look = counted  # type: ignore[method-assign]


async def test_idle_consumers_and_slow_agents_are_left_alone(
    topics_made: Settings,
    sender: Any,
    running: Callable[..., Any],
    eventually: Callable[..., Awaitable[None]],
) -> None:
    settings, topic = topics_made, Topics(topics_made).events
    app, got, metrics = quick_app(settings, "calm"), [], Metrics()
    go, dog = asyncio.Event(), Watchdog(app, "calm", settings, metrics)

    @app.agent(batch_topic(app, topic, queued_batches=1, max_records=8))
    async def slow(stream: Any) -> None:
        async for batch in durable(stream):
            await go.wait()
            got.extend(record.offset for record in batch)

    async with running(app, services=[dog]):
        looks, epoch = Looks(dog), app.consumer._assignment_epoch
        await eventually(lambda: looks.count > 2 * LOOKS, timeout=30.0)  # idle
        await fill(sender, topic, 500, partitions=1)
        await eventually(lambda: looks.waiting > 3 * LOOKS, timeout=30.0)  # its agent works on a batch
        assert restarts(metrics) == 0
        go.set()
        await eventually(lambda: len(got) == 500)
        assert app.consumer._assignment_epoch == epoch
    assert restarts(metrics) == 0


@pytest.fixture
async def transaction(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.brokers, transactional_id=f"{settings.topic_prefix}open"
    )
    await producer.start()
    yield producer
    await producer.stop()


async def test_a_transaction_that_is_open_is_waited_for(
    topics_made: Settings,
    transaction: AIOKafkaProducer,
    sender: Any,
    running: Callable[..., Any],
    eventually: Callable[..., Awaitable[None]],
) -> None:
    settings, topic = topics_made, Topics(topics_made).events
    app, got, metrics = quick_app(settings, "open"), [], Metrics()
    collecting(app, topic, got)
    dog = Watchdog(app, "open", settings, metrics)
    async with running(app, services=[dog]):
        await transaction.begin_transaction()
        await transaction.send_and_wait(topic, b"1", partition=0)
        await fill(sender, topic, 5, partitions=1)
        looks = Looks(dog)
        await eventually(lambda: looks.count > 3 * LOOKS, timeout=30.0)
        assert (got, restarts(metrics)) == ([], 0)
        await transaction.commit_transaction()
        await eventually(lambda: len(got) == 6)
    assert restarts(metrics) == 0


async def test_a_batch_over_its_bound_ends_the_process(
    topics_made: Settings,
    sender: Any,
    running: Callable[..., Any],
) -> None:
    settings = topics_made.model_copy(update={"watchdog_batch_s": 0.5, "watchdog_s": 0.0})
    topic = Topics(settings).events
    await fill(sender, topic, 5, partitions=1)
    app = quick_app(settings, "hung")

    @app.agent(batch_topic(app, topic))
    async def hung(stream: Any) -> None:
        async for _ in durable(stream):
            await asyncio.Event().wait()

    with pytest.raises(HeadraceError, match="a batch of hung has been processed for"):
        async with running(app, services=[Watchdog(app, "hung", settings, Metrics())]):
            await asyncio.Event().wait()
    assert await committed_is(settings, "hung", topic, 0, -1)()


async def test_it_can_be_switched_off(
    topics_made: Settings, running: Callable[..., Any], eventually: Callable[..., Awaitable[None]]
) -> None:
    settings = topics_made.model_copy(update={"watchdog_s": 0.0})
    app = quick_app(settings, "off")
    collecting(app, Topics(settings).events, [])
    dog = Watchdog(app, "off", settings, Metrics())
    assert dog._watch is None
    async with running(app, services=[dog]):
        await eventually(lambda: not dog._futures or all(f.done() for f in dog._futures))
    assert isinstance(Watchdog(app, "on", topics_made, Metrics())._watch, StuckWatch)
