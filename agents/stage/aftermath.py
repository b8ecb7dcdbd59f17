"""The end of a batch's work, out of the way of the next batch: waiting for somebody else, then the ack."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

#: Batches whose end is waited for at once; more, and the agent waits with them.
MAX_UNFINISHED = 1000


class Aftermath:
    """Runs the ends of batches in the background and acks those that succeed.

    A failure leaves its batch unacked and is raised at the next ``add``: as with any other failure the agent
    crashes, and what was not acked is delivered again.
    """

    def __init__(self, limit: int = MAX_UNFINISHED) -> None:
        self._limit = limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: Exception | None = None

    def __len__(self) -> int:
        """Return the number of batches that have not ended."""
        return len(self._tasks)

    async def add(
        self, end: Coroutine[Any, Any, None], ack: Callable[[], None], over: Callable[[], None] = lambda: None
    ) -> None:
        """Run ``end`` in the background, then ``ack``; ``over`` is called however it ends."""
        while len(self._tasks) >= self._limit and self._error is None:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        if self._error is not None:
            end.close()
            over()
            raise self._error
        task = asyncio.create_task(self._run(end, ack))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: over())

    async def _run(self, end: Coroutine[Any, Any, None], ack: Callable[[], None]) -> None:
        try:
            await end
            ack()
        except Exception as exc:
            self._error = exc
            log.exception("the end of a batch failed")

    def cancel(self) -> None:
        """Give up on all: the agent ends, and they are delivered again."""
        for task in self._tasks:
            task.cancel()
