"""Pauses between requests to a broker that is down or answers empty fetches at once; notes failed fetches.

Apache Kafka holds a fetch until there is data. The embedded broker of the demo and the tests does not.

A connection that the broker has just closed is a lost connection, also where uvloop says so with an error
that aiokafka does not expect. That error would end the task that looks for brokers, for good.
"""

from __future__ import annotations

import asyncio
import logging
import time
from io import BytesIO
from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.fetch import FetchRequest

log = logging.getLogger(__name__)

#: Pause after a metadata request that no broker answered.
RECONNECT_S = 0.1
#: Longest pause while a topic is missing; the first one is ``RECONNECT_S``.
MISSING_S = 1.0
#: Pause after a fetch that was refused, so that a topic that is gone is not asked for in a busy loop.
REFUSED_PAUSE_S = 0.05
#: Bounds of the pause after an empty fetch that the broker did not hold. A single record may wait this long.
MIN_PAUSE_S, MAX_PAUSE_S = 0.002, 0.004
#: The pause when no record has arrived for ``QUIET_S``.
QUIET_PAUSE_S, QUIET_S = 0.025, 15.0


class _Again:
    """A fetch request that is sent repeatedly: encoded once; an answer equal to the last one is not decoded.

    It is used in place of aiokafka's request, of its struct and of the type of the answer.
    """

    def __init__(self, request: Any) -> None:
        self._request = request
        self._struct: Any = None
        self._encoded = b""
        self._nothing: bytes | None = None
        self.RESPONSE_TYPE = self  # read by aiokafka's connection

    def prepare(self, versions: Any) -> Any:
        if self._struct is None:
            self._struct = self._request.prepare(versions)
            self._encoded = self._struct.encode()
            self.build_request_header = self._struct.build_request_header
            self.parse_response_header = self._struct.parse_response_header
        return self

    def encode(self) -> bytes:
        return self._encoded

    def decode(self, raw: BytesIO) -> Any:
        """Return the answer when it has records or an error, else None."""
        body = raw.read()
        if body == self._nothing:
            return None
        answer = self._struct.RESPONSE_TYPE.decode(BytesIO(body))
        if _has_news(answer):
            return answer
        self._nothing = body
        return None


def _has_news(answer: Any) -> bool:
    """Return whether the answer to a fetch has records or an error for some partition."""
    return any(part[1] or part[-1] for _, partitions in answer.topics for part in partitions)


