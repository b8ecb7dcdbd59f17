"""Reading topics without a group: all records in every process, or one partition's whole history."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError
from mode import Service
from mode.utils.queues import FlowControlEvent, ThrowableQueue

from headrace.streams.errors import NoTopicError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.fetching import REQUEST_TIMEOUT_S, Fetched, be_patient, drain

log = logging.getLogger(__name__)

#: After this long without a record a reader asks itself whether there are any.
EMPTY_S = 0.5

Deliver: TypeAlias = Callable[[RecordBatch], Awaitable[None] | None]


class Reader:
    """A consumer of given partitions, outside any group. Made by ``open_reader``."""

    def __init__(self, consumer: AIOKafkaConsumer, tps: list[TopicPartition], settings: Settings) -> None:
        self._consumer = consumer
        self._settings = settings
        self.partitions = tps

    async def bounds(self) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """Return the first and the end offset (next to be written) of every partition, as they are now."""
        return (
            await self._consumer.beginning_offsets(self.partitions),
            await self._consumer.end_offsets(self.partitions),
        )

    async def offsets_for_time(self, timestamp_ms: int) -> dict[TopicPartition, int | None]:
        """Return, for every partition, the offset of the first record with that timestamp or a later one."""
        found = await self._consumer.offsets_for_times(dict.fromkeys(self.partitions, timestamp_ms))
        return {tp: None if at is None else int(at.offset) for tp, at in found.items()}

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read just these partitions from now on, each from the offset given."""
        self.partitions = list(positions)
        self._consumer.assign(self.partitions)
        for tp, offset in positions.items():
            self.seek(tp, offset)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Continue reading ``tp`` at ``offset``."""
        self._consumer.seek(tp, offset)
        self._state(tp).timestamp = None

    def pause(self, tp: TopicPartition) -> None:
        """Read no more of ``tp``."""
        self._consumer.pause(tp)

    def _state(self, tp: TopicPartition) -> Any:
        return self._consumer._subscription.subscription.assignment.state_value(tp)

    def nothing_before(self, tp: TopicPartition, end: int) -> bool:
        """Return whether the broker has said that no record is left from the position to ``end``.

        Compaction removes records, and a partition may end with such a hole: nothing ever arrives from there.
        """
        state = self._state(tp)
        return (
            state.timestamp is not None  # an answer since the position was reached...
            and tp not in self._consumer._fetcher._records  # ... which was empty
            and (state.highwater or 0) >= end
        )

    async def fetch(self, timeout: float) -> list[Fetched]:
        """Return what arrived, nothing after ``timeout`` seconds. Records may be empty (control batches)."""
        fetcher = self._consumer._fetcher
        deadline = time.monotonic() + timeout
        while True:
            if self._consumer._closed:
                raise ConsumerStoppedError
            fetched = drain(fetcher, self.partitions, self._settings.batch_max_records)
            remaining = deadline - time.monotonic()
            if fetched or remaining <= 0:
                for part in fetched:
                    self._state(part.tp).timestamp = None
                return fetched
            waiter = fetcher._create_fetch_waiter()
            done, _ = await asyncio.wait([waiter], timeout=remaining)
            if not done:
                waiter.cancel()
            else:
                waiter.result()


@asynccontextmanager
async def open_reader(
    settings: Settings,
    topics: Iterable[str],
    partitions: Iterable[int] | None = None,
    *,
    fetch_bytes: int = 1024 * 1024,
    begin: bool = True,
) -> AsyncIterator[Reader]:
    """Open a reader of ``partitions`` (all when None) of ``topics``; positions are set with ``seek``.

    Parameters
    ----------
    fetch_bytes
        Asked for at once from each partition.
    begin
        False: nothing is fetched before ``Reader.start``.

    Raises
    ------
    NoTopicError
        When a topic does not exist.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.brokers.split(","),
        client_id="headrace",
        auto_offset_reset="earliest",
        fetch_min_bytes=1,
        fetch_max_wait_ms=settings.fetch_max_wait_ms,
        max_partition_fetch_bytes=fetch_bytes,
        enable_auto_commit=False,
    )
    try:
        await consumer.start()
        be_patient(consumer)
        wanted = None if partitions is None else set(partitions)
        tps = [
            TopicPartition(topic, partition)
            for topic in topics
            for partition in await _partitions(consumer, topic, settings)
            if wanted is None or partition in wanted
        ]
        if begin:
            consumer.assign(tps)
        yield Reader(consumer, tps, settings)
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str, settings: Settings) -> list[int]:
    # A topic created a moment ago may be missing from the first answer.
    deadline = time.monotonic() + 2.0
    while True:
        # Asking for a missing topic by its name could make the broker create it.
        if topic in await consumer.topics():
            await consumer._client.add_topic(topic)
        found: set[int] | None = consumer._client.cluster.partitions_for_topic(topic)
        if found:
            return sorted(found)
        if time.monotonic() > deadline:
            raise NoTopicError(f"topic {topic} does not exist at {settings.brokers}")
        await asyncio.sleep(0.05)


