"""Offsets: never committed past unfinished batches, for every kind of ack and end of a batch."""

from __future__ import annotations

import asyncio
import time

import pytest
from transport_probes import Commits, quick_app
from transport_worker import committed, fill

from headrace.streams.app import make_app
from headrace.streams.errors import HeadraceError
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import batch_topic, durable, manual

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings) -> Settings:
    return make_settings(batch_max_records=500)


async def test_manual_acks_hold_the_offset(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 2000, partitions=1)
    app = quick_app(settings, "manual")
    acks = []

    @app.agent(batch_topic(app, topics.events))
    async def collect(stream):
        async for _, ack in manual(stream):
            acks.append(ack)

    async def at(offset):
        return (await committed(settings, "manual", topics.events)).get(0, -1) == offset

    async with running(app):
        await eventually(lambda: len(acks) == 4)
        acks[1]()
        acks[2]()
        await eventually(Commits(app).two_more())
        assert await at(-1)
        acks[0]()
        acks[0]()
        await eventually(lambda: at(1500))
        acks[3]()
        await eventually(lambda: at(2000))


async def test_two_agents_on_one_topic_both_count_for_the_offset(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 1000, partitions=1)
    app = quick_app(settings, "both")
    fast, slow, go = [], [], asyncio.Event()

    @app.agent(batch_topic(app, topics.events))
    async def first(stream):
        async for batch in durable(stream):
            fast.extend(batch)

    @app.agent(batch_topic(app, topics.events))
    async def second(stream):
        async for batch in durable(stream):
            await go.wait()
            slow.extend(batch)

    async with running(app):
        await eventually(lambda: len(fast) == 1000)
        await eventually(Commits(app).two_more())
        assert (await committed(settings, "both", topics.events)).get(0, -1) == -1
        go.set()
        await eventually(lambda: len(slow) == 1000)
    assert (await committed(settings, "both", topics.events))[0] == 1000


async def test_a_failing_body_stops_the_app_and_leaves_its_batch(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 2000, partitions=1)
    broken, seen = True, []

    def new_app():
        app = make_app(settings, "fail")

        @app.agent(batch_topic(app, topics.events))
        async def collect(stream):
            async for batch in durable(stream):
                if broken and batch.first_offset <= 1000 <= batch.last_offset:
                    raise ZeroDivisionError("poison")
                seen.extend(r.offset for r in batch)

        return app

    with pytest.raises(HeadraceError, match="poison"):
        async with running(new_app()):
            await asyncio.sleep(10)
    assert seen == list(range(1000))
    assert (await committed(settings, "fail", topics.events)).get(0, -1) in (-1, 500, 1000)
    broken = False
    async with running(new_app()):
        await eventually(lambda: len(set(seen)) == 2000)
    assert (await committed(settings, "fail", topics.events))[0] == 2000


async def test_a_body_that_outlasts_the_shutdown_is_delivered_again(
    topics_made, sender, running, eventually, monkeypatch
):
    monkeypatch.setattr("headrace.streams.transport.bodies.BODY_TIMEOUT_S", 0.3)
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 100, partitions=1)
    began, seen = [], []

    def new_app(pause):
        app = make_app(settings, "long")

        @app.agent(batch_topic(app, topics.events))
        async def collect(stream):
            async for batch in durable(stream):
                began.append(len(batch))
                await asyncio.sleep(pause)
                seen.extend(batch)

        return app

    started = time.monotonic()
    async with running(new_app(60)):
        await eventually(lambda: began)
    assert time.monotonic() - started < 12
    assert not seen
    async with running(new_app(0)):
        await eventually(lambda: len(seen) == 100)
