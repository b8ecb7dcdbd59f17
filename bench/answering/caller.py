"""Asks a serving worker over its topic, and notes when which reply comes. It shares the machine with it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import msgspec
import numpy as np
from aiokafka import AIOKafkaProducer

from headrace.serving.requests.address import PLAIN_ID, PLAIN_TOPIC
from headrace.serving.requests.link import Link
from headrace.streams.messages.schemas import Context, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.topics.connection import connection
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import partition_of

#: Requests that are due are sent this often, s.
TURN_S = 0.002
#: After the last request, replies are waited for so long, s.
PATIENCE_S = 10.0
REPLIES = "rec-replies-bench"
_JSON = msgspec.json.Encoder()


class Fault(msgspec.Struct):
    """What is looked at of an error."""

    code: str = ""


class Seen(msgspec.Struct):
    """What is looked at of a reply."""

    items: list[msgspec.Raw] = []
    degraded: list[str] = []
    error: Fault | None = None


class Outcome:
    """Replies to requests at a rate, or one after the other.

    Attributes
    ----------
    sent, answered, full
        Requests; replies; replies with items from which nothing was left out.
    times
        From the send of each answered request to its reply, s; ``at``: when that was sent, since the begin.
    degraded, refused
        What replies lacked, and how often; codes of replies that are an error, and how often.
    seconds
        From the first request to the last reply.
    """

    def __init__(self) -> None:
        self.sent = self.answered = self.full = self.errors = self.empty = 0
        self.times: list[float] = []
        self.at: list[float] = []
        self.degraded: dict[str, int] = {}
        self.refused: Counter[str] = Counter()
        self.seconds = 0.0

    def take(self, body: bytes, sent: float, began: float) -> None:
        """Note a reply that is here now."""
        now = time.perf_counter()
        self.answered += 1
        self.times.append(now - sent)
        self.at.append(sent - began)
        self.seconds = now - began
        reply = _DECODER.decode(body)
        if reply.error is not None:
            self.errors += 1
            self.refused[reply.error.code] += 1
            return
        self.empty += not reply.items
        self.full += bool(reply.items) and not reply.degraded
        for what in reply.degraded:
            self.degraded[what] = self.degraded.get(what, 0) + 1

    def percentiles(self, *wanted: int) -> dict[str, float | None]:
        """Return percentiles of the times, ms."""
        return {
            f"p{q}_ms": round(1000 * float(np.percentile(self.times, q)), 2) if self.times else None
            for q in wanted
        }

    def within(self, seconds: float) -> int:
        """Return how many replies came in time."""
        return int(np.count_nonzero(np.array(self.times) <= seconds))


_DECODER = msgspec.json.Decoder(Seen)


class Caller:
    """Sends requests of users in turns. An asynchronous context manager."""

    def __init__(
        self, settings: Settings, users: Sequence[str], countries: Sequence[str], size: int = 20
    ) -> None:
        self._settings, self._users, self._countries, self._size = settings, users, countries, size
        self._topic, self._replies = Topics(settings).requests, settings.name(REPLIES)
        self._link = Link(settings, self._replies)
        self._producer = AIOKafkaProducer(**connection(settings), max_request_size=1 << 22)
        self._number = 0

    async def __aenter__(self) -> Self:
        await self._link.open()
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()
        await self._link.close()

    async def _send(self, deadline_ms: int) -> bytes:
        """Send the next request; return its correlation id."""
        n = self._number = self._number + 1
        user, name = self._users[n % len(self._users)], f"{n}"
        country = self._countries[n % len(self._countries)]
        request = RecRequest(
            request_id=name, user_id=user, surface="home", n=self._size, deadline_ms=deadline_ms,
            context=Context(country=country, device="phone"),
        )  # fmt: skip
        key, headers = user.encode(), [(PLAIN_TOPIC, self._replies.encode()), (PLAIN_ID, name.encode())]
        partition = partition_of(key, self._settings.partitions)
        await self._producer.send(
            self._topic, _JSON.encode(request), key, partition=partition, headers=headers
        )
        return name.encode()

    async def at_rate(self, rate: float, seconds: float, deadline_ms: int) -> Outcome:
        """Send at fixed times, whatever comes back; wait ``PATIENCE_S`` for the last replies."""
        async with self._asking() as (out, open_, began):
            while (now := time.perf_counter()) < began + seconds:
                for _ in range(int((now - began) * rate) - out.sent):
                    await self._ask(out, open_, deadline_ms)
                await asyncio.sleep(TURN_S)
        return out

    async def in_flight(self, waiting: int, seconds: float, deadline_ms: int = 60_000) -> Outcome:
        """Send a request for each reply, so that so many are always waiting."""
        async with self._asking() as (out, open_, began):
            while time.perf_counter() < began + seconds:
                while len(open_) < waiting:
                    await self._ask(out, open_, deadline_ms)
                await asyncio.sleep(TURN_S)
        return out

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[tuple[Outcome, dict[bytes, float], float]]:
        """Give what replies come into, when which request was sent, and the begin; wait at the end."""
        out, open_, began = Outcome(), dict[bytes, float](), time.perf_counter()
        reading = asyncio.create_task(self._read(out, open_, began))
        try:
            yield out, open_, began
            await self._rest(open_)
        finally:
            reading.cancel()

    async def _ask(self, out: Outcome, open_: dict[bytes, float], deadline_ms: int) -> None:
        out.sent += 1
        sent = time.perf_counter()
        open_[await self._send(deadline_ms)] = sent

    async def first(self, seconds: float, *, full: bool = True) -> float:
        """Ask again and again until a full list comes; return how long that took, s."""
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            out = await self.at_rate(20, 0.1, 60_000)
            if out.full or (out.answered and not full):
                return time.perf_counter() - began
        raise SystemExit(
            f"no full list within {seconds:g} s: {out.sent} asked, {out.answered} {out.degraded}"
        )

    async def _rest(self, open_: dict[bytes, float]) -> None:
        end = time.perf_counter() + PATIENCE_S
        while open_ and time.perf_counter() < end:
            await asyncio.sleep(0.01)

    async def _read(self, out: Outcome, open_: dict[bytes, float], began: float) -> None:
        while True:
            for record in await self._link.receive():
                sent = open_.pop(_correlation(record), None)
                if sent is not None:
                    out.take(record.value, sent, began)


def _correlation(record: Any) -> bytes:
    return dict(record.headers).get(PLAIN_ID, b"")
