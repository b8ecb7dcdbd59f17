"""Writing in bulk and reading back: order, sizes, headers, partitions; tails with old and new records."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict

import pytest
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import DefaultPartitioner
from project import ROOT
from transport_probes import quick_app

from headrace.demo.embedded import EmbeddedBroker, free_port
from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import open_reader, read_partition
from headrace.streams.topics.sender import BatchSender, Written, partition_of
from headrace.streams.topics.tail import Tail, broadcast_channel
from headrace.streams.transport.batches import batch_topic, durable

pytestmark = pytest.mark.broker

#: Not a fixed time: the broker drops records whose timestamp is past the topic's retention.
NOW_MS = int(time.time() * 1000) - 10_000


async def read_all(settings: Settings, topic: str, partitions: int = 4) -> dict[int, list]:
    got = defaultdict(list)
    for partition in range(partitions):
        end = await read_partition(settings, topic, partition, lambda b: got[b.partition].extend(b.records))
        assert len(got[partition]) == end
    return got


async def test_a_batch_is_written_in_order_with_all_its_fields(topics_made, sender):
    topic = Topics(topics_made).events
    records = [(b"k%d" % i, b"v%d" % i, NOW_MS + i, [("n", b"%d" % i)] if i % 2 else ()) for i in range(5000)]
    assert await sender.send_many(topic, records, partition=1) == Written(0, 5000)
    assert await sender.send_many(topic, [], partition=1) == Written(-1, -1)
    got = await read_all(topics_made, topic)
    assert [(r.key, r.value, r.timestamp, list(r.headers)) for r in got[1]] == [
        (key, value, ts, list(headers)) for key, value, ts, headers in records
    ]
    assert sum(map(len, got.values())) == 5000


async def test_large_records_keep_their_place(topics_made, sender):
    topic = Topics(topics_made).events
    sizes = [10, 2_000_000, 10, 600_000, 600_000, 10, 511_900, 3_900_000, 1]
    records = [(b"%d" % n, b"x" * size, None, [("h", b"1")]) for n, size in enumerate(sizes)]
    assert await sender.send_many(topic, records, partition=0) == Written(0, len(sizes))
    assert await sender.send_many(topic, records[:1], partition=0) == Written(len(sizes), len(sizes) + 1)
    sizes.append(sizes[0])
    got = (await read_all(topics_made, topic))[0]
    assert [len(r.value) for r in got] == sizes
    assert [r.key for r in got] == [key for key, *_ in records] + [b"0"]


async def test_what_the_broker_refuses_is_an_error(topics_made, sender):
    topic = Topics(topics_made).events
    with pytest.raises(MessageSizeTooLargeError):
        await sender.send_many(topic, [(b"k", os.urandom(20_000_000), None, ())], partition=0)
    with pytest.raises(MessageSizeTooLargeError):
        await sender.send_one(topic, os.urandom(20_000_000))
    await sender.send_many(topic, [(b"k", b"fine", None, ())], partition=0)
    assert [r.value for r in (await read_all(topics_made, topic))[0]] == [b"fine"]


async def test_a_refusal_by_the_broker_does_not_end_a_partition(topics_made, sender):
    # Larger than the topic takes, not larger than our own limit: only the broker can tell.
    topic = Topics(topics_made).events
    await sender.send_many(topic, [(b"k", b"before", None, ())], partition=0)
    sender._max_bytes = sender.producer._max_request_size = 30_000_000
    with pytest.raises(KafkaError):
        await sender.send_many(topic, [(b"k", os.urandom(20_000_000), None, ())], partition=0)
    await sender.send_many(topic, [(b"k", b"after", None, ())], partition=0)
    future = await sender.send_one(topic, b"one", partition=0)
    assert (await future).offset == 2
    assert [r.value for r in (await read_all(topics_made, topic))[0]] == [b"before", b"after", b"one"]


async def test_keyed_records_land_where_kafkas_own_partitioner_puts_them(topics_made, sender):
    topic = Topics(topics_made).events
    keys = [b"user-%d" % i for i in range(500)] + [b"", b"\xff\x00", "ключ".encode()]
    await sender.send_keyed(topic, [(key, b"%d" % n, None, ()) for n in range(3) for key in keys])
    await sender.send_keyed(topic, [(None, b"keyless", None, ())] * 3)
    partitioner = DefaultPartitioner()
    got = await read_all(topics_made, topic)
    order = defaultdict(list)
    for partition, records in got.items():
        for record in records:
            if record.key is not None:
                assert (
                    partition
                    == partitioner(record.key, [0, 1, 2, 3], [0, 1, 2, 3])
                    == partition_of(record.key, 4)
                )
                order[record.key].append(record.value)
    assert order == {key: [b"0", b"1", b"2"] for key in keys}
    assert sum(len(records) for records in got.values()) == 3 * len(keys) + 3
    assert await sender.partitions_of(topic) == 4


async def test_many_senders_at_once_lose_nothing(topics_made, sender):
    topic = Topics(topics_made).events

    async def write(n):
        for i in range(20):
            await sender.send_keyed(
                topic, [(b"%d" % k, b"%d-%d-%d" % (n, i, k), None, ()) for k in range(25)]
            )
            await sender.send_one(topic, b"one-%d-%d" % (n, i), key=b"k")

    await asyncio.gather(*(write(n) for n in range(8)))
    await sender.producer.flush()
    values = [r.value for records in (await read_all(topics_made, topic)).values() for r in records]
    assert len(values) == len(set(values)) == 8 * 20 * 26


async def test_send_one_returns_the_future_of_its_place(topics_made, sender):
    topic = Topics(topics_made).events
    future = await sender.send_one(
        topic, b"v", key=b"k", partition=3, headers=[("a", b"b")], timestamp_ms=NOW_MS
    )
    assert ((await future).partition, (await future).offset) == (3, 0)
    (record,) = (await read_all(topics_made, topic))[3]
    assert (record.timestamp, list(record.headers)) == (NOW_MS, [("a", b"b")])


async def test_tail_reads_everything_then_follows(topics_made, sender, eventually):
    topics = Topics(topics_made)
    await sender.send_keyed(topics.items, [(b"%d" % i, b"old", None, ()) for i in range(3000)])
    got = defaultdict(list)

    async def apply(batch):
        await asyncio.sleep(0)
        got[batch.partition].extend(batch.records)

    tail = Tail(topics_made, topics.items, apply, name="test")
    async with tail:
        await asyncio.wait_for(tail.caught_up.wait(), 5)
        assert sum(map(len, got.values())) == 3000
        assert sum(tail.position.values()) == 3000
        assert set(tail.position) == {(topics.items, p) for p in range(4)}
        assert tail.lag() == 0
        sent = time.perf_counter()
        await sender.send_keyed(topics.items, [(b"new", b"new", None, ())])
        await eventually(lambda: sum(map(len, got.values())) == 3001)
        assert time.perf_counter() - sent < 0.2, "new data ends the long poll"
    for records in got.values():
        assert [r.offset for r in records] == list(range(len(records)))


async def test_tail_of_empty_topics_is_caught_up_at_once(topics_made):
    topics = Topics(topics_made)
    tail = Tail(topics_made, [topics.items, topics.models], lambda batch: None)
    async with tail:
        await asyncio.wait_for(tail.caught_up.wait(), 3)
        assert tail.lag() == 0
        assert len(tail.position) == 5


async def test_tail_from_end_skips_history(topics_made, sender, eventually):
    topics = Topics(topics_made)
    await sender.send_keyed(topics.items, [(b"%d" % i, b"old", None, ()) for i in range(100)])
    got = []
    tail = Tail(topics_made, topics.items, lambda batch: got.extend(batch.records), from_end=True)
    async with tail:
        await asyncio.wait_for(tail.caught_up.wait(), 3)
        await sender.send_keyed(topics.items, [(b"x", b"new", None, ())])
        await eventually(lambda: got)
    assert [r.value for r in got] == [b"new"]


async def test_two_tails_both_see_everything(topics_made, sender, eventually):
    topics = Topics(topics_made)
    counts = [0, 0]

    def counting(n):
        def apply(batch):
            counts[n] += len(batch)

        return apply

    async with Tail(topics_made, topics.items, counting(0)), Tail(topics_made, topics.items, counting(1)):
        await sender.send_keyed(topics.items, [(b"%d" % i, b"v", None, ()) for i in range(200)])
        await eventually(lambda: counts == [200, 200])


async def test_a_tail_feeds_an_agent_through_rebalances(topics_made, sender, running, eventually):
    topics = Topics(topics_made)
    await sender.send_keyed(topics.items, [(b"%d" % i, b"v", None, ()) for i in range(500)])
    app = quick_app(topics_made, "tailed")
    channel = broadcast_channel(app)
    items, events = [], []

    @app.agent(channel)
    async def follow(stream):
        async for batch in stream:
            items.extend(r.key for r in batch)

    @app.agent(batch_topic(app, topics.events))
    async def read(stream):
        async for batch in durable(stream):
            events.extend(batch)

    other = quick_app(topics_made, "tailed")

    @other.agent(batch_topic(other, topics.events))
    async def read_too(stream):
        async for batch in durable(stream):
            events.extend(batch)

    tail = Tail(app, topics.items, channel)
    async with running(app, services=[tail]):
        await eventually(lambda: len(items) == 500)
        async with running(other):  # a rebalance of app's group
            await sender.send_keyed(topics.items, [(b"n%d" % i, b"v", None, ()) for i in range(500)])
            await sender.send_keyed(topics.events, [(b"%d" % i, b"v", None, ()) for i in range(100)])
            await eventually(lambda: len(items) == 1000 and len(events) >= 100)
    assert len(set(items)) == 1000


async def test_a_tail_whose_callback_fails_stops_the_process(topics_made, sender, running):
    topics = Topics(topics_made)
    await sender.send_keyed(topics.items, [(b"k", b"v", None, ())])

    def broken(batch):
        raise ZeroDivisionError("callback")

    with pytest.raises(HeadraceError, match="callback"):
        async with running(services=[Tail(topics_made, topics.items, broken)]):
            await asyncio.sleep(5)


async def test_missing_topics_are_named(settings):
    with pytest.raises(UnavailableError, match="no-such-topic"):
        await read_partition(settings, "no-such-topic", 0, lambda batch: None)


async def test_offsets_for_a_time(topics_made, sender):
    topic = Topics(topics_made).events
    await sender.send_many(topic, [(b"k", b"", NOW_MS + i * 10, ()) for i in range(5)], partition=3)
    async with open_reader(topics_made, [topic], [1, 3]) as reader:
        empty, filled = reader.partitions
        for asked, offset in ((0, 0), (NOW_MS + 11, 2), (NOW_MS + 40, 4), (NOW_MS + 41, None)):
            assert await reader.offsets_for_time(asked) == {empty: None, filled: offset}


async def test_read_partition_from_an_offset(topics_made, sender):
    topic = Topics(topics_made).events
    await sender.send_many(topic, [(b"k", b"%d" % i, None, ()) for i in range(1000)], partition=2)
    got = []
    end = await read_partition(
        topics_made, topic, 2, lambda b: got.extend(r.offset for r in b), from_offset=990
    )
    assert (end, got) == (1000, list(range(990, 1000)))
    assert await read_partition(topics_made, topic, 2, lambda b: got.clear(), from_offset=1000) == 1000
    assert await read_partition(topics_made, topic, 0, lambda b: got.clear()) == 0
    assert got
    with pytest.raises(UnavailableError, match="no partition 9"):
        await read_partition(topics_made, topic, 9, lambda b: None)


async def test_embedded_servers_leave_nothing_behind():
    from pathlib import Path

    server = EmbeddedBroker()
    with server:
        pid, folder = server.pid, server._folder
        assert Path(f"/proc/{pid}").exists()
        sender = BatchSender(Settings(brokers=server.bootstrap))
        await sender.start()
        await sender.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()
    server.stop()


def test_embedded_servers_die_with_their_parent(tmp_path):
    import signal
    import subprocess
    import sys
    from pathlib import Path

    script = (
        "import sys, time\n"
        "from headrace.demo.embedded import EmbeddedRedis\n"
        "server = EmbeddedRedis().start()\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT)
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 3

    def alive():
        status = Path(f"/proc/{child}/stat")
        return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"

    while alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive()


def test_free_ports_are_loopback_ports():
    assert 1024 < free_port() < 65536
