"""Delivery of record batches from all kinds of topics: complete, in order, with all fields, without delay."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict

import pytest
from aiokafka import AIOKafkaProducer
from fresh_topics import add_partitions, make_changelog, make_topic
from transport_probes import Asked, collecting, committed_is, quick_app
from transport_worker import committed, fill

from headrace.streams.app import make_app
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import RecordBatch, batch_topic, durable
from headrace.streams.transport.fetch_delay import delay_fetches
from headrace.streams.transport.record_list import RecordList

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings) -> Settings:
    return make_settings(batch_max_records=500)


async def test_complete_and_in_order(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 5000)
    app = make_app(settings, "order")
    got = defaultdict(list)
    sizes = []

    @app.agent(batch_topic(app, topics.events))
    async def collect(stream):
        async for batch in durable(stream):
            assert isinstance(batch, RecordBatch)
            assert isinstance(batch.records, RecordList), "no object of each record"
            assert batch.topic == topics.events
            assert batch.first_offset == batch.records[0].offset
            assert batch.last_offset == batch.records[-1].offset
            sizes.append(len(batch))
            got[batch.partition] += [(r.offset, r.key, r.value) for r in batch]

    def all_there():
        return sum(map(len, got.values())) >= 20_000

    async with running(app):
        await eventually(all_there)
    assert got == {p: [(i, b"k%d" % i, b"%d-%d" % (p, i)) for i in range(5000)] for p in range(4)}
    assert max(sizes) <= 500
    # A clean stop commits everything.
    assert await committed(settings, "order", topics.events) == dict.fromkeys(range(4), 5000)


async def test_nothing_is_delivered_twice_after_a_clean_stop(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    seen = Counter()

    def new_app():
        app = make_app(settings, "twice")

        @app.agent(batch_topic(app, topics.events))
        async def collect(stream):
            async for batch in durable(stream):
                await asyncio.sleep(0.005)
                seen.update(r.value for r in batch)

        return app

    await fill(sender, topics.events, 1000)
    async with running(new_app()):
        await eventually(lambda: sum(seen.values()) >= 1500)
        # stopped in the middle: the running body finishes, queued batches are left for the next run
    async with running(new_app()):
        await eventually(lambda: len(seen) == 4000)
    assert set(seen.values()) == {1}


async def test_keys_values_headers_timestamps_and_tombstones(topics_made, sender, running, eventually):
    topics = Topics(topics_made)
    headers = [("h", b"\x00\xff"), ("h", b"again"), ("empty", b"")]
    await sender.send_many(
        topics.items,
        [
            (b"a", b"1", 1_700_000_000_001, headers),
            (b"a", None, 1_700_000_000_002, ()),
            (b"b", b"", None, ()),
        ],
        partition=2,
    )
    app = make_app(topics_made, "fields")
    got = []

    @app.agent(batch_topic(app, topics.items))
    async def collect(stream):
        async for batch in durable(stream):
            got.extend(batch)

    async with running(app):
        await eventually(lambda: len(got) == 3)
    a, tombstone, b = got
    assert (a.key, a.value, a.timestamp, list(a.headers)) == (b"a", b"1", 1_700_000_000_001, headers)
    assert (tombstone.key, tombstone.value, tombstone.timestamp) == (b"a", None, 1_700_000_000_002)
    assert (b.key, b.value) == (b"b", b"")
    assert abs(b.timestamp - time.time() * 1000) < 60_000


async def test_a_lone_record_arrives_at_once(topics_made, sender, running, eventually):
    topics = Topics(topics_made)
    app = make_app(topics_made, "lone")
    arrived = {}

    @app.agent(batch_topic(app, topics.requests))
    async def collect(stream):
        async for batch in durable(stream):
            arrived.update((r.value, time.perf_counter()) for r in batch)

    delays = []
    async with running(app):
        for n in range(30):
            body = b"%d" % n
            sent = time.perf_counter()
            await (await sender.send_one(topics.requests, body, key=body))
            await eventually(lambda body=body: body in arrived)
            delays.append(arrived[body] - sent)
            await asyncio.sleep(0.02)
    # Not a benchmark: a long poll that is not woken by new data would take fetch_max_wait_ms = 250 ms.
    assert sorted(delays)[len(delays) // 2] < 0.1, delays


@pytest.mark.parametrize("seconds", [0.0, 1.0])
async def test_records_gather_at_the_broker_while_that_is_wanted(
    seconds, topics_made, sender, running, eventually
):
    topic = Topics(topics_made).requests
    app, sizes = make_app(topics_made, "gather"), []
    delay_fetches(app, lambda: seconds)

    @app.agent(batch_topic(app, topic))
    async def collect(stream):
        async for batch in durable(stream):
            sizes.append(len(batch))  # noqa: PERF401 - the test reads it meanwhile

    async with running(app):
        for n in range(12):
            await (await sender.send_one(topic, b"%d" % n, key=b"", partition=0))
            if not seconds or n == 0:
                await eventually(lambda n=n: sum(sizes) == n + 1)
            else:
                await asyncio.sleep(0.03)  # else one fetch brings several, however soon it is sent
        await eventually(lambda: sum(sizes) == 12)
    assert (len(sizes) == 12) if not seconds else (len(sizes) <= 4), sizes


async def test_stock_and_batch_agents_in_one_app(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 1000)
    await fill(sender, topics.users, 300)
    app = make_app(settings, "mixed")
    batches, records = defaultdict(list), defaultdict(list)

    @app.agent(batch_topic(app, topics.events))
    async def in_bulk(stream):
        async for batch in durable(stream):
            batches[batch.partition] += [r.value for r in batch]

    @app.agent(app.topic(topics.users, key_type=bytes, value_type=bytes, value_serializer="raw"))
    async def one_by_one(stream):
        async for event in stream.events():
            records[event.message.partition].append(event.value)

    async with running(app):
        await eventually(lambda: sum(map(len, batches.values())) == 4000)
        await eventually(lambda: sum(map(len, records.values())) == 1200)
    assert batches == {p: [b"%d-%d" % (p, i) for i in range(1000)] for p in range(4)}
    assert records == {p: [b"%d-%d" % (p, i) for i in range(300)] for p in range(4)}
    assert await committed(settings, "mixed", topics.events) == dict.fromkeys(range(4), 1000)
    assert await committed(settings, "mixed", topics.users) == dict.fromkeys(range(4), 300)


async def test_partitions_added_while_running_are_read_from_their_beginning(
    settings, sender, running, eventually
):
    topic = settings.name("growing")
    await make_topic(settings, topic, 2)
    await fill(sender, topic, 500, partitions=2)
    app, got = quick_app(settings, "grow", consumer_metadata_max_age_ms=500), []
    collecting(app, topic, got)
    async with running(app):
        await eventually(lambda: len(got) == 1000)
        await add_partitions(settings, topic, 4)
        async with AIOKafkaProducer(bootstrap_servers=settings.brokers) as producer:
            for p in (2, 3):
                for n in range(100):
                    await producer.send(topic, b"%d" % n, partition=p)
        await eventually(lambda: {p for p, _ in got} == {0, 1, 2, 3}, 15)
        await eventually(lambda: len(set(got)) == 1200)
        await eventually(committed_is(settings, "grow", topic, 3, 100))
    assert set(got) == {(p, n) for p in range(2) for n in range(500)} | {
        (p, n) for p in (2, 3) for n in range(100)
    }


async def test_stock_tables_recover_beside_batches_and_their_changelogs_cost_nothing(
    topics_made, sender, running, eventually, tmp_path
):
    settings, topics = topics_made, Topics(topics_made)
    await make_changelog(settings, settings.name("headrace-tables"), "counts")

    def new_app():
        app = make_app(
            settings, "tables", topic_allow_declare=True, topic_partitions=4, datadir=str(tmp_path)
        )
        table = app.Table("counts", default=int, partitions=4)
        got = []

        @app.agent(app.topic(topics.users, key_type=bytes, value_type=bytes, value_serializer="raw"))
        async def count(stream):
            async for event in stream.events():
                table[event.key.decode()] += 1

        collecting(app, topics.events, got)
        return app, table, got

    keys = [b"k%d" % (n % 50) for n in range(1000)]
    await sender.send_keyed(topics.users, [(key, b"v", None, ()) for key in keys])
    await fill(sender, topics.events, 500)
    app, table, got = new_app()
    async with running(app):
        await eventually(lambda: sum(table.values()) == 1000, 15)
        await eventually(lambda: len(got) == 2000)
    app, table, got = new_app()
    async with running(app):
        await eventually(lambda: len(table) == 50)
        assert dict(table) == {key.decode(): 20 for key in keys}
        changelog = table.changelog_topic.get_topic_name()
        asked = Asked(app)
        await eventually(lambda: asked.leaves_out(changelog))
        asked.begin_again()
        await sender.send_keyed(topics.users, [(key, b"v", None, ()) for key in keys])
        await fill(sender, topics.events, 500)
        await eventually(lambda: sum(table.values()) == 2000, 15)
        await eventually(lambda: len(got) == 2000)
        await eventually(lambda: all(asked.partitions[topics.events, p] for p in range(4)))
        assert not any(asked.partitions[changelog, p] for p in range(4)), "changelogs are not fetched"
        held = {tp.topic for tp in app.consumer._thread._consumer._fetcher._records}
        assert changelog not in held
