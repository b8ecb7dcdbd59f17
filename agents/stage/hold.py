"""Held acks: a batch is acknowledged when its effects are durable, never before.

Every agent that acknowledges later than at the end of its loop body holds its acks here. A batch waits for
one of these:

    a durable flush of its partition             Flushes          take(partitions), then release
    event time after the wait for its outcomes   join_outcomes  take(until=...), then release
    the acknowledgement of its replies           recommend      after(coroutine)

When an ack is never released, its batch is delivered again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, TypeAlias

Ack: TypeAlias = Callable[[], None]
#: Acks taken from an ``AckHold``, by partition, in the order of their batches: (event time waited for, ack).
Taken: TypeAlias = dict[int, list[tuple[int, Ack]]]

log = logging.getLogger(__name__)

#: Most coroutines running at once in ``AckHold.after``; the agent waits when there are more.
MAX_UNFINISHED = 1000


def release(taken: Taken) -> None:
    """Call the acks that ``AckHold.take`` returned."""
    for acks in taken.values():
        for _, ack in acks:
            ack()


class AckHold:
    """The acks that one agent holds, and the error after which it acknowledges nothing any more.

    Parameters
    ----------
    limit
        See ``MAX_UNFINISHED``.

    Attributes
    ----------
    error
        The first error, None without one. ``add`` and ``after`` raise it: the agent crashes, and batches that
        were not acknowledged are delivered again.
    """

    def __init__(self, limit: int = MAX_UNFINISHED) -> None:
        self._held: dict[int, deque[tuple[int, Ack]]] = {}
        self._limit = limit
        self._running: set[asyncio.Task[None]] = set()
        self.error: BaseException | None = None

    def __len__(self) -> int:
        """Return the number of batches that are not acknowledged yet."""
        return sum(map(len, self._held.values())) + len(self._running)

    def partitions(self) -> set[int]:
        """Return the partitions with held acks."""
        return set(self._held)

    def check(self) -> None:
        """Raise ``error``, if there is one."""
        if self.error is not None:
            raise self.error

    def add(self, ack: Ack, partition: int = 0, until: int = 0) -> None:
        """Hold the ack of the next batch of a partition; ``until`` is the event time (ms) it waits for."""
        self.check()
        self._held.setdefault(partition, deque()).append((until, ack))

    def take(self, partitions: Collection[int] | None = None, until: int | None = None) -> Taken:
        """Remove and return acks of ``partitions`` (None: of all); pass them to ``release``.

        With ``until`` (event time, ms), only those before the first one of a partition that waits for a later
        time.
        """
        taken: Taken = {}
        for partition in self._held.keys() & (self._held if partitions is None else partitions):
            queue, out = self._held[partition], []
            while queue and (until is None or queue[0][0] <= until):
                out.append(queue.popleft())
            if not queue:
                del self._held[partition]
            if out:
                taken[partition] = out
        return taken

    def put_back(self, taken: Taken) -> None:
        """Hold acks again that were taken, before those added since."""
        for partition, acks in taken.items():
            self._held.setdefault(partition, deque()).extendleft(reversed(acks))

    def forget(self, partitions: Iterable[int] | None = None) -> None:
        """Drop the acks of ``partitions`` (None: of all) after a rebalance."""
        for partition in list(self._held) if partitions is None else partitions:
            self._held.pop(partition, None)

    async def after(
        self, end: Coroutine[Any, Any, None], ack: Ack, over: Callable[[], None] = lambda: None
    ) -> None:
        """Run ``end`` in the background, then acknowledge.

        Waits while ``limit`` of them are running. When ``end`` fails, the batch is not acknowledged, and the
        exception becomes ``error``.

        Parameters
        ----------
        end
            The rest of the work on a batch.
        ack
            Acknowledges the batch.
        over
            Called when ``end`` has ended, with or without an error.
        """
        while len(self._running) >= self._limit and self.error is None:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        if self.error is not None:
            end.close()
            over()
            raise self.error
        task = asyncio.create_task(self._finish(end, ack))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: over())

    async def _finish(self, end: Coroutine[Any, Any, None], ack: Ack) -> None:
        try:
            await end
            ack()
        except Exception as exc:
            self.error = exc
            log.exception("the end of a batch failed")

    def cancel(self) -> None:
        """Cancel the coroutines in the background: the agent ends, and their batches are delivered again."""
        for task in self._running:
            task.cancel()
