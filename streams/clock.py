"""Clocks: the time of day for data, monotonic seconds for pauses, and a clock that a test moves by hand.

Logic that waits or asks for the time takes a ``Clock``. A process uses ``SYSTEM``. A test passes a
``ManualClock`` and moves it, so that nothing waits in real time.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import Protocol


class Clock(Protocol):
    """What code that depends on time may ask for."""

    def now_ms(self) -> int:
        """Return the time of day, ms since the epoch."""

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean something."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


def now_ms() -> int:
    """Return the time, ms since the epoch."""
    return time.time_ns() // 1_000_000


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Return the time of day, ms since the epoch."""
        return now_ms()

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


SYSTEM = SystemClock()

#: Rounds of the event loop in which tasks may run before a manual clock goes on.
_ROUNDS = 25


class ManualClock:
    """A clock that stands still until ``advance`` moves it.

    Parameters
    ----------
    start_ms
        Time of day at the beginning, ms since the epoch. Monotonic seconds begin at 0.
    """

    def __init__(self, start_ms: int = 0) -> None:
        self._start_ms = start_ms
        self._now = 0.0
        self._count = 0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        """Return the time of day, ms since the epoch."""
        return self._start_ms + round(self._now * 1000)

    def monotonic(self) -> float:
        """Return the seconds this clock was moved."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved by that much; 0 and less give way to other tasks once."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now + seconds, self._count, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move the clock; wake sleepers in the order of their times, each at its own time.

        Tasks run until they wait before the clock goes on.
        """
        end = self._now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end + 1e-9:
            due, _, woken = heapq.heappop(self._sleepers)
            if woken.done():  # whoever slept was cancelled
                continue
            self._now = max(self._now, due)
            woken.set_result(None)
            await settle()
        self._now = end


async def settle() -> None:
    """Let other tasks run until, as a rule, all of them wait for something."""
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
