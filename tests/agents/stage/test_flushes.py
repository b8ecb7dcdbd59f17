"""Flushes: what they write, their times, and the acks of batches. Time is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from flush_log import Log

from headrace.agents.stage.flushes import Backlog
from headrace.streams.clock import settle
from headrace.streams.errors import FencedError


async def test_online_flushes_come_before_the_durable_one_which_acks() -> None:
    log = Log()
    flushes = log.flushes(0.01, 0.2)
    await flushes.hold(log.ack(1), 0)
    assert log.shown == 0
    await log.until(lambda: log.shown)
    assert (log.shown, log.saved, log.acked) == (1, 0, [])
    await log.until(lambda: log.acked)
    assert (log.shown, log.saved, log.acked) == (2, 1, [1])


async def test_without_changes_nothing_is_written() -> None:
    log = Log()
    flushes = log.flushes(0.005, 0.01)
    await flushes.hold(log.ack(1), 0)
    await log.until(lambda: log.acked)
    before = log.shown, log.saved
    await log.clock.advance(60)
    assert (log.shown, log.saved) == before


async def test_a_stage_that_is_behind_makes_longer_pauses() -> None:
    log = Log()
    flushes = log.flushes(0.01, 0.6)
    for n in range(10):
        await flushes.hold(log.ack(n), 0, Backlog.WAITING)
        await log.clock.advance(0.002)
    at = await log.until(lambda: log.shown)
    assert at >= 0.2, "online flushes come at a third of the durable interval"
    assert log.saved == 0, "what readers see is not left out"
    assert await log.until(lambda: log.saved) >= 0.6
    assert log.acked == list(range(10))


async def test_catching_up_brings_the_online_interval_back() -> None:
    log = Log()
    flushes = log.flushes(0.01, 0.9)
    await flushes.hold(log.ack(1), 0, Backlog.WAITING)
    await flushes.hold(log.ack(2), 0)
    assert await log.until(lambda: log.shown) < 0.25
    await log.until(lambda: log.acked)
    assert log.acked == [1, 2]


async def test_old_records_are_shown_only_together_with_their_changelog_records() -> None:
    log = Log()
    flushes = log.flushes(0.01, 0.8)
    for n in range(700):
        await flushes.hold(log.ack(n), n % 4, Backlog.OLD)
        await log.clock.advance(0.01)
    assert log.shown == len(log.taken), "no online flush"
    assert 12 <= log.shown <= 18, "each of four partitions in its turn, every 1.6 s"
    assert set(map(len, log.due)) == {1}, "and only this one"
    await flushes.hold(log.ack(700), 0)
    shown = log.shown
    assert await log.until(lambda: log.shown > shown) <= 7.05
    assert log.due[-1] == [0, 1, 2, 3], "what follows is new"


async def test_after_old_records_durable_flushes_are_as_frequent_as_before() -> None:
    log = Log()
    flushes = log.flushes(0.01, 0.8)
    await flushes.hold(log.ack(0), 1, Backlog.OLD)
    await log.clock.advance(0.1)
    await flushes.hold(log.ack(1), 1)
    assert await log.until(lambda: log.shown) <= 0.13, "at once, for readers"
    assert await log.until(lambda: log.acked == [0, 1]) <= 0.91
    await flushes.hold(log.ack(2), 1)
    assert await log.until(lambda: len(log.acked) == 3) <= 1.85


async def test_a_new_record_among_old_ones_is_shown_at_once_although_a_turn_comes_before() -> None:
    log = Log()
    flushes = log.flushes(0.4, 0.8)
    await flushes.hold(log.ack(0), 0, Backlog.OLD)
    await log.clock.advance(1.3)
    await flushes.hold(log.ack(1), 1)
    await flushes.hold(log.ack(2), 2, Backlog.OLD)
    assert await log.until(lambda: log.shown) <= 1.65
    assert await log.until(lambda: log.due[-1] == [0, 1, 2, 3]) <= 1.75, "0.4 s after the new one"


async def test_all_of_the_old_records_are_shown_when_no_batch_follows() -> None:
    log = Log()
    flushes = log.flushes(0.01, 0.8)
    for n in range(4):
        await flushes.hold(log.ack(n), n, Backlog.OLD)
    await log.until(lambda: len(log.acked) == 4)
    assert [len(due) for due in log.due] == [1, 2, 3, 4]
    assert {number for due in log.due for number in due} == {0, 1, 2, 3}
    await log.clock.advance(60)
    shown = log.shown
    await log.clock.advance(60)
    assert log.shown == shown <= log.saved + 1, "and then there is nothing to show"


async def test_online_flushes_and_batches_do_not_wait_for_the_changelog() -> None:
    log = Log()
    log.saving_s = 0.3
    flushes = log.flushes(0.01, 1.0)
    await flushes.hold(log.ack(1), 0)
    writing = asyncio.create_task(flushes.flush())
    await settle()
    assert log.saving
    shown = log.shown
    await flushes.hold(log.ack(2), 0)
    await log.until(lambda: log.shown > shown)
    assert log.saving
    await log.clock.advance(0.3)
    await writing
    assert log.acked == [1], "the second came after what was taken"


async def test_a_stage_waits_when_a_durable_flush_is_due_before_the_last_has_ended() -> None:
    log = Log()
    log.saving_s = 0.3
    flushes = log.flushes(0.01, 0.02)
    await flushes.hold(log.ack(1), 0)
    await log.until(lambda: log.saving)
    began = log.clock.monotonic()

    async def agent() -> int:
        for n in range(2, 100):
            await flushes.hold(log.ack(n), 0)
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
    flushes = log.flushes(0.01, 1.6)
    times = dict[int, float]()

    def ack(partition: int) -> Callable[[], None]:
        return lambda: times.setdefault(partition, log.clock.monotonic())

    for partition in (0, 2, 7):
        await flushes.hold(ack(partition), partition)
    await log.until(lambda: len(times) == 3, within=5.0)
    assert times[2] >= 0.8, "half of the interval after the first batch"
    assert times[7] >= 1.2
    assert times[0] >= 1.6
    assert times[2] < times[0], "they do not wait for each other"


async def test_without_a_pause_every_batch_is_saved_at_once() -> None:
    log = Log()
    flushes = log.flushes(0, 0)
    for n in range(3):
        await flushes.hold(log.ack(n), n)
        await log.until(lambda: len(log.acked) > n)  # noqa: B023 - called in this turn
    assert log.acked == [0, 1, 2]


async def test_only_what_was_saved_is_acked() -> None:
    log = Log()
    flushes = log.flushes(10.0, 10.0)
    await flushes.hold(log.ack(1), 0)
    await flushes.hold(log.ack(2), 1)
    await flushes.hold(log.ack(3), 0)
    await flushes.flush([0])
    assert (log.taken, log.acked) == ([[0, 2, 3]], [1, 3]), (
        "one that holds nothing is made durable, too: it may be dirty"
    )
    await flushes.flush()
    assert (log.taken[1:], log.acked) == ([[0, 1, 2, 3]], [1, 3, 2])


async def test_a_fenced_turn_leaves_the_other_partitions_to_theirs() -> None:
    log = Log()
    flushes = log.flushes(0.005, 0.2)
    refused = list[int]()

    async def refuse_once(taken: int) -> None:
        refused.append(taken)
        flushes._save = log.save
        raise FencedError("perhaps somebody else's")

    flushes._save = refuse_once  # type: ignore[method-assign]
    await flushes.hold(log.ack(1), 0)
    await flushes.hold(log.ack(2), 1)
    await log.until(lambda: len(log.acked) == 2)
    assert len(refused) == 1
    assert sorted(log.acked) == [1, 2]


async def test_a_batch_held_while_a_durable_write_runs_waits_for_the_next() -> None:
    log = Log()
    log.pause = 0.05
    flushes = log.flushes(10.0, 10.0)
    await flushes.hold(log.ack(1), 0)
    writing = asyncio.create_task(flushes.flush())
    await log.until(lambda: log.shown)
    await flushes.hold(log.ack(2), 0)
    await log.clock.advance(0.05)
    await writing
    assert log.acked == [1]
    log.pause = 0.0
    await flushes.flush()
    assert log.acked == [1, 2]


@pytest.mark.parametrize("where", ["show", "save"])
async def test_a_fenced_write_acks_nothing_and_is_tried_again(where: str) -> None:
    log = Log()
    flushes = log.flushes(0.01, 0.02)
    fine = getattr(log, where)

    async def refuse(_: object) -> int:
        raise FencedError("perhaps somebody else's")

    setattr(flushes, f"_{where}", refuse)
    await flushes.hold(log.ack(1), 0)
    await log.clock.advance(0.06)
    assert log.acked == []
    setattr(flushes, f"_{where}", fine)
    await log.until(lambda: log.acked)
    assert log.acked == [1]


async def test_what_was_taken_is_always_saved() -> None:
    log = Log()
    flushes = log.flushes(0.001, 0.01)
    for n in range(60):
        log.error = FencedError("perhaps somebody else's") if n % 5 == 2 else None
        await flushes.hold(log.ack(n), 0)
        await log.clock.advance(0.003)
    log.error = None
    await log.until(lambda: len(log.acked) == 60)
    assert (log.untold, log.saving) == (0, False)


async def test_after_an_error_nothing_is_acked() -> None:
    """An online flush fails while a durable one waits for the changelog."""
    log = Log()
    log.saving_s = 0.1
    flushes = log.flushes(0.01, 0.03)
    await flushes.hold(log.ack(1), 0)
    await log.until(lambda: log.saving)
    log.error = RuntimeError("no memory")
    await flushes.hold(log.ack(2), 0)
    await log.until(lambda: flushes.held.error)
    await log.until(lambda: log.saved)
    with pytest.raises(RuntimeError, match="no memory"):
        await flushes.hold(log.ack(3), 0)
    await log.clock.advance(0.05)
    assert log.acked == []


async def test_batches_do_not_wait_for_a_durable_flush_that_waits_for_an_online_one() -> None:
    log = Log()
    log.pause, log.saving_s = 0.1, 0.3
    flushes = log.flushes(0.0, 0.05)
    await flushes.hold(log.ack(1), 0)
    await log.until(lambda: log.shown == 1)
    await log.clock.advance(0.06)  # the durable flush is due, and waits
    began = log.clock.monotonic()
    await asyncio.wait_for(flushes.hold(log.ack(2), 0), 5)  # returns although the clock does not move
    assert log.clock.monotonic() - began < 0.05


async def test_a_slow_store_is_given_a_rest() -> None:
    log = Log()
    log.pause = 0.05
    flushes = log.flushes(0.001, 10.0)

    async def agent() -> None:
        while log.clock.monotonic() < 1.0:
            await flushes.hold(log.ack(1), 0)
            await log.clock.sleep(0.002)

    working = asyncio.create_task(agent())
    await log.until(working.done)
    assert log.shown <= 17, "a fifth of the time is left"
