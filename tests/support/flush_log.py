"""Remembers the flushes of a stage, and the acks. Time is moved by hand."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from headrace.agents.stage.flushes import Durable, Flushes
from headrace.streams.clock import ManualClock


class Log:
    """Remembers the flushes, in order, and the acks."""

    def __init__(self, error: Exception | None = None) -> None:
        self.clock = ManualClock()
        self.shown = self.saved = 0
        self.acked: list[int] = []
        self.error = error
        self.pause = self.saving_s = 0.0
        self.saving = False
        self.untold = 0  # number of takes that were not saved
        self.taken: list[list[int]] = []  # partitions of the durable flushes, of 0 to 3
        self.due: list[list[int]] = []  # partitions of every flush, of 0 to 3

    def flushes(self, online_s: float, durable_s: float, failed: Any = None) -> Flushes[int]:
        self._made = Flushes(self.show, self.save, online_s, durable_s, failed, self.clock)
        return self._made

    async def show(self, durable: Durable) -> int:
        if self.error is not None:
            raise self.error
        self.shown += 1
        every = [SimpleNamespace(number=number) for number in range(4)]
        self.due.append([part.number for part in self._made.due(every, durable)])
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
        """Move the clock until the condition is true; return the time."""
        deadline = self.clock.monotonic() + within
        while not condition():
            assert self.clock.monotonic() < deadline, "it did not happen in time"
            await self.clock.advance(step)
        return self.clock.monotonic()
