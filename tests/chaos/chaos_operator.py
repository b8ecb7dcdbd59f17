"""What an operator does, or what happens to a machine: moved groups, a catalogue sent again, a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from chaos_crew import Crew
from chaos_disk import Disk
from chaos_log import Log
from chaos_plan import Action
from chaos_traffic import Traffic

from headrace.streams.settings import Settings
from headrace.streams.topics.connection import connection
from headrace.streams.topics.flow import group_reads
from headrace.streams.topics.names import Topics

#: Committed offsets that are moved beyond the end of a partition are this far beyond it.
BEYOND = 1_000_000
#: Longest wait until the broker takes the offsets of a group: it may be down, or a member may be left.
MOVED_S = 120.0


class Operator:
    """Does to a whole installation what no single worker sees."""

    def __init__(self, settings: Settings, crew: Crew, traffic: Traffic, disk: Disk, log: Log) -> None:
        self._settings, self._crew, self._traffic, self._disk, self._log = settings, crew, traffic, disk, log

    def actions(self) -> Mapping[str, Callable[[Action], Awaitable[None]]]:
        """Return what is done, by kind of action."""
        return {
            "clock": self._clock,
            "disk-full": self._disk_full,
            "group-back": self._move_group,
            "group-beyond": self._move_group,
            "catalogue": self._catalogue,
        }

    async def _clock(self, action: Action) -> None:
        say = f"{action.amount:+,} s for {action.for_s:.1f} s"
        self._log.tell(f"clock      of {action.target} is wrong by {say}", style="blue")
        self._crew.clocks.set(action.target, action.amount)
        await asyncio.sleep(action.for_s)
        self._crew.clocks.set(action.target, 0)
        self._log.tell(f"clock      of {action.target} is right again", style="blue")

    async def _disk_full(self, action: Action) -> None:
        self._log.tell(f"disk       of snapshots and log is full for {action.for_s:.1f} s", style="blue")
        deadline = time.monotonic() + action.for_s
        was_full = False
        try:
            while time.monotonic() < deadline:  # files that are removed meanwhile make room
                await asyncio.to_thread(self._disk.fill)
                was_full = was_full or self._disk.is_full()
                await asyncio.sleep(0.2)
        finally:
            self._disk.free()
        if not was_full:
            self._log.problems.append("the disk did not become full")
        self._log.tell("disk       has room again", style="blue")

    async def _catalogue(self, _action: Action) -> None:
        self._log.tell("catalogue  is sent again, some items withdrawn first", style="blue")
        await self._traffic.send_catalogue()

    async def _move_group(self, action: Action) -> None:
        role = action.target
        how = f"back by {action.amount:,}" if action.kind == "group-back" else "beyond the end"
        self._log.tell(f"group      of {role} is stopped, its offsets are moved {how}", style="blue")
        async with self._without(role):
            moved = await self._move(action)
            await asyncio.sleep(action.for_s)
        if moved is None:
            self._log.problems.append(f"the broker did not take the offsets of {role}")
        self._log.tell(f"group      of {role} goes on, {moved or 0:,} records away", style="blue")

    @contextlib.asynccontextmanager
    async def _without(self, role: str) -> AsyncIterator[None]:
        names = self._crew.wanted_of(role)
        try:
            await asyncio.gather(*[self._crew.leave(name) for name in names])
            yield
        finally:
            for name in names:
                self._crew.start(name)

    async def _move(self, action: Action) -> int | None:
        """Commit other offsets for the group of a role; return by how much, None when it is impossible."""
        deadline = time.monotonic() + MOVED_S
        while time.monotonic() < deadline:
            try:
                return await asyncio.wait_for(self._commit(action), 10.0)
            except (KafkaError, OSError, TimeoutError, AssertionError):  # down, or a member is not gone yet
                await asyncio.sleep(0.5)
        return None

    async def _commit(self, action: Action) -> int:
        consumer = AIOKafkaConsumer(
            **connection(self._settings),
            group_id=self._settings.name(f"headrace-{action.target}"),
            enable_auto_commit=False,
            isolation_level="read_committed",
        )
        await consumer.start()
        try:
            topics = Topics(self._settings)
            names = [getattr(topics, name) for name in group_reads()[action.target]]
            tps = [TopicPartition(name, p) for name in names for p in range(self._settings.partitions)]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            have = {tp: await consumer.committed(tp) or 0 for tp in tps}
            offsets = {
                tp: max(0, at - action.amount) if action.kind == "group-back" else ends[tp] + BEYOND
                for tp, at in have.items()
            }
            await consumer.commit({tp: OffsetAndMetadata(at, "") for tp, at in offsets.items()})
            return sum(abs(offsets[tp] - have[tp]) for tp in tps)
        finally:
            await consumer.stop()
