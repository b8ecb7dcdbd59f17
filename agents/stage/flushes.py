"""The flushes of a stage: an online flush often, for readers; a durable flush seldom, then the acks.

    batch -> apply -> hold(ack)
                         |- online flush,  every flush_every_ms:    rows to Redis, records to the next stage
                         '- durable flush, every durable_every_ms:  the same, then the changelog, then the
                         acks

A row that changes ten times between two durable flushes becomes one changelog record. While a durable flush
waits for the changelog, batches are applied and online flushes run. The durable flushes of the partitions are
spread over the interval: one flush of all partitions would delay online flushes. While a stage catches up
with old records, there are no online flushes: each row is packed once for both, and less often.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from enum import IntEnum
from math import inf
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from headrace.agents.stage.hold import Ack, AckHold, Taken, release
from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import FencedError, PutOffError

T = TypeVar("T")
#: Called with a partition: whether this flush writes its rows to the changelog too.
Durable: TypeAlias = Callable[[int], bool]
log = logging.getLogger(__name__)

#: After a flush, the next one starts no sooner than this share of the time that the flush took. So flushes
#: take at most half of the time of a stage, and under load rows that change often are written less often. (A
#: flush that already waits for the lock starts at once.)
REST = 1.0
#: While a stage is far behind, the interval of online flushes is at least ``durable_s / CATCHING_UP``.
CATCHING_UP = 3
#: While a stage reads old records, the interval of durable flushes is that many times ``durable_s``: a row
#: that changes often is written less often. After a crash, more of the old records are read again.
OLD_TIMES = 2
#: Number of durable flushes in ``durable_s``. Each writes every n-th partition to the changelog, and the
#: changed rows of all partitions to the online store.
TURNS = 4


class Backlog(IntEnum):
    """How far a stage is behind the end of its topics.

    ``NONE``: at most one more batch waits. ``WAITING``: more wait. ``OLD``: and what it reads is older than
    ``durable_s``, so readers gain nothing by seeing it sooner.
    """

    NONE, WAITING, OLD = range(3)


class Numbered(Protocol):
    """A partition with its number."""

    number: int


P = TypeVar("P", bound=Numbered)


class Flushes(Generic[T]):
    """Calls ``show`` (online flush) and ``save`` (durable flush) at two intervals; acks after ``save``.

    Parameters
    ----------
    show
        The online flush: writes the changes that the online store does not have, and returns those that the
        changelog does not have, of the partitions for which its argument returns True. It takes both before
        its first await, and calls do not overlap.
    save
        The rest of a durable flush: writes to the changelog what ``show`` returned. Calls do not overlap;
        ``show`` may be called meanwhile.
    online_s, durable_s
        Longest time between a change and its online flush, and its durable flush, s.
    failed
        Called with the error of a flush that the timers started.
    clock
        Time and pauses.

    Attributes
    ----------
    held
        The acks of batches that are not durable yet.

    Notes
    -----
    When ``show`` or ``save`` raises ``FencedError``, or ``save`` raises ``PutOffError``, nothing is
    acknowledged, and the flush is tried again, unless the partitions are revoked meanwhile. ``show`` must
    raise it before it takes any changes; ``save`` must put back what was taken. After any other error nothing
    is written and acknowledged any more.

    The timers stop when the task ends that called ``hold`` (that of the agent). Batches that were not
    acknowledged are delivered again.
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
        self._durable_due: dict[int, float] = {}  # when the next durable flush of a partition is due
        self._showing = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._saving_since = self._online_due = self._rested = 0.0
        self._first: float | None = None  # time of the first batch: the durable intervals start here
        self._fresh = False  # whether there are changes that no online flush has written
        self._backlog = Backlog.NONE  # at the last batch
        self._in_turn = False  # whether the flush that runs shows only the partitions that it saves
        self._epoch = 0  # grows with every rebalance
        self._timers: dict[bool, asyncio.Task[None]] = {}  # True: of durable flushes, False: of online ones
        self._owner: asyncio.Task[Any] | None = None

    async def hold(self, ack: Ack, partition: int, backlog: Backlog = Backlog.NONE) -> None:
        """Hold the ack of a batch until the next durable flush of its partition; start the timers.

        Waits only when the present durable flush has taken longer than ``durable_s``.

        Parameters
        ----------
        ack
            Acknowledges the batch.
        partition
            Partition of the batch.
        backlog
            With many records waiting, online flushes are less frequent, so that the stage catches up sooner.

        Raises
        ------
        Exception
            The error of an earlier flush.
        """
        self.held.add(ack, partition)
        now = self._clock.monotonic()
        self._note_change(now, backlog)
        if partition not in self._durable_due:
            self._durable_due[partition] = self._turn(partition, now)
        self._adopt(asyncio.current_task())
        for durable in (False, True):
            if durable not in self._timers or self._timers[durable].done():
                self._timers[durable] = asyncio.create_task(self._run(durable))
        if self._saving.locked() and now >= self._saving_since + self._durable_s:
            async with self._saving:
                await asyncio.sleep(0)  # lets the timer continue

    def due(self, partitions: Iterable[P], durable: Durable) -> list[P]:
        """Return those of a stage's partitions whose changes the flush that runs must show."""
        return [part for part in partitions if not self._in_turn or durable(part.number)]

    def _note_change(self, now: float, backlog: Backlog) -> None:
        """Set when the next online flush is due: of old records none, the durable flushes show them."""
        before, self._backlog = self._backlog, backlog
        if not self._fresh or backlog < before:
            longest = {Backlog.NONE: 0.0, Backlog.WAITING: self._durable_s / CATCHING_UP}
            pause = max(self._online_s, longest.get(backlog, inf))
            self._online_due = max(now + pause, self._rested)
        self._fresh = True
        if before is Backlog.OLD and backlog is not before:  # the interval of durable flushes is shorter now
            self._durable_due = {p: min(at, self._turn(p, now)) for p, at in self._durable_due.items()}

    def _adopt(self, owner: asyncio.Task[Any] | None) -> None:
        if owner is not self._owner and owner is not None:
            self._owner = owner
            owner.add_done_callback(self._orphaned)

    def _turn(self, partition: int, now: float) -> float:
        """Return the time after ``now`` at which the next durable flush of a partition is due."""
        if self._durable_s == 0:
            return now
        if self._first is None:
            self._first = now
        every = self._durable_s * (OLD_TIMES if self._backlog is Backlog.OLD else 1)
        begin = self._first + every * (partition % TURNS) / TURNS
        return now + every - (now - begin) % every

    async def _run(self, durable: bool) -> None:
        """Flush whenever a flush is due, until there is nothing to flush."""
        try:
            while (len(self.held) if durable else self._fresh) and not self._over():
                now = self._clock.monotonic()
                due = max(min(self._durable_due.values()), self._rested) if durable else self._online_due
                if due > now:  # sleeps one online interval at most: the time may be earlier by then
                    await self._clock.sleep(max(0.001, min(due - now, self._online_s)))
                elif durable:
                    await self.flush({p for p, due in self._durable_due.items() if due <= now})
                else:
                    await self._flush_online()
        except Exception as exc:
            if self._owner is not None and self._owner.done():
                log.info("the last flush did not finish (%s); its batches are delivered again", exc)
            else:
                log.exception("flush failed")
                if self._failed is not None:
                    await self._failed(exc)

    async def flush_left(self) -> None:
        """Run a durable flush of changes that no held ack waits for. Errors are handled as in the timers."""
        if self.held.error is not None:
            return
        try:
            await self.flush()
        except Exception as exc:
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
        """Run a durable flush of ``partitions`` (default: all), then release their held acks."""
        epoch, acks = self._epoch, Taken()
        try:
            async with self._saving:
                self._saving_since = self._clock.monotonic()
                async with self._showing:
                    epoch, acks = self._epoch, self.held.take(partitions)
                    for partition in acks:
                        del self._durable_due[partition]
                    # A partition without held acks may have dirty rows too: it is flushed with these.
                    waiting = self.held.partitions()
                    old = self._backlog is Backlog.OLD
                    taken = await self._write(
                        lambda partition: partition not in waiting, in_turn=old and bool(waiting)
                    )
                await self._save(taken)
                if self.held.error is None:
                    release(acks)
        except (FencedError, PutOffError) as exc:
            self._put_off(exc, epoch, acks)
        except Exception as exc:
            self.held.error = exc
            raise

    def _put_off(self, exc: FencedError | PutOffError, epoch: int, acks: Taken) -> None:
        """Try a refused flush again in ``durable_s``, unless there was a rebalance meanwhile."""
        log.warning("not written: %s", exc, extra={"action": "fenced"})
        if epoch == self._epoch:
            self.held.put_back(acks)
            self._online_due = later = self._clock.monotonic() + self._durable_s
            self._durable_due = dict.fromkeys(self.held.partitions(), later)
            self._fresh = True

    async def finish(self) -> None:
        """Wait for a durable flush that runs, then run a last one, at a clean stop, unless one failed."""
        if (len(self.held) or self._saving.locked()) and not self._over():
            await self.flush()

    async def _write(self, durable: Durable, *, in_turn: bool = False) -> T:
        self.held.check()  # after a failed flush, changes that it took are lost: write nothing after them
        began = self._clock.monotonic()
        # In turns, the other partitions are shown later: in their own turns, or sooner when a change was new.
        self._fresh = self._in_turn = in_turn
        taken = await self._show(durable)
        ended = self._clock.monotonic()
        self._rested = ended + REST * (ended - began)
        self._online_due = max(self._online_due, self._rested)
        return taken

    def forget(self) -> None:
        """Drop held acks after a rebalance: batches that are not committed are delivered again."""
        self._epoch += 1
        self.held.forget()
        self._durable_due = {}
        self._fresh = False
        self._cancel()

    def _orphaned(self, owner: asyncio.Task[Any]) -> None:
        if owner is self._owner:
            self._cancel()

    def _cancel(self) -> None:
        # A running flush is not cancelled: the state store waits for its writes before it gives up
        # partitions.
        for durable, writing in ((False, self._showing), (True, self._saving)):
            if durable in self._timers and not writing.locked():
                self._timers.pop(durable).cancel()
