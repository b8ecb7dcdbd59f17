"""Callers by hand, one for each way of naming reply topic and correlation id. They need no other library."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from headrace.console.callers.caller import Outcome
from headrace.streams.messages.codec import UNDECODABLE
from headrace.streams.settings import Settings
from headrace.streams.topics.connection import connection
from headrace.streams.transport.fetching import ISOLATION

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Convention:
    """One way to name the reply topic and the correlation id.

    Attributes
    ----------
    name
        Of the convention.
    write
        ``write(body, reply topic, correlation id)`` returns body and headers of the request.
    read
        Returns correlation id and body of a reply record.
    """

    name: str
    write: Callable[[str, str, str], tuple[str, Headers]]
    read: Callable[[Any], tuple[str, bytes]]


def _text(content: bytes | None) -> str:
    return (content or b"").decode("utf-8", "replace")


def _by_headers(topic: str, number: str, more: Headers) -> Callable[[str, str, str], tuple[str, Headers]]:
    def write(body: str, replies: str, identity: str) -> tuple[str, Headers]:
        return body, [(topic, replies.encode()), (number, identity.encode()), *more]

    return write


def _enveloped(body: str, replies: str, identity: str) -> tuple[str, Headers]:
    """Wrap the request as Faust's ``agent.ask()`` does without reply headers."""
    reply_to, correlation = msgspec.json.encode(replies).decode(), msgspec.json.encode(identity).decode()
    tag = '"__faust":{"ns":"@ReqRepRequest"}'
    return f'{{"value":{body},"reply_to":{reply_to},"correlation_id":{correlation},{tag}}}', []


def _plain_reply(number: str) -> Callable[[Any], tuple[str, bytes]]:
    return lambda record: (_text(dict(record.headers).get(number)), record.value or b"")


class _FaustReply(msgspec.Struct):
    value: msgspec.Raw
    correlation_id: str


def _faust_reply(record: Any) -> tuple[str, bytes]:
    try:
        reply = msgspec.json.decode(record.value or b"", type=_FaustReply)
    except UNDECODABLE:
        return _text(record.key), b""  # without a value: its key is the correlation id
    return reply.correlation_id, bytes(reply.value)


#: Partition for the replies that the Spring-like caller asks for.
PARTITION = 1
CONVENTIONS = (
    Convention("plain", _by_headers("reply_to", "correlation_id", []), _plain_reply("correlation_id")),
    Convention(
        "spring",
        _by_headers(
            "kafka_replyTopic",
            "kafka_correlationId",
            [("kafka_replyPartition", PARTITION.to_bytes(4, "big"))],
        ),
        _plain_reply("kafka_correlationId"),
    ),
    Convention("faust", _by_headers("Faust-Ag-ReplyTo", "Faust-Ag-CorrelationId", []), _faust_reply),
    Convention("faust-envelope", _enveloped, _faust_reply),
)


class HeaderCaller:
    """A plain caller: one producer, one consumer of the whole reply topic.

    Parameters
    ----------
    settings
        Where the brokers are, and how to get in.
    convention
        How it names reply topic and correlation id.
    """

    def __init__(self, settings: Settings, convention: Convention) -> None:
        self.name = convention.name
        self._convention = convention
        self._settings = settings
        self._replies = ""
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._producer: AIOKafkaProducer | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, replies: str) -> None:
        """Connect, and read every partition of the reply topic from its end."""
        self._replies = replies
        self._producer = AIOKafkaProducer(**connection(self._settings))
        await self._producer.start()
        self._consumer = consumer = AIOKafkaConsumer(**connection(self._settings), isolation_level=ISOLATION)
        await consumer.start()
        places = [TopicPartition(replies, p) for p in await self._producer.partitions_for(replies)]
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        for place in places:
            await consumer.position(place)
        self._reading = asyncio.create_task(self._read(consumer))

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        async for record in consumer:
            identity, body = self._convention.read(record)
            waiting = self._waiting.pop(identity, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(body)

    async def ask(self, topic: str, key: str, body: str, timeout_s: float) -> Outcome:
        """Send a request and wait for the reply with its correlation id."""
        assert self._producer is not None  # noqa: S101 - started
        identity = secrets.token_hex(8)
        value, headers = self._convention.write(body, self._replies, identity)
        waiting = self._waiting[identity] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await self._producer.send_and_wait(topic, value.encode(), key=key.encode(), headers=headers)
                return Outcome("reply", (await waiting).decode("utf-8", "replace"))
        except TimeoutError:
            return Outcome("timeout")
        finally:
            self._waiting.pop(identity, None)

    async def stop(self) -> None:
        """Disconnect."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        for client in (self._consumer, self._producer):
            if client is not None:
                await client.stop()
