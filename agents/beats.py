"""Two rhythms of writing: what others wait for goes out often, what makes it durable goes out seldom.

    batch -> apply -> hold(ack)
                         |- online beat,  every flush_every_ms:    the next stage's records, the online store
                         '- durable beat, every durable_every_ms:  the same, then the changelog, then the acks

A row that changes ten times between two durable beats is one changelog record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from streams.errors import FencedError

log = logging.getLogger(__name__)

#: An online beat that took a while is followed by a pause of as much: a slow store cannot eat the stage.
REST = 1.0
#: A stage that is far behind makes this many times longer pauses between beats.
CATCHING_UP = 4


class Beats:
    """Calls ``write`` in two rhythms and acks batches after the durable one.

    Parameters
    ----------
    write
        Takes what has changed (synchronously, before its first await) and writes it; its argument says
        whether it has to be durable when it returns. When it raises ``FencedError``, nothing is acked, and it
        is tried again unless the partitions are taken away meanwhile.
    online_s, durable_s
        Longest pauses between a change and the beat that writes it.
    failed
        Told when a write failed that nobody awaits.

    The task that calls ``hold``, an agent's, owns the beats: when it ends, so do they, because nobody is left
    to write for. What was not acked is delivered again.
    """

    def __init__(
        self,
        write: Callable[[bool], Awaitable[None]],
        online_s: float,
        durable_s: float,
        failed: Callable[[BaseException], Awaitable[None]] | None = None,
    ) -> None:
        self._write = write
        self._online_s = min(online_s, durable_s)
        self._durable_s = durable_s
        self._failed = failed
        self._acks: list[Callable[[], None]] = []
        self._lock = asyncio.Lock()
        self._online_due = self._durable_due = 0.0
        self._rested = 0.0
        self._fresh = False  # changes that no online beat has written
        self._behind = False  # at the last batch
        self._epoch = 0  # of the assignment
        self._timer: asyncio.Task[None] | None = None
        self._owner: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None

    def locked(self) -> asyncio.Lock:
        """Return the lock that keeps writes apart from loading and dropping state."""
        return self._lock

    async def hold(self, ack: Callable[[], None], *, behind: bool = False) -> None:
        """Keep a batch's ack until the next durable beat; write what is due.

        ``behind`` says that much more is waiting: the beats are rarer then, since their readers are served
        better by a stage that catches up.
        """
        if self._error is not None:
            raise self._error
        now = time.monotonic()
        rarer = CATCHING_UP if behind else 1
        due = now + self._durable_s * rarer
        self._durable_due = min(self._durable_due, due) if self._acks else due
        self._acks.append(ack)
        if not self._fresh or (self._behind and not behind):
            self._online_due = min(max(now + self._online_s * rarer, self._rested), self._durable_due)
        self._fresh, self._behind = True, behind
        if now >= self._durable_due:
            await self.flush(durable=True)
            return
        owner = asyncio.current_task()
        if owner is not self._owner and owner is not None:
            self._owner = owner
            owner.add_done_callback(self._orphaned)
        if self._timer is None or self._timer.done():
            self._timer = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._acks or self._fresh:
                due = min(self._durable_due, self._online_due) if self._fresh else self._durable_due
                # No longer than one online pause: what is due may have come nearer meanwhile.
                await asyncio.sleep(max(0.001, min(due - time.monotonic(), self._online_s)))
                now = time.monotonic()
                if self._acks and now >= self._durable_due:
                    await self.flush(durable=True)
                elif self._fresh and now >= self._online_due:
                    await self.flush(durable=False)
        except Exception as exc:
            self._error = exc
            if self._owner is not None and self._owner.done():
                log.info("the last write was not finished (%s); its batches are delivered again", exc)
            else:
                log.exception("writing failed")
                if self._failed is not None:
                    await self._failed(exc)

    async def flush(self, *, durable: bool = True) -> None:
        """Write now; after a durable write, ack what was held before it began."""
        async with self._lock:
            began = time.monotonic()
            acks: list[Callable[[], None]] = []
            if durable:
                acks, self._acks = self._acks, []
                self._durable_due = began + self._durable_s  # for what is held meanwhile
            self._fresh = False
            epoch = self._epoch
            try:
                await self._write(durable)
            except FencedError as exc:
                log.warning("not written: %s", exc, extra={"action": "fenced"})
                if epoch == self._epoch:
                    self._acks[:0] = acks
                    self._fresh = True
                    self._online_due = self._durable_due = began + self._durable_s
                return
            for ack in acks:
                ack()
            ended = time.monotonic()
            self._rested = ended + REST * (ended - began)

    def forget(self) -> None:
        """Drop held acks: their partitions are given out anew, and what is not committed comes again."""
        self._epoch += 1
        self._acks = []
        self._fresh = False
        self._cancel()

    def _orphaned(self, owner: asyncio.Task[Any]) -> None:
        if owner is self._owner:
            self._cancel()

    def _cancel(self) -> None:
        # A write that has begun is left to finish: state is read back only after it (they share the lock).
        if self._timer is not None and not self._lock.locked():
            self._timer.cancel()
            self._timer = None
