"""Refill: reads the changelog of a partition and writes the rows that the online store may lack.

Of each key the newest row is written: the row in memory, if there is one. For an evicted key, a row written
live during the refill counts; else the row of the changelog is written. A *live* write is one of an online
flush.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from aiokafka.errors import KafkaError

from headrace.serving.store.applied import Applied
from headrace.serving.store.protocol import Keys
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.tables.row_records import row_records
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.reader import read_partition

if TYPE_CHECKING:
    from headrace.agents.stage.online_copy import OnlineCopy

log = logging.getLogger(__name__)

#: Keys, uint64 ``(n,)`` -> packed rows in memory, None for a key without one (evicted, or never seen).
Lookup: TypeAlias = Callable[[npt.NDArray[np.uint64]], list[bytes | None]]
#: Packed rows -> for each, whether readers of the online store may see it.
Visible: TypeAlias = Callable[[list[bytes]], Iterable[bool]]
Apply: TypeAlias = Callable[[Iterable[Any]], Awaitable[None]]
#: (partition, from offset, apply) -> end offset: calls ``apply`` with all records up to the present end.
ReadChangelog: TypeAlias = Callable[[int, int, Apply], Awaitable[int]]

#: How often marks are compared with those in the online store, and moved.
LOOK_S = 1.0
#: Rows written at once in a refill; live writes come in between.
CHUNK_ROWS = 250

#: In place of a packed row: the key has a row in memory, packed when it is needed.
HELD = b""


def everything(rows: list[bytes]) -> Iterable[bool]:
    """Return True for every row: readers may see all of them."""
    return [True] * len(rows)


def changelog_reader(settings: Settings, topic: str) -> ReadChangelog:
    """Return a function that reads a partition of ``topic``, in pieces that block the event loop a few ms."""
    gentle = settings.model_copy(update={"batch_max_records": min(500, settings.batch_max_records)})

    async def read(partition: int, from_offset: int, apply: Apply) -> int:
        try:
            return await read_partition(gentle, topic, partition, apply, from_offset=from_offset)
        except KafkaError as exc:
            raise UnavailableError(f"{topic}-{partition}: {exc}") from exc

    return read


class Gone(Exception):  # noqa: N818 - not an error: another worker owns the partition
    """This worker may not write the partition any more."""


class MarkMoved(Exception):  # noqa: N818 - not an error either
    """The mark is not the one this worker set: the online store lost data, or another worker set it."""


@dataclass(slots=True, eq=False)
class CopiedPartition:
    """The state of one partition's copy in the online store.

    A changelog position moves ``durable`` -> ``once`` -> ``safe``, one step at every successful live write.
    The rows before ``durable`` may be newer than those of the next live write, but never newer than those of
    the live write after that. So two live writes later the online store has everything before the position.

    Attributes
    ----------
    lookup
        Finds packed rows in memory.
    durable
        Changelog offset after the rows of the last durable flush.
    once
        Value of ``durable`` at the begin of the last live write; -1 without any.
    safe
        The online store has every row of the changelog before it; -1 when not known.
    mark
        Mark that this worker set in the online store; None before the first refill.
    owed
        Whether the online store may lack rows: a refill is due.
    fresh
        During a refill: keys whose last change since it began was written live. None otherwise.
    recent, before
        Keys changed (``HELD``) or removed (None) since the last durable flush, and in the interval before
        that flush. The changelog may not have these changes yet.
    applied
        What the rows in the online store have of the source topics; beats say it. None: they do not.
    """

    lookup: Lookup
    durable: int
    once: int = -1
    safe: int = -1
    mark: int | None = None
    owed: bool = True
    fresh: set[int] | None = None
    recent: dict[int, bytes | None] = field(default_factory=dict)
    before: dict[int, bytes | None] = field(default_factory=dict)
    applied: Applied | None = None

    @property
    def complete(self) -> bool:
        """Whether the online store has all rows, as far as is known."""
        return self.mark is not None and not self.owed and self.fresh is None

    def wrote(self, keys: Keys) -> None:
        """Note keys whose rows were written live, or removed."""
        if self.fresh is not None:
            self.fresh.update(ints(keys))

    def missed(self, keys: Keys) -> None:
        """Note keys whose live write failed: what was written of them before is not their last row."""
        if self.fresh is not None:
            self.fresh.difference_update(ints(keys))

    def undurable(self) -> dict[int, bytes | None]:
        """Return keys whose last change may not be in the changelog yet: ``HELD``, or None when removed."""
        return {**self.before, **self.recent}


class Refill:
    """One refill of one partition: first ``begin``, then ``run``.

    From ``begin`` on, the mark is in the store: if the store loses rows written live, it is missed. So the
    refill writes what was changed before ``begin``.
    """

    def __init__(self, copy: OnlineCopy, partition: int, part: CopiedPartition) -> None:
        self._copy = copy
        self.partition = partition
        self.part = part
        self._mark = 0
        self._mark_at = 0.0
        self._to = 0  # changelog offset after the last durable flush before ``begin``
        self._recent: dict[int, bytes | None] = {}  # what was not durable then
        self.written = 0
        self.records = 0

    async def run(self) -> int:
        """Write the rows that the online store may lack; return the number of rows written or removed."""
        part, began = self.part, self._copy.clock.monotonic()
        start = position = self._mark
        recent, self._recent = self._recent, {}
        if behind := position < self._to:
            self._say("store_refill", "is missing rows of partition %d, from changelog offset %d", start)
        # A row may be written to the changelog and evicted while this reads: then the second round, which
        # reads the rest of the changelog, finds it.
        evicted = False
        for _ in range(2):
            if position < self._to or evicted:
                position = await self._copy.read_changelog(self.partition, position, self._apply)
                part.durable = max(part.durable, position)
            evicted = await self._write(recent)
            if not evicted:
                break
            recent = part.undurable()
        await self._move(position)
        part.safe = max(part.safe, position)
        if behind:
            text = "has caught up with partition %d: %d rows of %d records, %.1f s"
            seconds = self._copy.clock.monotonic() - began
            self._say("store_refill_done", text, self.written, self.records, seconds)
        return self.written

    def _say(self, action: str, text: str, *values: object) -> None:
        kind = self._copy.kind
        extra = {"action": action, "kind": kind, "partition": self.partition, "rows": self.written}
        log.info("the online store (%s) " + text, kind, self.partition, *values, extra=extra)

    async def begin(self) -> None:
        """Read the mark; set it to 0 when it is missing, void, negative or after the end of the changelog.

        When rows of the changelog are to be written, readers are told first that rows may be old.
        """
        copy, part, n = self._copy, self.part, self.partition
        with self._noticing():
            async with copy.marking:
                found = (await copy.store.read_marks(copy.kind, [n]))[n]
                self._mark = 0 if found is None or found > part.durable else max(0, found)
                if not await copy.store.set_marks(copy.kind, {n: self._mark}, {n: found}):
                    raise MarkMoved
                part.mark, self._mark_at = self._mark, self._copy.clock.monotonic()
                self._to, self._recent = part.durable, part.undurable()
                if self._mark < self._to:  # older rows come first, and a beat would outlive them
                    await copy.store.silence(copy.kind, [n])

    async def _move(self, position: int) -> None:
        """Set the mark to ``position``: the online store has everything before it.

        Raises
        ------
        MarkMoved
            When the mark in the store is not the last one set here.
        """
        copy, n = self._copy, self.partition
        self._still_ours()
        with self._noticing():
            async with copy.marking:
                if not await copy.store.set_marks(copy.kind, {n: position}, {n: self._mark}):
                    raise MarkMoved
                self.part.mark = self._mark = position
        self._mark_at = self._copy.clock.monotonic()

    async def _apply(self, records: Iterable[Any]) -> None:
        """Write the rows of some changelog records; the last record of each key counts."""
        records = list(records)
        self.records += len(records)
        await self._write(row_records(records).latest())
        if records and self._copy.clock.monotonic() - self._mark_at >= LOOK_S:
            await self._move(records[-1].offset + 1)

    async def _write(self, latest: dict[int, bytes | None]) -> bool:
        """Write for every key the row in memory, else the one in ``latest``.

        Returns
        -------
        Whether a key had neither: its row (``HELD`` in ``latest``) was evicted meanwhile.
        """
        unknown = False
        items = iter(latest.items())
        while chunk := dict(islice(items, CHUNK_ROWS)):
            began = self._copy.clock.monotonic()
            async with self._copy.writing:
                self._still_ours()
                with self._copy.overwritten.noticing({self.partition: self.part}):
                    unknown |= await self._write_chunk(chunk)
            await self._copy.give_back()
            due = began + len(chunk) / self._copy.rows_per_s
            await self._copy.clock.sleep(max(0.0, due - self._copy.clock.monotonic()))
        return unknown

    async def _write_chunk(self, chunk: dict[int, bytes | None]) -> bool:
        copy, part = self._copy, self.part
        found: dict[int, bytes] = {}
        gone: list[int] = []
        unknown = False
        for (key, last), held in zip(
            chunk.items(), part.lookup(np.array(list(chunk), np.uint64)), strict=True
        ):
            row = last if held is None else held
            if held is None and part.fresh is not None and key in part.fresh:
                continue
            if row == HELD:
                unknown = True
            elif row is None:
                gone.append(key)
            else:
                found[key] = row
        seen = dict(zip(found, copy.visible(list(found.values())), strict=True)) if found else {}
        rows = {key: row for key, row in found.items() if seen[key]}
        gone += [key for key in found if not seen[key]]
        with self._noticing():
            if rows:
                await copy.store.put(copy.kind, PackedRows.of(list(rows), list(rows.values())))
            if gone:
                await copy.store.drop(copy.kind, gone)
        self.written += len(rows) + len(gone)
        return unknown

    def _still_ours(self) -> None:
        if self._copy.parts.get(self.partition) is not self.part:
            raise Gone
        if not self._copy.owned(self.partition):
            self.part.owed = True
            raise Gone

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except UnavailableError as exc:
            self._copy.went_away(exc)
            raise


def ints(keys: Keys) -> list[int]:
    """Return keys as a list of ints."""
    return keys.tolist() if isinstance(keys, np.ndarray) else list(keys)
