"""Asking for many lists: bounded, patient with a broker that is away, and not patient for ever."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from headrace.console.digests.asking import NO_REPLY, PAUSE_S, TRIES, Asking, StalledError
from headrace.streams.clock import ManualClock
from headrace.streams.errors import UnavailableError
from headrace.streams.messages.schemas import RecReply, RecRequest


def requests(n: int) -> Iterator[tuple[int, RecRequest]]:
    return ((k, RecRequest(f"r-{k}", f"u-{k}", "digest")) for k in range(n))


class Workers:
    """Answer requests at once, except some."""

    def __init__(self, **silent: int) -> None:
        self.clock = ManualClock(0)
        self.silent = {name.replace("_", "-"): times for name, times in silent.items()}
        self.asked: Counter[str] = Counter()
        self.open = self.most = 0
        self.replies: dict[int, RecReply] = {}
        self.away = 0

    async def ask(self, request: RecRequest, timeout_s: float) -> RecReply:
        self.asked[request.request_id] += 1
        if self.away:
            self.away -= 1
            raise UnavailableError("away")
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(0)
        self.open -= 1
        if self.asked[request.request_id] <= self.silent.get(request.request_id, 0):
            await asyncio.sleep(0.01)  # the others are answered meanwhile
            raise TimeoutError
        return RecReply(request.request_id)

    def take(self, number: int, reply: RecReply) -> None:
        assert number not in self.replies
        self.replies[number] = reply

    def asking(self, in_flight: int = 4, timeout_s: float = 60) -> Asking:
        return Asking(self.ask, self.take, in_flight=in_flight, timeout_s=timeout_s, clock=self.clock)


async def test_every_request_gets_its_reply_once_and_few_are_in_flight() -> None:
    workers = Workers()
    await workers.asking().run(requests(100))
    assert {k: reply.request_id for k, reply in workers.replies.items()} == {k: f"r-{k}" for k in range(100)}
    assert workers.most == 4


async def test_a_request_whose_reply_was_lost_is_sent_again() -> None:
    workers = Workers(r_2=1, r_5=TRIES - 1)
    await workers.asking().run(requests(10))
    assert len(workers.replies) == 10
    assert all(reply.error is None for reply in workers.replies.values())
    assert (workers.asked["r-2"], workers.asked["r-5"], workers.asked["r-3"]) == (2, TRIES, 1)


async def test_one_that_is_never_answered_is_given_up() -> None:
    workers = Workers(r_2=99)
    await workers.asking().run(requests(10))
    error = workers.replies[2].error
    assert error is not None
    assert error.code == NO_REPLY
    assert workers.asked["r-2"] == TRIES
    assert sum(reply.error is None for reply in workers.replies.values()) == 9


async def test_when_nobody_answers_it_ends() -> None:
    workers = Workers(**{f"r_{k}": 99 for k in range(10)})
    asking = workers.asking(timeout_s=60)

    async def passes() -> None:
        while not workers.asked:
            await asyncio.sleep(0)
        await workers.clock.advance(60)

    with pytest.raises(StalledError, match="no reply for 60 s"):
        await asyncio.gather(asking.run(requests(10)), passes())
    assert workers.replies == {}


async def test_a_broker_that_is_away_is_waited_for() -> None:
    workers = Workers()
    workers.away = 10
    running = asyncio.create_task(workers.asking().run(requests(10)))
    while not running.done():
        await workers.clock.advance(PAUSE_S)
    await running
    assert len(workers.replies) == 10
    assert all(reply.error is None for reply in workers.replies.values())
    assert workers.asked.total() == 20


async def test_a_broker_that_stays_away_ends_it() -> None:
    workers = Workers()
    workers.away = 10**9
    running = asyncio.create_task(workers.asking(timeout_s=60).run(requests(10)))
    while not running.done():
        await workers.clock.advance(PAUSE_S)
    with pytest.raises(UnavailableError):
        await running
    assert workers.clock.monotonic() == pytest.approx(60, abs=2 * PAUSE_S)


async def test_an_error_of_who_takes_the_replies_ends_all() -> None:
    workers = Workers()

    def full(number: int, reply: RecReply) -> None:
        raise OSError("no space left")

    asking = Asking(workers.ask, full, in_flight=4, timeout_s=60, clock=workers.clock)
    with pytest.raises(OSError, match="no space"):
        await asking.run(requests(100))
    assert workers.open == 0
    assert workers.asked.total() <= 8
