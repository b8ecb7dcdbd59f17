"""Seeks and pauses of a running consumer."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from faust.types import TP
from transport_probes import Asked, Interruption, collecting, committed_is, quick_app
from transport_worker import committed, fill

from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import batch_topic, manual

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings) -> Settings:
    return make_settings(batch_max_records=100, fetch_max_wait_ms=50)


async def test_seeks_forward_and_backward_while_running(topics_made, sender, running, eventually):
    settings, topic = topics_made, Topics(topics_made).events
    await fill(sender, topic, 1000, partitions=1)
    app, got = quick_app(settings, "seek"), []
    collecting(app, topic, got)
    tp = TP(topic, 0)
    async with running(app):
        await eventually(lambda: len(got) == 1000)
        got.clear()
        await app.consumer.seek(tp, 700)  # backward
        await eventually(lambda: len(got) == 300)
        assert got == [(0, n) for n in range(700, 1000)]
        await eventually(committed_is(settings, "seek", topic, 0, 1000))
        got.clear()
        await app.consumer.seek(tp, 0)
        await eventually(lambda: len(got) == 1000)
        got.clear()
        app.consumer.pause_partitions({tp})
        await fill(sender, topic, 1000, partitions=1)
        await app.consumer.seek(tp, 1500)  # forward
        app.consumer.resume_partitions({tp})
        await eventually(lambda: len(got) == 500)
        assert got == [(0, n) for n in range(1500, 2000)]
        await eventually(committed_is(settings, "seek", topic, 0, 2000))
        with pytest.raises(IllegalStateError):
            await app.consumer.seek(TP(topic, 99), 0)


async def test_a_seek_under_load_loses_and_mixes_nothing(topics_made, sender, running, eventually):
    settings, topic = topics_made, Topics(topics_made).events
    await fill(sender, topic, 4000, partitions=2, chunk=100)
    app, got = quick_app(settings, "seekload"), []
    collecting(app, topic, got, pause=0.002)
    targets = [500, 3000, 100, 1000, 0, 2000, 1500, 50]
    async with running(app):
        for target in targets:
            await eventually(lambda: len(got) > 300)
            await app.consumer.seek(TP(topic, 0), target)
            mark = len(got)
            await eventually(lambda mark=mark: sum(p == 0 for p, _ in got[mark:]) > 150)
            after = [offset for p, offset in got[mark:] if p == 0]
            # The body that ran during the seek may end after it: one batch. Then target and on, no hole.
            start = after.index(target)
            assert start <= 100
            assert after[start:] == list(range(target, target + len(after) - start))
        await eventually(lambda: got[-1] == (0, 3999) or (0, 3999) in got[mark:], 15)
        await eventually(committed_is(settings, "seekload", topic, 0, 4000))
    assert [offset for p, offset in got if p == 1] == list(range(4000)), "the other partition noticed nothing"


async def test_a_seek_is_committed_and_late_acks_are_not(topics_made, sender, running, eventually):
    settings, topic = topics_made, Topics(topics_made).events
    await fill(sender, topic, 1000, partitions=1)
    app, acks = quick_app(settings, "seekack"), []

    @app.agent(batch_topic(app, topic))
    async def collect(stream):
        async for batch, ack in manual(stream):
            acks.append((batch.first_offset, ack))

    async with running(app):
        await eventually(lambda: len(acks) == 10)
        for _, ack in acks[:6]:
            ack()
        await eventually(committed_is(settings, "seekack", topic, 0, 600))
        await app.consumer.seek(TP(topic, 0), 300)
        for _, ack in acks[6:]:
            ack()  # of batches from before the seek
        await eventually(committed_is(settings, "seekack", topic, 0, 300))
        await eventually(lambda: len(acks) >= 17)
        assert [first for first, _ in acks[10:]] == list(range(300, 1000, 100))
    assert (await committed(settings, "seekack", topic))[0] == 300


async def test_a_paused_partition_is_neither_delivered_nor_fetched(topics_made, sender, running, eventually):
    settings, topic = topics_made, Topics(topics_made).events
    app, got = quick_app(settings, "pause"), []
    collecting(app, topic, got)
    async with running(app):
        await fill(sender, topic, 200, partitions=2)
        await eventually(lambda: len(got) == 400)
        app.consumer.pause_partitions({TP(topic, 0)})
        asked = Asked(app)
        await eventually(lambda: asked.leaves_out(topic, 0))  # the present fetch has ended
        asked.begin_again()
        await fill(sender, topic, 300, partitions=2)
        await eventually(lambda: sum(p == 1 for p, _ in got) == 500)
        assert sum(p == 0 for p, _ in got) == 200
        await eventually(lambda: asked.partitions[topic, 1] > 3)
        assert asked.partitions[topic, 0] == 0
        assert TopicPartition(topic, 0) not in app.consumer._thread._consumer._fetcher._records
        app.consumer.resume_partitions({TP(topic, 0)})
        await eventually(lambda: len(got) == 1000)
    assert [n for p, n in got if p == 0] == list(range(500)), "as if nothing had been"


async def test_the_end_is_known_again_after_a_failed_fetch_and_after_a_seek(
    topics_made, sender, running, eventually
):
    topic = Topics(topics_made).events
    await fill(sender, topic, 10, partitions=1)
    app, got, tp = quick_app(topics_made, "ends"), [], TP(topic, 0)
    collecting(app, topic, got)
    async with running(app):
        await eventually(lambda: app.consumer.at_end(tp, 10))
        interruption = Interruption(app)
        interruption.begin()
        await eventually(interruption.over(tp))
        await eventually(lambda: app.consumer.at_end(tp, 10))
        await app.consumer.seek(tp, 10)  # where it is
        await eventually(lambda: app.consumer.at_end(tp, 10))
        app.consumer.pause_partitions({tp})  # else the records may be here before the seek is over
        await app.consumer.seek(tp, 5)
        assert not app.consumer.at_end(tp, 10)
        app.consumer.resume_partitions({tp})
        await eventually(lambda: len(got) == 15)
        await eventually(lambda: app.consumer.at_end(tp, 10))
    assert [offset for _, offset in got] == [*range(10), *range(5, 10)]
