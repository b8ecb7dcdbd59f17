"""OnlineCopy: what a stage's rows look like in the online store, whatever happens to the store.

Rows are written through as they change, and nothing is kept while the store is away. A mark in the store (see
serving/store/protocol.py) says how far the changelog of a partition has got into it; whatever may be missing
is read from the changelog after the mark:

    what happened                   what tells                                  read again
    the store was away              a write failed                              from the mark
    it lost its data                the mark is missing (looked at every 1 s)   everything
    it restarted, with older rows   its run id, so the mark is void             everything
    the worker before us died       the mark is behind the changelog            from the mark

A key's row in memory goes before what the changelog says of it; of a key that has left memory, what was
written live since goes before the changelog.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from aiokafka.errors import KafkaError
from mode import Service

from headrace.serving.store.protocol import PROBE_S, Keys, Kind, OnlineStore
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.reader import read_partition

log = logging.getLogger(__name__)

#: The packed rows in memory of some keys, None for a key that is not there (evicted, or never seen).
Lookup: TypeAlias = Callable[[npt.NDArray[np.uint64]], list[bytes | None]]
#: Which of some packed rows readers of the store may see, one truth a row.
Visible: TypeAlias = Callable[[list[bytes]], Iterable[bool]]
Apply: TypeAlias = Callable[[Iterable[Any]], Awaitable[None]]
#: (partition, from offset, apply) -> end offset: hands all records from there to the present end to apply.
ReadChangelog: TypeAlias = Callable[[int, int, Apply], Awaitable[int]]

#: Marks are looked at, and moved on, this often.
LOOK_S = 1.0
#: A store that was away must answer this long before it is written to again: by then it has read what old
#: connections (ours, a dead worker's) had sent it, and no old row can come after a new one.
SETTLE_S = 1.0
#: Rows of the changelog written at once, between live writes.
CHUNK_ROWS = 250
#: Rows written at most in a second while catching up: about a third of a core, the rest is the stage's.
REFILL_ROWS_PER_S = 100_000.0
#: Complaints of one kind are not repeated sooner.
QUIET_S = 30.0

#: Stands for a row in memory whose packed form is not at hand.
_HELD = b""


def everything(rows: list[bytes]) -> Iterable[bool]:
    """Hide nothing."""
    return [True] * len(rows)


def changelog(settings: Settings, topic: str) -> ReadChangelog:
    """Return what reads a partition of ``topic``, in pieces that hold up the event loop a few ms at most."""
    gentle = settings.model_copy(update={"batch_max_records": min(500, settings.batch_max_records)})

    async def read(partition: int, from_offset: int, apply: Apply) -> int:
        try:
            return await read_partition(gentle, topic, partition, apply, from_offset=from_offset)
        except KafkaError as exc:
            raise UnavailableError(f"{topic}-{partition}: {exc}") from exc

    return read


class _Gone(Exception):  # noqa: N818 - not an error: the partition went to somebody else
    """The partition is not ours any more."""


class _MarkMoved(Exception):  # noqa: N818 - not an error either
    """The mark is not where we left it: the store lost data, or another worker has been there."""


@dataclass(slots=True, eq=False)
class _Part:
    """What is known of one partition.

    A changelog position goes ``durable`` -> ``once`` -> ``safe``, a step at every successful live write: its
    rows may be newer than those of the write that follows its report, never than those of the one after that.
    """

    lookup: Lookup
    durable: int
    once: int = -1
    safe: int = -1
    mark: int | None = None
    #: Something may be missing in the store.
    owed: bool = True
    #: While catching up: keys written live since it began.
    fresh: set[int] | None = None
    #: Keys changed (_HELD) or removed (None), perhaps not in the changelog yet: in this round, in the last.
    recent: dict[int, bytes | None] = field(default_factory=dict)
    before: dict[int, bytes | None] = field(default_factory=dict)

    def undurable(self) -> dict[int, bytes | None]:
        return {**self.before, **self.recent}


class OnlineCopy(Service):
    """Writes one kind of rows to the online store and sees to it that none is missing there.

    A dead store never stops a stage and hardly slows it: the first write waits for its timeout once, the
    following ones return at once.

    Parameters
    ----------
    store, kind
        Where the rows go.
    read
        Reads the rows' changelog, see ``changelog``. Records with keys of other than 8 bytes are passed over.
    visible
        Which packed rows readers may see; those that they may not (of forgotten users) are removed instead.
        Asked about rows read again only, not about those given to ``put``.
    owned
        Whether a partition is surely still this worker's. While it is not, nothing is written.
    settle_s, rows_per_s
        See ``SETTLE_S``, ``REFILL_ROWS_PER_S``.
    clock
        Seconds, monotonic.
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
        clock: Callable[[], float] = time.monotonic,
        **kwargs: Any,
    ) -> None:
        self._store = store
        self._kind: Kind = kind
        self._read = read
        self._visible = visible
        self._owned = owned
        self._settle_s = settle_s
        self._rows_per_s = rows_per_s
        self._clock = clock
        self._parts: dict[int, _Part] = {}
        self._writing = asyncio.Lock()  # fair: a live write waits for one chunk of a refill at most
        self._marking = asyncio.Lock()
        self._wake = asyncio.Event()
        self._away = False
        self._answers_since: float | None = None
        self._announced = False
        self._complained = -QUIET_S
        super().__init__(**kwargs)

    @property
    def label(self) -> str:
        """Name for logs."""
        return f"{type(self).__name__}: {self._kind}"

    @property
    def caught_up(self) -> bool:
        """Whether, as far as is known, the store has everything."""
        return not self._away and not any(p.owed or p.fresh is not None for p in self._parts.values())

    def attach(self, partition: int, lookup: Lookup, position: int) -> None:
        """Begin to feed a partition.

        Parameters
        ----------
        lookup
            Finds packed rows in memory.
        position
            Offset after the last changelog record that is in memory.

        A partition that stayed here over a rebalance need not be attached anew; when it is, what is known of
        it is kept.
        """
        part = self._parts.get(partition)
        if part is None:
            self._parts[partition] = _Part(lookup, position)
        else:
            part.lookup, part.durable, part.owed = lookup, max(part.durable, position), True
        self._wake.set()

    def detach(self, partition: int) -> None:
        """Stop feeding a partition: it goes to another worker, or its rows in memory are dropped."""
        self._parts.pop(partition, None)

    async def put(self, changed: Mapping[int, PackedRows]) -> None:
        """Write all rows that changed since the last call, by partition; there may be none.

        Calls must not overlap. Never raises for a store that is away.
        """
        parts = {n: part for n in changed if (part := self._parts.get(n)) is not None}
        positions = {n: (part.durable, part.once) for n, part in parts.items()}
        for n, part in parts.items():
            part.recent.update(dict.fromkeys(changed[n].keys.tolist(), _HELD))
        async with self._live({n: part for n, part in parts.items() if len(changed[n])}) as ours:
            if ours:
                await self._store.put(self._kind, PackedRows.joined([changed[n] for n in ours]))
            for n, part in ours.items():
                if part.fresh is not None:
                    part.fresh.update(changed[n].keys.tolist())
        if not self._away:
            for n, (durable, once) in positions.items():
                if n in ours or not len(changed[n]):
                    parts[n].once, parts[n].safe = durable, max(parts[n].safe, once)

    async def drop(self, partition: int, keys: Keys) -> None:
        """Remove rows; may be called beside a ``put``. Otherwise as that."""
        part = self._parts.get(partition)
        if part is None or not len(keys):
            return
        part.recent.update(dict.fromkeys(_ints(keys)))
        async with self._live({partition: part}) as ours:
            if ours:
                await self._store.drop(self._kind, keys)
                if part.fresh is not None:
                    part.fresh.update(_ints(keys))

    def durable(self, partition: int, position: int) -> None:
        """Say that every row that was dirty when this flush began is in the changelog before ``position``.

        Flushes of one partition must not overlap.
        """
        part = self._parts.get(partition)
        if part is not None:
            part.durable = max(part.durable, position)
            part.before, part.recent = part.recent, {}

    @contextlib.asynccontextmanager
    async def _live(self, parts: dict[int, _Part]) -> AsyncIterator[dict[int, _Part]]:
        """Give out those of ``parts`` that may be written to, alone; what is not written is owed."""
        if not parts:
            yield {}
            return
        async with self._writing:
            ours = {} if self._away else {n: part for n, part in parts.items() if self._owned(n)}
            for n, part in parts.items():
                part.owed |= n not in ours
            try:
                yield ours
            except UnavailableError as exc:
                for part in ours.values():
                    part.owed = True
                ours.clear()
                self._went_away(exc)

    def _went_away(self, exc: UnavailableError) -> None:
        self._answers_since = None
        if not self._away:
            self._away = True
            self._announced = self._clock() - self._complained >= QUIET_S
            if self._announced:
                self._complained = self._clock()
                log.warning(
                    "the online store is away, what it misses is read from the changelog later: %s",
                    exc,
                    extra={"action": "store_down", "kind": self._kind},
                )

    def _back(self) -> bool:
        """Note an answer; return whether the store may be written to."""
        now = self._clock()
        if self._away:
            self._answers_since = now if self._answers_since is None else self._answers_since
            self._away = now - self._answers_since < self._settle_s
            if not self._away and self._announced:
                log.info("the online store is back", extra={"action": "store_up", "kind": self._kind})
        return not self._away

    async def look(self) -> None:
        """Compare the marks with the store's, move them on, and wake what catches up."""
        parts = {n: part for n, part in self._parts.items() if self._owned(n)}
        try:
            async with self._marking:
                found = await self._store.read_marks(self._kind, list(parts))
                if self._back():
                    await self._move({n: p for n, p in parts.items() if p.fresh is None}, found)
        except UnavailableError as exc:
            self._went_away(exc)
        if not self._away and any(part.owed for part in parts.values()):
            self._wake.set()

    async def _move(self, parts: dict[int, _Part], found: dict[int, int | None]) -> None:
        marks: dict[int, int] = {}
        seen: dict[int, int | None] = {}
        for n, part in parts.items():
            if part.mark is None or found[n] != part.mark:
                part.owed = True
            elif part.safe > part.mark and not part.owed:
                marks[n], seen[n] = part.safe, part.mark
        if marks:
            done = await self._store.set_marks(self._kind, marks, seen)
            for n, position in marks.items():
                parts[n].mark = position
                parts[n].owed |= n not in done

    async def catch_up(self, partition: int) -> int:
        """Write what may be missing of a partition; return the number of rows written or removed.

        Raises
        ------
        UnavailableError
            When the store or the changelog is away; what is missing stays owed.
        """
        part = self._parts[partition]
        part.owed, part.fresh = False, set()
        try:
            return await _CatchUp(self, partition, part).run()
        except _MarkMoved:
            part.owed = True
            return 0
        except _Gone:
            return 0
        except BaseException:
            part.owed = True
            raise
        finally:
            part.fresh = None

    @Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            if self._parts:
                await self.look()
            await self.sleep(PROBE_S if self._away else LOOK_S)

    @Service.task
    async def _refill(self) -> None:
        while not self.should_stop:
            await self.wait(self._wake)
            self._wake.clear()
            for partition, part in list(self._parts.items()):
                if part.owed and not self._away and self._parts.get(partition) is part:
                    with self._survive(partition):
                        await self.catch_up(partition)

    @contextlib.contextmanager
    def _survive(self, partition: int) -> Iterator[None]:
        try:
            yield
        except UnavailableError as exc:
            if not self._away:  # then it is the changelog; tried again after the next look
                log.warning(
                    "the online store cannot catch up with partition %d: %s",
                    partition,
                    exc,
                    extra={"action": "store_refill_failed", "kind": self._kind, "partition": partition},
                )

    async def on_stop(self) -> None:
        """Move the marks on a last time: the next worker has less to read."""
        if self._parts and not self._away:
            await self.look()


