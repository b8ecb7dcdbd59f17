"""Replies come in time: with a stage that is slow, with requests that waited, with clocks that differ."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fresh_topics import make_topics
from installation import ITEMS, producer, publish, worker
from prometheus_client import generate_latest
from scraped import Scraped
from serve_stage import NOW, Broker, Rec, batch, body, stage_on

from headrace.agents.recommend import ServeStage
from headrace.serving.requests.client import RecClient
from headrace.serving.scorers.blend import ByBlend
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics


async def answered(stage: ServeStage, broker: Broker, *records: Rec) -> list[RecReply]:
    before, todo = len(broker.of("rec-replies-p")), batch(*records)
    await stage.finish(todo, await stage.answer(todo))
    written = broker.of("rec-replies-p")[before:]
    replies = [msgspec.json.decode(r[1] or b"", type=RecReply) for r in written]
    return sorted(replies, key=lambda reply: reply.request_id)


def rungs(stage: ServeStage) -> dict[str, float]:
    scraped = Scraped(generate_latest(stage.wiring.metrics.registry).decode())
    return {name: count for (name,), count in scraped.all("headrace_rungs_total").items()}


async def test_a_slow_stage_costs_candidates_first() -> None:
    """A list takes 1 ms for each candidate, on a clock that is moved by hand."""
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker)
    clock: Any = stage.wiring.clock
    scored, sizes = stage.recommender.scored, list[int]()

    def slow(query: Any, pool: Any, scorers: Any = None) -> Any:
        sizes.append(len(pool.candidates))
        clock._now += 0.001 * len(pool.candidates)
        return scored(query, pool, scorers)

    stage.recommender.scored = slow  # type: ignore[method-assign]
    took, seen = [], []
    for n in range(40):
        sent = clock.now_ms()
        (reply,) = await answered(
            stage, broker, Rec(body(request_id=f"r{n:02}", deadline_ms=25), timestamp=sent)
        )
        took.append(clock.now_ms() - sent)
        seen += [r for r in reply.degraded if r.startswith("rung:") or r == "deadline"]
    assert sizes[0] == 30
    assert took[0] == 30, "nobody knew"
    assert max(took[1:]) <= 25
    assert Counter(seen)["rung:fewer"] > 30
    assert rungs(stage) == {"full": 1, **Counter(r.removeprefix("rung:") for r in seen)}


async def test_requests_behind_a_slow_one_have_less_time() -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker)
    clock: Any = stage.wiring.clock
    scored = stage.recommender.scored

    def slow(*args: Any) -> Any:
        clock._now += 0.04
        return scored(*args)

    stage.recommender.scored = slow  # type: ignore[method-assign]
    for _ in range(3):  # each rung is tried once
        sent = clock.now_ms()
        todo = [Rec(body(request_id=f"r{n}", deadline_ms=120), timestamp=sent) for n in range(6)]
        replies = await answered(stage, broker, *todo)
    late = ["deadline" in r.degraded for r in replies]
    assert late == [False, False, True, True, True, True], "40 ms each: two fit, less the way back"
    assert all(r.took_ms <= 90 and r.items for r in replies)


@pytest.mark.parametrize("expired", ["popular", "drop"])
async def test_requests_that_are_too_old_are_counted_either_way(expired: Any) -> None:
    broker = Broker(rec_replies_p=1)
    stage = stage_on(broker, Settings(expired=expired))
    old = Rec(body(request_id="r0", deadline_ms=150), timestamp=NOW - 1000)
    replies = await answered(stage, broker, old, Rec(body(request_id="r1")))
    assert [r.request_id for r in replies] == (["r1"] if expired == "drop" else ["r0", "r1"])
    assert rungs(stage) == {"full": 1, "dropped" if expired == "drop" else "popular": 1}
    assert broker.letters() == []


class Slow(ByBlend):
    """A scorer that holds the loop: ten milliseconds for each candidate."""

    name = "slow"

    def score(self, features: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the scores, late."""
        until = time.monotonic() + 0.01 * len(features)
        while time.monotonic() < until:
            pass
        return super().score(features)


@pytest.mark.broker
async def test_with_a_slow_scorer_replies_come_in_time(settings: Settings, tmp_path: Path) -> None:
    """Thirty candidates take 300 ms, a quarter of them 80 ms; a caller gives 200 ms."""
    parts = {"scorer:ranker": "off", "scorer:online": "off", "scorer:blend": "off"}
    slow = {"parts": parts, "plugins": (f"{__name__}:Slow",), "part_ms": 10_000.0, "data_dir": tmp_path}
    mine = settings.model_copy(update={**slow, "partitions": 1, "shown_rest_s": 0.0, "shown_most": 1000})
    await make_topics(mine)
    async with producer(mine) as sender, worker(mine, ["serve"]), RecClient(mine, "late") as client:
        await publish(sender, Topics(mine).items, [(i.item_id, i) for i in ITEMS])
        replies: list[RecReply] = []
        for n in range(30):
            asked = RecRequest(f"r{n}", "u", "home", n=5, deadline_ms=200)
            replies.append(await client.recommend(asked, 10.0))
            await asyncio.sleep(0)
    full = [r for r in replies if not any(d.startswith("rung:") or d == "deadline" for d in r.degraded)]
    others = [r for r in replies if r not in full]
    assert 1 <= len(full) < 10, "the full list is tried now and then"
    assert len(others) > 20
    assert all(len(r.items) == 5 for r in replies[5:])
    assert float(np.median([r.took_ms for r in others])) < 200
