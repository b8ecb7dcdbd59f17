"""When a stage writes: an online flush often, for readers; a durable flush seldom, before it acknowledges.

    batch -> apply -> hold(ack)
                         |- online flush,  every flush_every_ms:    rows to Redis, records to the next stage
                         '- durable flush, every durable_every_ms:  the same, the changelog, then the acks

A row that changes ten times between two durable flushes is one changelog record. Online flushes, and
applying, go on while a durable flush waits for the changelog. Partitions take turns in durable flushes:
written all at once they would keep readers waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Generic, TypeAlias, TypeVar

from headrace.agents.stage.hold import Ack, AckHold, Taken, release
from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import FencedError

T = TypeVar("T")
#: Whether a flush makes a partition durable.
Durable: TypeAlias = Callable[[int], bool]
log = logging.getLogger(__name__)

#: After a flush the next of its kind waits at least this share of the time the flush took, unless one of the
#: other kind has waited for it: a slow store cannot take all of the stage's time.
REST = 0.25
#: In a stage that is far behind the next online flush comes after this fraction (1 / n) of the durable
#: interval.
CATCHING_UP = 3
#: Durable flushes in ``durable_s``: each makes every n-th partition durable, and shows what all have changed.
TURNS = 4


class Beats(Generic[T]):
    """Calls ``show`` and ``save`` at two intervals and acknowledges batches after the second.

    Parameters
    ----------
    show
        An online flush: takes what readers have not seen yet, before its first await, and writes it. At the
        same moment it takes what is not durable yet of the partitions for which its argument is true, and
        returns that. Calls do not overlap.
    save
        The rest of a durable flush: makes durable what ``show`` returned. Calls do not overlap; calls of
        ``show`` go on meanwhile.
    online_s, durable_s
        Longest time between a change and the flush that writes it, seconds.
    failed
        Called with the error of a flush that nobody awaits.
    clock
        Time and pauses.

    When one of them raises ``FencedError``, nothing is acknowledged, and it is tried again unless the
    partitions are taken away meanwhile: ``show`` raises it before it takes anything, ``save`` puts back what
    was taken. After any other error nothing is written and acknowledged any more.

    The task that calls ``hold``, an agent's, owns the timers: when it ends, so do they, because nobody is
    left to write for. What was not acknowledged is delivered again.
    """

    def __init__(
        self,
        show: Callable[[Durable], Awaitable[T]],
        save: Callable[[T], Awaitable[None]],
        online_s: float,
        durable_s: float,
        failed: Callable[[BaseException], Awaitable[None]] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._show, self._save = show, save
        self._online_s = min(online_s, durable_s)
        self._durable_s = durable_s
        self._failed = failed
        self._clock = clock
        self.held = AckHold()
        self._durable_due: dict[int, float] = {}  # of the partitions with held acks
        self._showing = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._saving_since = self._online_due = self._rested = 0.0
        self._first: float | None = None  # turns are counted from here
        self._fresh = False  # changes that no online flush has written
        self._behind = False  # at the last batch
        self._epoch = 0  # of the assignment
        self._timers: dict[bool, asyncio.Task[None]] = {}  # of durable flushes (True), of online ones
        self._owner: asyncio.Task[Any] | None = None

    async def hold(self, ack: Ack, partition: int, *, behind: bool = False) -> None:
        """Hold a batch's ack until the next durable flush of its partition; have what is due written.

        Waits only where a durable flush takes longer than ``durable_s``.

        ``behind`` says that much more is waiting: online flushes are rarer then, since a stage that catches
        up serves readers better.
        """
        self.held.add(ack, partition)
        now = self._clock.monotonic()
        if partition not in self._durable_due:
            self._durable_due[partition] = self._turn(partition, now)
        self._note_change(now, behind)
        self._adopt(asyncio.current_task())
        for durable in (False, True):
            if durable not in self._timers or self._timers[durable].done():
                self._timers[durable] = asyncio.create_task(self._run(durable))
        if self._saving.locked() and now >= self._saving_since + self._durable_s:
            async with self._saving:
                await asyncio.sleep(0)  # lets the timer have its turn

    def _note_change(self, now: float, behind: bool) -> None:
        """Set when the next online flush is due."""
        if not self._fresh or (self._behind and not behind):
            pause = max(self._online_s, self._durable_s / CATCHING_UP) if behind else self._online_s
            self._online_due = max(now + pause, self._rested)
        self._fresh, self._behind = True, behind

    def _adopt(self, owner: asyncio.Task[Any] | None) -> None:
        if owner is not self._owner and owner is not None:
            self._owner = owner
            owner.add_done_callback(self._orphaned)

    def _turn(self, partition: int, now: float) -> float:
        """Return when a partition's next turn comes after ``now``."""
        if self._durable_s == 0:
            return now
        if self._first is None:
            self._first = now
        begin = self._first + self._durable_s * (partition % TURNS) / TURNS
        return now + self._durable_s - (now - begin) % self._durable_s

    async def _run(self, durable: bool) -> None:
        """Flush when it is due, as long as there is something to flush."""
        try:
            while (len(self.held) if durable else self._fresh) and not self._over():
                now = self._clock.monotonic()
                due = max(min(self._durable_due.values()), self._rested) if durable else self._online_due
                if due > now:  # at most one online interval: what is due may have come nearer meanwhile
                    await self._clock.sleep(max(0.001, min(due - now, self._online_s)))
                elif durable:
                    await self.flush({p for p, due in self._durable_due.items() if due <= now})
                else:
                    await self._flush_online()
        except Exception as exc:
            if self._owner is not None and self._owner.done():
                log.info("the last flush was not finished (%s); its batches are delivered again", exc)
            else:
                log.exception("flush failed")
                if self._failed is not None:
                    await self._failed(exc)

    def _over(self) -> bool:
        return self.held.error is not None or (self._owner is not None and self._owner.done())

    async def _flush_online(self) -> None:
        epoch = self._epoch
        try:
            async with self._showing:
                epoch = self._epoch
                if self._fresh:
                    await self._write(lambda partition: False)
        except FencedError as exc:
            self._put_off(exc, epoch, {})
        except Exception as exc:
            self.held.error = exc
            raise

    async def flush(self, partitions: Collection[int] | None = None) -> None:
        """Make ``partitions`` durable, by default all; acknowledge what was held of them before."""
        epoch, acks = self._epoch, Taken()
        try:
            async with self._saving:
                self._saving_since = self._clock.monotonic()
                async with self._showing:
                    epoch, acks = self._epoch, self.held.take(partitions)
                    for partition in acks:
                        del self._durable_due[partition]
                    waiting = (
                        self.held.partitions()
                    )  # for their turn; one that holds nothing may be dirty, too
                    taken = await self._write(lambda partition: partition not in waiting)
                await self._save(taken)
                if self.held.error is None:
                    release(acks)
        except FencedError as exc:
            self._put_off(exc, epoch, acks)
        except Exception as exc:
            self.held.error = exc
            raise

    def _put_off(self, exc: FencedError, epoch: int, acks: Taken) -> None:
        """Try again in ``durable_s`` what was refused, unless the partitions were given out anew."""
        log.warning("not written: %s", exc, extra={"action": "fenced"})
        if epoch == self._epoch:
            self.held.put_back(acks)
            self._online_due = later = self._clock.monotonic() + self._durable_s
            self._durable_due = dict.fromkeys(self.held.partitions(), later)
            self._fresh = True

    async def finish(self) -> None:
        """Write and acknowledge what is held, as long as nothing has failed: nobody will hold more."""
        if len(self.held) and not self._over():
            await self.flush()

    async def _write(self, durable: Durable) -> T:
        self.held.check()  # what the other kind of flush took, and lost, came before this
        began = self._clock.monotonic()
        self._fresh = False
        taken = await self._show(durable)
        ended = self._clock.monotonic()
        self._rested = ended + REST * (ended - began)
        self._online_due = max(self._online_due, self._rested)
        return taken

    def forget(self) -> None:
        """Drop held acks: their partitions are given out anew, and what is not committed comes again."""
        self._epoch += 1
        self.held.forget()
        self._durable_due = {}
        self._fresh = False
        self._cancel()

    def _orphaned(self, owner: asyncio.Task[Any]) -> None:
        if owner is self._owner:
            self._cancel()

    def _cancel(self) -> None:
        # A flush that has begun is left to finish: the store waits for its own writes before its partitions
        # go.
        for durable, writing in ((False, self._showing), (True, self._saving)):
            if durable in self._timers and not writing.locked():
                self._timers.pop(durable).cancel()
