"""A worker with a stage that counts events per key, and what an operator or a broker may do to its topics."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError
from counting_worker import ROW
from fresh_topics import KNOWN_WITHIN_S, admin_of, make_topic
from transport_probes import quick_app

from headrace.agents.stage.copied_store import CopiedStore
from headrace.agents.stage.drive import drive
from headrace.agents.stage.flushes import Durable, Flushes
from headrace.agents.stage.partitions import AssignmentKeeper, StagePartition, StagePartitions
from headrace.agents.wiring import Wiring
from headrace.serving.store.memory import MemoryStore
from headrace.streams.process import run_apps
from headrace.streams.settings import Settings
from headrace.streams.tables.partition import Changes
from headrace.streams.topics.flow import AgentFlow
from headrace.streams.topics.sender import BatchSender
from headrace.streams.transport.batches import RecordBatch

FLOW = AgentFlow("count", "count", reads=("events",), state=("user_state",))


class CountStage:
    """Counts events per key (decimal digits), each once: a row has the effective offset of its last event."""

    def __init__(self, app: Any, wiring: Wiring) -> None:
        topic = wiring.topics.user_state
        self.store = CopiedStore(app, wiring, topic, "u", dtype=ROW)
        self.partitions = StagePartitions([self.store], StagePartition)
        seconds = wiring.settings.durable_every_ms / 1000
        self.flushes = Flushes(self._show, self._save, seconds, seconds, app.crash)
        #: Effective offsets in the order of counting, by partition: what derived records are numbered with.
        self.numbers: dict[int, list[int]] = {}
        self.seen: list[tuple[int, int]] = []

    def revoked(self) -> None:
        self.flushes.forget()
        self.partitions.resume()

    async def apply(self, batch: RecordBatch) -> None:
        part = self.partitions.get(batch.partition)
        self.seen.extend((batch.partition, record.offset) for record in batch)
        await self.store.restore(part.states[0], lambda: np.array([int(r.key) for r in batch], np.uint64))
        rows = part.states[0].rows
        for record in part.unseen(batch):
            (row,) = rows.take(np.array([int(record.key)], np.uint64)).tolist()
            offset = record.offset + batch.base
            if offset > rows.data["offset"][row] or not rows.data["count"][row]:
                rows.data["count"][row] += 1
                rows.data["offset"][row] = offset
                rows.data["updated"][row] = record.timestamp
                self.numbers.setdefault(batch.partition, []).append(offset)
                part.states[0].touch(np.array([row]))
        part.seen(batch)

    async def _show(self, durable: Durable) -> dict[int, Changes]:
        states = [part.states[0] for part in self.partitions]
        await self.store.show({state.number: state.rows.pack(state.rows.rows()) for state in states})
        return {state.number: state.take() for state in states if durable(state.number)}

    async def _save(self, changes: dict[int, Changes]) -> None:
        await self.store.state_store.write(changes)
        for change in changes.values():
            self.store.written(change.partition)


class CountWorker:
    """Runs a ``CountStage`` through ``run_apps``; ``stop(crash=True)`` leaves without any last write."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sender = BatchSender(settings)
        self.app = quick_app(settings, "count")
        wiring = Wiring(settings, self.sender, self.sender, MemoryStore())
        self.stage = CountStage(self.app, wiring)
        drive(self.app, wiring, FLOW, self.stage, partitions=self.stage.partitions)
        self._keeper = AssignmentKeeper(self.stage.partitions, self.stage.flushes)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> CountWorker:
        ready = asyncio.Event()
        services = [self.sender, self._keeper, *self.stage.store.services()]
        running = run_apps(
            [self.app], settings=self.settings, services=services, ready=ready, stop=self._stop
        )
        self._task = asyncio.create_task(running)
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._task, waiting}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()
        assert ready.is_set()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self, *, crash: bool = False) -> None:
        if crash:
            self.app.last_writes.clear()
        self._stop.set()
        if self._task is not None:
            await asyncio.wait_for(self._task, 20)

    def counts(self) -> dict[int, int]:
        """Return all counts."""
        found: dict[int, int] = {}
        for part in self.stage.store.state_store.active.values():
            data = part.rows.data[part.rows.rows()]
            found |= dict(zip(data["key"].tolist(), data["count"].tolist(), strict=True))
        return found

    def durable(self) -> bool:
        """Return whether the changelog has everything."""
        active = self.stage.store.state_store.active
        return bool(active) and all(part.clean for part in active.values())


async def produce(settings: Settings, topic: str, keys: Iterable[int], partitions: int = 4) -> Counter[int]:
    """Send one event for every key (k goes to partition k % 4); return how often each key was sent.

    With a producer of its own: the broker may not take the next number of one that wrote to a deleted topic.
    """
    keys = list(keys)
    async with AIOKafkaProducer(bootstrap_servers=settings.brokers, acks="all") as producer:
        sent = [await producer.send(topic, b"", key=b"%d" % key, partition=key % partitions) for key in keys]
        await asyncio.gather(*sent)
    return Counter(keys)


async def delete_topic(settings: Settings, topic: str) -> None:
    """Delete a topic and wait until the broker has noticed: a busy one goes on serving it for a while."""
    async with admin_of(settings.brokers) as admin:
        await admin.delete_topics([topic])
        deadline = time.monotonic() + KNOWN_WITHIN_S
        while topic in await admin.list_topics():
            assert time.monotonic() < deadline, f"{topic} is not deleted"
            await asyncio.sleep(0.02)


async def make_again(settings: Settings, topic: str, partitions: int = 4) -> None:
    """Create a topic that is being deleted, as soon as the broker allows it."""
    while True:
        try:
            await make_topic(settings, topic, partitions)
        except (TopicAlreadyExistsError, UnknownTopicOrPartitionError):
            await asyncio.sleep(0.05)
        else:
            return


async def delete_records(settings: Settings, topic: str, partition: int, before: int) -> None:
    """Delete the records of a partition before an offset, as retention does."""
    async with admin_of(settings.brokers) as admin:
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(before)})


async def move_group(settings: Settings, role: str, topic: str, offsets: dict[int, int]) -> None:
    """Commit offsets for a group without members, as ``kafka-consumer-groups --reset-offsets`` does."""
    group = settings.name(f"headrace-{role}")
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.brokers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        tps = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
        consumer.assign(list(tps))
        await consumer.commit(tps)
    finally:
        await consumer.stop()
