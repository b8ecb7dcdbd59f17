"""What a rebalance or a shutdown waits for: the loop bodies that are working on a batch, the last writes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

log = logging.getLogger(__name__)

#: A rebalance or a shutdown waits this long for running loop bodies, but at most half a session.
BODY_TIMEOUT_S = 5.0
#: A shutdown waits this long for the last writes of the agents.
LAST_WRITES_S = 3.0


class LoopBodies:
    """The loop bodies that are running."""

    def __init__(self) -> None:
        self._running: dict[object, float] = {}
        self._changed = asyncio.Event()

    def started(self) -> object:
        """Note that a body has begun; pass the result to ``ended``."""
        body = object()
        self._running[body] = time.monotonic()
        return body

    def ended(self, body: object) -> None:
        """Note that a body has ended, with or without an error."""
        self._running.pop(body, None)
        self._changed.set()

    def longest_s(self) -> float:
        """Return for how long the oldest body runs, s; 0 when none does."""
        return time.monotonic() - min(self._running.values()) if self._running else 0.0

    async def wait(self, timeout: float) -> bool:
        """Wait until no body runs; return False when some still run after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while self._running:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                log.warning("%d batches are still being processed after %.0f s", len(self._running), timeout)
                return False
        return True


async def finish(last_writes: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Run the last writes of agents side by side, for ``LAST_WRITES_S``; log those that do not finish."""
    writes = [asyncio.ensure_future(write()) for write in last_writes]
    if not writes:
        return
    _, late = await asyncio.wait(writes, timeout=LAST_WRITES_S)
    for write in late:
        write.cancel()
    for error in await asyncio.gather(*writes, return_exceptions=True):
        if error is not None:
            log.warning("The last writes did not finish (%r); their batches are delivered again", error)