class _PatientClient:
    """The client of a fetcher; it pauses after empty fetches that the broker answered at once.

    The embedded broker does that, and a consumer would then fetch in a busy loop. Here the same request is
    sent again after a pause; without data the pause grows. With a broker that holds fetches there are no
    pauses.

    Attributes
    ----------
    doubts
        (topic, partition) of every fetch that failed, or went to another broker than the one before: the log
        may not be the one that was read. Whoever compares it removes them.
    delay_s
        How long the next fetch waits before it is sent, s, and no other: it brings what several would.
    """

    def __init__(self, fetcher: Any) -> None:
        self._fetcher = fetcher
        self._client = fetcher._client
        self._last_data = time.monotonic()
        self._empty_from: dict[tuple[str, int], int] = {}
        self._epochs: dict[tuple[str, int], int] = {}
        self._nodes: dict[tuple[str, int], int] = {}
        self.doubts: set[tuple[str, int]] = set()
        self.delay_s = 0.0

    def epoch(self, topic: str, partition: int) -> int:
        """Return the leader epoch of the first record batch in the last answer; -1 unknown."""
        return self._epochs.get((topic, partition), -1)

    def empty_from(self, topic: str, partition: int) -> int:
        """Return the offset from which the broker has said that a partition has no records; -1 unknown.

        Only an answer without any record says so. In an answer with records of one partition another one may
        have found no room: the sizes of an answer and of each partition in it are limited.
        """
        return self._empty_from.get((topic, partition), -1)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        """Send a request; return the answer."""
        if not isinstance(request, FetchRequest):
            return await self._client.send(node_id, request, **options)
        tps = [(topic, partition) for topic, partitions in request.topics for partition, *_ in partitions]
        for tp in tps:
            if self._nodes.setdefault(tp, node_id) != node_id:
                self._nodes[tp] = node_id
                self.doubts.add(tp)
        try:
            return await self._fetch(node_id, request)
        except KafkaError:
            self.doubts.update(tps)
            raise

    async def _fetch(self, node_id: int, request: FetchRequest) -> Any:
        delay_s, self.delay_s = self.delay_s, 0.0
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        began, hold = time.monotonic(), request._max_wait_ms / 1000
        plan, again = self._fetcher._wait_consume_future, _Again(request)
        answer = await self._client.send(node_id, request)
        news = answer if _has_news(answer) else None
        now = time.monotonic()
        if news is None and now - began < hold / 2:
            while news is None and now < began + hold:
                await asyncio.sleep(pause_s(now - self._last_data))
                if self._fetcher._wait_consume_future is not plan:
                    break  # another fetch may be due
                news = await self._client.send(node_id, again)
                now = time.monotonic()
        if news is None:
            for topic, partitions in request.topics:
                self._empty_from.update({(topic, partition): offset for partition, offset, _ in partitions})
            return answer
        self._last_data = now
        if self._note(news):
            await asyncio.sleep(REFUSED_PAUSE_S)
        return news

    def _note(self, answer: Any) -> bool:
        """Note the epochs of an answer and the partitions that were refused; return whether any was."""
        refused = False
        for topic, partitions in answer.topics:
            for partition, code, *_, records in partitions:
                if code:
                    refused = True
                    self.doubts.add((topic, partition))
                elif records:
                    self._epochs[topic, partition] = leader_epoch(records)
        return refused


def leader_epoch(records: bytes) -> int:
    """Return the leader epoch in which the first record batch of an answer was written; -1 unknown."""
    if len(records) < 17 or records[16] < 2:
        return -1
    return int.from_bytes(records[12:16], "big", signed=True)


def pause_s(quiet: float) -> float:
    """Return the seconds between two fetches after ``quiet`` seconds without data."""
    if quiet > QUIET_S:
        return QUIET_PAUSE_S
    return min(MAX_PAUSE_S, max(MIN_PAUSE_S, quiet / 5))


_aiokafka_send = AIOKafkaConnection.send


def _send(self: Any, request: Any, expect_response: bool = True) -> Any:
    """Send a request as aiokafka does; a transport that was closed meanwhile is a lost connection."""
    try:
        return _aiokafka_send(self, request, expect_response)
    except KafkaError:  # is a RuntimeError, too
        raise
    except RuntimeError as exc:  # of uvloop; asyncio's transports take what is written, and drop it
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {self._host}:{self._port} broken: {exc}") from exc


def calm(client: Any) -> None:
    """Make a started ``AIOKafkaClient`` wait after a metadata request that no broker answered.

    While its brokers refuse connections, it would try thousands of times a second and take the CPU of other
    processes, for example of a broker that is starting. The same is true while a topic is missing that it
    wants to fetch from. Whatever goes wrong, it tries again: its task is started only once.
    """
    AIOKafkaConnection.send = _send
    update, pause = client._metadata_update, RECONNECT_S

    async def patiently(cluster: Any, topics: Any) -> bool:
        nonlocal pause
        try:
            found: bool = await update(cluster, topics)
        except Exception:
            log.exception("the brokers could not be asked what there is")
            found = False
        if not found:
            await asyncio.sleep(RECONNECT_S)
        elif all(map(cluster.partitions_for_topic, topics or ())):
            pause = RECONNECT_S
        else:
            await asyncio.sleep(pause)
            pause = min(2 * pause, MISSING_S)
        return found

    client._metadata_update = patiently


def be_patient(consumer: Any) -> None:
    """Make a started ``AIOKafkaConsumer`` pause when a broker is down, or does not hold fetches."""
    calm(consumer._client)
    consumer._fetcher._client = _PatientClient(consumer._fetcher)
