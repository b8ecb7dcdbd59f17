"""Missing reply topics, malformed requests, a Redis that hangs: all other requests get a reply."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import msgspec
import pytest
from fresh_topics import admin_of, make_topic, make_topics
from installation import ITEMS, dead_letters, now_ms, producer, publish, read_all, until, worker

from headrace.demo.embedded import EmbeddedRedis
from headrace.serving.requests.client import RecClient
from headrace.serving.store.redis import RedisStore
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.schemas import Event, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender, partition_of


@pytest.fixture
def two(settings: Settings) -> Settings:
    return settings.model_copy(update={"partitions": 2, "max_message_bytes": 1_000_000})


def body(request_id: str, user: str = "u") -> bytes:
    return msgspec.json.encode(RecRequest(request_id, user, "home", n=3, deadline_ms=5000))


def to(topic: str) -> list[tuple[str, bytes]]:
    return [("reply_to", topic.encode()), ("correlation_id", b"1")]


@pytest.mark.broker
async def test_a_reply_topic_that_does_not_exist_delays_nobody(two: Settings) -> None:
    topics = Topics(two)
    await make_topics(two)
    nope = f"{two.topic_prefix}rec-replies-nope"
    high = [
        ("kafka_replyTopic", topics.replies.encode()),
        ("kafka_correlationId", b"x"),
        ("kafka_replyPartition", (99).to_bytes(4, "big")),
    ]
    async with producer(two) as sender:
        await publish(sender, topics.items, [(i.item_id, i) for i in ITEMS])
        async with worker(two, ["serve"]), RecClient(two, "fine") as client:
            assert (await client.recommend(RecRequest("warm", "u", "home", n=3), 10.0)).items
            lost = [body("to-nope"), body("to-99")]
            slowest = 0.0
            for n in range(5):
                await sender.send_keyed(
                    topics.requests,
                    [(b"u", lost[0], None, to(nope)), (b"u", lost[1], None, high)] if n == 0 else [],
                )
                began = time.monotonic()
                reply = await client.recommend(RecRequest(f"r{n}", "u", "home", n=3), 10.0)
                slowest = max(slowest, time.monotonic() - began)
                assert len(reply.items) == 3
            letters = await until(lambda: dead_letters(two), lambda found: len(found) >= 2)
            assert slowest < 2.0
    assert sorted((x.value, x.reason, x.topic) for x in letters) == sorted(
        (value, "reply_undeliverable", topics.requests) for value in lost
    )
    async with admin_of(two.brokers) as admin:
        assert nope not in await admin.list_topics(), "a caller cannot make us create topics"


@pytest.mark.broker
async def test_poison_and_large_records_stop_neither_worker(two: Settings) -> None:
    topics = Topics(two)
    await make_topics(two)
    frame = b'{"value":%b,"reply_to":%b,"correlation_id":"x","__faust":{"ns":"@ReqRepRequest"}}'
    deep = frame % (b"[" * 20_000 + b"]" * 20_000, b'"rec-replies"')
    garbled = frame % (b"{}", b'"\xff"')
    # The largest event that `events` takes: its letter is larger still.
    large = msgspec.json.encode({"event_id": "big", "pad": "p" * 999_000})
    replies = to(topics.replies)
    async with producer(two) as sender:
        await publish(sender, topics.items, [(i.item_id, i) for i in ITEMS])
        async with worker(two, ["ingest", "serve"]), RecClient(two, "fine") as client:
            await sender.send_keyed(topics.requests, [(b"u", deep, None, []), (b"u", garbled, None, replies)])
            await sender.send_keyed(topics.events, [(b"u", large, None, [("trace", b"t" * 30_000)])])
            letters = await until(lambda: dead_letters(two), lambda found: len(found) >= 3)
            assert len((await client.recommend(RecRequest("after", "u", "home", n=3), 10.0)).items) == 3
    assert {x.value: x.reason for x in letters} == {
        deep: "no_reply_address",
        garbled: "missing_field",
        large: "too_large",
    }


@pytest.mark.broker
async def test_a_letter_that_the_topic_refuses_goes_without_its_body(two: Settings) -> None:
    """`dead-letters` was created with a lower limit than ours."""
    topics = Topics(two)
    await make_topic(two, topics.dead_letters, 2, max_message_bytes="200000")
    await make_topics(two)
    noise = os.urandom(300_000)
    async with producer(two) as sender, worker(two, ["ingest"]):
        await sender.send_keyed(topics.events, [(b"u", noise, None, []), (b"u", b"{}", None, [])])
        await until(lambda: dead_letters(two), lambda found: len(found) >= 2)
    records = await read_all(two, topics.dead_letters)
    headers = [dict(r.headers) for r in records]
    assert {h["origin-offset"] for h in headers} == {b"0", b"1"}
    for record, h in zip(records, headers, strict=True):
        if h["origin-offset"] == b"0":
            assert record.value == noise or (record.value, h["origin-body-dropped"]) == (b"", b"300000")


@pytest.mark.broker
async def test_a_request_in_a_foreign_partition_is_logged_in_its_users(two: Settings) -> None:
    topics = Topics(two)
    await make_topics(two)
    elsewhere = 1 - partition_of(b"u", 2)
    async with producer(two) as sender:
        await publish(sender, topics.items, [(i.item_id, i) for i in ITEMS])
        async with worker(two, ["serve"]):
            request: Any = (b"u", body("r1"), None, to(topics.replies))
            await until(lambda: read_all(two, topics.items), lambda found: len(found) == len(ITEMS))
            await sender.send_many(topics.requests, [request], partition=elsewhere)
            logged = await until(lambda: read_all(two, topics.impressions), lambda found: len(found) == 1)
    assert logged[0].partition == partition_of(b"u", 2)


@pytest.mark.broker
async def test_an_ordinary_stop_says_nothing_of_failures(
    two: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    topics = Topics(two)
    await make_topics(two)
    slow = two.model_copy(update={"flush_every_ms": 600})
    async with producer(two) as sender:
        async with worker(slow, ["ingest"]):
            await asyncio.sleep(0.4)
            await publish(sender, topics.events, [("u", Event("e", "click", "u", "item-1", now_ms()))])
            await asyncio.sleep(0.3)
        await asyncio.sleep(0.7)  # longer than until the next flush
    assert "flush failed" not in caplog.text


async def test_a_redis_that_hangs_costs_one_read_a_little_and_the_others_nothing() -> None:
    with EmbeddedRedis() as server:
        store = RedisStore(Settings(redis_url=server.url, redis_read_ms=2000))
        await store.put("u", PackedRows.of([1], [b"row"]))
        assert await store.get("u", [1]) == [b"row"]
        probes, probe = 0, store._ask

        async def counted() -> None:
            nonlocal probes
            probes += 1
            await probe()

        store._ask, store.read_timeout_s, store.timeout_s = counted, 0.05, 0.1
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(UnavailableError, match="no answer within 50 ms"):
                await store.get("u", [1])
            while probes < 3:
                with pytest.raises(UnavailableError, match="away"):  # it was not sent
                    await store.get("u", [1])
                await asyncio.sleep(0.02)
        finally:
            os.kill(server.pid, signal.SIGCONT)

        async def back() -> Any:
            try:
                return await store.get("u", [1])
            except UnavailableError as exc:
                return exc

        store.read_timeout_s = store.timeout_s = 2.0
        await until(back, lambda rows: rows == [b"row"])
        await store.close()


@pytest.mark.broker
async def test_listing_topics_creates_none(two: Settings) -> None:
    await make_topics(two)
    sender = BatchSender(two)
    await sender.start()
    try:
        listed = await sender.list_topics()
        assert listed[Topics(two).events] == 2
        assert sender.known_partitions("nowhere") == 0
        await sender.get_to_know(Topics(two).events)
        assert sender.known_partitions(Topics(two).events) == 2
    finally:
        await sender.stop()
