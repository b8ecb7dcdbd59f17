"""Clients that do not keep a broker busy which is away, or which answers empty fetches at once.

Apache Kafka holds a fetch until there is data. The embedded broker of the demo and the tests does not.
"""

from __future__ import annotations

import asyncio
import time
from io import BytesIO
from typing import Any

from aiokafka.protocol.fetch import FetchRequest

#: Pause after a question for metadata that no broker answered.
RECONNECT_S = 0.1
#: Bounds of the pause after an empty fetch that the broker did not hold: what a lone record waits for.
MIN_PAUSE_S, MAX_PAUSE_S = 0.002, 0.004
#: The pause once nothing has come for ``QUIET_S``.
QUIET_PAUSE_S, QUIET_S = 0.025, 15.0


class _Again:
    """A fetch request sent again and again: encoded once; an answer like the one before is not decoded.

    Stands in for aiokafka's request, the struct made of it, and the type of the answer.
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
        """Return the answer when there is anything new in it, else None."""
        body = raw.read()
        if body == self._nothing:
            return None
        answer = self._struct.RESPONSE_TYPE.decode(BytesIO(body))
        if _has_news(answer):
            return answer
        self._nothing = body
        return None


def _has_news(answer: Any) -> bool:
    """Return whether an answer to a fetch has an error or records for some partition."""
    return any(part[1] or part[-1] for _, partitions in answer.topics for part in partitions)


class _PatientClient:
    """The client of a fetcher; it holds fetches itself where the broker answers empty ones at once.

    The embedded broker does that; a consumer would keep it, and itself, busy with nothing. Here it is asked
    again, cheaply, after a pause that is the longer the longer nothing came. A broker that holds fetches
    never gets to see this.
    """

    def __init__(self, fetcher: Any) -> None:
        self._fetcher = fetcher
        self._client = fetcher._client
        self._last_data = time.monotonic()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node_id: int, request: Any, **options: Any) -> Any:
        """Send a request; return the answer."""
        if not isinstance(request, FetchRequest):
            return await self._client.send(node_id, request, **options)
        began, hold = time.monotonic(), request._max_wait_ms / 1000
        plan, again = self._fetcher._wait_consume_future, _Again(request)
        answer = await self._client.send(node_id, request)
        news = answer if _has_news(answer) else None
        now = time.monotonic()
        if news is None and now - began < hold / 2:
            while news is None and now < began + hold:
                await asyncio.sleep(pause_s(now - self._last_data))
                if self._fetcher._wait_consume_future is not plan:
                    break  # there may be something else to ask for
                news = await self._client.send(node_id, again)
                now = time.monotonic()
        if news is None:
            return answer
        self._last_data = now
        return news


def pause_s(quiet: float) -> float:
    """Return the pause between fetches of a broker that holds none, after ``quiet`` seconds without data."""
    if quiet > QUIET_S:
        return QUIET_PAUSE_S
    return min(MAX_PAUSE_S, max(MIN_PAUSE_S, quiet / 5))


def calm(client: Any) -> None:
    """Have a started ``AIOKafkaClient`` wait before it asks again for metadata that nobody gave it.

    While its brokers refuse connections it would ask thousands of times a second, at the cost of whoever
    shares the machine: a broker that starts again, for example.
    """
    update = client._metadata_update

    async def patiently(*args: Any) -> bool:
        found: bool = await update(*args)
        if not found:
            await asyncio.sleep(RECONNECT_S)
        return found

    client._metadata_update = patiently


def be_patient(consumer: Any) -> None:
    """Keep a started ``AIOKafkaConsumer`` from always asking a broker that is away, or holds no fetches."""
    calm(consumer._client)
    consumer._fetcher._client = _PatientClient(consumer._fetcher)
