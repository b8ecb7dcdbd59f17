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
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery
from faust.types import TP

from headrace.streams.errors import NoTopicError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.tables.changelog import RETRY_S, Copy, follow, open_changelogs, read_to_end
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.snapshots import read_snapshot
from headrace.streams.tables.store import StateStore

log = logging.getLogger(__name__)

#: A changelog that the broker does not know for so long is missing.
NO_TOPIC_S = 15.0


class StateStoreManager(TableManager):  # type: ignore[misc]
    """Faust's table manager with our recovery, and without its wait for tables declared late."""

    _recovery: StateRecovery | None

    @property
    def recovery(self) -> StateRecovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = StateRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Begin recovery at once: Faust waits a second before."""
        await self._update_channels()
        await self.recovery.start()


class StateRecovery(Recovery):  # type: ignore[misc]
    """Faust's recovery, and that of the columnar tables."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: dict[TopicPartition, StatePartition] = {}
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
        """Read every assigned partition of every columnar table to its end, whatever that takes."""
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
        self.last_read = 0
        copies: dict[TopicPartition, Copy] = {}
        if every or self.app.consumer.assignment():  # a missing topic is nobody's, and an error
            async with open_changelogs(self._settings(), [t.changelog for t in tables], row_bytes) as reader:
                reader.partitions = list(every)
                begins, ends = await reader.bounds()
                moved = {tp.partition for tp in active if not self._stayed(tp, ends[tp])}
                for tp, table in every.items():
                    self._keep(tp, tp in active and tp.partition not in moved, ends[tp])
                    copies[tp] = await self._copy(tp, table, begins[tp], ends[tp])
                self.last_read = await read_to_end(reader, [copies[tp] for tp in active])
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
            following = follow(self._settings(), [copies[tp] for tp in standby], row_bytes)
            self._follower = asyncio.create_task(following)
            self._follower.add_done_callback(_follower_ended)

    def _stayed(self, tp: TopicPartition, end: int) -> bool:
        """Return whether nobody has owned a partition of ours meanwhile, as far as its changelog tells."""
        part = self._held.get(tp)
        return part is not None and part.owned and part.position == end

    def _keep(self, tp: TopicPartition, stayed: bool, end: int) -> None:
        """Decide what of a partition in memory can stay.

        ``stayed``: it is active, it and the others of its number stayed here. Tables of one app are fed
        together: what is ahead of the changelog in one must not be kept beside what somebody else has written
        of another.
        """
        part = self._held.get(tp)
        if part is None:
            return
        if part.position > end:
            log.warning("%s-%d ends before what is known of it: read anew", tp.topic, tp.partition)
            del self._held[tp]
        elif part.owned and not part.clean and not stayed:
            # It is ahead of a changelog that others write, or have written.
            del self._held[tp]
        elif part.owned and not stayed:
            # Whatever was built on it is void; the rows are not.
            self._held[tp] = part.successor()
            self._held[tp].owned = False

    async def _copy(self, tp: TopicPartition, table: StateStore, begin: int, end: int) -> Copy:
        """Return a partition to be read on from where it stands: in memory, in a snapshot, nowhere."""
        part = self._held.get(tp)
        if part is None:
            part = table.new_partition(tp.partition)
            if table.snapshots is not None:
                await asyncio.to_thread(read_snapshot, part, table.snapshots, table.changelog, begin, end)
                part.evict(max_rows=table.max_rows)
            self._held[tp] = part
        return Copy(tp, part, begin, end, table.max_rows)

    async def _stop_following(self) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
            await asyncio.wait({follower})


def _follower_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("Standby partitions are not followed any more", exc_info=error)
