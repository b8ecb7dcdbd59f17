"""What flows through the batch transport, and when: seeks, pauses, slow agents, hot partitions, holes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, defaultdict

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.errors import IllegalStateError
from faust.types import TP
from transport_worker import committed, fill

from headrace.streams.app import make_app
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import batch_topic, durable, manual

pytestmark = pytest.mark.broker


@pytest.fixture
def settings(make_settings) -> Settings:
    return make_settings(batch_max_records=100)


def collecting(app, topic: str, into: list, pause: float = 0.0):
    """Attach an agent that collects ``(partition, offset)``."""

    @app.agent(batch_topic(app, topic))
    async def collect(stream):
        async for batch in durable(stream):
            await asyncio.sleep(pause)
            into.extend((batch.partition, record.offset) for record in batch)

    return collect


def committed_is(settings, role, topic, partition, offset):
    async def check():
        return (await committed(settings, role, topic)).get(partition, -1) == offset

    return check


class Asked:
    """The fetch requests of an app's consumer from now on: how many, and for which partitions."""

    def __init__(self, app) -> None:
        self.count = 0
        self.partitions = Counter()
        fetcher = app.consumer._thread._consumer._fetcher
        send = fetcher._proc_fetch_request

        async def note(assignment, node_id, request):
            self.count += 1
            self.partitions.update((topic, part[0]) for topic, parts in request.topics for part in parts)
            return await send(assignment, node_id, request)

        fetcher._proc_fetch_request = note


# --- seeks ---


async def test_seeks_forward_and_backward_while_running(topics_made, sender, running, eventually):
    settings, topic = topics_made, Topics(topics_made).events
    await fill(sender, topic, 1000, partitions=1)
    app, got = make_app(settings, "seek"), []
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
    app, got = make_app(settings, "seekload"), []
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
    app, acks = make_app(settings, "seekack"), []

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
        await eventually(lambda: acks[-1][0] == 900)
        assert [first for first, _ in acks[10:]] == list(range(300, 1000, 100))
    assert (await committed(settings, "seekack", topic))[0] == 300


# --- pauses and slow agents ---


async def test_a_paused_partition_is_neither_delivered_nor_fetched(topics_made, sender, running, eventually):
    settings, topic = topics_made, Topics(topics_made).events
    app, got = make_app(settings, "pause"), []
    collecting(app, topic, got)
    async with running(app):
        await fill(sender, topic, 200, partitions=2)
        await eventually(lambda: len(got) == 400)
        app.consumer.pause_partitions({TP(topic, 0)})
        await asyncio.sleep(0.3)  # the fetch under way ends
        asked = Asked(app)
        await fill(sender, topic, 300, partitions=2)
        await eventually(lambda: sum(p == 1 for p, _ in got) == 500)
        assert sum(p == 0 for p, _ in got) == 200
        await eventually(lambda: asked.partitions[topic, 1] > 3)
        assert asked.partitions[topic, 0] == 0
        assert TopicPartition(topic, 0) not in app.consumer._thread._consumer._fetcher._records
        app.consumer.resume_partitions({TP(topic, 0)})
        await eventually(lambda: len(got) == 1000)
    assert [n for p, n in got if p == 0] == list(range(500)), "as if nothing had been"


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
        await asyncio.sleep(0.5)
        asked = Asked(app)
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


# --- fairness ---


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
    # one more round may come while it is on its way.
    assert max(waited) <= 2 * (4 + 4 + 1), waited
    assert max(n for _, n in order) <= 100


# --- partitions, tables ---


async def test_partitions_added_while_running_are_read_from_their_beginning(
    settings, sender, running, eventually
):
    topic = settings.name("growing")
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 2, 1)])
        await fill(sender, topic, 500, partitions=2)
        app, got = make_app(settings, "grow", consumer_metadata_max_age_ms=500), []
        collecting(app, topic, got)
        async with running(app):
            await eventually(lambda: len(got) == 1000)
            await admin.create_partitions({topic: NewPartitions(4)})
            producer = AIOKafkaProducer(bootstrap_servers=settings.brokers)
            async with producer:
                for p in (2, 3):
                    for n in range(100):
                        await producer.send(topic, b"%d" % n, partition=p)
            await eventually(lambda: {p for p, _ in got} == {0, 1, 2, 3}, 15)
            await eventually(lambda: len(set(got)) == 1200)
            await eventually(committed_is(settings, "grow", topic, 3, 100))
    finally:
        await admin.close()
    assert set(got) == {(p, n) for p in range(2) for n in range(500)} | {
        (p, n) for p in (2, 3) for n in range(100)
    }


async def test_stock_tables_recover_beside_batches_and_their_changelogs_cost_nothing(
    topics_made, sender, running, eventually, tmp_path
):
    settings, topics = topics_made, Topics(topics_made)

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
        await asyncio.sleep(0.3)
        asked = Asked(app)
        await sender.send_keyed(topics.users, [(key, b"v", None, ()) for key in keys])
        await fill(sender, topics.events, 500)
        await eventually(lambda: sum(table.values()) == 2000, 15)
        await eventually(lambda: len(got) == 2000)
        await eventually(lambda: all(asked.partitions[topics.events, p] for p in range(4)))
        assert not any(asked.partitions[changelog, p] for p in range(4)), "changelogs are not fetched"
        held = {tp.topic for tp in app.consumer._thread._consumer._fetcher._records}
        assert changelog not in held


# --- holes ---


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


# --- the lease ---


async def test_the_lease_is_held_while_running_and_not_after(topics_made, running, eventually):
    settings, topic = topics_made, Topics(topics_made).events
    app, got, ages = make_app(settings, "lease"), [], defaultdict(float)
    collecting(app, topic, got)
    async with running(app):
        consumer = app.consumer
        await eventually(consumer.lease_valid)
        for _ in range(30):
            await asyncio.sleep(0.1)
            ages["most"] = max(ages["most"], consumer.lease_age())
        assert consumer.lease_valid()
        assert 0 < ages["most"] < 4, "a heartbeat a second"
    assert not consumer.lease_valid()
    assert consumer.lease_age() == float("inf")


async def test_connections_are_closed_by_their_own_thread(topics_made, sender, running, eventually):
    """Also when a rebalance comes while the app stops: Faust would close them from the main thread then."""
    topics, seen, closed_by = Topics(topics_made), [], []
    await fill(sender, topics.events, 10, partitions=1)
    app = make_app(topics_made, "stopping")
    collecting(app, topics.events, seen)
    async with running(app):
        await eventually(lambda: len(seen) == 10)
        client = app.consumer._thread._consumer._client
        close = client.close

        async def noted():
            closed_by.append(threading.current_thread())
            await close()

        client.close = noted
        app._on_rebalance_when_stopped()
        await asyncio.sleep(0.1)
    assert closed_by
    assert threading.main_thread() not in closed_by