class _CatchUp:
    """One catching up of one partition."""

    def __init__(self, feed: OnlineCopy, partition: int, part: _Part) -> None:
        self._feed = feed
        self._partition = partition
        self._part = part
        self._mark = 0
        self._mark_at = 0.0
        self.written = 0
        self.records = 0

    async def run(self) -> int:
        part, began = self._part, self._feed._clock()
        await self._begin()
        start = position = self._mark
        if behind := position < part.durable:
            self._say("store_refill", "is missing rows of partition %d, from changelog offset %d", start)
        # A row that is written to the changelog and evicted while we read it is found by reading on.
        evicted = False
        for _ in range(2):
            recent = part.undurable()
            if position < part.durable or evicted:
                position = await self._feed._read(self._partition, position, self._apply)
                part.durable = max(part.durable, position)
            evicted = await self._write(recent)
            if not evicted:
                break
        await self._move(position)
        part.safe = max(part.safe, position)
        if behind:
            text = "has caught up with partition %d: %d rows of %d records, %.1f s"
            self._say("store_refill_done", text, self.written, self.records, self._feed._clock() - began)
        return self.written

    def _say(self, action: str, text: str, *values: object) -> None:
        kind = self._feed._kind
        extra = {"action": action, "kind": kind, "partition": self._partition, "rows": self.written}
        log.info("the online store (%s) " + text, kind, self._partition, *values, extra=extra)

    async def _begin(self) -> None:
        """Find the mark; put one that is missing, void or beyond the changelog's end at the beginning."""
        feed, part, n = self._feed, self._part, self._partition
        with self._noticing():
            async with feed._marking:
                found = (await feed._store.read_marks(feed._kind, [n]))[n]
                self._mark = 0 if found is None or found > part.durable else found
                if not await feed._store.set_marks(feed._kind, {n: self._mark}, {n: found}):
                    raise _MarkMoved
                part.mark, self._mark_at = self._mark, self._feed._clock()

    async def _move(self, position: int) -> None:
        """Put the mark to ``position``, for everything before it is in the store; notice when it is lost."""
        feed, n = self._feed, self._partition
        self._still_ours()
        with self._noticing():
            async with feed._marking:
                if not await feed._store.set_marks(feed._kind, {n: position}, {n: self._mark}):
                    raise _MarkMoved
                self._part.mark = self._mark = position
        self._mark_at = self._feed._clock()

    async def _apply(self, records: Iterable[Any]) -> None:
        """Take a piece of the changelog; a key's last record counts."""
        latest: dict[int, bytes | None] = {}
        offset = self._mark - 1
        for record in records:
            self.records += 1
            offset = record.offset
            if record.key is not None and len(record.key) == 8:
                latest[int.from_bytes(record.key, "little")] = record.value
        await self._write(latest)
        if self._feed._clock() - self._mark_at >= LOOK_S:
            await self._move(offset + 1)

    async def _write(self, latest: dict[int, bytes | None]) -> bool:
        """Write the row in memory of every key, else the one given; return whether one was in neither."""
        unknown = False
        items = iter(latest.items())
        while chunk := dict(islice(items, CHUNK_ROWS)):
            began = self._feed._clock()
            async with self._feed._writing:
                self._still_ours()
                unknown |= await self._write_chunk(chunk)
            due = began + len(chunk) / self._feed._rows_per_s
            await asyncio.sleep(max(0.0, due - self._feed._clock()))
        return unknown

    async def _write_chunk(self, chunk: dict[int, bytes | None]) -> bool:
        feed, part = self._feed, self._part
        found: dict[int, bytes] = {}
        gone: list[int] = []
        unknown = False
        for (key, last), held in zip(
            chunk.items(), part.lookup(np.array(list(chunk), np.uint64)), strict=True
        ):
            row = last if held is None else held
            if held is None and part.fresh is not None and key in part.fresh:
                continue
            if row == _HELD:
                unknown = True
            elif row is None:
                gone.append(key)
            else:
                found[key] = row
        seen = dict(zip(found, feed._visible(list(found.values())), strict=True)) if found else {}
        rows = {key: row for key, row in found.items() if seen[key]}
        gone += [key for key in found if not seen[key]]
        with self._noticing():
            if rows:
                await feed._store.put(feed._kind, PackedRows.of(list(rows), list(rows.values())))
            if gone:
                await feed._store.drop(feed._kind, gone)
        self.written += len(rows) + len(gone)
        return unknown

    def _still_ours(self) -> None:
        if self._feed._parts.get(self._partition) is not self._part:
            raise _Gone
        if not self._feed._owned(self._partition):
            self._part.owed = True
            raise _Gone

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except UnavailableError as exc:
            self._feed._went_away(exc)
            raise


def _ints(keys: Keys) -> list[int]:
    return keys.tolist() if isinstance(keys, np.ndarray) else list(keys)
