"""Which requests a worker takes on: the rate of a caller, and what it refuses when too many wait."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from prometheus_client import generate_latest
from scraped import Scraped
from serve_stage import NOW, TO_P, Broker, Rec, batch, body, stage_on

from headrace.agents.recommend import ServeStage
from headrace.serving.ladder import RANKED
from headrace.streams.messages.schemas import RecReply
from headrace.streams.settings import Settings

TO_Q = [("reply_to", b"rec-replies-q"), ("correlation_id", b"1")]


def serving(**settings: Any) -> tuple[ServeStage, Broker]:
    broker = Broker(rec_replies_p=1, rec_replies_q=1)
    return stage_on(broker, Settings(**settings)), broker


async def answered(stage: ServeStage, broker: Broker, *records: Rec) -> dict[str, RecReply]:
    before, todo = len(broker.written), batch(*records)
    await stage.finish(todo, await stage.answer(todo))
    written = [r for topic, r in broker.written[before:] if topic.startswith("rec-replies")]
    replies = [msgspec.json.decode(r[1] or b"", type=RecReply) for r in written]
    assert len(replies) == len(records), "a reply to every request"
    return {reply.request_id: reply for reply in replies}


def counted(stage: ServeStage, name: str) -> dict[tuple[str, ...], float]:
    return Scraped(generate_latest(stage.wiring.metrics.registry).decode()).all(name)


def codes(replies: dict[str, RecReply]) -> dict[str, int]:
    return Counter(reply.error.code if reply.error else "list" for reply in replies.values())


def asks(n: int, start: int = 0, headers: Any = TO_P, **more: Any) -> list[Rec]:
    return [Rec(body(request_id=f"r{i:03}", **more), headers=headers) for i in range(start, start + n)]


async def test_without_a_rate_nobody_is_limited() -> None:
    stage, broker = serving()
    assert codes(await answered(stage, broker, *asks(300))) == {"list": 300}


async def test_a_caller_over_its_rate_hears_when_to_ask_again() -> None:
    stage, broker = serving(caller_rate=10.0, caller_burst=20)
    clock: Any = stage.wiring.clock
    replies = await answered(stage, broker, *asks(30))
    assert codes(replies) == {"list": 20, "rate_limited": 10}
    assert [name for name, reply in sorted(replies.items()) if reply.error] == [
        f"r{i:03}" for i in range(20, 30)
    ]
    error = replies["r029"].error
    assert error is not None
    assert error.retry_after_ms == 100
    assert not replies["r029"].items
    assert counted(stage, "headrace_refused_requests_total") == {("rate_limited",): 10}
    assert broker.letters() == [], "nothing is wrong with them"
    await clock.advance(error.retry_after_ms / 1000)
    assert codes(await answered(stage, broker, *asks(2))) == {"list": 1, "rate_limited": 1}
    await clock.advance(60.0)
    late = [Rec(body(request_id=f"s{i}"), timestamp=clock.now_ms()) for i in range(25)]
    assert codes(await answered(stage, broker, *late)) == {"list": 20, "rate_limited": 5}


async def test_callers_are_told_apart_by_their_names_else_by_their_reply_topics() -> None:
    stage, broker = serving(caller_rate=10.0, caller_burst=5)
    records = [
        *asks(8),
        *asks(8, 10, TO_Q),
        *asks(8, 20, TO_Q, caller="shop"),
        *asks(8, 30, TO_P, caller="app"),
        *asks(8, 40, TO_P, caller="shop"),  # the bucket of ``shop`` is empty, wherever its replies go
        *asks(8, 50, TO_P, caller="rec-replies-q"),  # a name, not the topic
    ]
    replies = await answered(stage, broker, *records)
    lists = Counter(name[1:3] for name, reply in replies.items() if reply.items)
    assert lists == {"00": 5, "01": 5, "02": 5, "03": 5, "05": 5}


async def test_every_list_of_a_page_counts() -> None:
    stage, broker = serving(caller_rate=10.0, caller_burst=5)
    lists = [{"surface": "home", "n": 2}] * 2
    assert codes(await answered(stage, broker, *asks(4, lists=lists))) == {"list": 2, "rate_limited": 2}
    replies = await answered(stage, broker, *asks(1, 9, TO_Q, lists=lists), *asks(4, 10, TO_Q))
    assert [name for name, reply in sorted(replies.items()) if reply.error] == ["r013"]


async def test_a_whole_batch_takes_a_trip_for_each_chunk_and_none_without_a_rate() -> None:
    trips = []
    for rate in (0.0, 1000.0):
        stage, broker = serving(caller_rate=rate, caller_burst=1000)
        store: Any = stage.wiring.store
        take, calls = store.take_tokens, list[int]()

        async def counting(callers: Any, *more: Any, take: Any = take, calls: Any = calls) -> Any:
            calls.append(len(callers))
            return await take(callers, *more)

        store.take_tokens = counting
        await answered(stage, broker, *asks(40))
        trips.append(calls)
    assert trips == [[], [16, 16, 8]]


async def test_with_redis_away_requests_pass_and_are_counted() -> None:
    stage, broker = serving(caller_rate=10.0, caller_burst=2)
    store: Any = stage.wiring.store
    store.away = True
    assert codes(await answered(stage, broker, *asks(20))) == {"list": 20}
    assert counted(stage, "headrace_rate_unchecked_total") == {(): 20}
    store.away = False
    assert codes(await answered(stage, broker, *asks(20))) == {"list": 2, "rate_limited": 18}


def slow_lists(stage: ServeStage, seconds: float) -> None:
    """Let every popular list take so long, on the clock of the stage; lists of the ladder take for ever."""
    clock: Any = stage.wiring.clock
    popular = stage.recommender.popular

    def slow(*args: Any) -> Any:
        clock._now += seconds
        return popular(*args)

    stage.recommender.popular = slow  # type: ignore[method-assign]
    for rung in RANKED:
        stage.pace._ladder.took(rung, 100.0, clock.monotonic())


@pytest.mark.parametrize("overload_s", [2.0, 0.0])
async def test_when_too_many_wait_the_late_ones_are_refused(overload_s: float) -> None:
    """Popular lists take 50 ms, and 200 requests of a second ago wait: ten seconds of work."""
    stage, broker = serving(overload_s=overload_s)
    clock: Any = stage.wiring.clock
    slow_lists(stage, 0.05)
    old = [Rec(body(request_id=f"r{i:03}", deadline_ms=150), timestamp=NOW - 1000) for i in range(200)]
    replies = await answered(stage, broker, *old)
    if not overload_s:
        assert codes(replies) == {"list": 200}
        assert clock.monotonic() == pytest.approx(10.0)
        return
    told = codes(replies)
    assert 16 <= told["list"] <= 200 - told["overloaded"], "the cost has to be seen first"
    assert told["overloaded"] > 100
    assert clock.monotonic() < 4.0, "the others are answered all the sooner"
    error = next(r.error for r in replies.values() if r.error)
    assert (error.code, error.field) == ("overloaded", "")
    assert 2000 < error.retry_after_ms < 15_000
    assert counted(stage, "headrace_refused_requests_total") == {("overloaded",): told["overloaded"]}
    assert broker.letters() == []


async def test_those_that_have_time_left_are_answered_under_overload() -> None:
    stage, broker = serving()
    slow_lists(stage, 0.05)
    for n in range(2):
        old = [Rec(body(request_id=f"r{i:03}", deadline_ms=150), timestamp=NOW - 1000) for i in range(200)]
        young = [Rec(body(request_id=f"y{i}", deadline_ms=60_000)) for i in range(3)]
        replies = await answered(stage, broker, *old, *young)
        assert all(replies[f"y{i}"].items for i in range(3)), n
    assert codes(replies)["overloaded"] > 150


async def test_what_waits_in_kafka_counts() -> None:
    stage, broker = serving()
    slow_lists(stage, 0.05)

    async def late(n: int) -> dict[str, int]:
        sent = stage.wiring.clock.now_ms() - 1000
        todo = [Rec(body(request_id=f"r{i:03}", deadline_ms=150), timestamp=sent) for i in range(n)]
        return codes(await answered(stage, broker, *todo))

    assert await late(16) == {"list": 16}
    assert await late(4) == {"list": 4}, "a few that are late are answered"
    stage.behind = lambda batch: 1000
    assert await late(4) == {"overloaded": 4}
    stage.behind = lambda batch: 0
    assert await late(4) == {"list": 4}


async def test_requests_that_are_dropped_need_no_error() -> None:
    stage, broker = serving(expired="drop")
    slow_lists(stage, 0.05)
    stage.behind = lambda batch: 10**6
    todo = batch(*(Rec(body(request_id=f"r{i}", deadline_ms=150), timestamp=NOW - 1000) for i in range(40)))
    await stage.finish(todo, await stage.answer(todo))
    assert broker.of("rec-replies-p") == []
