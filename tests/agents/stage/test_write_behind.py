"""What is written behind: one write at a time, in order, bounded; its errors reach those who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from headrace.agents.stage.write_behind import WriteBehind
from headrace.streams.clock import settle


class Log:
    """A log that is written to while it is open."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.writes: list[list[int]] = []
        self.running = self.most = 0
        self.fails: Exception | None = None

    async def write(self, things: Sequence[int]) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.open.wait()
            if self.fails is not None:
                raise self.fails
            self.writes.append(list(things))
        finally:
            self.running -= 1


async def test_what_comes_during_a_write_is_written_together_by_the_next_one() -> None:
    log = Log()
    behind = WriteBehind[int](log.write, 100)
    ends = [await behind.add([2 * n, 2 * n + 1]) for n in range(3)]
    await settle()
    ends += [await behind.add([2 * n, 2 * n + 1]) for n in range(3, 20)]
    assert not any(end.done() for end in ends)
    log.open.set()
    await asyncio.gather(*ends)
    assert [thing for write in log.writes for thing in write] == list(range(40))
    assert [len(write) for write in log.writes] == [6, 34]
    assert log.most == 1, "two writes at once"
    await (await behind.add([7]))
    assert log.writes[-1] == [7]


async def test_what_waits_is_bounded() -> None:
    log = Log()
    behind = WriteBehind[int](log.write, 3)
    ends = [await behind.add([n]) for n in range(3)]
    fourth = asyncio.create_task(behind.add([3]))
    await settle()
    assert not fourth.done()
    log.open.set()
    await asyncio.gather(*ends)
    await (await fourth)
    assert [thing for write in log.writes for thing in write] == [0, 1, 2, 3]


async def test_an_error_is_of_those_whose_write_failed() -> None:
    log = Log()
    behind = WriteBehind[int](log.write, 3)
    log.fails = OSError("the broker is away")
    first = await behind.add([1])
    await settle()
    log.open.set()
    with pytest.raises(OSError, match="away"):
        await first
    log.fails = None
    await (await behind.add([2]))
    assert log.writes == [[2]]


async def test_who_gives_up_waiting_takes_nothing_back_and_leaves_room() -> None:
    log = Log()
    behind = WriteBehind[int](log.write, 1)
    given_up = await behind.add([1])
    await settle()
    given_up.cancel()
    await settle()
    end = await asyncio.wait_for(behind.add([2]), 30)
    log.open.set()
    await end
    assert log.writes == [[1], [2]]


async def test_a_write_waits_for_more_but_not_when_there_is_no_room_for_more() -> None:
    log = Log()
    log.open.set()
    behind = WriteBehind[int](log.write, 3, pause_s=60)
    ends = [await behind.add([n]) for n in range(2)]
    await settle()
    assert log.writes == []
    behind = WriteBehind[int](log.write, 3, pause_s=0.5)
    ends = []
    for n in range(2):
        ends.append(await behind.add([n]))
        await settle()
    await asyncio.gather(*ends)
    assert log.writes == [[0, 1]]
    full = WriteBehind[int](log.write, 2, pause_s=60)
    await asyncio.gather(*[await full.add([n]) for n in range(2)])
    assert log.writes == [[0, 1], [0, 1]]


async def test_a_pause_ends_when_there_is_no_room() -> None:
    log = Log()
    log.open.set()
    behind = WriteBehind[int](log.write, 3, pause_s=30.0)
    ends = [await behind.add([0])]
    await settle()  # it waits for more
    async with asyncio.timeout(5.0):
        ends += [await behind.add([n]) for n in range(1, 4)]
        assert log.writes == [[0, 1, 2]]
        ends += [await behind.add([n]) for n in range(4, 6)]
        await asyncio.gather(*ends)
    assert log.writes == [[0, 1, 2], [3, 4, 5]]
