"""Held acks: which are released at which time, and which are dropped."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import KafkaTimeoutError

from headrace.agents.stage.hold import AckHold, Taken, release
from headrace.streams.clock import settle


def held(*acks: tuple[int, int, str]) -> tuple[AckHold, list[str]]:
    """Return a hold of (partition, until, name), and the list that acked names go to."""
    hold, acked = AckHold(), list[str]()
    for partition, until, name in acks:
        hold.add(lambda name=name: acked.append(name), partition, until)
    return hold, acked


def test_acks_are_taken_by_partition_in_order() -> None:
    hold, acked = held((0, 0, "a"), (1, 0, "b"), (0, 0, "c"))
    assert (len(hold), hold.partitions()) == (3, {0, 1})
    release(hold.take([0, 7]))
    assert acked == ["a", "c"]
    assert hold.partitions() == {1}
    release(hold.take())
    assert acked == ["a", "c", "b"]
    assert len(hold) == 0


def test_with_a_time_only_what_no_longer_waits_is_taken() -> None:
    hold, acked = held((0, 10, "a"), (0, 30, "b"), (0, 20, "c"), (1, 5, "d"))
    release(hold.take(until=25))
    assert sorted(acked) == ["a", "d"], "c comes after b, which waits for a later time"
    release(hold.take([0], until=30))
    assert acked[-2:] == ["b", "c"]


def test_what_is_put_back_comes_before_what_was_added_since() -> None:
    hold, acked = held((0, 0, "a"), (0, 0, "b"))
    taken = hold.take()
    hold.add(lambda: acked.append("c"), 0)
    hold.put_back(taken)
    release(hold.take())
    assert acked == ["a", "b", "c"]


def test_forgotten_acks_are_never_released() -> None:
    hold, acked = held((0, 0, "a"), (1, 0, "b"), (2, 0, "c"))
    hold.forget([1])
    hold.forget([5])
    assert hold.partitions() == {0, 2}
    hold.forget()
    assert hold.take() == Taken()
    assert acked == []


def test_after_an_error_nothing_is_added() -> None:
    hold = AckHold()
    hold.error = KafkaTimeoutError()
    with pytest.raises(KafkaTimeoutError):
        hold.add(lambda: None)
    assert len(hold) == 0


async def test_the_end_of_a_batch_fails_at_the_next() -> None:
    acked: list[int] = []
    over: list[int] = []

    async def fine() -> None:
        await asyncio.sleep(0)

    async def broken() -> None:
        raise KafkaTimeoutError

    held = AckHold()
    await held.after(fine(), lambda: acked.append(1), lambda: over.append(1))
    await held.after(broken(), lambda: acked.append(2), lambda: over.append(2))
    await settle()
    with pytest.raises(KafkaTimeoutError):
        await held.after(fine(), lambda: acked.append(3), lambda: over.append(3))
    assert (acked, sorted(over), len(held)) == ([1], [1, 2, 3], 0)


async def test_only_so_many_run_at_once() -> None:
    go, acked = asyncio.Event(), list[int]()
    hold = AckHold(limit=2)

    async def end() -> None:
        await go.wait()

    for n in (1, 2):
        await hold.after(end(), lambda n=n: acked.append(n))
    third = asyncio.create_task(hold.after(end(), lambda: acked.append(3)))
    await settle()
    assert not third.done()
    assert len(hold) == 2
    go.set()
    await third
    await settle()
    assert sorted(acked) == [1, 2, 3]


async def test_what_is_cancelled_is_not_acked_and_is_over() -> None:
    acked: list[int] = []
    over: list[int] = []
    hold = AckHold()
    await hold.after(asyncio.sleep(3600), lambda: acked.append(1), lambda: over.append(1))
    await settle()
    hold.cancel()
    await settle()
    assert (acked, over, len(hold)) == ([], [1], 0)
