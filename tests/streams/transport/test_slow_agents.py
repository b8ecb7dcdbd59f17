"""Slow agents and long backlogs: memory is bounded, and no other agent or partition waits for them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from transport_probes import Asked, collecting
from transport_worker import committed, fill

from headrace.streams.app import make_app
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import batch_topic, durable

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings) -> Settings:
    return make_settings(batch_max_records=100, fetch_max_wait_ms=50)


async def test_a_topic_of_small_batches_waits_at_the_broker(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.requests, 100)
    await fill(sender, topics.events, 100)
    app = make_app(settings, "small")
    go, sizes, others = asyncio.Event(), [], []
    seen: Counter[bytes] = Counter()

    @app.agent(batch_topic(app, topics.requests, queued_batches=1, max_records=8))
    async def small(stream):
        async for batch in durable(stream):
            sizes.append(len(batch))
            await go.wait()
            seen.update(r.value for r in batch)

    @app.agent(batch_topic(app, topics.events))
    async def other(stream):
        async for batch in durable(stream):
            others.append(len(batch))  # noqa: PERF401 - it is looked at meanwhile

    async with running(app):
        await eventually(lambda: sum(others) == 400)
        asked = Asked(app)
        await eventually(lambda: asked.leaves_out(topics.requests))
        held = sum(app.consumer.ledger.in_flight((topics.requests, p)) for p in range(4))
        assert held <= 1 + 4 + 1, "queued batches + one per partition + the one in the body"
        go.set()
        await eventually(lambda: len(seen) == 400)
    assert max(sizes) == 8
    assert max(others) > 8, "the limit is that of its topic"
    assert set(seen.values()) == {1}
    assert await committed(settings, "small", topics.requests) == dict.fromkeys(range(4), 100)


async def test_a_slow_agent_holds_little_and_holds_nobody_up(
    topics_made, sender, running, eventually, monkeypatch
):
    monkeypatch.setattr("headrace.streams.transport.consumer.FETCH_TIMEOUT_S", 60.0)  # unless woken
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 5000, chunk=100)
    app = make_app(settings, "slow")
    go, slow, fast = asyncio.Event(), [], []
    topic = batch_topic(app, topics.events)

    @app.agent(topic)
    async def stuck(stream):
        async for batch in durable(stream):
            await go.wait()
            slow.extend(r.value for r in batch)

    @app.agent(batch_topic(app, topics.users))
    async def free(stream):
        async for batch in durable(stream):
            fast.extend(r.value for r in batch)

    async with running(app):
        for n in range(20):
            await (await sender.send_one(topics.users, b"%d" % n, key=b"k"))
        await eventually(lambda: len(fast) == 20)
        asked = Asked(app)
        await eventually(lambda: asked.leaves_out(topics.events))
        ledger = app.consumer.ledger
        held = sum(ledger.in_flight((topics.events, p)) for p in range(4))
        assert held <= 4 + 4 + 1, "queued batches + one per partition + the one in the body"
        go.set()
        await eventually(lambda: len(slow) == 20_000)  # paused partitions go on as soon as there is room
    assert Counter(slow) == Counter(b"%d-%d" % (p, i) for p in range(4) for i in range(5000))


async def test_a_slow_agent_holds_a_bounded_amount_of_memory(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    size, count = 20_000, 1000
    payload = bytes(range(256)) * (size // 256)
    for p in range(4):  # 80 MB
        for start in range(0, count, 50):
            await sender.send_many(
                topics.events,
                [(b"k", b"%d-%d" % (p, n) + payload, None, ()) for n in range(start, start + 50)],
                partition=p,
            )
    app, go, seen, fast = make_app(settings, "slow"), asyncio.Event(), 0, []
    bulk = batch_topic(app, topics.events)

    @app.agent(bulk)
    async def stuck(stream):
        nonlocal seen
        async for batch in durable(stream):
            await go.wait()
            seen += len(batch)

    collecting(app, topics.users, fast)
    async with running(app):
        await eventually(lambda: len(app.consumer._buffered_partitions) == 4)
        asked = Asked(app)
        await eventually(lambda: asked.leaves_out(topics.events))
        asked.begin_again()
        began = time.monotonic()
        for n in range(20):
            await (await sender.send_one(topics.users, b"%d" % n, key=b"k"))
            await eventually(lambda n=n: len(fast) == n + 1)
        assert time.monotonic() - began < 5, "others are fetched as if the slow one were not there"
        assert not any(asked.partitions[topics.events, p] for p in range(4)), "not asked for again and again"
        batches = sum(app.consumer.ledger.in_flight((topics.events, p)) for p in range(4))
        assert batches <= 4 + 4 + 1, "the queue, one of each partition, and the one in the body"
        held = [event.value for subscriber in bulk._subscribers for event in subscriber.queue._queue]
        assert sum(len(r.value) for batch in held for r in batch) <= (4 + 4) * (100 + 50) * (size + 100)
        unread = app.consumer._thread._consumer._fetcher._records
        assert len(unread) <= 4, "one answer of each partition waits, compressed, as it came"
        go.set()
        await eventually(lambda: seen == 4 * count, 20)


async def test_a_slow_stock_agent_does_not_hold_up_a_batch_agent(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 2000)
    app, go, slow, fast = make_app(settings, "mixed", stream_buffer_maxsize=1000), asyncio.Event(), [], []

    @app.agent(app.topic(topics.events, key_type=bytes, value_type=bytes, value_serializer="raw"))
    async def one_by_one(stream):
        async for event in stream.events():
            await go.wait()
            slow.append((event.message.partition, event.message.offset))

    collecting(app, topics.users, fast)
    async with running(app):
        await eventually(lambda: len(app.consumer._buffered_partitions) == 4)
        for n in range(10):
            await (await sender.send_one(topics.users, b"%d" % n, key=b"k"))
            await eventually(lambda n=n: len(fast) == n + 1)
        go.set()
        await eventually(lambda: len(slow) == 8000, 20)
    assert Counter(slow) == Counter((p, n) for p in range(4) for n in range(2000))
    assert await committed(settings, "mixed", topics.events) == dict.fromkeys(range(4), 2000)


async def test_a_backlog_of_one_partition_starves_no_other(topics_made, sender, running, eventually):
    settings, topic = topics_made, Topics(topics_made).events
    await fill(sender, topic, 40_000, partitions=1, chunk=1000)
    app, order = make_app(settings, "fair"), []

    @app.agent(batch_topic(app, topic))
    async def collect(stream):
        async for batch in durable(stream):
            await asyncio.sleep(0.005)
            order.append((batch.partition, len(batch)))

    waited = []
    async with running(app):
        await eventually(lambda: len(order) > 10)
        for n in range(12):
            await (await sender.send_one(topic, b"x", key=b"k", partition=1 + n % 3))
            sent = len(order)
            await eventually(lambda n=n: sum(p != 0 for p, _ in order) == n + 1)
            last = max(i for i, (p, _) in enumerate(order) if p != 0)
            waited.append(last - sent)
        assert sum(n for p, n in order if p == 0) < 40_000, "the backlog was there all the time"
    # In front of it: the queue (4), what each partition may add to a full queue, and the one being worked on;
    # one more round may arrive in the meantime.
    assert max(waited) <= 2 * (4 + 4 + 1), waited
    assert max(n for _, n in order) <= 100
