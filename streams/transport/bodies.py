"""Counts the loop bodies of agents that are working on a batch: a rebalance and a shutdown wait for them."""

from __future__ import annotations

import asyncio
import logging
import time

log = logging.getLogger(__name__)

#: A rebalance or a shutdown waits this long for running loop bodies, but at most half a session.
BODY_TIMEOUT_S = 5.0


class LoopBodies:
    """The loop bodies that are running."""

    def __init__(self) -> None:
        self._running: set[object] = set()
        self._changed = asyncio.Event()

    def started(self) -> object:
        """Note that a body has begun; pass the result to ``ended``."""
        body = object()
        self._running.add(body)
        return body

    def ended(self, body: object) -> None:
        """Note that a body has ended, with or without an error."""
        self._running.discard(body)
        self._changed.set()

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
