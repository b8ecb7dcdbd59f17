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
from headrace.agents.stage.shown_out import WRITES
from headrace.streams.clock import settle
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.schemas import RecReply


async def test_other_tasks_run_between_the_reading_of_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(rec_replies_p=1)
    broker.known.add("rec-replies-p")
    stage = stage_on(broker)
    turns, sizes, read = [0], [], stage.intake.requests.read

    def counted(records: Any, misplaced: Any = ()) -> Any:
        sizes.append((len(records), turns[0]))
        return read(records, misplaced)

    async def other() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(stage.intake.requests, "read", counted)
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


class SlowBroker(Broker):
    """A broker that has acknowledged no impression before it is let."""

    def __init__(self, **topics: int) -> None:
        super().__init__(**topics)
        self.let = asyncio.Event()
        self.refuses = False

    async def send_keyed(self, topic: str, records: Any) -> None:
        await self.let.wait()
        if self.refuses:
            raise UnavailableError("no broker")
        await super().send_keyed(topic, records)


async def test_the_next_requests_do_not_wait_until_impressions_are_acknowledged() -> None:
    broker = SlowBroker(rec_replies_p=1)
    broker.known.add("rec-replies-p")
    stage = stage_on(broker)
    todo = [batch(Rec(body(request_id=f"r{n}"))) for n in range(WRITES + 3)]
    ends = set[asyncio.Task[None]]()

    async def answer_all() -> None:
        for one in todo:
            ends.add(asyncio.create_task(stage.finish(one, await stage.answer(one))))

    answering = asyncio.create_task(answer_all())
    while len(broker.of("rec-replies-p")) <= WRITES:
        await settle()
    await settle()
    assert len(broker.of("rec-replies-p")) == WRITES + 1, "what waits for the broker is bounded"
    assert not any(end.done() for end in ends), "no request is acknowledged before its impression"
    broker.let.set()
    await answering
    await asyncio.gather(*ends)
    assert len(broker.of("impressions")) == len(broker.of("rec-replies-p")) == len(todo)


async def test_a_batch_whose_impressions_are_not_written_is_not_acknowledged() -> None:
    broker = SlowBroker(rec_replies_p=1)
    broker.known.add("rec-replies-p")
    stage = stage_on(broker)
    todo = batch(Rec(body()))
    sent = await stage.answer(todo)
    broker.refuses = True
    broker.let.set()
    with pytest.raises(UnavailableError):
        await stage.finish(todo, sent)
