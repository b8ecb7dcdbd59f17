"""Beats: what is written when, and when batches are acked."""

from __future__ import annotations

import asyncio

import pytest

from agents.beats import Beats
from streams.errors import FencedError


class Log:
    """Remembers the beats, in order, and the acks."""

    def __init__(self, error: Exception | None = None) -> None:
        self.beats: list[bool] = []
        self.acked: list[int] = []
        self.error = error
        self.pause = 0.0

    async def write(self, durable: bool) -> None:
        if self.error is not None:
            raise self.error
        self.beats.append(durable)
        await asyncio.sleep(self.pause)

    def ack(self, n: int) -> object:
        return lambda: self.acked.append(n)


async def until(condition: object, within: float = 2.0) -> None:
    deadline = asyncio.get_running_loop().time() + within
    while not condition():  # type: ignore[operator]
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.002)


async def test_online_beats_come_before_the_durable_one_which_acks() -> None:
    log = Log()
    beats = Beats(log.write, 0.01, 0.2)
    await beats.hold(log.ack(1))  # type: ignore[arg-type]
    assert log.beats == []
    await until(lambda: log.beats)
    assert log.beats == [False]
    assert log.acked == []
    await until(lambda: log.acked)
    assert log.beats == [False, True]
    assert log.acked == [1]


async def test_without_changes_nothing_is_written() -> None:
    log = Log()
    beats = Beats(log.write, 0.005, 0.01)
    await beats.hold(log.ack(1))  # type: ignore[arg-type]
    await until(lambda: log.acked)
    before = len(log.beats)
    await asyncio.sleep(0.05)
    assert len(log.beats) == before


async def test_a_stage_that_is_behind_makes_longer_pauses() -> None:
    log = Log()
    beats = Beats(log.write, 0.05, 5.0)
    began = asyncio.get_running_loop().time()
    for n in range(10):
        await beats.hold(log.ack(n), behind=True)  # type: ignore[arg-type]
        await asyncio.sleep(0.002)
    await until(lambda: log.beats)
    assert asyncio.get_running_loop().time() - began >= 0.2
    assert log.beats == [False], "what readers see is not left out"
    assert not log.acked


async def test_catching_up_brings_the_online_beats_back() -> None:
    log = Log()
    beats = Beats(log.write, 0.5, 50.0)
    began = asyncio.get_running_loop().time()
    await beats.hold(log.ack(1), behind=True)  # type: ignore[arg-type]
    await beats.hold(log.ack(2))  # type: ignore[arg-type]
    await until(lambda: log.beats)
    assert asyncio.get_running_loop().time() - began < 1.5, "and not four pauses"
    assert log.beats == [False]
    await beats.flush()
    assert log.acked == [1, 2]


async def test_a_batch_held_while_a_durable_write_runs_waits_for_the_next() -> None:
    log = Log()
    log.pause = 0.05
    beats = Beats(log.write, 10.0, 10.0)
    await beats.hold(log.ack(1))  # type: ignore[arg-type]
    writing = asyncio.create_task(beats.flush())
    await until(lambda: log.beats)
    await beats.hold(log.ack(2))  # type: ignore[arg-type]
    await writing
    assert log.acked == [1]
    await beats.flush()
    assert log.acked == [1, 2]


async def test_a_fenced_write_acks_nothing_and_is_tried_again() -> None:
    log = Log(FencedError("perhaps somebody else's"))
    beats = Beats(log.write, 0.01, 0.02)
    await beats.hold(log.ack(1))  # type: ignore[arg-type]
    await asyncio.sleep(0.06)
    assert log.acked == []
    log.error = None
    await until(lambda: log.acked)
    assert log.acked == [1]


async def test_partitions_given_out_anew_are_not_acked() -> None:
    log = Log()
    log.pause = 0.03
    beats = Beats(log.write, 10.0, 10.0)
    await beats.hold(log.ack(1))  # type: ignore[arg-type]
    beats.forget()
    await beats.flush()
    assert log.acked == []


async def test_a_failed_write_is_told_and_stops_the_agent() -> None:
    told: list[BaseException] = []

    async def failed(exc: BaseException) -> None:
        told.append(exc)

    log = Log(RuntimeError("no space"))
    beats = Beats(log.write, 0.005, 0.01, failed)
    await beats.hold(log.ack(1))  # type: ignore[arg-type]
    await until(lambda: told)
    with pytest.raises(RuntimeError, match="no space"):
        await beats.hold(log.ack(2))  # type: ignore[arg-type]
    assert log.acked == []


async def test_beats_end_with_the_agent() -> None:
    log = Log()
    beats = Beats(log.write, 0.02, 0.04)

    async def agent() -> None:
        await beats.hold(log.ack(1))  # type: ignore[arg-type]

    await asyncio.create_task(agent())
    await asyncio.sleep(0.1)
    assert log.beats == []
    assert log.acked == []


async def test_far_behind_the_durable_beats_are_rarer() -> None:
    log = Log()
    beats = Beats(log.write, 0.01, 0.1)
    began = asyncio.get_running_loop().time()
    await beats.hold(log.ack(1), behind=True)  # type: ignore[arg-type]
    await until(lambda: log.acked)
    assert asyncio.get_running_loop().time() - began > 0.2
    await beats.hold(log.ack(2), behind=True)  # type: ignore[arg-type]
    await beats.hold(log.ack(3))  # type: ignore[arg-type]
    began = asyncio.get_running_loop().time()
    await until(lambda: len(log.acked) == 3)
    assert asyncio.get_running_loop().time() - began < 0.2
