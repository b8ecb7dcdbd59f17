"""Recovery of columnar tables within Faust's: in bulk, outside the group's consumer, before streams resume.

Faust's own recovery reads changelogs record by record through the group's consumer. It goes on doing that for
Faust's own tables. Columnar tables are taken out of its hands when partitions are assigned, and read by
readers without a group just before it would resume the streams::

    revoked -> writes end, new ones are refused -> rejoin -> assigned -> Faust's tables
                                                                      -> ours, read to the end -> resume

A rebalance meanwhile starts anew; what was read is kept. Reading starts, the best first, where memory kept
over the rebalance, the copy of a standby, or a snapshot ends. One task follows the standby partitions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery
from faust.types import TP

from streams.columnar import ColumnarTable
from streams.errors import NoTopicError, UnavailableError
from streams.fetching import REQUEST_TIMEOUT_S
from streams.settings import Settings
from streams.snapshots import read_snapshot
from streams.table_partition import TablePartition, record_crc
from streams.tail import EMPTY_S, Reader, open_reader

log = logging.getLogger(__name__)

#: Asked for at once from each partition.
FETCH_BYTES = 8 * 1024 * 1024
#: Rows applied at once: they are copied three times on their way, faster while they fit into a CPU's cache.
APPLY_BYTES = 512 * 1024
RETRY_S = 1.0
#: Room made for rows that may come; what is not used is given back, and costs address space only before.
MAX_ROOM_BYTES = 2 * 1024**3


class ColumnarTableManager(TableManager):  # type: ignore[misc]
    """Faust's table manager with our recovery, and without its wait for tables declared late."""

    _recovery: ColumnarRecovery | None

    @property
    def recovery(self) -> ColumnarRecovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = ColumnarRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Begin recovery at once: Faust waits a second before."""
        await self._update_channels()
        await self.recovery.start()


@dataclass(slots=True)
class _Copy:
    """A changelog partition to be read, into what and how far."""

    tp: TopicPartition
    table: ColumnarTable
    part: TablePartition
    begin: int
    end: int
    #: The last record it knows is to be read again and compared: is this still the same changelog?
    anchored: bool = False

    def start(self) -> int:
        """Return the offset to read from."""
        return self.part.position - self.anchored

    def reserve(self) -> None:
        """Make room for all rows that may come: growing step by step costs more than reading."""
        room = min(self.end - self.part.position, MAX_ROOM_BYTES // self.part.rows.row_bytes)
        self.part.reserve(room if self.table.max_rows is None else min(room, self.table.max_rows))

    def done(self) -> bool:
        """Return whether it is all there."""
        return self.part.position >= self.end and not self.anchored


class ColumnarRecovery(Recovery):  # type: ignore[misc]
    """Faust's recovery, and that of the columnar tables."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: dict[TopicPartition, TablePartition] = {}
        self._one_at_a_time = asyncio.Lock()
        self._follower: asyncio.Task[None] | None = None
        self._resuming: asyncio.Task[None] | None = None
        #: Counts rebalances, their beginnings and their ends.
        self._epoch = 0
        #: Changelog records read by the last recovery, and the seconds it took.
        self.last_read, self.last_seconds = 0, 0.0

    # -- Faust's hooks

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Note what was assigned; Faust's recovery gets to see its own tables only."""
        self._epoch += 1
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        ours = {tp for tp in self.active_tps | self.standby_tps if self._is_columnar(tp.topic)}
        for offsets in (self.active_offsets, self.standby_offsets):
            for tp in ours:
                offsets.pop(tp, None)
        self.active_tps -= ours
        self.standby_tps -= ours

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Recover the columnar tables, then let Faust resume the streams."""
        epoch = self._epoch
        # Faust resumes partitions before it seeks to their committed offsets: nothing may be delivered yet.
        self.app.flow_control.suspend()
        self.app.consumer.stop_flow()
        if self._columnar_tables():
            await self._recover(epoch)
        if epoch == self._epoch:
            resuming = self._resuming = asyncio.ensure_future(super().on_recovery_completed(generation_id))
            try:
                await asyncio.wait({resuming})  # ended by `interrupt`, too
            finally:
                resuming.cancel()
            if not resuming.cancelled():
                resuming.result()
        if epoch != self._epoch:
            raise RebalanceAgain
        if not self.standby_tps:  # none that Faust follows
            self.tables.on_standbys_ready()

    def interrupt(self) -> None:
        """Begin a rebalance: streams that are about to be resumed are not."""
        self._epoch += 1
        if self._resuming is not None:
            self._resuming.cancel()

    async def suspend(self) -> None:
        """Have the tables refuse writes: once this worker rejoins, its partitions may go to others."""
        for table in self._columnar_tables():
            await table.suspend()

    async def on_stop(self) -> None:
        """Stop following standby partitions."""
        await self._stop_following()
        await super().on_stop()

    async def _build_highwaters(self, consumer: Any, tps: set[TP], destination: Any, title: str) -> None:
        destination.clear()
        if tps:
            await super()._build_highwaters(consumer, tps, destination, title)

    async def _build_offsets(self, consumer: Any, tps: set[TP], destination: Any, title: str) -> None:
        if tps:
            await super()._build_offsets(consumer, tps, destination, title)

    async def _seek_offsets(self, consumer: Any, tps: set[TP], offsets: Any, title: str) -> None:
        if tps:
            await super()._seek_offsets(consumer, tps, offsets, title)

    # -- ours

    def _columnar_tables(self) -> list[ColumnarTable]:
        return [table for table in self.tables.values() if isinstance(table, ColumnarTable)]

    def _is_columnar(self, topic: str) -> bool:
        return isinstance(self.tables._changelogs.get(topic), ColumnarTable)

    def _settings(self) -> Settings:
        settings: Settings = self.app.headrace_settings
        return settings

    def _assigned(self, by_table: Mapping[Any, set[TP]], table: ColumnarTable) -> set[TopicPartition]:
        return {TopicPartition(*tp) for tp in by_table.get(table, ())}

    async def _recover(self, epoch: int) -> None:
        """Read every assigned partition of every columnar table to its end, whatever that takes."""
        async with self._one_at_a_time:
            done = False
            while not done and epoch == self._epoch:
                try:
                    await self._recover_once(epoch)
                    done = True
                except NoTopicError:
                    raise
                except (KafkaError, OSError, UnavailableError) as exc:
                    log.warning("Tables could not be recovered, trying again: %r", exc)
                    await asyncio.sleep(RETRY_S)

    async def _recover_once(self, epoch: int) -> None:
        began = time.monotonic()
        await self._stop_following()
        tables = self._columnar_tables()
        active = {tp: t for t in tables for tp in self._assigned(self.actives_for_table, t)}
        standby = {
            tp: t for t in tables for tp in self._assigned(self.standbys_for_table, t) if tp not in active
        }
        every = active | standby
        for tp in self._held.keys() - every.keys():
            del self._held[tp]
        self.last_read = 0
        copies: dict[TopicPartition, _Copy] = {}
        if every or self.app.consumer.assignment():  # a missing topic is nobody's, and an error
            async with self._reader(table.changelog for table in tables) as reader:
                reader.partitions = list(every)
                begins, ends = await reader.bounds()
                for tp, table in every.items():
                    self._keep(tp, tp in active, ends[tp])
                    copies[tp] = await self._copy(tp, table, begins[tp], ends[tp])
                await self._read(reader, [copies[tp] for tp in active])
        if epoch != self._epoch:
            return  # what was read is kept for the next time
        for table in tables:
            table.assign(
                {tp.partition: self._held[tp] for tp, t in active.items() if t is table},
                {tp.partition: self._held[tp] for tp, t in standby.items() if t is table},
            )
        self.last_seconds = time.monotonic() - began
        if every:
            log.info(
                "Recovered %d partitions of %d tables: %d records read in %.2f s",
                len(active), len(tables), self.last_read, self.last_seconds,
                extra={"action": "recovered", "records": self.last_read, "seconds": self.last_seconds},
            )  # fmt: skip
        if standby:
            self._follower = asyncio.create_task(self._follow([copies[tp] for tp in standby]))
            self._follower.add_done_callback(_follower_ended)

    def _reader(self, topics: Iterable[str]) -> AbstractAsyncContextManager[Reader]:
        largest = max(table.dtype.itemsize for table in self._columnar_tables())
        settings = self._settings().model_copy(
            update={"batch_max_records": max(1, min(APPLY_BYTES // largest, 4000))}
        )
        return open_reader(settings, set(topics), fetch_bytes=FETCH_BYTES, begin=False)

    def _keep(self, tp: TopicPartition, active: bool, end: int) -> None:
        """Decide what of a partition in memory can stay."""
        part = self._held.get(tp)
        if part is None:
            return
        unchanged = part.position == end
        if part.position > end:
            log.warning("%s-%d ends before what is known of it: read anew", tp.topic, tp.partition)
            del self._held[tp]
        elif part.owned and not part.clean and not (active and unchanged):
            # It is ahead of a changelog that others write, or have written.
            del self._held[tp]
        elif part.owned and not (active and unchanged):
            # Whatever was built on it is void; the rows are not.
            self._held[tp] = part.successor()
            self._held[tp].owned = False

    async def _copy(self, tp: TopicPartition, table: ColumnarTable, begin: int, end: int) -> _Copy:
        part, anchored = self._held.get(tp), False
        if part is None:
            part = table.new_partition(tp.partition)
            if table.snapshots is not None:
                read = await asyncio.to_thread(
                    read_snapshot, part, table.snapshots, table.changelog, begin, end
                )
                anchored = read and part.last_crc >= 0 and part.position > begin
                part.evict(max_rows=table.max_rows)
            self._held[tp] = part
        return _Copy(tp, table, part, begin, end, anchored)

    async def _read(self, reader: Reader, copies: list[_Copy]) -> None:
        pending = {copy.tp: copy for copy in copies if not copy.done()}
        if not pending:
            return
        for copy in pending.values():
            copy.reserve()
        reader.start({tp: copy.start() for tp, copy in pending.items()})
        deadline = time.monotonic() + REQUEST_TIMEOUT_S
        while pending:
            fetched = await reader.fetch(EMPTY_S)
            for part in fetched:
                if part.tp in pending:
                    self.last_read += self._apply(reader, pending[part.tp], part.records, part.position)
                    await asyncio.sleep(0)  # the group's heartbeats are another thread's, the rest is not
            for tp, copy in list(pending.items()):
                if not copy.done() and reader.nothing_before(tp, copy.end):
                    copy.anchored = False
                    copy.part.apply([], copy.end)
                if copy.done():
                    copy.part.trim()
                    reader.pause(tp)
                    del pending[tp]
            if fetched:
                deadline = time.monotonic() + REQUEST_TIMEOUT_S
            elif time.monotonic() > deadline:
                missing = ", ".join(f"{tp.topic}-{tp.partition}" for tp in pending)
                raise UnavailableError(f"nothing arrives of {missing}")

    def _apply(self, reader: Reader, copy: _Copy, records: list[Any], position: int) -> int:
        """Apply what was fetched; return how many records that were."""
        part = copy.part
        if copy.anchored and records:
            copy.anchored = False
            first = records[0]
            if first.offset == part.position - 1:
                if record_crc(first.key, first.value) != part.last_crc:
                    self._start_over(reader, copy)
                    return 0
                records = records[1:]
        part.apply(records, max(position, part.position))
        part.evict(max_rows=copy.table.max_rows)
        return len(records)

    def _start_over(self, reader: Reader, copy: _Copy) -> None:
        log.warning(
            "the snapshot of %s-%d is of another changelog of that name: it is not used",
            copy.tp.topic, copy.tp.partition, extra={"action": "snapshot_refused"},
        )  # fmt: skip
        number = copy.tp.partition
        copy.part = self._held[copy.tp] = copy.table.new_partition(number)
        if number in copy.table.standby:
            copy.table.standby[number] = copy.part
        reader.seek(copy.tp, copy.begin)

    # -- standby partitions

    async def _follow(self, copies: list[_Copy]) -> None:
        """Keep the copies of standby partitions up to date, until cancelled."""
        by_tp = {copy.tp: copy for copy in copies}
        while True:
            try:
                async with self._reader(tp.topic for tp in by_tp) as reader:
                    reader.start({tp: copy.start() for tp, copy in by_tp.items()})
                    while True:
                        for part in await reader.fetch(1.0):
                            self._apply(reader, by_tp[part.tp], part.records, part.position)
                            await asyncio.sleep(0)
            except (KafkaError, OSError, UnavailableError) as exc:
                log.warning("Standby partitions could not be followed, trying again: %r", exc)
                await asyncio.sleep(RETRY_S)

    async def _stop_following(self) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
            await asyncio.wait({follower})


def _follower_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("Standby partitions are not followed any more", exc_info=error)
