"""Writes what no caller waits for, in the order in which it came: one write at a time, of all that waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class WriteBehind(Generic[T]):
    """Takes things to write, and goes on writing while there are any.

    While one write is under way, what comes waits for the next one, which has all of it. So a broker that was
    away for a while sees one write when it is back, not one of each that waited.

    Parameters
    ----------
    write
        Writes some; returns when they are durable.
    most
        Most calls of ``add`` whose things are not written yet; later ones wait.
    pause_s
        Before each write, it waits so long for more, until ``most`` calls wait.
    """

    def __init__(
        self, write: Callable[[Sequence[T]], Awaitable[None]], most: int, pause_s: float = 0.0
    ) -> None:
        self._write, self._pause_s = write, pause_s
        self._room, self._full = asyncio.Semaphore(most), asyncio.Event()
        self._waiting: list[tuple[Sequence[T], asyncio.Future[None]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def add(self, things: Sequence[T]) -> asyncio.Future[None]:
        """Take some things; return what ends when they are written, or fails as their write did."""
        await self._room.acquire()
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        written.add_done_callback(self._ended)
        self._waiting.append((things, written))
        if self._room.locked():
            self._full.set()
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._go_on())
        return written

    def _ended(self, written: asyncio.Future[None]) -> None:
        self._room.release()
        if not written.cancelled():
            written.exception()  # whoever waited for it may have given up

    async def _go_on(self) -> None:
        now: list[tuple[Sequence[T], asyncio.Future[None]]] = []
        try:
            while self._waiting:
                if self._pause_s and not self._room.locked():
                    self._full.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._pause_s):
                            await self._full.wait()
                now, self._waiting = self._waiting, []
                things = [thing for part, _ in now for thing in part]
                (error,) = await asyncio.gather(self._write(things), return_exceptions=True)
                for _, written in now:
                    if written.done():
                        continue
                    if error is None:
                        written.set_result(None)
                    else:
                        written.set_exception(error)
        finally:
            for _, written in (*now, *self._waiting):  # only left over when this task was cancelled
                written.cancel()
            self._waiting = []
