"""The batch transport against a broker: complete, in order, and never committed past unfinished work."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter, defaultdict

import pytest
from transport_worker import check_committed_is_processed, committed, fill, start_worker

from headrace.streams.app import make_app
from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.process import run_apps
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import RecordBatch, batch_topic, durable, manual

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


async def test_a_crashing_service_stops_everything(topics_made):
    from mode import Service

    class Broken(Service):
        @Service.task
        async def _work(self):
            await asyncio.sleep(0.2)
            raise ZeroDivisionError("side task")

    topics = Topics(topics_made)
    app = make_app(topics_made, "side")

    @app.agent(batch_topic(app, topics.events))
    async def idle(stream):
        async for _ in durable(stream):
            pass

    started = time.monotonic()
    with pytest.raises(HeadraceError, match="side task"):
        await run_apps([app], settings=topics_made, services=[Broken()])
    assert time.monotonic() - started < 10


async def test_no_broker_is_said_in_one_error():
    settings = Settings(brokers="127.0.0.1:1")
    app = make_app(settings, "nobody")

    @app.agent(batch_topic(app, "events"))
    async def idle(stream):
        async for _ in durable(stream):
            pass

    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1"):
        await run_apps([app], settings=settings)


async def test_manual_acks_hold_the_offset(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 2000, partitions=1)
    app = make_app(settings, "manual")
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
        await asyncio.sleep(0.8)  # longer than the commit interval
        assert await at(-1)
        acks[0]()
        acks[0]()
        await eventually(lambda: at(1500))
        acks[3]()
        await eventually(lambda: at(2000))


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


async def test_two_agents_on_one_topic_both_count_for_the_offset(topics_made, sender, running, eventually):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 1000, partitions=1)
    app = make_app(settings, "both")
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
        await asyncio.sleep(0.8)
        assert (await committed(settings, "both", topics.events)).get(0, -1) == -1
        go.set()
        await eventually(lambda: len(slow) == 1000)
    assert (await committed(settings, "both", topics.events))[0] == 1000


async def test_a_slow_agent_holds_little_and_holds_nobody_up(make_settings, running, eventually):
    from headrace.streams.topics.admin import create_topics
    from headrace.streams.topics.sender import BatchSender

    settings = make_settings(batch_max_records=100)
    await create_topics(settings)
    topics = Topics(settings)
    sender = BatchSender(settings)
    await sender.start()
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
        await asyncio.sleep(0.5)
        ledger = app.consumer.ledger
        held = sum(ledger.in_flight((topics.events, p)) for p in range(4))
        assert held <= 4 + 4 + 1, "queued batches + one per partition + the one in the body"
        go.set()
        began = time.monotonic()
        await eventually(lambda: len(slow) == 20_000)
        assert time.monotonic() - began < 5, "paused partitions go on as soon as there is room"
    assert Counter(slow) == Counter(b"%d-%d" % (p, i) for p in range(4) for i in range(5000))
    await sender.stop()


async def test_rebalance_mid_stream_loses_nothing(topics_made, sender, running, eventually, real_kafka):
    settings, topics = topics_made, Topics(topics_made)
    seen, owners = Counter(), defaultdict(set)

    def worker(name):
        app = make_app(settings, "pair")

        @app.agent(batch_topic(app, topics.events))
        async def collect(stream):
            async for batch in durable(stream):
                await asyncio.sleep(0.002)
                seen.update(r.value for r in batch)
                owners[name].add(batch.partition)

        return app

    done = asyncio.Event()

    async def produce():
        n = 0
        while not done.is_set():
            for p in range(4):
                await sender.send_many(
                    topics.events,
                    [(b"k", b"%d-%d" % (p, i), None, ()) for i in range(n, n + 50)],
                    partition=p,
                )
            n += 50
            await asyncio.sleep(0.01)
        return n

    producing = asyncio.create_task(produce())
    async with running(worker("a")):
        await eventually(lambda: len(owners["a"]) == 4)
        async with running(worker("b")):
            await eventually(lambda: len(owners["b"]) == 2)
            await asyncio.sleep(0.3)
        before = sum(seen.values())
        await eventually(lambda: sum(seen.values()) > before + 1000)  # "a" took over again
        done.set()
        n = await producing
        await eventually(lambda: len(seen) == 4 * n)

        async def all_committed():
            return await committed(settings, "pair", topics.events) == dict.fromkeys(range(4), n)

        await eventually(all_committed)
    assert set(seen) == {b"%d-%d" % (p, i) for p in range(4) for i in range(n)}
    if real_kafka:  # the embedded one takes no commit once a rebalance has begun: some work is repeated there
        assert set(seen.values()) == {1}, "clean handovers repeat nothing"


async def test_kill_9_in_the_middle_of_a_batch(topics_made, sender, eventually, tmp_path):
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 2000, chunk=100)
    path = tmp_path / "processed"
    path.touch()

    def processed():
        return path.read_bytes().splitlines()

    # A static member: the embedded broker never removes a dead one.
    worker = start_worker(settings, path, 0.04, "worker-1")
    try:
        await eventually(lambda: len(processed()) > 3000, 15)  # about 30 batches, 1.2 s: two commits
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    have = set(processed())
    offsets = await committed(settings, "killed", topics.events)
    assert any(offset > 0 for offset in offsets.values()), "something was committed before the kill"
    check_committed_is_processed(offsets, have)
    everything = {b"%d-%d" % (p, i) for p in range(4) for i in range(2000)}
    assert have < everything
    worker = start_worker(settings, path, 0, "worker-1")
    try:
        await eventually(lambda: set(processed()) == everything, 20)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    finally:
        worker.kill()
        worker.wait()
    assert await committed(settings, "killed", topics.events) == dict.fromkeys(range(4), 2000)


async def test_another_worker_takes_over_from_a_killed_one(
    topics_made, sender, eventually, tmp_path, real_kafka
):
    if not real_kafka:
        pytest.skip("the embedded broker never removes a dead member from its group")
    settings, topics = topics_made, Topics(topics_made)
    await fill(sender, topics.events, 2000, chunk=100)
    paths = [tmp_path / "first", tmp_path / "second"]
    for path in paths:
        path.touch()

    def processed(path):
        return path.read_bytes().splitlines()

    workers = [start_worker(settings, path, 0.05) for path in paths]
    try:
        await eventually(lambda: all(len(processed(path)) > 1000 for path in paths), 15)
        workers[0].send_signal(signal.SIGKILL)
        workers[0].wait()
        have = set(processed(paths[0])) | set(processed(paths[1]))
        check_committed_is_processed(await committed(settings, "killed", topics.events), have)
        everything = {b"%d-%d" % (p, i) for p in range(4) for i in range(2000)}
        await eventually(lambda: set(processed(paths[0])) | set(processed(paths[1])) == everything, 25)
        workers[1].send_signal(signal.SIGTERM)
        assert workers[1].wait(10) == 0
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert await committed(settings, "killed", topics.events) == dict.fromkeys(range(4), 2000)


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
