"""Beats: what is written when, and when batches are acknowledged. Time is moved by hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError

from headrace.agents.stage.beats import Beats, Durable
from headrace.streams.clock import ManualClock, settle
from headrace.streams.errors import FencedError


class Log:
    """Remembers the flushes, in order, and the acks."""

    def __init__(self, error: Exception | None = None) -> None:
        self.clock = ManualClock()
        self.shown = self.saved = 0
        self.acked: list[int] = []
        self.error = error
        self.pause = self.saving_s = 0.0
        self.saving = False
        self.untold = 0  # takes that were not saved
        self.taken: list[list[int]] = []  # partitions of the durable flushes, of 0 to 3

    def beats(self, online_s: float, durable_s: float, failed: Any = None) -> Beats[int]:
        return Beats(self.show, self.save, online_s, durable_s, failed, self.clock)

    async def show(self, durable: Durable) -> int:
        if self.error is not None:
            raise self.error
        self.shown += 1
        if taken := [partition for partition in range(4) if durable(partition)]:
            self.untold += 1
            self.taken.append(taken)
        await self.clock.sleep(self.pause)
        return self.shown

    async def save(self, taken: int) -> None:
        assert taken <= self.shown
        self.untold -= 1
        self.saving = True
        await self.clock.sleep(self.saving_s)
        self.saving = False
        self.saved += 1

    def ack(self, n: int) -> Callable[[], None]:
        return lambda: self.acked.append(n)

    async def until(self, condition: Callable[[], object], within: float = 2.0, step: float = 0.002) -> float:
        """Move the clock until it happens; return when."""
        deadline = self.clock.monotonic() + within
        while not condition():
            assert self.clock.monotonic() < deadline, "it did not happen in time"
            await self.clock.advance(step)
        return self.clock.monotonic()


async def test_online_flushes_come_before_the_durable_one_which_acks() -> None:
    log = Log()
    beats = log.beats(0.01, 0.2)
    await beats.hold(log.ack(1), 0)
    assert log.shown == 0
    await log.until(lambda: log.shown)
    assert (log.shown, log.saved, log.acked) == (1, 0, [])
    await log.until(lambda: log.acked)
    assert (log.shown, log.saved, log.acked) == (2, 1, [1])


async def test_without_changes_nothing_is_written() -> None:
    log = Log()
    beats = log.beats(0.005, 0.01)
    await beats.hold(log.ack(1), 0)
    await log.until(lambda: log.acked)
    before = log.shown, log.saved
    await log.clock.advance(60)
    assert (log.shown, log.saved) == before


async def test_a_stage_that_is_behind_makes_longer_pauses() -> None:
    log = Log()
    beats = log.beats(0.01, 0.6)
    for n in range(10):
        await beats.hold(log.ack(n), 0, behind=True)
        await log.clock.advance(0.002)
    at = await log.until(lambda: log.shown)
    assert at >= 0.2, "online flushes come at a third of the durable interval"
    assert log.saved == 0, "what readers see is not left out"
    assert await log.until(lambda: log.saved) >= 0.6
    assert log.acked == list(range(10))


async def test_catching_up_brings_the_online_interval_back() -> None:
    log = Log()
    beats = log.beats(0.01, 0.9)
    await beats.hold(log.ack(1), 0, behind=True)
    await beats.hold(log.ack(2), 0)
    assert await log.until(lambda: log.shown) < 0.25
    await log.until(lambda: log.acked)
    assert log.acked == [1, 2]


async def test_online_flushes_and_batches_do_not_wait_for_the_changelog() -> None:
    log = Log()
    log.saving_s = 0.3
    beats = log.beats(0.01, 1.0)
    await beats.hold(log.ack(1), 0)
    writing = asyncio.create_task(beats.flush())
    await settle()
    assert log.saving
    shown = log.shown
    await beats.hold(log.ack(2), 0)
    await log.until(lambda: log.shown > shown)
    assert log.saving
    await log.clock.advance(0.3)
    await writing
    assert log.acked == [1], "the second came after what was taken"


async def test_a_stage_waits_when_a_durable_flush_is_due_before_the_last_has_ended() -> None:
    log = Log()
    log.saving_s = 0.3
    beats = log.beats(0.01, 0.02)
    await beats.hold(log.ack(1), 0)
    await log.until(lambda: log.saving)
    began = log.clock.monotonic()

    async def agent() -> int:
        for n in range(2, 100):
            await beats.hold(log.ack(n), 0)
            await log.clock.sleep(0.005)
            if log.acked:
                break
        return n

    working = asyncio.create_task(agent())
    await log.until(working.done)
    assert log.clock.monotonic() - began > 0.2
    assert working.result() < 20, "it would have held dozens of batches otherwise"


async def test_partitions_become_durable_in_turns() -> None:
    log = Log()
    beats = log.beats(0.01, 1.6)
    times = dict[int, float]()

    def ack(partition: int) -> Callable[[], None]:
        return lambda: times.setdefault(partition, log.clock.monotonic())

    for partition in (0, 2, 7):
        await beats.hold(ack(partition), partition)
    await log.until(lambda: len(times) == 3, within=5.0)
    assert times[2] >= 0.8, "half of the interval after the first batch"
    assert times[7] >= 1.2
    assert times[0] >= 1.6
    assert times[2] < times[0], "they do not wait for each other"


async def test_without_a_pause_every_batch_is_saved_at_once() -> None:
    log = Log()
    beats = log.beats(0, 0)
    for n in range(3):
        await beats.hold(log.ack(n), n)
        await log.until(lambda: len(log.acked) > n)  # noqa: B023 - called in this turn
    assert log.acked == [0, 1, 2]


async def test_only_what_was_saved_is_acked() -> None:
    log = Log()
    beats = log.beats(10.0, 10.0)
    await beats.hold(log.ack(1), 0)
    await beats.hold(log.ack(2), 1)
    await beats.hold(log.ack(3), 0)
    await beats.flush([0])
    assert (log.taken, log.acked) == ([[0, 2, 3]], [1, 3]), (
        "one that holds nothing is made durable, too: it may be dirty"
    )
    await beats.flush()
    assert (log.taken[1:], log.acked) == ([[0, 1, 2, 3]], [1, 3, 2])


async def test_a_fenced_turn_leaves_the_other_partitions_to_theirs() -> None:
    log = Log()
    beats = log.beats(0.005, 0.2)
    refused = list[int]()

    async def refuse_once(taken: int) -> None:
        refused.append(taken)
        beats._save = log.save
        raise FencedError("perhaps somebody else's")

    beats._save = refuse_once  # type: ignore[method-assign]
    await beats.hold(log.ack(1), 0)
    await beats.hold(log.ack(2), 1)
    await log.until(lambda: len(log.acked) == 2)
    assert len(refused) == 1
    assert sorted(log.acked) == [1, 2]


async def test_a_batch_held_while_a_durable_write_runs_waits_for_the_next() -> None:
    log = Log()
    log.pause = 0.05
    beats = log.beats(10.0, 10.0)
    await beats.hold(log.ack(1), 0)
    writing = asyncio.create_task(beats.flush())
    await log.until(lambda: log.shown)
    await beats.hold(log.ack(2), 0)
    await log.clock.advance(0.05)
    await writing
    assert log.acked == [1]
    log.pause = 0.0
    await beats.flush()
    assert log.acked == [1, 2]


@pytest.mark.parametrize("where", ["show", "save"])
async def test_a_fenced_write_acks_nothing_and_is_tried_again(where: str) -> None:
    log = Log()
    beats = log.beats(0.01, 0.02)
    fine = getattr(log, where)

    async def refuse(_: object) -> int:
        raise FencedError("perhaps somebody else's")

    setattr(beats, f"_{where}", refuse)
    await beats.hold(log.ack(1), 0)
    await log.clock.advance(0.06)
    assert log.acked == []
    setattr(beats, f"_{where}", fine)
    await log.until(lambda: log.acked)
    assert log.acked == [1]


async def test_what_was_taken_is_always_saved() -> None:
    log = Log()
    beats = log.beats(0.001, 0.01)
    for n in range(60):
        log.error = FencedError("perhaps somebody else's") if n % 5 == 2 else None
        await beats.hold(log.ack(n), 0)
        await log.clock.advance(0.003)
    log.error = None
    await log.until(lambda: len(log.acked) == 60)
    assert (log.untold, log.saving) == (0, False)


async def test_after_an_error_nothing_is_acked() -> None:
    """An online flush fails while a durable one waits for the changelog."""
    log = Log()
    log.saving_s = 0.1
    beats = log.beats(0.01, 0.03)
    await beats.hold(log.ack(1), 0)
    await log.until(lambda: log.saving)
    log.error = RuntimeError("no memory")
    await beats.hold(log.ack(2), 0)
    await log.until(lambda: beats.held.error)
    await log.until(lambda: log.saved)
    with pytest.raises(RuntimeError, match="no memory"):
        await beats.hold(log.ack(3), 0)
    await log.clock.advance(0.05)
    assert log.acked == []


async def test_batches_do_not_wait_for_a_durable_flush_that_waits_for_an_online_one() -> None:
    log = Log()
    log.pause, log.saving_s = 0.1, 0.3
    beats = log.beats(0.0, 0.05)
    await beats.hold(log.ack(1), 0)
    await log.until(lambda: log.shown == 1)
    await log.clock.advance(0.06)  # the durable flush is due, and waits
    began = log.clock.monotonic()
    await asyncio.wait_for(beats.hold(log.ack(2), 0), 5)  # returns although nobody moves the clock
    assert log.clock.monotonic() - began < 0.05


async def test_a_slow_store_is_given_a_rest() -> None:
    log = Log()
    log.pause = 0.05
    beats = log.beats(0.001, 10.0)

    async def agent() -> None:
        while log.clock.monotonic() < 1.0:
            await beats.hold(log.ack(1), 0)
            await log.clock.sleep(0.002)

    working = asyncio.create_task(agent())
    await log.until(working.done)
    assert log.shown <= 17, "a fifth of the time is left"


async def test_a_flush_of_what_was_given_out_anew_holds_nothing() -> None:
    log = Log(FencedError("somebody else's"))
    beats = log.beats(10.0, 10.0)
    await beats.hold(log.ack(1), 1)
    beats.forget()
    await beats.flush([1])
    assert not len(beats.held)


async def test_partitions_given_out_anew_are_not_acked() -> None:
    log = Log()
    beats = log.beats(10.0, 10.0)
    await beats.hold(log.ack(1), 0)
    beats.forget()
    await beats.flush()
    assert log.acked == []


async def test_a_fenced_write_of_partitions_given_out_anew_meanwhile_is_not_tried_again() -> None:
    log = Log()
    beats = log.beats(0.01, 0.02)
    save = beats._save

    async def revoked(_: int) -> None:
        beats.forget()
        beats._save = save
        raise FencedError("somebody else's")

    beats._save = revoked
    await beats.hold(log.ack(1), 0)
    await log.until(lambda: beats._save is save)
    await log.clock.advance(0.06)
    assert log.acked == []


async def test_a_failed_write_is_told_and_stops_the_agent() -> None:
    told: list[BaseException] = []

    async def failed(exc: BaseException) -> None:
        told.append(exc)

    log = Log(RuntimeError("no space"))
    beats = log.beats(0.005, 0.01, failed)
    await beats.hold(log.ack(1), 0)
    await log.until(lambda: told)
    with pytest.raises(RuntimeError, match="no space"):
        await beats.hold(log.ack(2), 0)
    assert log.acked == []


async def test_flushes_end_with_the_agent() -> None:
    log = Log()
    beats = log.beats(0.02, 0.04)

    async def agent() -> None:
        await beats.hold(log.ack(1), 0)

    await asyncio.create_task(agent())
    await log.clock.advance(0.1)
    assert (log.shown, log.saved, log.acked) == (0, 0, [])


async def test_at_the_end_what_is_held_is_written_and_acked() -> None:
    log = Log()
    beats = log.beats(60, 60)
    await beats.finish()
    assert (log.shown, log.saved) == (0, 0), "nothing is held"
    await beats.hold(log.ack(1), 0)
    await beats.finish()
    assert (log.saved, log.acked) == (1, [1])


async def test_at_the_end_nothing_is_written_after_an_error() -> None:
    log = Log(ValueError("broken"))
    beats = log.beats(60, 60)
    await beats.hold(log.ack(1), 0)
    with pytest.raises(ValueError, match="broken"):
        await beats.flush()
    log.error = None
    await beats.finish()
    assert (log.shown, log.saved, log.acked) == (0, 0, [])


# -- one interval, as in the log sink


async def test_a_flush_ends_with_the_agent_that_owns_it(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(RuntimeError("the sender is not running"))
    beats = log.beats(0.02, 0.02)

    async def agent() -> None:
        await beats.hold(log.ack(1), 0)
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
    beats = log.beats(0.01, 0.01)
    await beats.hold(log.ack(1), 0)
    await log.clock.advance(0.05)
    assert "flush failed" in caplog.text
    with pytest.raises(KafkaTimeoutError):
        await beats.hold(log.ack(2), 0)


async def test_flushes_go_on_after_acks_were_forgotten() -> None:
    log = Log()
    beats = log.beats(0.01, 0.01)
    await beats.hold(log.ack(1), 0)
    beats.forget()
    await beats.hold(log.ack(2), 0)
    await log.clock.advance(0.05)
    assert log.acked == [2]
