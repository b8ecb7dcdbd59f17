"""A serving stage never holds the loop for a whole batch."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from serve_stage import Broker, Rec, batch, body, stage_on

from headrace.agents import recommend
from headrace.agents.recommend import CHUNK
from headrace.streams.messages.schemas import RecReply


async def test_other_tasks_run_between_the_reading_of_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(rec_replies_p=1)
    broker.known.add("rec-replies-p")
    stage = stage_on(broker)
    turns, sizes, read = [0], [], stage.requests.read

    def counted(records: Any, misplaced: Any = ()) -> Any:
        sizes.append((len(records), turns[0]))
        return read(records, misplaced)

    async def other() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(stage.requests, "read", counted)
    running = asyncio.create_task(other())
    await asyncio.sleep(0)
    todo = batch(*(Rec(body(request_id=f"r{n}") if n % 3 else b"{}") for n in range(3 * CHUNK + 5)))
    await stage.finish(todo, await stage.answer(todo))
    running.cancel()
    assert [n for n, _ in sizes] == [CHUNK, CHUNK, CHUNK, 5]
    assert all(b > a for (_, a), (_, b) in pairwise(sizes)), "a batch is read as a whole"
    replies = [msgspec.json.decode(r[1] or b"", type=RecReply) for r in broker.of("rec-replies-p")]
    assert len(replies) == 3 * CHUNK + 5
    assert sum(bool(r.items) for r in replies) == sum(n % 3 > 0 for n in range(3 * CHUNK + 5))


async def test_other_tasks_run_while_impressions_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(rec_replies_p=1)
    broker.known.add("rec-replies-p")
    stage = stage_on(broker)
    monkeypatch.setattr(recommend, "SLICE_S", 0.0)
    made, turns = [], [0]
    logged = stage.measured.logged

    def noted(answer: Any, impression: Any) -> None:
        made.append(turns[0])
        logged(answer, impression)

    async def other() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(stage.measured, "logged", noted)
    running = asyncio.create_task(other())
    todo = batch(*(Rec(body(request_id=f"r{n}")) for n in range(5)))
    await stage.finish(todo, await stage.answer(todo))
    running.cancel()
    assert len(made) == len(set(made)) == 5
    assert len(broker.of("impressions")) == 5
