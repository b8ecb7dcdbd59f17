"""Callers with one fault each."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiokafka import TopicPartition

from headrace.console.callers.caller import Outcome
from headrace.console.callers.headers import CONVENTIONS, HeaderCaller
from headrace.streams.settings import Settings
from headrace.streams.topics.partitioners import right_partition


class PlainCaller(HeaderCaller):
    """Has no fault; the others change one thing."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, CONVENTIONS[0])


class Hasty(PlainCaller):
    """Its position at the end of the reply topic is known only after the first reply was written."""

    late = True

    async def ask(self, topic: str, key: str, body: str, timeout_s: float) -> Outcome:
        asking = asyncio.create_task(super().ask(topic, key, body, timeout_s))
        if self.late:
            self.late = False
            assert self._consumer is not None
            places = [TopicPartition(self._replies, p) for p in range(3)]
            self._consumer.pause(*places)
            while not any((await self._consumer.end_offsets(places)).values()):
                await asyncio.sleep(0.01)
            await self._consumer.seek_to_end(*places)
            self._consumer.resume(*places)
        return await asking


class Keyless(PlainCaller):
    """Sends requests without a key."""

    async def start(self, replies: str) -> None:
        await super().start(replies)
        producer: Any = self._producer
        send = producer.send_and_wait
        producer.send_and_wait = lambda topic, value, key, headers: send(topic, value, headers=headers)


class Elsewhere(PlainCaller):
    """Puts every request into the wrong one of two partitions."""

    async def start(self, replies: str) -> None:
        await super().start(replies)
        producer: Any = self._producer
        send = producer.send_and_wait

        def wrong(topic: str, value: bytes, key: bytes, headers: Any) -> Any:
            place = 1 - right_partition(key, 2)
            return send(topic, value, key=key, headers=headers, partition=place)

        producer.send_and_wait = wrong


class Mailbox(PlainCaller):
    """Takes the next record of the reply topic for its reply, whatever its correlation id."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._next: asyncio.Queue[bytes] = asyncio.Queue()

    async def _read(self, consumer: Any) -> None:
        async for record in consumer:
            self._next.put_nowait(record.value or b"")

    async def ask(self, topic: str, key: str, body: str, timeout_s: float) -> Outcome:
        sending = asyncio.create_task(super().ask(topic, key, body, timeout_s))
        try:
            async with asyncio.timeout(timeout_s):
                return Outcome("reply", (await self._next.get()).decode("utf-8", "replace"))
        except TimeoutError:
            return Outcome("timeout")
        finally:
            sending.cancel()


class Strict(PlainCaller):
    """Refuses a reply with a field that it does not know."""

    async def ask(self, topic: str, key: str, body: str, timeout_s: float) -> Outcome:
        outcome = await super().ask(topic, key, body, timeout_s)
        more = set(json.loads(outcome.text)) - {"request_id", "items"} if outcome.text else set()
        return Outcome("error", f"unknown: {sorted(more)}") if more else outcome


class Fragile(PlainCaller):
    """Reads no more after a reply without a value."""

    async def _read(self, consumer: Any) -> None:
        async for record in consumer:
            identity, body = self._convention.read(record)
            json.loads(body)
            self._waiting.pop(identity).set_result(body)


class Patient(PlainCaller):
    """Has no timeout."""

    async def ask(self, topic: str, key: str, body: str, timeout_s: float) -> Outcome:
        return await super().ask(topic, key, body, 3600)
