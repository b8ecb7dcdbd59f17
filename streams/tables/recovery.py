"""Recovery of state stores: reads changelogs in bulk, after Faust's own recovery, before streams resume.

Faust's own recovery reads changelogs record by record through the consumer of the group. It still does so for
Faust's own tables. State stores are removed from it when partitions are assigned. A reader without a group
reads their changelogs just before Faust would resume the streams::

    revoked -> running writes end, new ones are refused -> rejoin -> assigned
            -> Faust's tables are recovered -> state stores are read to the end of their changelogs -> resume

When a rebalance begins meanwhile, recovery starts again; what was read is kept. Reading starts at the
``position`` of the first of these that exists: the partition in memory from before the rebalance (owned or
standby), its snapshot, the beginning of the changelog. One task keeps the standby partitions up to date.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery
from faust.types import TP

from headrace.streams.errors import FencedError, NoTopicError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.tables.changelog import RETRY_S, ChangelogCopy, follow, open_changelogs, read_to_end
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.snapshots import read_snapshot
from headrace.streams.tables.store import StateStore
from headrace.streams.tables.written_layout import check_layouts

log = logging.getLogger(__name__)

#: When the broker does not know a changelog topic for this long, the topic is missing.
NO_TOPIC_S = 15.0


class StateStoreManager(TableManager):  # type: ignore[misc]
    """Faust's table manager with our recovery; it does not wait for tables that are declared late."""

    _recovery: StateRecovery | None

    @property
    def recovery(self) -> StateRecovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = StateRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Begin recovery at once; Faust would wait a second."""
        await self._update_channels()
        await self.recovery.start()


class StateRecovery(Recovery):  # type: ignore[misc]
    """Faust's recovery, followed by the recovery of the state stores."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: dict[TopicPartition, StatePartition] = {}
        self._one_at_a_time = asyncio.Lock()
        self._follower: asyncio.Task[None] | None = None
        self._resuming: asyncio.Task[None] | None = None
        #: Grows when a rebalance begins and when it ends.
        self._epoch = 0
        #: Number of changelog records the last recovery read, and its duration in seconds.
        self.last_read, self.last_seconds = 0, 0.0
        #: What the recovery that runs, or the last one, reads: of the partitions of this worker.
        self.copies: list[ChangelogCopy] = []

    # -- Faust's hooks

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Note what was assigned, and remove the partitions of state stores from Faust's own recovery."""
        self._epoch += 1
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        ours = {tp for tp in self.active_tps | self.standby_tps if self._is_columnar(tp.topic)}
        for offsets in (self.active_offsets, self.standby_offsets):
            for tp in ours:
                offsets.pop(tp, None)
        self.active_tps -= ours
        self.standby_tps -= ours

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Recover the state stores, then let Faust resume the streams.

        Raises
        ------
        RebalanceAgain
            When a rebalance began meanwhile.
        """
        epoch = self._epoch
        # Faust resumes partitions before it seeks to their committed offsets: deliver nothing until then.
        self.app.flow_control.suspend()
        self.app.consumer.stop_flow()
        if self._columnar_tables():
            await self._recover(epoch)
            await self._write_lost(epoch)
        if epoch == self._epoch:
            resuming = self._resuming = asyncio.ensure_future(super().on_recovery_completed(generation_id))
            try:
                await asyncio.wait({resuming})  # `interrupt` cancels it
            finally:
                resuming.cancel()
            if not resuming.cancelled():
                resuming.result()
        if epoch != self._epoch:
            raise RebalanceAgain
        if not self.standby_tps:  # Faust has no standby partitions of its own tables
            self.tables.on_standbys_ready()

    def interrupt(self) -> None:
        """Note that a rebalance begins: streams that are about to resume do not."""
        self._epoch += 1
        if self._resuming is not None:
            self._resuming.cancel()

    async def suspend(self) -> None:
        """Make the state stores refuse writes: after this worker rejoins, others may own its partitions."""
        for table in self._columnar_tables():
            await table.suspend()

    async def on_stop(self) -> None:
        """Stop reading changelogs for standby partitions."""
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

    def _columnar_tables(self) -> list[StateStore]:
        return [table for table in self.tables.values() if isinstance(table, StateStore)]

    def _is_columnar(self, topic: str) -> bool:
        return isinstance(self.tables._changelogs.get(topic), StateStore)

    def _settings(self) -> Settings:
        settings: Settings = self.app.headrace_settings
        return settings

    def _assigned(self, by_table: Mapping[Any, set[TP]], table: StateStore) -> set[TopicPartition]:
        return {TopicPartition(*tp) for tp in by_table.get(table, ())}

    async def _recover(self, epoch: int) -> None:
        """Read every assigned partition of every state store to its end; try again when that fails."""
        async with self._one_at_a_time:
            done = False
            deadline = time.monotonic() + NO_TOPIC_S
            while not done and epoch == self._epoch:
                try:
                    await self._recover_once(epoch)
                    done = True
                except NoTopicError:  # a broker that has just started may not know its topics yet
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(RETRY_S)
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
        row_bytes = max((table.dtype.itemsize for table in tables), default=1)
        for tp in self._held.keys() - every.keys():
            del self._held[tp]
        self.last_read, self.copies = 0, []
        copies: dict[TopicPartition, ChangelogCopy] = {}
        if every or self.app.consumer.assignment():  # opening the changelogs also finds a missing topic
            async with open_changelogs(self._settings(), [t.changelog for t in tables], row_bytes) as reader:
                reader.partitions = list(every)
                begins, ends = await reader.bounds()
                moved = {tp.partition for tp in active if not self._stayed(tp, ends[tp])}
                for tp, table in every.items():
                    if self._keep(tp, tp in active and tp.partition not in moved, ends[tp]):
                        table.lost.add(tp.partition)
                    copies[tp] = await self._copy(tp, table, begins[tp], ends[tp])
                self.copies = [copies[tp] for tp in active]
                self.last_read = await read_to_end(reader, self.copies)
        for tp, table in active.items():  # copies may be of rows that only the next version can read
            check_layouts(self._held[tp], table.changelog)
        if epoch != self._epoch:
            return  # the next recovery starts from what was read
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
            following = follow(self._settings(), [copies[tp] for tp in standby], row_bytes)
            self._follower = asyncio.create_task(following)
            self._follower.add_done_callback(_follower_ended)

    async def _write_lost(self, epoch: int) -> None:
        """Write rows again that changelogs have lost, before any stream resumes."""
        try:
            if epoch == self._epoch:
                for table in self._columnar_tables():
                    await table.lost.write_again()
        except (FencedError, KafkaError, OSError, UnavailableError) as exc:
            log.warning("Rows could not be written again, the next write tries it: %r", exc)

    def _stayed(self, tp: TopicPartition, end: int) -> bool:
        """Return whether this worker alone has written to the changelog of a partition since it got it.

        A changelog that is shorter than what was written to it has lost records: nobody else is known to have
        written then.
        """
        part = self._held.get(tp)
        return part is not None and part.owned and not part.foreign and part.position >= end

    def _keep(self, tp: TopicPartition, stayed: bool, end: int) -> bool:
        """Decide whether a partition in memory is kept, replaced by a successor, or dropped.

        Returns True when it is kept and has to be written again: its changelog has lost records.

        ``stayed`` is true when this worker owns the partition and no other wrote to it, nor to the
        partitions of the same number of the other state stores. They are changed together: rows that are not
        in the changelog yet must not be kept in one of them when another worker has written to another.
        """
        part = self._held.get(tp)
        if part is None:
            return False
        if stayed and part.position > end:
            part.position, part.last_crc = 0, -1  # what the changelog has now is read; newer rows stay
            return True
        if part.position > end:
            log.warning(
                "changelog %s-%d ends before the offset it was read to: it is read again",
                tp.topic,
                tp.partition,
            )
            del self._held[tp]
        elif part.owned and not part.clean and not stayed:
            # It has rows that are not in the changelog, and another worker may have written others.
            del self._held[tp]
        elif part.owned and not stayed:
            # The rows are right, but objects built on the partition object (of a stage) are out of date.
            self._held[tp] = part.successor()
            self._held[tp].owned = False
        return False

    async def _copy(self, tp: TopicPartition, table: StateStore, begin: int, end: int) -> ChangelogCopy:
        """Return the partition to read into: that in memory, else from a snapshot, else an empty one."""
        part = self._held.get(tp)
        if part is None:
            part = table.new_partition(tp.partition)
            if table.snapshots is not None:
                where = (
                    table.snapshots,
                    table.changelog,
                    begin,
                    end,
                    table.max_rows,
                    table.settings.partitions,
                )
                await asyncio.to_thread(read_snapshot, part, *where)
            self._held[tp] = part
        return ChangelogCopy(tp, part, begin, end, table.max_rows)

    async def _stop_following(self) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
            await asyncio.wait({follower})


def _follower_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("Standby partitions are not kept up to date any more", exc_info=error)
