"""A client of the request topic. Unlike Faust's ``ask()`` it has timeouts, bounds and errors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from types import TracebackType
from typing import Self

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from headrace.serving.requests.address import PLAIN_ID, PLAIN_TOPIC
from headrace.streams.errors import HeadraceError, UnavailableError
from headrace.streams.messages.schemas import RecReply, RecRequest
from headrace.streams.settings import HOUR_MS, Settings
from headrace.streams.topics.names import Topics
from headrace.streams.transport.fetching import ISOLATION
from headrace.streams.transport.patience import be_patient

log = logging.getLogger(__name__)


class RecClient:
    """Sends requests and matches replies to them. An asynchronous context manager, for one event loop.

    Parameters
    ----------
    settings
        Broker and topic prefix of the installation.
    name
        Replies come to the topic ``rec-replies-<name>``, which is created when missing. Clients with the same
        name read each other's replies and ignore them.
    timeout_s
        Default of the methods.
    max_pending
        Requests that may wait for their replies at once.
    """

    def __init__(
        self, settings: Settings, name: str = "client", *, timeout_s: float = 2.0, max_pending: int = 10_000
    ) -> None:
        self.reply_topic = settings.name(f"rec-replies-{name}")
        self._settings = settings
        self._request_topic = Topics(settings).requests
        self._timeout_s = timeout_s
        self._max_pending = max_pending
        self._tag = secrets.token_hex(6)
        self._count = 0
        self._pending: dict[bytes, asyncio.Future[bytes]] = {}
        self._decoder = msgspec.json.Decoder(RecReply)
        self._reading: asyncio.Task[None] | None = None
        self._producer: AIOKafkaProducer | None = None
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> Self:
        """Connect; on return, the client reads the reply topic.

        Raises
        ------
        UnavailableError
            When no broker answers.
        """
        bootstrap = self._settings.brokers.split(",")
        try:
            await self._create_topic(bootstrap)
            self._producer = AIOKafkaProducer(
                bootstrap_servers=bootstrap, max_request_size=self._settings.max_message_bytes + 65_536
            )
            await self._producer.start()
            self._consumer = AIOKafkaConsumer(
                bootstrap_servers=bootstrap,
                fetch_max_wait_ms=self._settings.fetch_max_wait_ms,
                isolation_level=ISOLATION,
            )
            await self._consumer.start()
            be_patient(self._consumer)
            await self._join_end(self._consumer)
        except KafkaError as exc:
            await self.stop()
            raise UnavailableError(f"no Kafka broker answers at {self._settings.brokers}: {exc}") from exc
        self._reading = asyncio.create_task(self._read(self._consumer))
        return self

    async def _create_topic(self, bootstrap: list[str]) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        try:
            await admin.start()
            if self.reply_topic not in await admin.list_topics():
                config = {"retention.ms": str(HOUR_MS)}
                replication = self._settings.replication
                await admin.create_topics([NewTopic(self.reply_topic, 1, replication, topic_configs=config)])
        finally:
            await admin.close()

    async def _join_end(self, consumer: AIOKafkaConsumer) -> None:
        for _ in range(100):  # metadata of a topic just created may come late
            await consumer._client.add_topic(self.reply_topic)
            if found := consumer._client.cluster.partitions_for_topic(self.reply_topic):
                break
            await asyncio.sleep(0.02)
            await consumer._client.force_metadata_update()
        else:
            raise UnavailableError(f"reply topic {self.reply_topic} could not be made")
        tps = [TopicPartition(self.reply_topic, partition) for partition in found]
        consumer.assign(tps)
        for tp, end in (await consumer.end_offsets(tps)).items():
            consumer.seek(tp, end)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        try:
            while True:
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    for record in records:
                        waiting = self._pending.pop(dict(record.headers).get(PLAIN_ID, b""), None)
                        if waiting is not None and not waiting.done():
                            waiting.set_result(record.value or b"")
        except KafkaError as exc:
            for waiting in self._pending.values():
                if not waiting.done():
                    waiting.set_exception(UnavailableError(f"reading replies failed: {exc}"))

    async def stop(self) -> None:
        """Disconnect; calls that still wait raise ``CancelledError``."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
            self._reading = None
        for waiting in self._pending.values():
            waiting.cancel()
        self._pending.clear()
        for part in (self._producer, self._consumer):
            if part is not None:
                await part.stop()
        self._producer = self._consumer = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def recommend(self, request: RecRequest, timeout_s: float | None = None) -> RecReply:
        """Ask for a list. A refused request gets a reply too: look at ``reply.error``.

        Raises
        ------
        TimeoutError
            When no reply came in time.
        UnavailableError
            When the broker does not accept the request, or reading replies failed.
        HeadraceError
            When too many requests are waiting already.
        """
        body = await self.request(msgspec.json.encode(request), request.user_id.encode(), timeout_s=timeout_s)
        return self._decoder.decode(body)

    async def request(
        self, value: bytes | None, key: bytes | None = None, *, timeout_s: float | None = None
    ) -> bytes:
        """Send any body to the request topic and return the reply's body. Raises as ``recommend``."""
        if self._producer is None or self._reading is None:
            raise HeadraceError("the client is not started")
        if len(self._pending) >= self._max_pending:
            raise HeadraceError(f"{len(self._pending)} requests are waiting for replies already")
        self._count += 1
        correlation_id = f"{self._tag}-{self._count}".encode()
        waiting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._pending[correlation_id] = waiting  # before the send: the reply may arrive before it returns
        headers = [(PLAIN_TOPIC, self.reply_topic.encode()), (PLAIN_ID, correlation_id)]
        try:
            async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
                await self._producer.send(self._request_topic, value, key=key, headers=headers)
                return await waiting
        except KafkaError as exc:
            raise UnavailableError(f"the request was not taken: {exc}") from exc
        finally:
            self._pending.pop(correlation_id, None)

    @property
    def pending(self) -> int:
        """Number of requests that wait for their replies."""
        return len(self._pending)
