"""What the checks see and do on the broker: requests and replies as records, and replies of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from headrace.serving.requests.address import ReplyAddress, format_reply, parse_reply_address
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.topics.connection import connection
from headrace.streams.topics.names import Topics
from headrace.streams.topics.refusal import unavailable
from headrace.streams.transport.fetching import ISOLATION

#: Partitions of the reply topic: more than one, because a caller has to read them all.
REPLY_PARTITIONS = 3
#: A broker knows a new topic only some time after its answer.
APPEAR_S = 15.0


class Wire:
    """Connections of the checks, with two topics of their own that are deleted at the end.

    Parameters
    ----------
    settings
        Broker, topic prefix and replication of the installation.
    tag
        Part of the names of the topics and of every body that is sent. Of the shared topics, only records
        whose body has it are kept.

    Attributes
    ----------
    requests, dead_letters
        Topics of the installation.
    mute
        A request topic that no worker reads: the checks write its replies.
    replies
        The reply topic for the caller.
    """

    def __init__(self, settings: Settings, tag: str) -> None:
        topics = Topics(settings)
        self.requests, self.dead_letters = topics.requests, topics.dead_letters
        self.mute = settings.name(f"conformance-{tag}")
        self.replies = settings.name(f"rec-replies-conformance-{tag}")
        self.partitions: dict[str, int] = {}
        self._settings = settings
        self._tag = tag.encode()
        self._records: dict[str, list[Any]] = {}
        self._admin: AIOKafkaAdminClient | None = None
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None
        self._reading: asyncio.Task[None] | None = None
        self._arrived = asyncio.Condition()

    async def start(self) -> Self:
        """Make the topics and read all four from now on.

        Raises
        ------
        UnavailableError
            No broker answers, a topic cannot be made, or the installation has no topics.
        """
        try:
            await self._connect()
        except (KafkaError, OSError) as exc:
            await self.stop()
            raise await unavailable(self._settings, exc) from exc
        except BaseException:
            await self.stop()
            raise
        return self

    async def _connect(self) -> None:
        self._admin = AIOKafkaAdminClient(**connection(self._settings))
        await self._admin.start()
        await self._make_topics(self._admin)
        self._consumer = AIOKafkaConsumer(**connection(self._settings), isolation_level=ISOLATION)
        await self._consumer.start()
        self._producer = AIOKafkaProducer(**connection(self._settings))
        await self._producer.start()
        places = [TopicPartition(topic, p) for topic, n in self.partitions.items() for p in range(n)]
        self._consumer.assign(places)
        await self._consumer.seek_to_end(*places)
        for place in places:
            await self._consumer.position(place)  # it is known only now, and nothing written later is missed
        self._reading = asyncio.create_task(self._read(self._consumer))

    async def _make_topics(self, admin: AIOKafkaAdminClient) -> None:
        theirs = (self.requests, self.dead_letters)
        # Not asked for by name: a broker that makes topics on demand would make them.
        if missing := [name for name in theirs if name not in await admin.list_topics()]:
            raise UnavailableError(f"there is no topic {', '.join(missing)}: headrace topics create")
        config = {"retention.ms": str(HOUR_MS)}
        sizes = {self.mute: 2, self.replies: REPLY_PARTITIONS}
        new = [
            NewTopic(name, count, self._settings.replication, topic_configs=config)
            for name, count in sizes.items()
        ]
        answer = await admin.create_topics(new)
        for name, code, *_ in answer.topic_errors:
            if code:
                raise UnavailableError(f"topic {name} was not created: {for_code(code).__name__}")
        self.partitions = sizes
        deadline = time.monotonic() + APPEAR_S
        while True:
            told = await admin.describe_topics([*theirs, *sizes])
            missing = [topic["topic"] for topic in told if topic["error_code"]]
            if not missing:
                break
            if time.monotonic() > deadline:
                raise UnavailableError(f"the broker does not know {', '.join(missing)} after {APPEAR_S:g} s")
            await asyncio.sleep(0.05)
        self.partitions = {topic["topic"]: len(topic["partitions"]) for topic in told}

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            for place, records in (await consumer.getmany(timeout_ms=200)).items():
                own = place.topic in (self.mute, self.replies)
                kept = records if own else [r for r in records if self._tag in (r.value or b"")]
                self._records.setdefault(place.topic, []).extend(kept)
            async with self._arrived:
                self._arrived.notify_all()

    async def wait(self, topic: str, good: Callable[[Any], bool], timeout_s: float) -> Any | None:
        """Return the first record of a topic that is ``good``; None when none comes in time."""
        with_limit = asyncio.timeout(timeout_s)
        try:
            async with with_limit, self._arrived:
                while True:
                    for record in self._records.get(topic, ()):
                        if good(record):
                            return record
                    if self._reading is not None and self._reading.done():
                        self._reading.result()
                    await self._arrived.wait()
        except TimeoutError:
            return None

    def has(self, topic: str, good: Callable[[Any], bool]) -> bool:
        """Return whether a record of a topic that was read so far is ``good``."""
        return any(good(record) for record in self._records.get(topic, ()))

    async def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Iterable[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> None:
        """Write one record; return when the broker has it."""
        assert self._producer is not None  # noqa: S101 - started
        await self._producer.send_and_wait(topic, value, key=key, partition=partition, headers=list(headers))

    async def reply(self, request: Any, body: bytes | None, partition: int | None = None) -> None:
        """Answer a request record as a worker does, in the way of its caller.

        ``body`` is None for a reply without a value. ``partition`` is used when the request names none.
        """
        address = self.address(request)
        topic, named, key, value, headers = format_reply(address, body or b"")
        place = named if named is not None else partition
        await self.send(topic, None if body is None else value, key=key, headers=headers, partition=place)

    def address(self, request: Any) -> ReplyAddress:
        """Return the reply address of a request record.

        Raises
        ------
        ValueError
            It has none.
        """
        address = parse_reply_address(request.headers, request.value)
        if address is None:
            raise ValueError("the request says nowhere to reply to: it has none of the header pairs")
        return address

    async def stop(self) -> None:
        """Delete the topics and disconnect."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        for client in (self._consumer, self._producer):
            if client is not None:
                await client.stop()
        if self._admin is not None:
            try:
                if self.partitions:
                    await self._admin.delete_topics([self.mute, self.replies])
            finally:
                await self._admin.close()
