"""Offsets without a record: transaction markers, compacted records."""

from __future__ import annotations

import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from faust.types import TP
from fresh_topics import make_topic
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
        await eventually(lambda: len(got) == 200)
        await eventually(committed_is(settings, "holes", topic, 0, 303))
        await eventually(lambda: app.consumer.at_end(TP(topic, 0), got[-1][1] + 1))
    assert got == [(0, n) for n in (*range(100), *range(202, 302))], "without those of the aborted one"


async def test_a_compacted_topic_is_read_to_its_end(settings, running, eventually, real_kafka):
    if not real_kafka:
        pytest.skip("the embedded broker does not compact")
    topic = settings.name("compacted")
    await make_topic(
        settings, topic, 1, cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.001",
        delete_retention_ms="0", min_compaction_lag_ms="0",
    )  # fmt: skip
    first = {"partition": 0, "timestamp_ms": int(time.time() * 1000) - 10_000}
    async with AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer:
        for n in range(2000):
            await producer.send(topic, b"%d" % n, key=b"%d" % (n % 3), **first)
        await producer.flush()
        await producer.send_and_wait(topic, None, key=b"gone", **first)
        for n in range(20):  # rolls segments by their dates, so that those before are compacted
            later = {**first, "timestamp_ms": first["timestamp_ms"] + 150 * (n + 1)}
            await producer.send_and_wait(topic, b"%d" % n, key=b"last", **later)
    there = await readable(settings, topic, eventually, fewer_than=10)  # the last one of each key
    app, got = make_app(settings, "compact"), []
    collecting(app, topic, got)
    async with running(app):
        await eventually(lambda: [n for _, n in got] == there)
        await eventually(committed_is(settings, "compact", topic, 0, 2021))
        await eventually(lambda: app.consumer.at_end(TP(topic, 0), got[-1][1] + 1))
    assert len(there) < 1000


async def readable(settings, topic, eventually, fewer_than: int) -> list[int]:
    """Return the offsets left in partition 0 once the cleaner (every 0.5 s) removes no more."""
    found: list[int] = []
    before: list[int] = []
    same_since = time.monotonic()

    async def look():
        nonlocal same_since
        before[:], found[:] = found, []
        tp = TopicPartition(topic, 0)
        async with AIOKafkaConsumer(bootstrap_servers=settings.brokers) as consumer:
            consumer.assign([tp])
            await consumer.seek_to_beginning(tp)
            (end,) = (await consumer.end_offsets([tp])).values()
            while await consumer.position(tp) < end:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    found.extend(r.offset for r in records)
        if found != before:
            same_since = time.monotonic()
        return len(found) < fewer_than and time.monotonic() - same_since > 1.5

    await eventually(look, 60)
    return found
