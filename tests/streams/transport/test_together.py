"""Batches that wait for one another are taken together: all of them, once, and acknowledged."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from transport_worker import committed, fill

from headrace.streams.app import make_app
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import Batches, batch_topic, together

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings) -> Settings:
    return make_settings(batch_max_records=5)


async def test_complete_in_order_and_acknowledged(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 500)
    app = make_app(settings, "together")
    got: dict[int, list[int]] = {p: [] for p in range(4)}
    sizes, groups = Counter(), list[set[int]]()

    @app.agent(batch_topic(app, topics.events, queued_batches=12))
    async def collect(stream):
        async for taken, ack in together(stream, 16):
            await asyncio.sleep(0.01)  # others come meanwhile
            for part in taken.parts:
                got[part.partition] += [r.offset for r in part]
            sizes[len(taken)] += 1
            if isinstance(taken, Batches):
                groups.append({part.partition for part in taken.parts})
            ack()

    async with running(app):
        await eventually(lambda: sum(map(len, got.values())) >= 2000)
    assert got == {p: list(range(500)) for p in range(4)}
    assert 5 < max(sizes) <= 16
    assert any(len(partitions) > 1 for partitions in groups)
    assert await committed(settings, "together", topics.events) == dict.fromkeys(range(4), 500)


async def test_what_is_not_acknowledged_comes_again(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 200)
    seen = Counter()

    def new_app(fails: bool):
        app = make_app(settings, "again")

        @app.agent(batch_topic(app, topics.events, queued_batches=12))
        async def collect(stream):
            async for taken, ack in together(stream, 16):
                await asyncio.sleep(0.01)
                seen.update((p.partition, r.offset) for p in taken.parts for r in p)
                if not fails:
                    ack()

        return app

    async with running(new_app(fails=True)):
        await eventually(lambda: len(seen) == 800)
    once = +seen
    async with running(new_app(fails=False)):
        await eventually(lambda: sum((seen - once).values()) >= 800)
    assert set((seen - once).values()) == {1}
    assert await committed(settings, "again", topics.events) == dict.fromkeys(range(4), 200)
    assert set(seen) == {(p, n) for p in range(4) for n in range(200)}
