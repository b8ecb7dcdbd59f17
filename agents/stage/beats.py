"""Two rhythms of writing: what others wait for goes out often, what makes it durable goes out seldom.

    batch -> apply -> hold(ack)
                         |- online beat,  every flush_every_ms:    the next stage's records, the online store
                         '- durable beat, every durable_every_ms:  the same, then the changelog, then the acks

A row that changes ten times between two durable beats is one changelog record. Online beats, and applying, go
on while a durable beat waits for the changelog. Partitions have their durable beats in turns: what all of
them write at once would keep readers waiting.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from itertools import chain
from typing import Any, Generic, TypeAlias, TypeVar

from headrace.streams.errors import FencedError

T = TypeVar("T")
Ack: TypeAlias = Callable[[], None]
#: Whether a beat makes a partition durable.
Durable: TypeAlias = Callable[[int], bool]
log = logging.getLogger(__name__)

#: A beat is followed by a pause of at least this share of its time, unless one of the other rhythm has waited
#: for it: a slow store cannot eat the stage.
REST = 0.25
#: In a stage that is far behind the next online beat is due after the durable rhythm's n-th part only.
CATCHING_UP = 3
#: Durable beats in ``durable_s``: each takes every n-th partition, and shows what all have changed.
TURNS = 4


class Beats(Generic[T]):
    """Calls ``show`` and ``save`` in two rhythms and acks batches after the second.

    Parameters
    ----------
    show
        A beat: takes what readers have not seen yet, before its first await, and writes it. It takes at the
        same moment what is not durable yet of the partitions for which its argument is true, and returns
        that. Calls do not overlap.
    save
        The rest of a durable beat: makes durable what ``show`` returned. Calls do not overlap; calls of
        ``show`` go on meanwhile.
    online_s, durable_s
        Longest pauses between a change and the beat that writes it.
    failed
        Told when a write failed that nobody awaits.

    When one of them raises ``FencedError``, nothing is acked, and it is tried again unless the partitions are
    taken away meanwhile: ``show`` raises it before it takes anything, ``save`` puts back what was taken.
    After any other error nothing is written and acked any more.

    The task that calls ``hold``, an agent's, owns the beats: when it ends, so do they, because nobody is left
    to write for. What was not acked is delivered again.
    """

    def __init__(
        self,
        show: Callable[[Durable], Awaitable[T]],
        save: Callable[[T], Awaitable[None]],
        online_s: float,
        durable_s: float,
        failed: Callable[[BaseException], Awaitable[None]] | None = None,
    ) -> None:
        self._show, self._save = show, save
        self._online_s = min(online_s, durable_s)
        self._durable_s = durable_s
        self._failed = failed
        self._acks: dict[int, list[Ack]] = {}  # by partition
        self._durable_due: dict[int, float] = {}  # of the partitions with acks
        self._showing = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._saving_since = self._online_due = self._rested = 0.0
        self._zero: float | None = None  # turns are counted from here
        self._fresh = False  # changes that no online beat has written
        self._behind = False  # at the last batch
        self._epoch = 0  # of the assignment
        self._timers: dict[bool, asyncio.Task[None]] = {}  # of durable beats (True), of online ones
        self._owner: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None

    async def hold(self, ack: Ack, partition: int, *, behind: bool = False) -> None:
        """Keep a batch's ack until the next durable beat of its partition; have what is due written.

        Waits only where a durable beat takes longer than ``durable_s``.

        ``behind`` says that much more is waiting: online beats are rarer then, since their readers are served
        better by a stage that catches up.
        """
        if self._error is not None:
            raise self._error
        now = time.monotonic()
        self._acks.setdefault(partition, []).append(ack)
        if partition not in self._durable_due:
            self._durable_due[partition] = self._turn(partition, now)
        if not self._fresh or (self._behind and not behind):
            pause = max(self._online_s, self._durable_s / CATCHING_UP) if behind else self._online_s
            self._online_due = max(now + pause, self._rested)
        self._fresh, self._behind = True, behind
        owner = asyncio.current_task()
        if owner is not self._owner and owner is not None:
            self._owner = owner
            owner.add_done_callback(self._orphaned)
        for durable in (False, True):
            if durable not in self._timers or self._timers[durable].done():
                self._timers[durable] = asyncio.create_task(self._run(durable))
        if self._saving.locked() and now >= self._saving_since + self._durable_s:
            async with self._saving:
                await asyncio.sleep(0)  # lets the timer have its turn

    def _turn(self, partition: int, now: float) -> float:
        """Return when a partition's next turn comes after ``now``."""
        if self._durable_s == 0:
            return now
        if self._zero is None:
            self._zero = now
        begin = self._zero + self._durable_s * (partition % TURNS) / TURNS
        return now + self._durable_s - (now - begin) % self._durable_s

    async def _run(self, durable: bool) -> None:
        try:
            while (self._acks if durable else self._fresh) and not self._over():
                now = time.monotonic()
                due = max(min(self._durable_due.values()), self._rested) if durable else self._online_due
                if due > now:  # no longer than one online pause: what is due may have come nearer meanwhile
                    await asyncio.sleep(max(0.001, min(due - now, self._online_s)))
                elif durable:
                    await self.flush({p for p, due in self._durable_due.items() if due <= now})
                else:
                    await self._make_visible()
        except Exception as exc:
            if self._owner is not None and self._owner.done():
                log.info("the last write was not finished (%s); its batches are delivered again", exc)
            else:
                log.exception("writing failed")
                if self._failed is not None:
                    await self._failed(exc)

    def _over(self) -> bool:
        return self._error is not None or (self._owner is not None and self._owner.done())

    async def _make_visible(self) -> None:
        epoch = self._epoch
        try:
            async with self._showing:
                epoch = self._epoch
                if self._fresh:
                    await self._beat(lambda partition: False)
        except FencedError as exc:
            self._put_off(exc, epoch, {})
        except Exception as exc:
            self._error = exc
            raise

    async def flush(self, partitions: Collection[int] | None = None) -> None:
        """Make durable what is held of ``partitions``, by default of all; ack what was held before."""
        epoch, acks = self._epoch, dict[int, list[Ack]]()
        try:
            async with self._saving:
                self._saving_since = time.monotonic()
                async with self._showing:
                    epoch = self._epoch
                    for partition in self._acks.keys() & (self._acks if partitions is None else partitions):
                        acks[partition] = self._acks.pop(partition)
                        del self._durable_due[partition]
                    waiting = set(self._acks)  # for a turn; a partition that holds nothing may be dirty, too
                    taken = await self._beat(lambda partition: partition not in waiting)
                await self._save(taken)
                if self._error is None:
                    for ack in chain(*acks.values()):
                        ack()
        except FencedError as exc:
            self._put_off(exc, epoch, acks)
        except Exception as exc:
            self._error = exc
            raise

    def _put_off(self, exc: FencedError, epoch: int, acks: dict[int, list[Ack]]) -> None:
        log.warning("not written: %s", exc, extra={"action": "fenced"})
        if epoch == self._epoch:
            for partition, held in acks.items():
                self._acks[partition] = held + self._acks.get(partition, [])
            self._online_due = later = time.monotonic() + self._durable_s
            self._durable_due = dict.fromkeys(self._acks, later)
            self._fresh = True

    async def finish(self) -> None:
        """Write and ack what is held, as long as nothing has failed: nobody will hold more."""
        if self._acks and not self._over():
            await self.flush()

    async def _beat(self, durable: Durable) -> T:
        if self._error is not None:  # what the other rhythm took, and lost, came before this
            raise self._error
        began = time.monotonic()
        self._fresh = False
        taken = await self._show(durable)
        ended = time.monotonic()
        self._rested = ended + REST * (ended - began)
        self._online_due = max(self._online_due, self._rested)
        return taken

    def forget(self) -> None:
        """Drop held acks: their partitions are given out anew, and what is not committed comes again."""
        self._epoch += 1
        self._acks, self._durable_due = {}, {}
        self._fresh = False
        self._cancel()

    def _orphaned(self, owner: asyncio.Task[Any]) -> None:
        if owner is self._owner:
            self._cancel()

    def _cancel(self) -> None:
        # A write that has begun is left to finish: the table waits for its own before its partitions go.
        for durable, writing in ((False, self._showing), (True, self._saving)):
            if durable in self._timers and not writing.locked():
                self._timers.pop(durable).cancel()
