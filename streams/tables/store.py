"""State store: a Faust collection of partitions with a changelog, rows in numpy arrays, written in bulk.

Any Faust app made by ``make_app`` can have one (``run_apps`` is in ``headrace.streams.process``)::

    ROW = np.dtype([("key", "u8"), ("offset", "i8"), ("updated", "i8"), ("layout", "u4"), ("clicks", "u4")])
    app, sender = make_app(settings, "clicks"), BatchSender(settings)
    clicks = StateStore(app, "clicks", changelog="clicks-state", dtype=ROW, sender=sender)

    @app.agent(batch_topic(app, "click-events"))
    async def count(stream):
        async for batch, ack in manual(stream):
            part = clicks.partition(batch.partition)  # recovered before the first batch
            events = {}
            for record in batch:
                events.setdefault(hash64(record.key), []).append(record)
            keys = np.array(list(events), np.uint64)
            rows = part.rows.take(keys)  # blank rows for new keys
            data = part.rows.data
            for row, records in zip(rows.tolist(), events.values(), strict=True):
                fresh = [r for r in records if r.offset > data["offset"][row]]  # not counted yet
                data["clicks"][row] += len(fresh)
                data["offset"][row] = max(data["offset"][row], records[-1].offset)
            part.touch(rows)
            await clicks.write({part.number: part.take()})  # now the changelog has the rows
            ack()

    await run_apps([app], settings=settings, services=[sender])

The changelog topic must exist, must be compacted, and needs as many partitions as the source topics. The
record of a row is ``key (8 bytes, little-endian) -> packed row``; a record without a value is a tombstone.
Records whose keys have another length are meta records.

Guarantees:

- Agents get batches only after every assigned partition has been read to the end of its changelog.
- A partition that stays on this worker over a rebalance keeps its object. When another worker wrote to its
  changelog meanwhile, a new object takes its place, with the rows of the changelog.
- Writes are refused (``FencedError``) as soon as another worker may own the partition.
- A paused worker may still write a row later than the new owner. Such a row is older by its order fields. The
  new owner sees it in the changelog and writes its newer row again, so compaction cannot lose that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faust
import numpy as np
import numpy.typing as npt
from aiokafka.errors import KafkaError
from mode import Service

from headrace.streams.errors import FencedError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.tables.changes import U64, Changes, MergeMeta, Rows, larger_mark, record_crc
from headrace.streams.tables.evicted import LostRowsError
from headrace.streams.tables.faust_collection import FaustCollection
from headrace.streams.tables.lost_rows import restore_lost
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rewrite import LostChangelogs
from headrace.streams.tables.rows import RowTable
from headrace.streams.tables.snapshots import write_snapshot
from headrace.streams.tables.spill import SpillFolder
from headrace.streams.tables.written_layout import say_layout
from headrace.streams.topics.lost_ends import again_if_lost
from headrace.streams.topics.reader import read_partition
from headrace.streams.topics.sender import BatchSender, Written
from headrace.streams.unfinished import remove_left

__all__ = ["Changes", "StatePartition", "StateStore", "larger_mark"]

log = logging.getLogger(__name__)

#: A snapshot waits until its rows are in the changelog: seconds between two checks, and how many checks.
_LOOK_S, _LOOKS = 0.1, 300
#: A rebalance and a shutdown wait this long for running writes.
_WRITES_S = 5.0


class StateStore(FaustCollection):
    """A state store: fixed-width rows by 64-bit key, in partitions, with a changelog.

    Parameters
    ----------
    app
        Made by ``make_app``, not started; the state store registers with it.
    name
        Name of the state store.
    changelog
        Full name of its changelog topic.
    dtype
        Structured dtype of a row, with the fields ``key`` (u8), ``offset`` (i8), ``updated`` (i8; event time
        of the newest event, ms) and ``layout`` (u4).
    blank
        Content of a new row; zeros when absent.
    order
        Names of the i8 fields that only grow, the most important first. Of two states of a row, the one with
        the larger values is newer.
    sender
        Writes the changelog.
    lasting
        Name of a bool field; rows in which it is true never expire.
    max_rows
        Most rows of a partition in memory during recovery and on standbys; None: all. Later the owner evicts.
    merge_meta
        Chooses between two values of a meta record; see ``larger_mark``, the default.

    Attributes
    ----------
    active
        Partitions that this worker owns, by number.
    standby
        Standby partitions of this worker, by number.
    scans
        How often a changelog was read because evicted rows could not be read from the disk.
    lost
        Partitions whose changelog has lost records.

    Raises
    ------
    TypeError
        When ``dtype`` lacks one of the four fields or ``lasting``.
    """

    def __init__(
        self,
        app: faust.App,
        name: str,
        *,
        changelog: str,
        dtype: np.dtype[Any],
        blank: npt.NDArray[Any] | np.void | None = None,
        order: Sequence[str] = ("offset",),
        sender: BatchSender,
        lasting: str | None = None,
        max_rows: int | None = None,
        merge_meta: MergeMeta = larger_mark,
        **options: Any,
    ) -> None:
        missing = {"key", "offset", "updated", "layout", lasting or "key"} - set(dtype.names or ())
        if missing:
            raise TypeError(f"state store {name}: its rows lack the fields {sorted(missing)}")
        self.settings: Settings = app.headrace_settings
        self.dtype = dtype
        self.max_rows = max_rows
        self._blank, self._order, self._merge_meta = blank, tuple(order), merge_meta
        self._sender, self._lasting = sender, lasting
        self._spills = SpillFolder(self.settings.data_dir / "spill")
        self.scans = 0
        self._suspended = True
        self._writing: set[asyncio.Future[Any]] = set()
        self.lost = LostChangelogs(self, sender)
        self._snapshot_at: dict[int, int] = {}
        self._snapshotting = asyncio.Lock()
        super().__init__(app, name, changelog, **options)

    # -- reading

    def partition(self, number: int) -> StatePartition:
        """Return an owned, recovered partition.

        Raises
        ------
        FencedError
            When this worker does not own it, or a rebalance or the recovery has not ended.
        """
        part = self.active.get(number)
        if part is None or self._suspended:
            raise FencedError(f"{self.changelog}-{number} is not assigned to this worker or not recovered")
        return part

    def get(self, number: int, keys: U64) -> npt.NDArray[Any]:
        """Return copies of rows, ``(n,)``; a blank row with key 0 for each key that is not in memory."""
        table = self.partition(number).rows
        rows = table.find(keys)
        out = np.zeros(len(rows), self.dtype)
        if self._blank is not None:
            out[:] = self._blank
        out["key"] = 0
        there = rows >= 0
        out[there] = table.data[rows[there]]
        return out

    def update(self, number: int, keys: U64, values: Mapping[str, Any]) -> Rows:
        """Set fields of the rows of ``keys``; add a blank row for every new key; return the row numbers.

        ``values`` are arrays ``(n,)`` by field name. When a key is repeated, its last values count.

        Raises
        ------
        KeyError
            When one of the keys is evicted: call ``restore`` first.
        """
        part = self.partition(number)
        if len(part.evicted(keys)):
            raise KeyError(f"{len(part.evicted(keys))} of the keys are evicted: restore them first")
        rows = part.rows.take(keys)
        for name, column in values.items():
            part.rows.data[name][rows] = column
        part.touch(rows)
        return rows

    # -- writing

    def check_lease(self) -> None:
        """Raise ``FencedError`` when another worker may own the partitions."""
        if self._suspended:
            raise FencedError(f"{self.changelog}: the group is rebalancing")
        valid = getattr(self.app.consumer, "lease_valid", None)
        if valid is not None and not valid():
            raise FencedError(f"{self.changelog}: the group has not confirmed this worker for too long")

    async def write(self, changes: Mapping[int, Changes]) -> None:
        """Write changes to the changelog: rows, then tombstones, then meta records.

        Returns when the broker has acknowledged all of them. When it raises, changes that were not written
        are dirty again.

        Raises
        ------
        FencedError
            When this worker may not own one of the partitions any more. Nothing was written.
        KafkaError
            When the broker refuses the write or cannot be reached.
        """
        try:
            self._check(changes)
        except FencedError:
            for change in changes.values():
                change.partition.put_back(change)
            raise
        # A cancelled caller does not cancel the writes: they may arrive all the same, and must be counted.
        writing = asyncio.gather(*map(self._write_one, changes.values()), return_exceptions=True)
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        for result in await asyncio.shield(writing):
            if isinstance(result, BaseException):
                raise result

    def _check(self, changes: Mapping[int, Changes]) -> None:
        self.check_lease()
        for number, change in changes.items():
            if self.active.get(number) is not change.partition:
                raise FencedError(f"{self.changelog}-{number} is not assigned to this worker any more")

    async def _write_one(self, changes: Changes) -> None:
        part = changes.partition
        if not changes:
            return
        try:
            written = await again_if_lost(lambda: self._send(changes), self.check_lease)
        except BaseException:
            part.put_back(changes)
            raise
        part.written(changes)
        lost = self.lost.note(part, written)
        if lost or written == Written(part.position, part.position + len(changes)):
            part.position = written.end
            part.last_crc = record_crc(*changes.last())
        else:
            await self._read_others(part)
        await self.lost.write_again()

    async def _send(self, changes: Changes) -> Written:
        await say_layout(changes.partition, self._sender, self.changelog)
        number, first = changes.partition.number, Written(-1, -1)
        if len(changes.reborn):
            first = await self._sender.send_many(self.changelog, changes.first(), partition=number)
        written = await self._sender.send_rows(self.changelog, changes.rows, changes.rest(), partition=number)
        return Written(first.first, written.end) if len(changes.reborn) else written

    async def _read_others(self, part: StatePartition) -> None:
        """Read what another writer wrote between our writes; mark our rows that are newer as dirty."""
        before = part.position
        try:
            await self._read(part, from_offset=before)
        except (KafkaError, UnavailableError, OSError) as exc:
            log.warning("%s-%d could not be read again: %s", self.changelog, part.number, exc)
            return  # the next write finds the same gap and tries again
        part.own()
        part.foreign = True
        log.warning(
            "%s-%d has records of another writer between offsets %d and %d",
            self.changelog, part.number, before, part.position,
            extra={"action": "foreign_writes"},
        )  # fmt: skip

    async def _read(self, part: StatePartition, from_offset: int) -> None:
        def apply(batch: Any) -> None:
            part.apply(batch.records, batch.last_offset + 1)

        end = await read_partition(self.settings, self.changelog, part.number, apply, from_offset=from_offset)
        part.apply([], max(end, part.position))

    # -- evicted rows

    async def restore(self, number: int, keys: U64) -> int:
        """Bring evicted rows of ``keys`` back into memory; return how many.

        Raises
        ------
        FencedError
            When this worker does not own the partition.
        UnavailableError
            When the changelog had to be read and the broker did not answer.
        """
        part = self.partition(number)
        before = part.evicted_count
        if len(part.restore(keys)):
            await self._read_lost(part)
        return before - part.evicted_count

    async def _read_lost(self, part: StatePartition) -> None:
        self.scans += 1
        await restore_lost(part, self.settings, self.changelog)

    # -- assignment; called by ``recovery`` and the app

    @property
    def snapshots(self) -> Path | None:
        """Folder of the snapshots, None when snapshots are switched off."""
        return self.settings.data_dir / "snapshots" if self.settings.snapshot_every_s > 0 else None

    def new_partition(self, number: int) -> StatePartition:
        """Return an empty partition."""
        rows = RowTable(self.dtype, self._blank, self._order)
        return StatePartition(
            number, rows, self._merge_meta, self._order, lasting=self._lasting, spills=self._spills
        )

    async def suspend(self) -> None:
        """Refuse new writes and wait for running ones: then other workers may get the partitions."""
        self._suspended = True
        if self._writing:
            await asyncio.wait(set(self._writing), timeout=_WRITES_S)

    def assign(self, active: Mapping[int, StatePartition], standby: Mapping[int, StatePartition]) -> None:
        """Set the recovered partitions, owned and standby; writes are possible again."""
        self.active, self.standby = dict(active), dict(standby)
        for part in self.active.values():
            part.owned = True
            part.own()
        self._suspended = False

    # -- snapshots

    @Service.task  # type: ignore[untyped-decorator]
    async def _keep_snapshots(self) -> None:
        every = self.settings.snapshot_every_s
        if self.snapshots is not None:
            await asyncio.to_thread(remove_left, self.snapshots)  # of workers that were killed
        while every > 0 and not self.should_stop:
            await self.sleep(every)
            for part in list(self.active.values()):
                if not self.should_stop:
                    await self.snapshot(part)

    async def snapshot(self, part: StatePartition) -> bool:
        """Write a snapshot of a partition that changed since the last one; return whether one was written."""
        folder = self.snapshots
        if folder is None or self._snapshot_at.get(part.number) == part.position:
            return False

        async def durable(promise: tuple[int, int]) -> bool:
            for _ in range(_LOOKS):
                kept = part.kept(promise)
                if kept is not False or self._stopped.is_set():
                    return bool(kept) and self.active.get(part.number) is part
                await asyncio.sleep(_LOOK_S)
            return False

        async with self._snapshotting:
            position = part.position
            try:
                done = await write_snapshot(part, folder, self.changelog, durable, self.settings.partitions)
            except OSError as exc:
                log.warning("no snapshot of %s-%d: %s", self.changelog, part.number, exc)
                if isinstance(exc, LostRowsError):
                    await self._repair(part)
                return False
            if done:
                self._snapshot_at[part.number] = position
            return done

    async def _repair(self, part: StatePartition) -> None:
        """Bring evicted rows that the disk has lost back into memory, so that the next snapshot has them."""
        try:
            await self._read_lost(part)
        except (KafkaError, UnavailableError, OSError) as exc:
            log.warning("%s-%d could not be read again: %s", self.changelog, part.number, exc)

    async def on_stop(self) -> None:
        """Write a last snapshot of every partition whose rows are all in the changelog."""
        await self.suspend()
        for part in list(self.active.values()):
            if part.clean:
                await self.snapshot(part)
