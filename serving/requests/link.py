"""The connections of a caller: a producer for requests, a consumer of the reply topic. See ``client.py``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from itertools import chain
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from headrace.streams.errors import UnavailableError
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.topics.connection import connection
from headrace.streams.topics.refusal import unavailable
from headrace.streams.transport.fetching import ISOLATION
from headrace.streams.transport.patience import be_patient, calm

#: Longest wait for records; between two waits the connections are checked.
LOOK_S = 1.0
#: After so long without any answer of the broker to a fetch, new connections are made.
SILENT_S = 5.0
#: Longest time to close one connection; the broker may not answer any more.
CLOSE_S = 2.0
#: Longest time for connections that are being made to be there, before they are closed.
OPENED_S = 4.0
#: New partitions of the reply topic are noticed within this time.
METADATA_MS = 30_000


class Link:
    """Connections for requests and replies. They are opened once and closed once.

    Parameters
    ----------
    settings
        Broker, and limits of the installation.
    topic
        Full name of the reply topic; it is created when missing.

    Attributes
    ----------
    positions
        Next offset to read of each partition of the reply topic.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._answered = 0
        self._heard = self._looked = time.monotonic()
        self.positions: dict[int, int] = {}

    async def open(self, positions: Mapping[int, int] | None = None) -> None:
        """Connect. After an error nothing is left open.

        Parameters
        ----------
        positions
            Where to read on, by partition: after the records an earlier link has read. A partition that is
            not named, or that ends before its position (the topic was made again), is read from its
            beginning. None: only records written from now on are read.

        Raises
        ------
        UnavailableError
            When no broker answers, or the reply topic cannot be made.
        """
        self._opening = asyncio.create_task(self._connect(positions))
        try:
            await asyncio.shield(self._opening)
        except BaseException as exc:
            await self.close()
            if isinstance(exc, KafkaError | OSError):
                raise await unavailable(self._settings, exc) from exc
            raise

    async def _connect(self, positions: Mapping[int, int] | None) -> None:
        if await self._make_topic() and positions is not None:
            positions = {}  # the old offsets mean nothing in the new topic
        self._producer = AIOKafkaProducer(
            **connection(self._settings),
            max_request_size=self._settings.max_message_bytes + 65_536,
        )
        await self._producer.start()
        calm(self._producer.client)
        self._consumer = AIOKafkaConsumer(
            **connection(self._settings),
            fetch_max_wait_ms=self._settings.fetch_max_wait_ms,
            metadata_max_age_ms=METADATA_MS,
            isolation_level=ISOLATION,
            auto_offset_reset="earliest",  # a topic that was made again is read from its beginning
            enable_auto_commit=False,
        )
        await self._consumer.start()
        be_patient(self._consumer)
        await self._seek(self._consumer, positions)
        self._heard = self._looked = time.monotonic()

    async def _make_topic(self) -> bool:
        """Create the reply topic when it is missing; return whether it was."""
        admin = AIOKafkaAdminClient(**connection(self._settings))
        try:
            await admin.start()
            if self._topic in await admin.list_topics():
                return False
            config = {"retention.ms": str(HOUR_MS)}
            new = NewTopic(self._topic, 1, self._settings.replication, topic_configs=config)
            answer = await admin.create_topics([new])
            refused = [for_code(code) for _, code, *_ in answer.topic_errors if code]
            if refused and refused[0] is not TopicAlreadyExistsError:
                raise UnavailableError(f"reply topic {self._topic} could not be made: {refused[0].__name__}")
            return True
        finally:
            await _in_time(admin.close())

    async def _seek(self, consumer: AIOKafkaConsumer, positions: Mapping[int, int] | None) -> None:
        for _ in range(100):  # metadata of a topic just created may come late
            await consumer._client.add_topic(self._topic)
            if found := consumer._client.cluster.partitions_for_topic(self._topic):
                break
            await asyncio.sleep(0.02)
            await consumer._client.force_metadata_update()
        else:
            raise UnavailableError(f"reply topic {self._topic} could not be made")
        tps = [TopicPartition(self._topic, partition) for partition in found]
        consumer.assign(tps)
        for tp, end in (await consumer.end_offsets(tps)).items():
            position = end if positions is None else positions.get(tp.partition, 0)
            self.positions[tp.partition] = position if position <= end else 0
            consumer.seek(tp, self.positions[tp.partition])

    async def send(
        self, topic: str, value: bytes | None, key: bytes | None, headers: list[tuple[str, bytes]]
    ) -> None:
        """Send a request; return when the broker has taken it.

        Raises
        ------
        KafkaError
            When the broker refuses it, or these connections are closed.
        """
        assert self._producer is not None  # noqa: S101 - open
        await self._producer.send_and_wait(topic, value, key=key, headers=headers)

    async def receive(self) -> list[Any]:
        """Return the records that have arrived; an empty list after ``LOOK_S``.

        Raises
        ------
        UnavailableError
            When these connections are of no more use: no broker answers, or the topic has changed.
        KafkaError
            When the broker refuses to be read from.
        """
        assert self._consumer is not None  # noqa: S101 - open
        fetched = await self._consumer.getmany(timeout_ms=int(LOOK_S * 1000))
        for tp, records in fetched.items():
            self.positions[tp.partition] = records[-1].offset + 1
        if not fetched:
            self._check(self._consumer)
        return [record for records in fetched.values() for record in records]

    def _check(self, consumer: AIOKafkaConsumer) -> None:
        now = time.monotonic()
        answered = sum(consumer.last_poll_timestamp(tp) or 0 for tp in consumer.assignment())
        if answered != self._answered or now - self._looked > 2 * LOOK_S:  # else: this process was busy
            self._heard = now
        self._answered, self._looked = answered, now
        if now - self._heard >= SILENT_S:
            raise UnavailableError(f"no Kafka broker answers at {self._settings.brokers} for {SILENT_S:g} s")
        found = consumer._client.cluster.partitions_for_topic(self._topic)
        if found and len(found) != len(self.positions):
            raise UnavailableError(f"reply topic {self._topic} has {len(found)} partitions now")
        for task in (consumer._fetcher.error_future, self._producer and self._producer._sender.sender_task):
            if task is not None and task.done():
                raise UnavailableError(f"the Kafka client has ended: {task.exception()!r}")

    async def close(self) -> None:
        """Close the connections; requests that were not delivered fail. May be called again."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)  # it goes on when the caller is cancelled

    async def _close(self) -> None:
        if self._opening is not None:
            # Not cancelled at once: aiokafka would leave a connection open.
            await _in_time(self._opening, OPENED_S)
        # A stop that fails leaves the client behind it open: so that is closed too.
        if (producer := self._producer) is not None:
            # Without these a stop waits until everything is delivered: for ever while no broker answers.
            _fail_undelivered(producer._message_accumulator)
            if producer._sender.sender_task is not None:
                producer._sender.sender_task.cancel()
            await _in_time(producer.client.close())
            await _in_time(producer.stop())
            await _in_time(producer.client.close())
        if (consumer := self._consumer) is not None:
            await _in_time(consumer.stop())
            await _in_time(consumer._client.close())


def _fail_undelivered(waiting: Any) -> None:
    batches = [*chain.from_iterable(waiting._batches.values()), *waiting._pending_batches]
    waiting.fail_all(KafkaError("the connection was closed"))
    for batch in batches:
        if batch._drain_waiter.done():
            batch._drain_waiter.exception()  # else asyncio logs it


async def _in_time(closing: Awaitable[None], timeout_s: float = CLOSE_S) -> None:
    """Wait a while for a connection to close; errors of a connection that is closed do not matter."""
    task = asyncio.ensure_future(closing)
    done, _ = await asyncio.wait({task}, timeout=timeout_s)
    if not done:
        task.cancel()
    elif not task.cancelled():
        task.exception()  # else asyncio logs it
