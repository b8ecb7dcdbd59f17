"""A group whose member does what a test says, and what ``headrace why-lag`` finds of it.

No test waits for a verdict: the time of a look is given to it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

from headrace.console.lag import judged_look
from headrace.console.why_lag import explained_of
from headrace.console.why_lag_page import Explained
from headrace.streams.clock import now_ms
from headrace.streams.settings import Settings
from headrace.streams.topics.lag import LagReader, Look
from headrace.streams.topics.lag_cause import Finding
from headrace.streams.topics.lag_watch import LagWatch
from headrace.streams.topics.partitioners import right_partition
from headrace.streams.topics.sender import BatchSender
from headrace.streams.topics.worker_metrics import Worker

#: Between two looks of a test, ms.
STEP_MS = 4000
#: Records are so old that no agent lets them wait lawfully, ms.
AGE_MS = 60_000


def keys_of(partition: int, count: int, partitions: int = 4) -> list[bytes]:
    """Return different keys that belong to a partition."""
    found = (b"user-%d" % n for n in range(100_000))
    return [key for key in found if right_partition(key, partitions) == partition][:count]


async def write(sender: BatchSender, topic: str, partition: int, keys: Iterable[bytes]) -> None:
    """Write old records with these keys."""
    at_ms = now_ms() - AGE_MS
    await sender.send_many(topic, [(key, b"{}", at_ms, ()) for key in keys], partition=partition)


class Member:
    """A member of the group of a role; it commits what it is told to.

    Attributes
    ----------
    stays
        While it is not set, the member takes no part in a rebalance that has begun.
    """

    def __init__(self, settings: Settings, role: str, topic: str) -> None:
        self.topic, self.stays = topic, asyncio.Event()
        self.stays.set()
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.brokers, group_id=settings.name(f"headrace-{role}"),
            enable_auto_commit=False, auto_offset_reset="earliest", heartbeat_interval_ms=100,
            session_timeout_ms=30_000, rebalance_timeout_ms=30_000,
        )  # fmt: skip

    async def __aenter__(self) -> Member:
        await self.consumer.start()
        self.consumer.subscribe([self.topic], listener=_Listener(self))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stays.set()
        await self.consumer.stop()

    def has(self, *partitions: int) -> bool:
        """Return whether it has these partitions."""
        return {TopicPartition(self.topic, n) for n in partitions} <= self.consumer.assignment()

    async def commit(self, offsets: dict[int, int]) -> None:
        """Commit offsets of partitions."""
        await self.consumer.commit({TopicPartition(self.topic, n): at for n, at in offsets.items()})


class _Listener(ConsumerRebalanceListener):
    def __init__(self, member: Member) -> None:
        self._member = member

    async def on_partitions_revoked(self, revoked: object) -> None:
        await self._member.stays.wait()

    async def on_partitions_assigned(self, assigned: object) -> None:
        pass


class Watching:
    """The looks of ``headrace why-lag`` at one role."""

    def __init__(self, settings: Settings, reader: LagReader, role: str) -> None:
        self._settings, self._reader, self._role = settings, reader, role
        self._seen, self._at_ms = LagWatch.of(settings), now_ms()
        self.looks: list[Look] = []

    async def look(self, count: int = 1) -> None:
        """Look, ``STEP_MS`` after the last look by the clock that is given."""
        for _ in range(count):
            self._at_ms += STEP_MS
            self.looks.append(await judged_look(self._reader, self._seen, self._role, self._at_ms))

    async def explained(self, workers: Sequence[Worker] | None = None) -> Explained:
        """Return what is said of the only topic that is late."""
        (found,) = await explained_of(self._settings, self.looks, workers)
        return found

    async def finding(self, workers: Sequence[Worker] | None = None) -> Finding:
        """Return the only cause."""
        (found,) = (await self.explained(workers)).findings
        return found


@contextlib.asynccontextmanager
async def watching(settings: Settings, role: str = "serve") -> AsyncIterator[Watching]:
    async with LagReader(settings) as reader:
        yield Watching(settings, reader, role)
