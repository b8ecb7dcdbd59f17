"""Reads topics without a consumer group: up to their present end, from an offset or from a time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError

from headrace.streams.errors import NoTopicError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.connection import connection
from headrace.streams.topics.refusal import or_hidden
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.closing import closed
from headrace.streams.transport.fetching import ISOLATION, REQUEST_TIMEOUT_S, Fetched, drain, poke
from headrace.streams.transport.log_view import look
from headrace.streams.transport.patience import be_patient
from headrace.streams.transport.places import Place
from headrace.streams.transport.plain_gathering import records_before
from headrace.streams.transport.positions import Positions
from headrace.streams.transport.starts import OTHER, SAME, compare, kept_of

#: How often partitions in doubt are looked at again.
RETRY_S = 0.2
#: After this long without a record, ``read_to`` checks whether any record is left.
EMPTY_S = 0.5

Deliver: TypeAlias = Callable[[RecordBatch], Awaitable[None] | None]


class Reader:
    """A consumer of given partitions, outside any group. Made by ``open_reader``."""

    def __init__(self, consumer: AIOKafkaConsumer, tps: list[TopicPartition], settings: Settings) -> None:
        self._consumer = consumer
        self._settings = settings
        self.partitions = tps
        #: Compares partitions with their logs after failed fetches; None: such logs are read as they are.
        self.positions: Positions | None = None
        #: End offsets of logs that turned out to be others, or to have lost their last records.
        self.turned: dict[TopicPartition, int] = {}

    async def watch(
        self, start: Mapping[TopicPartition, int], turned: Callable[[Any, int, int], None]
    ) -> None:
        """From now on, notice a topic that is made again and lost records; go on in the log that there is.

        Parameters
        ----------
        start
            Where every partition will be read from.
        turned
            Called with (partition, offset, end offset) where reading goes on.
        """

        def note(tp: Any, offset: int, end: int) -> None:
            self.turned[TopicPartition(*tp)] = end
            turned(tp, offset, end)

        self.positions = Positions(lambda: self._consumer, self.seek, note)
        await self.positions.read_from(start)

    async def bounds(
        self, of: Collection[TopicPartition] | None = None
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """Return the first offset and the end offset (next to be written) of every partition, or of some."""
        tps = self.partitions if of is None else of
        return await self._consumer.beginning_offsets(tps), await self._consumer.end_offsets(tps)

    async def misfit(self, places: Mapping[TopicPartition, Place]) -> str:
        """Return why the records before some places are not those of the logs now; "" when they are.

        Raises
        ------
        KafkaError
            When the broker does not answer.
        """
        if set(places) != set(self.partitions):
            return f"it has {len(places)} partitions, the topic {len(self.partitions)}"
        views = await look(self._consumer._client, places)
        for tp, place in places.items():
            name, view = f"{tp.topic}-{tp.partition}", views[tp]
            verdict = compare(place, view)
            if verdict is OTHER:
                return f"{name} was deleted and made again"
            if verdict is not SAME or place.next > view.end:
                return f"{name} has lost its last records"
            if place.next < view.begin:
                return f"records of {name} were deleted before it has them"
        return ""

    async def kept(self, places: Mapping[TopicPartition, Place]) -> dict[TopicPartition, int]:
        """Return up to which offset the logs are still those of some places, as ``kept_of`` does.

        Raises
        ------
        KafkaError
            When the broker does not answer.
        """
        views = await look(self._consumer._client, places)
        return {tp: kept_of(place, views[tp]) for tp, place in places.items()}

    async def offsets_for_time(self, timestamp_ms: int) -> dict[TopicPartition, int | None]:
        """Return, by partition, the offset of the first record dated ``timestamp_ms`` or later, or None."""
        found = await self._consumer.offsets_for_times(dict.fromkeys(self.partitions, timestamp_ms))
        return {tp: None if at is None else int(at.offset) for tp, at in found.items()}

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions from now on, each from its offset in ``positions``."""
        self.partitions = list(positions)
        self._consumer.assign(self.partitions)
        for tp, offset in positions.items():
            self.seek(tp, offset)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Read ``tp`` from ``offset`` on."""
        self._consumer.seek(tp, offset)

    def position(self, tp: TopicPartition) -> int:
        """Return the next offset to be fetched, -1 when it is not known."""
        state = self._state(tp)
        return int(state.position) if state.has_valid_position else -1

    def fetch_only(self, tps: Collection[TopicPartition]) -> None:
        """Fetch from these partitions alone until the next call; the others wait."""
        paused = self._consumer.paused()
        self._consumer.pause(*(tp for tp in self.partitions if tp not in tps and tp not in paused))
        self._consumer.resume(*(tp for tp in tps if tp in paused))
        poke(self._consumer._fetcher)

    def pause(self, tp: TopicPartition) -> None:
        """Stop fetching from ``tp``."""
        self._consumer.pause(tp)

    def _state(self, tp: TopicPartition) -> Any:
        return self._consumer._subscription.subscription.assignment.state_value(tp)

    def nothing_before(self, tp: TopicPartition, end: int) -> bool:
        """Return whether the broker has answered that no record is left between the position and ``end``.

        Compaction removes records. When it removed the last ones of a partition, nothing arrives from there.
        """
        fetcher = self._consumer._fetcher
        return (
            tp not in fetcher._records
            and fetcher._client.empty_from(*tp) == self.position(tp)
            and (self._state(tp).highwater or 0) >= end
        )

    async def _sure(self, positions: Positions) -> list[TopicPartition]:
        """Return the partitions that are not in doubt."""
        if positions.doubtful():
            await positions.settle()
        doubtful = positions.doubtful()
        return [tp for tp in self.partitions if tp not in doubtful] if doubtful else self.partitions

    async def fetch(self, timeout: float) -> list[Fetched]:
        """Return what was fetched, one entry per partition; an empty list after ``timeout`` seconds.

        ``Fetched.records`` may be empty (control batches).
        """
        fetcher = self._consumer._fetcher
        deadline = time.monotonic() + timeout
        while True:
            if self._consumer._closed:
                raise ConsumerStoppedError
            partitions = self.partitions if self.positions is None else await self._sure(self.positions)
            fetched = drain(fetcher, partitions, self._settings.batch_max_records)
            if self.positions is not None:
                for part in fetched:
                    self.positions.take(part, 0, fetcher._client.epoch(*part.tp))
            remaining = deadline - time.monotonic()
            if fetched or remaining <= 0:
                return fetched
            if len(partitions) < len(self.partitions):
                remaining = min(remaining, RETRY_S)
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
    isolation: str = ISOLATION,
) -> AsyncIterator[Reader]:
    """Open a reader. It fetches nothing before ``Reader.start``.

    Parameters
    ----------
    topics
        Full topic names.
    partitions
        Numbers of the partitions to read of every topic; None: all.
    fetch_bytes
        Bytes fetched at once from each partition.
    isolation
        ``read_uncommitted`` also reads what is behind the beginning of a transaction that is still open.

    Raises
    ------
    NoTopicError
        When a topic does not exist.
    """
    consumer = AIOKafkaConsumer(
        **connection(settings),
        client_id="headrace",
        auto_offset_reset="earliest",
        isolation_level=isolation,
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
        yield Reader(consumer, tps, settings)
    finally:
        await closed(consumer)


async def _partitions(consumer: AIOKafkaConsumer, topic: str, settings: Settings) -> list[int]:
    # A topic created a moment ago may be missing from the first answer.
    deadline = time.monotonic() + 2.0
    while True:
        # Requesting the metadata of a missing topic could make the broker create it: list all topics first.
        if topic in await consumer.topics():
            await consumer._client.add_topic(topic)
        found: set[int] | None = consumer._client.cluster.partitions_for_topic(topic)
        if found:
            return sorted(found)
        if time.monotonic() > deadline:
            raise NoTopicError(f"topic {topic} does not exist at {settings.brokers}{or_hidden(settings)}")
        await asyncio.sleep(0.05)


async def read_to(
    reader: Reader,
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    *,
    follow: bool = False,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> AsyncIterator[Fetched]:
    """Read partitions from ``begins`` up to ``ends``; yield what is fetched.

    The last records of a partition may have offsets past its end. When compaction removed the last records
    before an end, a ``Fetched`` without records and with the end as its position is yielded. The caller may
    seek back while it iterates: then it gets those records again.

    Parameters
    ----------
    begins, ends
        First offset to read of each partition, and the end offset to stop at.
    follow
        Keep fetching from partitions that have reached their end while others have not: for a caller that
        reads on after the ends.
    timeout_s
        Longest time without any record, s.

    Raises
    ------
    UnavailableError
        When nothing arrives for ``timeout_s``.
    """
    missing = {tp: end for tp, end in ends.items() if begins[tp] < end}
    if missing or follow:
        reader.start(begins if follow else {tp: begins[tp] for tp in missing})
    deadline = time.monotonic() + timeout_s
    while missing:
        fetched = await reader.fetch(EMPTY_S)
        for tp in reader.turned.keys() & missing.keys():
            missing[tp] = reader.turned.pop(tp)
        if follow:
            # Partitions at their end may get records all the time. Only an answer without any says that there
            # are none: so the missing ones are asked for alone while nothing comes from them.
            came = any(part.tp in missing for part in fetched)
            reader.fetch_only(reader.partitions if came else list(missing))
        for part in fetched:
            yield part
            deadline = time.monotonic() + timeout_s
            if reader.position(part.tp) >= missing.get(part.tp, math.inf):
                del missing[part.tp]
                if not follow:
                    reader.pause(part.tp)
        for tp in [tp for tp, end in missing.items() if reader.nothing_before(tp, end)]:
            end = missing.pop(tp)
            yield Fetched(tp, [], end, end, absent=end - reader.position(tp))
        if missing and time.monotonic() > deadline:
            where = ", ".join(f"{tp.topic}-{tp.partition} before {end}" for tp, end in missing.items())
            raise UnavailableError(f"no records arrive of {where}")
    if follow:
        reader.fetch_only(reader.partitions)


async def read_partition(
    settings: Settings, topic: str, partition: int, apply: Deliver, *, from_offset: int = 0
) -> int:
    """Read one partition from ``from_offset`` (or its first record) to its present end.

    Parameters
    ----------
    topic
        Full topic name.
    apply
        Called with every batch; an awaitable that it returns is awaited.

    Returns
    -------
    int
        The end offset.

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
        async for part in read_to(reader, {tp: max(begins[tp], from_offset)}, ends):
            await deliver(apply, part)
        return int(ends[tp])


