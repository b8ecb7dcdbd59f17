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
    """The time and pauses, for code that depends on them."""

    def now_ms(self) -> int:
        """Return the time of day, ms since the epoch."""

    def monotonic(self) -> float:
        """Return seconds that never decrease; only differences have a meaning."""

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``."""


def now_ms() -> int:
    """Return the time of day, ms since the epoch."""
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
        """Wait for ``seconds``."""
        await asyncio.sleep(seconds)


SYSTEM = SystemClock()

#: Rounds of the event loop in which tasks run before a manual clock moves.
_ROUNDS = 25


class ManualClock:
    """A clock that moves only in ``advance``.

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
        """Return the seconds by which this clock was moved."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock was moved by ``seconds``; for 0 or less, only let other tasks run once."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now + seconds, self._count, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Move the clock by ``seconds``; end the sleeps in the order of their times, each at its time.

        After each of them, tasks run until they wait again.
        """
        end = self._now + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end + 1e-9:
            due, _, woken = heapq.heappop(self._sleepers)
            if woken.done():  # the task was cancelled
                continue
            self._now = max(self._now, due)
            woken.set_result(None)
            await settle()
        self._now = end


async def settle() -> None:
    """Let other tasks run for ``_ROUNDS`` rounds of the event loop: usually all of them wait then."""
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
