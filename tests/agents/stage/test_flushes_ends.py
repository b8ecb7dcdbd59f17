"""Held acks when an agent ends, a flush fails, or partitions are assigned again."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiokafka.errors import KafkaTimeoutError
from flush_log import Log

from headrace.streams.errors import FencedError


async def test_a_flush_of_what_was_given_out_anew_holds_nothing() -> None:
    log = Log(FencedError("somebody else's"))
    flushes = log.flushes(10.0, 10.0)
    await flushes.hold(log.ack(1), 1)
    flushes.forget()
    await flushes.flush([1])
    assert not len(flushes.held)


async def test_partitions_given_out_anew_are_not_acked() -> None:
    log = Log()
    flushes = log.flushes(10.0, 10.0)
    await flushes.hold(log.ack(1), 0)
    flushes.forget()
    await flushes.flush()
    assert log.acked == []


async def test_a_fenced_write_of_partitions_given_out_anew_meanwhile_is_not_tried_again() -> None:
    log = Log()
    flushes = log.flushes(0.01, 0.02)
    save = flushes._save

    async def revoked(_: int) -> None:
        flushes.forget()
        flushes._save = save
        raise FencedError("somebody else's")

    flushes._save = revoked
    await flushes.hold(log.ack(1), 0)
    await log.until(lambda: flushes._save is save)
    await log.clock.advance(0.06)
    assert log.acked == []


async def test_a_failed_write_is_told_and_stops_the_agent() -> None:
    told: list[BaseException] = []

    async def failed(exc: BaseException) -> None:
        told.append(exc)

    log = Log(RuntimeError("no space"))
    flushes = log.flushes(0.005, 0.01, failed)
    await flushes.hold(log.ack(1), 0)
    await log.until(lambda: told)
    with pytest.raises(RuntimeError, match="no space"):
        await flushes.hold(log.ack(2), 0)
    assert log.acked == []


async def test_flushes_end_with_the_agent() -> None:
    log = Log()
    flushes = log.flushes(0.02, 0.04)

    async def agent() -> None:
        await flushes.hold(log.ack(1), 0)

    await asyncio.create_task(agent())
    await log.clock.advance(0.1)
    assert (log.shown, log.saved, log.acked) == (0, 0, [])


async def test_at_the_end_what_is_held_is_written_and_acked() -> None:
    log = Log()
    flushes = log.flushes(60, 60)
    await flushes.finish()
    assert (log.shown, log.saved) == (0, 0), "nothing is held"
    await flushes.hold(log.ack(1), 0)
    await flushes.finish()
    assert (log.saved, log.acked) == (1, [1])


async def test_at_the_end_nothing_is_written_after_an_error() -> None:
    log = Log(ValueError("broken"))
    flushes = log.flushes(60, 60)
    await flushes.hold(log.ack(1), 0)
    with pytest.raises(ValueError, match="broken"):
        await flushes.flush()
    log.error = None
    await flushes.finish()
    assert (log.shown, log.saved, log.acked) == (0, 0, [])


async def test_a_flush_ends_with_the_agent_that_owns_it(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(RuntimeError("the sender is not running"))
    flushes = log.flushes(0.02, 0.02)

    async def agent() -> None:
        await flushes.hold(log.ack(1), 0)
        await asyncio.sleep(60)

    with caplog.at_level(logging.INFO):
        owner = asyncio.create_task(agent())
        await log.clock.advance(0.005)
        owner.cancel()
        await log.clock.advance(0.05)
    assert (log.shown, log.saved) == (0, 0)
    assert caplog.records == []


async def test_a_failed_flush_is_still_an_error(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(KafkaTimeoutError())
    flushes = log.flushes(0.01, 0.01)
    await flushes.hold(log.ack(1), 0)
    await log.clock.advance(0.05)
    assert "flush failed" in caplog.text
    with pytest.raises(KafkaTimeoutError):
        await flushes.hold(log.ack(2), 0)


async def test_flushes_go_on_after_acks_were_forgotten() -> None:
    log = Log()
    flushes = log.flushes(0.01, 0.01)
    await flushes.hold(log.ack(1), 0)
    flushes.forget()
    await flushes.hold(log.ack(2), 0)
    await log.clock.advance(0.05)
    assert log.acked == [2]
