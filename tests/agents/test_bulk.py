"""Bulk requests: answered after all others, at least once, and logged as shown by nobody."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fresh_topics import make_topics
from installation import ITEMS, dead_letters, producer, publish, read_all, until, worker
from prometheus_client import generate_latest
from scraped import Scraped
from serve_stage import Broker, Rec, body, stage_on

from headrace.agents.recommend import ServeStage
from headrace.agents.stage.bulk import MOST, BulkStage
from headrace.serving.requests import turns
from headrace.serving.requests.client import RecClient
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics
from headrace.streams.transport.batches import RecordBatch


def batch(*records: Rec) -> RecordBatch:
    for offset, record in enumerate(records):
        record.offset = offset
    return RecordBatch("rec-requests-bulk", 0, list(records))


def replies(broker: Broker) -> list[RecReply]:
    return [msgspec.json.decode(r[1] or b"", type=RecReply) for r in broker.of("rec-replies-p")]


async def test_a_bulk_request_has_no_deadline_and_no_impression() -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker)
    bulk = BulkStage(stage, stopping=lambda: True)
    old = Rec(body(deadline_ms=1, surface="digest"), timestamp=Rec(b"").timestamp - 3_600_000)
    todo = batch(old, *(Rec(body(request_id=f"r{n}", surface="digest")) for n in range(20)))
    await bulk.finish(todo, await bulk.answer(todo))
    found = replies(broker)
    assert [len(reply.items) for reply in found] == [3] * 21
    assert not any("deadline" in reply.degraded or "rung:fewer" in reply.degraded for reply in found)
    assert broker.of("impressions") == [], "it is made, and not shown"


async def test_the_same_is_refused_as_of_other_requests() -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker)
    bulk = BulkStage(stage, stopping=lambda: True)
    todo = batch(
        Rec(body(n=0)), Rec(b"{"), Rec(body()), Rec(body(), headers=[]),
        Rec(body(), headers=[("reply_to", b"other"), ("correlation_id", b"1")]),
        Rec(body(), headers=[("reply_to", b"rec-replies-nope"), ("correlation_id", b"1")]),
    )  # fmt: skip
    await bulk.finish(todo, await bulk.answer(todo))
    assert sorted(broker.letters()) == [
        ("invalid_field", "n", 0),
        ("no_reply_address", "reply_to", 3),
        ("reply_topic_not_allowed", "reply_to", 4),
        ("reply_undeliverable", "reply_to", 5),
        ("undecodable", "", 1),
    ]
    codes = [reply.error.code if reply.error else "" for reply in replies(broker)]
    assert sorted(codes) == ["", "invalid_field", "undecodable"]
    scraped = Scraped(generate_latest(stage.wiring.metrics.registry).decode())
    counted = scraped.all("headrace_bulk_replies_total")
    assert counted == {("degraded", "home"): 2, ("error", ""): 4}, "no model yet"
    assert scraped.one("headrace_bulk_share_ratio") == 0.5
    for name in ("headrace_replies_total", "headrace_rungs_total", "headrace_reply_seconds_count"):
        assert scraped.all(name) == {}, "those are of requests that somebody waits for"


async def test_a_page_in_bulk_has_its_lists() -> None:
    broker = Broker(rec_replies_p=1)
    bulk = BulkStage(stage_on(broker), stopping=lambda: True)
    todo = batch(Rec(body(lists=[{"surface": "home", "n": 4}, {"surface": "digest", "n": 5}])))
    await bulk.finish(todo, await bulk.answer(todo))
    (reply,) = replies(broker)
    assert [len(one.items) for one in reply.lists] == [4, 5]


async def test_no_list_is_made_while_a_request_waits_or_is_answered() -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker)
    bulk = BulkStage(stage, stopping=lambda: True)  # no rests: only the others count
    stage.turns.begin(0.0)
    answering = asyncio.create_task(bulk.answer(batch(Rec(body()), Rec(body()))))
    for _ in range(5):
        await asyncio.sleep(0.01)
    assert replies(broker) == []
    waiting = 1
    bulk.queued = lambda: waiting
    stage.turns.end(0.0)
    for _ in range(5):
        await asyncio.sleep(0.01)
    assert replies(broker) == [], "one is queued"
    waiting = 0
    await bulk.finish(batch(), await answering)
    assert len(replies(broker)) == 2


# -- on a broker


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return make_settings(data_dir=tmp_path, candidates_ms=10_000, part_ms=10_000)


def request(n: int, prefix: str = "b") -> RecRequest:
    return RecRequest(f"{prefix}-{n}", f"user-{n}", "digest", n=5)


@pytest.mark.broker
async def test_lists_in_bulk_while_other_requests_go_on(settings: Settings) -> None:
    await make_topics(settings)
    async with producer(settings) as sender, worker(settings, ["serve"], within_s=60):
        await publish(sender, Topics(settings).items, [(item.item_id, item) for item in ITEMS])
        async with (
            RecClient(settings, "bulk", timeout_s=200, bulk=True) as bulk,
            RecClient(settings, "now", timeout_s=60) as now,
        ):
            await until(
                lambda: now.recommend(RecRequest(secrets.token_hex(4), "u", "home", n=5, deadline_ms=60_000)),
                lambda reply: len(reply.items) == 5,
            )
            many = asyncio.gather(*(bulk.recommend(request(n)) for n in range(200)))
            asked = 0
            while not many.done():
                reply = await now.recommend(
                    RecRequest(f"now-{asked}", f"u{asked % 7}", "home", n=5, deadline_ms=60_000)
                )
                assert reply.error is None
                assert len(reply.items) == 5
                asked += 1
                await asyncio.sleep(0.02)  # readers read
            found = await many
    assert [reply.request_id for reply in found] == [f"b-{n}" for n in range(200)]
    assert all(len(reply.items) == 5 and reply.error is None for reply in found)
    assert asked > 3, "they were not held up by the bulk"
    # The worker has stopped: all impressions are written.
    shown = [msgspec.json.decode(r.value) for r in await read_all(settings, Topics(settings).impressions)]
    assert {one["request_id"] for one in shown if one["request_id"].startswith("b-")} == set()
    assert len({one["request_id"] for one in shown if one["request_id"].startswith("now-")}) == asked
    assert await dead_letters(settings) == []


@pytest.mark.broker
async def test_after_a_clean_stop_no_bulk_request_is_answered_twice_and_none_is_lost(
    settings: Settings,
) -> None:
    await make_topics(settings)
    topics, replies_to = Topics(settings), settings.name("rec-replies")
    encode = msgspec.json.encode
    total = 5 * MOST

    async def answered() -> list[str]:
        return [msgspec.json.decode(r.value)["request_id"] for r in await read_all(settings, replies_to)]

    async def left() -> int:
        rows = [row for row in await lag(settings) if row.topic == topics.bulk_requests]
        return sum(row.records for row in rows) if rows else total

    async with producer(settings) as sender:
        headers = [("reply_to", replies_to.encode())]
        await sender.send_keyed(
            topics.bulk_requests,
            [(f"user-{n}".encode(), encode(request(n)), None, headers) for n in range(total)],
        )
    async with worker(settings, ["serve"], within_s=60):
        await until(answered, lambda ids: len(ids) > 10, 30)
    first = await answered()
    assert len(first) == len(set(first))
    async with worker(settings, ["serve"], within_s=60):
        await until(left, lambda records: records == 0, 30)
    assert sorted(await answered()) == sorted(f"b-{n}" for n in range(total))


@pytest.mark.broker
async def test_requests_that_are_queued_are_answered_before_bulk_ones(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interactive requests come while one is being answered; bulk ones are there before them."""
    await make_topics(settings)
    monkeypatch.setattr(turns, "QUIET_S", 0.5)  # a busy machine may hold the loop between two of them
    go, begun, order, stages = asyncio.Event(), asyncio.Event(), [], []
    answer, bulk_answer, made = ServeStage.answer, BulkStage.answer, ServeStage.answers

    async def slow(self: ServeStage, batch: RecordBatch) -> Any:
        self.turns.begin(self.wiring.clock.monotonic())
        begun.set()
        await go.wait()
        self.turns.end(self.wiring.clock.monotonic())
        return await answer(self, batch)

    async def noted(self: BulkStage, batch: RecordBatch) -> Any:
        stages.append(self)
        return await bulk_answer(self, batch)

    async def in_order(self: ServeStage, *given: Any) -> Any:
        async for job, reply, answers in made(self, *given):
            order.append(reply.request_id)
            yield job, reply, answers

    monkeypatch.setattr(ServeStage, "answer", slow)
    monkeypatch.setattr(BulkStage, "answer", noted)
    monkeypatch.setattr(ServeStage, "answers", in_order)
    async with (
        worker(settings, ["serve"], within_s=60),
        RecClient(settings, "bulk", timeout_s=60, bulk=True) as bulk,
        RecClient(settings, "now", timeout_s=60) as now,
    ):
        first = asyncio.create_task(now.recommend(request(0, "first")))
        await asyncio.wait_for(begun.wait(), 60)
        many = asyncio.gather(*(bulk.recommend(request(n)) for n in range(20)))
        waiting = []

        async def queued() -> int:
            waiting.append(asyncio.create_task(now.recommend(request(len(waiting), "now"))))
            return stages[0].queued() if stages else 0

        await until(queued, lambda batches: batches >= 2, 30)
        assert order == []
        go.set()
        await asyncio.gather(first, many, *waiting)
    interactive = [n for n, name in enumerate(order) if not name.startswith("b-")]
    assert interactive[:3] == [0, 1, 2], "those that were queued come before any bulk one"
    assert len(order) == len(set(order)) == 1 + 20 + len(waiting)