class BroadcastChannel(faust.Channel):
    """An in-process channel for tailed batches: no rebalance empties it, a full one makes puts wait."""

    _queue: ThrowableQueue | None

    @property
    def queue(self) -> ThrowableQueue:
        """The queue of one subscriber."""
        if self._queue is None:
            flow = FlowControlEvent(initially_suspended=False)
            flow.resume()
            self._queue = ThrowableQueue(maxsize=self.maxsize or 16, flow_control=flow)
        return self._queue

    async def put(self, value: Any) -> None:
        """Give ``value`` to every subscriber; wait for the first one to come."""
        root = self._root if self._root is not None else self
        while not root._subscribers:  # noqa: ASYNC110 - Faust tells nobody when an agent subscribes
            await asyncio.sleep(0.01)
        for subscriber in list(root._subscribers):
            await subscriber.queue.put(value)


def broadcast_channel(app: faust.App, maxsize: int = 16) -> BroadcastChannel:
    """Return a channel that an agent can read and a ``Tail`` can deliver to."""
    return BroadcastChannel(app, maxsize=maxsize)


class Tail(Service):
    """Reads all partitions of some topics from their beginning, for ever, and delivers ``RecordBatch``.

    Batches of one partition come in order, one at a time. An exception of ``deliver`` crashes the service.

    Parameters
    ----------
    source
        Settings, or an app made by ``make_app``.
    topics
        Full topic names.
    deliver
        Called, and awaited when it returns an awaitable; or a ``BroadcastChannel``.
    from_end
        Skip what was written before the start.

    Attributes
    ----------
    caught_up
        Set once everything written before the start was delivered.
    position
        (topic, partition) -> next offset to be delivered.
    """

    mundane_level = "debug"

    def __init__(
        self,
        source: Settings | faust.App,
        topics: str | Iterable[str],
        deliver: Deliver | BroadcastChannel,
        *,
        name: str = "tail",
        from_end: bool = False,
        **kwargs: Any,
    ) -> None:
        self._settings: Settings = source if isinstance(source, Settings) else source.headrace_settings
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        self._deliver: Deliver = deliver.put if isinstance(deliver, BroadcastChannel) else deliver
        self._name = name
        self._from_end = from_end
        self._highwater: dict[tuple[str, int], int] = {}
        self.caught_up = asyncio.Event()
        self.position: dict[tuple[str, int], int] = {}
        super().__init__(**kwargs)

    @property
    def label(self) -> str:
        """Name for logs."""
        return f"{type(self).__name__}: {self._name}"

    def lag(self) -> int:
        """Return how many records are written and not delivered, as far as the broker's last answers say."""
        return sum(max(0, end - self.position.get(tp, 0)) for tp, end in self._highwater.items())

    @Service.task
    async def _read(self) -> None:
        async with open_reader(self._settings, self._topics) as reader:
            begins, ends = await reader.bounds()
            missing = {}
            for tp in reader.partitions:
                start = ends[tp] if self._from_end else begins[tp]
                reader.seek(tp, start)
                self.position[tuple(tp)], self._highwater[tuple(tp)] = start, ends[tp]
                if start < ends[tp]:
                    missing[tp] = ends[tp]
            while not self.should_stop:
                if not missing:
                    self.caught_up.set()
                for part in await reader.fetch(1.0):
                    await _deliver(self._deliver, part)
                    self.position[tuple(part.tp)] = part.position
                    self._highwater[tuple(part.tp)] = part.highwater
                    if part.position >= missing.get(part.tp, 0):
                        missing.pop(part.tp, None)
                for tp in [tp for tp, end in missing.items() if reader.nothing_before(tp, end)]:
                    self.position[tuple(tp)] = missing.pop(tp)


async def _deliver(deliver: Deliver, part: Fetched) -> None:
    if part.records:
        waiting = deliver(RecordBatch(part.tp.topic, part.tp.partition, part.records))
        if waiting is not None:
            await waiting


async def read_partition(
    settings: Settings, topic: str, partition: int, apply: Deliver, *, from_offset: int = 0
) -> int:
    """Read one partition from ``from_offset`` (or its first record) to its present end; return that end
    offset.

    Raises
    ------
    NoTopicError
        When the topic or the partition does not exist.
    UnavailableError
        When the broker stops answering.
    """
    async with open_reader(settings, [topic], [partition]) as reader:
        if not reader.partitions:
            raise NoTopicError(f"topic {topic} has no partition {partition}")
        begins, ends = await reader.bounds()
        (tp,) = reader.partitions
        position, end = max(begins[tp], from_offset), int(ends[tp])
        reader.seek(tp, position)
        while position < end:
            position = await _step(reader, apply, tp, position, end)
        return end


async def _step(reader: Reader, apply: Deliver, tp: TopicPartition, position: int, end: int) -> int:
    deadline = time.monotonic() + REQUEST_TIMEOUT_S
    while True:
        fetched = await reader.fetch(EMPTY_S)
        for part in fetched:
            await _deliver(apply, part)
            position = part.position
        if fetched:
            return position
        if reader.nothing_before(tp, end):
            return end
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"{tp.topic}-{tp.partition}: nothing arrives past offset {position} of {end}"
            )
