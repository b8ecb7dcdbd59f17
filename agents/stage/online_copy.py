"""Keeps the online store (Redis) a copy of a stage's rows; repairs the copy after a failure of the store.

Changed rows are written to the store in every online flush. While the store cannot be reached, nothing is
queued for it. A mark in the store (see serving/store/redis.py) is the changelog offset of a partition before
which the store has all rows. After a failure the rows after the mark are read from the changelog and written
(a refill):

    failure                             how it is noticed                               refill
    the store was not reachable         a write failed                                  from the mark
    the store lost its data             the mark is missing (checked every 1 s)         everything
    it restarted with older rows        the run id has changed, so the mark is void     everything
    the former owner crashed            the mark is behind the end of the changelog     from the mark
    a former owner wrote too late       it notices afterwards, and moves the mark back  from the mark

While the store has all rows of a partition, a beat says so to its readers once a second (see
serving/store/protocol.py). A refill takes it back before it writes rows of the changelog, older ones first.
Marks and a beat are written also when no row changes, so a store that has begun to refuse writes is noticed
at once, and readers know within ``BEAT_S``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from typing import Any

from mode import Service

from headrace.agents.stage.overwritten import Overwritten
from headrace.agents.stage.refill import (
    HELD,
    LOOK_S,
    CopiedPartition,
    Gone,
    Lookup,
    MarkMoved,
    ReadChangelog,
    Refill,
    Visible,
    everything,
    ints,
)
from headrace.serving.store.applied import Applied, encode
from headrace.serving.store.protocol import PROBE_S, Keys, Kind, OnlineStore
from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import UnavailableError
from headrace.streams.tables.rows import PackedRows

log = logging.getLogger(__name__)

#: After a failure the store must answer for this long before it is written to again. By then it has read
#: everything that old connections (of this worker or a crashed one) have sent, so that no old row is written
#: after a new one.
SETTLE_S = 1.0
#: Most rows written per second in a refill. They take about a third of a core; the stage has the rest.
REFILL_ROWS_PER_S = 100_000.0
#: Shortest time between two warnings of the same kind.
QUIET_S = 30.0


class OnlineCopy(Service):
    """Writes one kind of rows to the online store, and refills the rows that are missing there.

    A store that cannot be reached does not stop a stage: the first write waits once for its timeout, later
    writes return at once.

    Parameters
    ----------
    store, kind
        The online store, and the kind of the rows.
    read
        Reads the changelog of the rows; see ``refill.changelog_reader``. Meta records are skipped.
    visible
        Says which packed rows readers may see. A refill removes the others (of forgotten users) from the
        store. It is not called for rows given to ``put``.
    owned
        Whether it is certain that this worker owns a partition. If not, nothing of it is written.
    settle_s, rows_per_s
        See ``SETTLE_S``, ``REFILL_ROWS_PER_S``.
    clock
        Time and pauses.
    """

    mundane_level = "debug"

    def __init__(
        self,
        store: OnlineStore,
        kind: Kind,
        read: ReadChangelog,
        *,
        visible: Visible = everything,
        owned: Callable[[int], bool] = lambda partition: True,
        settle_s: float = SETTLE_S,
        rows_per_s: float = REFILL_ROWS_PER_S,
        clock: Clock = SYSTEM,
        **kwargs: Any,
    ) -> None:
        self.store = store
        self.kind: Kind = kind
        self.read_changelog = read
        self.visible = visible
        self.owned = owned
        self.settle_s = settle_s
        self.rows_per_s = rows_per_s
        self.clock = clock
        self.parts: dict[int, CopiedPartition] = {}
        self.writing = asyncio.Lock()  # fair: a live write waits for one chunk of a refill at most
        self.marking = asyncio.Lock()
        self.overwritten = Overwritten(self)
        self._wake = asyncio.Event()
        self._away = False
        self._answers_since: float | None = None
        self._announced = False
        self._complained = -QUIET_S
        super().__init__(**kwargs)

    @property
    def label(self) -> str:
        """Name for logs."""
        return f"{type(self).__name__}: {self.kind}"

    @property
    def caught_up(self) -> bool:
        """Whether no refill is due or running: as far as is known, the store has all rows."""
        return not self._away and not any(p.owed or p.fresh is not None for p in self.parts.values())

    def attach(self, partition: int, lookup: Lookup, position: int, applied: Applied | None = None) -> None:
        """Start copying a partition; a refill begins.

        A partition that stays here over a rebalance need not be attached again. When it is, its positions and
        its mark are kept.

        Parameters
        ----------
        lookup
            Finds packed rows in memory.
        position
            Changelog offset after the last record that the rows in memory reflect.
        applied
            What the rows in the changelog have of the source topics, for the beats.
        """
        part = self.parts.get(partition)
        if part is None:
            self.parts[partition] = CopiedPartition(lookup, position, applied=applied)
        else:
            part.lookup, part.durable, part.owed = lookup, max(part.durable, position), True
            part.applied = applied
        self._wake.set()

    def detach(self, partition: int) -> None:
        """Stop copying a partition: another worker owns it, or its rows in memory are dropped."""
        self.parts.pop(partition, None)

    async def put(self, changed: Mapping[int, PackedRows]) -> None:
        """Write all rows changed since the last call, by partition; there may be none.

        Calls must not overlap. When the store cannot be reached, nothing is raised and a refill is due.
        """
        parts = {n: part for n in changed if (part := self.parts.get(n)) is not None}
        positions = {n: (part.durable, part.once) for n, part in parts.items()}
        for n, part in parts.items():
            part.recent.update(dict.fromkeys(changed[n].keys.tolist(), HELD))
        async with self._live({n: part for n, part in parts.items() if len(changed[n])}) as ours:
            if ours:
                await self.store.put(self.kind, PackedRows.joined([changed[n] for n in ours]))
            for n, part in ours.items():
                part.wrote(changed[n].keys)
        for n in parts.keys() - ours.keys():
            parts[n].missed(changed[n].keys)
        if not self._away:
            for n, (durable, once) in positions.items():
                if n in ours or not len(changed[n]):
                    parts[n].once, parts[n].safe = durable, max(parts[n].safe, once)

    async def drop(self, partition: int, keys: Keys) -> None:
        """Remove the rows of ``keys``; else as ``put``. It may be called while a ``put`` runs."""
        part = self.parts.get(partition)
        if part is None or not len(keys):
            return
        part.recent.update(dict.fromkeys(ints(keys)))
        async with self._live({partition: part}) as ours:
            if ours:
                await self.store.drop(self.kind, keys)
                part.wrote(keys)
        if not ours:
            part.missed(keys)

    async def say(self, applied: Mapping[int, Applied], at_once: Collection[int] = ()) -> None:
        """Note what the rows given to the last ``put`` have of the source topics; the next beats say it.

        Parameters
        ----------
        applied
            By partition.
        at_once
            Partitions whose beats are written now.
        """
        for n, reached in applied.items():
            if (part := self.parts.get(n)) is not None:
                part.applied = reached
        if at_once and not self._away:
            try:
                await self._beat({n: p for n in at_once if (p := self.parts.get(n)) and self.owned(n)})
            except UnavailableError as exc:
                self.went_away(exc)

    async def _beat(self, parts: Mapping[int, CopiedPartition]) -> None:
        complete = {n: part for n, part in parts.items() if part.complete}
        texts = {n: encode(part.applied) for n, part in complete.items() if part.applied is not None}
        await self.store.beat(self.kind, list(complete), texts)

    def durable(self, partition: int, position: int) -> None:
        """Note a durable flush: rows dirty at its begin are in the changelog, before ``position``.

        Durable flushes of one partition must not overlap.
        """
        part = self.parts.get(partition)
        if part is not None:
            part.durable = max(part.durable, position)
            part.before, part.recent = part.recent, {}

    @contextlib.asynccontextmanager
    async def _live(self, parts: dict[int, CopiedPartition]) -> AsyncIterator[dict[int, CopiedPartition]]:
        """Lock the store and yield those of ``parts`` that may be written; for the others a refill is due."""
        if not parts:
            yield {}
            return
        async with self.writing:
            ours = {} if self._away else {n: part for n, part in parts.items() if self.owned(n)}
            for n, part in parts.items():
                part.owed |= n not in ours
            try:
                with self.overwritten.noticing(dict(ours)):
                    yield ours
            except UnavailableError as exc:
                for part in ours.values():
                    part.owed = True
                ours.clear()
                self.went_away(exc)
        await self.give_back()

    async def give_back(self) -> None:
        """Let the owners of rows that were overwritten here, too late, write them again."""
        if self.overwritten and not self._away:
            try:
                await self.overwritten.move_back()
            except UnavailableError as exc:
                self.went_away(exc)  # the next ``look`` tries it again

    def went_away(self, exc: UnavailableError) -> None:
        """Note that the store did not answer: nothing is written until it answers again for ``settle_s``."""
        self._answers_since = None
        if not self._away:
            self._away = True
            self._announced = self.clock.monotonic() - self._complained >= QUIET_S
            if self._announced:
                self._complained = self.clock.monotonic()
                log.warning(
                    "the online store does not answer; missing rows are read from the changelog later: %s",
                    exc,
                    extra={"action": "store_down", "kind": self.kind},
                )

    def _back(self) -> bool:
        """Note an answer of the store; return whether it may be written to."""
        now = self.clock.monotonic()
        if self._away:
            self._answers_since = now if self._answers_since is None else self._answers_since
            self._away = now - self._answers_since < self.settle_s
            if not self._away and self._announced:
                log.info("the online store is back", extra={"action": "store_up", "kind": self.kind})
        return not self._away

    async def look(self) -> None:
        """Compare the marks with the store, move them, write beats; start the refills that are due."""
        parts = {n: part for n, part in self.parts.items() if self.owned(n)}
        try:
            async with self.marking:
                found = await self.store.read_marks(self.kind, list(parts))
                if self._back():
                    await self._move({n: p for n, p in parts.items() if p.fresh is None}, found)
                    await self._beat(parts)
        except UnavailableError as exc:
            self.went_away(exc)
        await self.give_back()
        if not self._away and any(part.owed for part in parts.values()):
            self._wake.set()

    async def _move(self, parts: dict[int, CopiedPartition], found: dict[int, int | None]) -> None:
        marks: dict[int, int] = {}
        seen: dict[int, int | None] = {}
        for n, part in parts.items():
            if part.mark is None or found[n] != part.mark:
                part.owed = True
            elif not part.owed:  # also a mark that does not move: its writing is a test of the store
                marks[n], seen[n] = max(part.safe, part.mark), part.mark
        if marks:
            done = await self.store.set_marks(self.kind, marks, seen)
            for n, position in marks.items():
                parts[n].mark = position
                parts[n].owed |= n not in done

    async def catch_up(self, partition: int) -> int:
        """Refill a partition; return the number of rows written or removed.

        Raises
        ------
        UnavailableError
            When the store or the broker cannot be reached; the refill stays due.
        """
        refill = await self._begin(partition)
        return 0 if refill is None else await self._finish(refill)

    async def _begin(self, partition: int) -> Refill | None:
        """Begin a refill; None: it is due again, or not here any more."""
        refill = Refill(self, partition, self.parts[partition])
        refill.part.owed, refill.part.fresh = False, set()
        with self._noting_failure(refill.part):
            await refill.begin()
        return None if refill.part.fresh is None else refill

    async def _finish(self, refill: Refill) -> int:
        with self._noting_failure(refill.part):
            await refill.run()
            refill.part.fresh = None
        return refill.written

    @contextlib.contextmanager
    def _noting_failure(self, part: CopiedPartition) -> Iterator[None]:
        """Note that a refill has ended without success: mostly it is due again."""
        try:
            yield
        except BaseException as exc:
            part.fresh = None
            part.owed |= not isinstance(exc, Gone)
            if not isinstance(exc, Gone | MarkMoved):
                raise

    @Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            if self.parts or self.overwritten:
                await self.look()
            await self.sleep(PROBE_S if self._away else LOOK_S)

    @Service.task
    async def _refill(self) -> None:
        while not self.should_stop:
            await self.wait(self._wake)
            self._wake.clear()
            begun = []
            for partition, part in list(self.parts.items()):
                if part.owed and not self._away and self.parts.get(partition) is part:
                    with self._survive(partition):
                        begun.append(await self._begin(partition))
            for refill in filter(None, begun):
                with self._survive(refill.partition):
                    await self._finish(refill)

    @contextlib.contextmanager
    def _survive(self, partition: int) -> Iterator[None]:
        try:
            yield
        except UnavailableError as exc:
            if not self._away:  # the changelog could not be read: tried again after the next `look`
                log.warning(
                    "the online store cannot be refilled for partition %d: %s",
                    partition,
                    exc,
                    extra={"action": "store_refill_failed", "kind": self.kind, "partition": partition},
                )

    async def on_stop(self) -> None:
        """Move the marks a last time, so that the next owner has less to read."""
        if (self.parts or self.overwritten) and not self._away:
            await self.look()
