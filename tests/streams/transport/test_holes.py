"""Offsets without a record: transaction markers, compacted records."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.types import TP
from transport_probes import collecting, committed_is

from headrace.streams.app import make_app
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings) -> Settings:
    return make_settings(batch_max_records=100)


async def test_transaction_markers_at_the_end_are_read_past(topics_made, running, eventually, real_kafka):
    if not real_kafka:
        pytest.skip("the embedded broker has no transactions")
    settings, topic = topics_made, Topics(topics_made).events
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers, transactional_id=settings.name("tx"))
    async with producer:
        for abort in (False, True, False):
            await producer.begin_transaction()
            for n in range(100):
                await producer.send(topic, b"%d" % n, partition=0)
            await (producer.abort_transaction() if abort else producer.commit_transaction())
    app, got = make_app(settings, "holes"), []
    collecting(app, topic, got)
    async with running(app):
        await eventually(
            lambda: len(got) == 300
        )  # also those of the aborted one: isolation is read_uncommitted
        await eventually(committed_is(settings, "holes", topic, 0, 303))
        await eventually(lambda: app.consumer.at_end(TP(topic, 0), got[-1][1] + 1))
    assert got == [(0, n) for n in range(302) if n not in (100, 201)]


async def test_a_compacted_topic_is_read_to_its_end(settings, running, eventually, real_kafka):
    if not real_kafka:
        pytest.skip("the embedded broker does not compact")
    topic = settings.name("compacted")
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    config = {
        "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001",
        "delete.retention.ms": "0", "min.compaction.lag.ms": "0",
    }  # fmt: skip
    await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=config)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer:
        for n in range(2000):
            await producer.send(topic, b"%d" % n, key=b"%d" % (n % 3), partition=0)
        await producer.flush()
        await producer.send_and_wait(topic, None, key=b"gone", partition=0)
        for n in range(20):  # rolls segments, so that those before are compacted
            await asyncio.sleep(0.15)
            await producer.send_and_wait(topic, b"%d" % n, key=b"last", partition=0)
    there = await readable(settings, topic, eventually, fewer_than=1000)
    app, got = make_app(settings, "compact"), []
    collecting(app, topic, got)
    async with running(app):
        await eventually(lambda: [n for _, n in got] == there)
        await eventually(committed_is(settings, "compact", topic, 0, 2021))
        await eventually(lambda: app.consumer.at_end(TP(topic, 0), got[-1][1] + 1))
    assert len(there) < 1000


async def readable(settings, topic, eventually, fewer_than: int) -> list[int]:
    """Return the offsets left in partition 0, once the broker's cleaner has been there."""
    found: list[int] = []

    async def look():
        found.clear()
        tp = TopicPartition(topic, 0)
        async with AIOKafkaConsumer(bootstrap_servers=settings.brokers) as consumer:
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            (end,) = (await consumer.end_offsets([tp])).values()
            while await consumer.position(tp) < end:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    found.extend(r.offset for r in records)
        return len(found) < fewer_than

    await eventually(look, 60)
    return found