async def read_since(
    settings: Settings, topic: str, partition: int, since_ms: int, before_offset: int, apply: Deliver
) -> int:
    """Read the records before ``before_offset``, from the first one dated ``since_ms`` or later.

    Every record before the first one read is older than ``since_ms``. So wherever the largest timestamp read
    so far is at least ``since_ms``, it is also the largest of the whole partition so far.

    Returns
    -------
    int
        Number of records read.

    Raises
    ------
    UnavailableError
        When the broker stops answering.
    """
    count = 0
    async with open_reader(settings, [topic], [partition]) as reader:
        (tp,) = reader.partitions
        found = (await reader.offsets_for_time(since_ms)).get(tp)
        if found is None or found >= before_offset:
            return 0
        begins, _ = await reader.bounds()
        async for part in read_to(reader, {tp: max(begins[tp], found)}, {tp: before_offset}):
            wanted = records_before(part.records, before_offset)
            count += len(wanted)
            await deliver(apply, part._replace(records=wanted))
    return count


async def deliver(apply: Deliver, part: Fetched) -> None:
    """Call ``apply`` with the fetched records, if any, and await what it returns."""
    if part.records:
        waiting = apply(RecordBatch(part.tp.topic, part.tp.partition, part.records))
        if waiting is not None:
            await waiting
