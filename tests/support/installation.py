"""A running installation as a producer and a caller see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer

from headrace.agents.roles import run_worker
from headrace.streams.clock import now_ms
from headrace.streams.messages.schemas import Item
from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import DeadLetter, read_dead_letter
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender


@asynccontextmanager
async def worker(settings: Settings, roles: list[str], *, within_s: float = 20) -> AsyncIterator[None]:
    ready, stop = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_worker(settings, roles, ready=ready, stop=stop))
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({running, waiting}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    assert ready.is_set(), f"the worker did not start within {within_s} s"
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(running, 20)


async def until(what: Callable[[], Awaitable[Any]], good: Callable[[Any], bool], timeout: float = 15) -> Any:
    """Poll until ``good``, or fail showing the last value."""
    deadline = time.monotonic() + timeout
    while True:
        value = await what()
        if good(value):
            return value
        assert time.monotonic() < deadline, f"not in time; last seen: {repr(value)[:1000]}"
        await asyncio.sleep(0.05)


async def read_all(settings: Settings, topic: str) -> list[Any]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=settings.brokers,
        auto_offset_reset="earliest",
        group_id=None,
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        parts = consumer.assignment()
        ends = await consumer.end_offsets(parts)
        out = []
        while any([await consumer.position(p) < ends[p] for p in parts]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                out.extend(records)
        return out
    finally:
        await consumer.stop()


async def dead_letters(settings: Settings) -> list[DeadLetter]:
    return [read_dead_letter(r) for r in await read_all(settings, Topics(settings).dead_letters)]


ITEMS = [
    Item(
        item_id=f"item-{i}",
        title=f"story {i}",
        category="sport" if i % 2 else "music",
        tags=["ball"] if i % 2 else ["song"],
        published_ts=now_ms() - i * 1000,
    )
    for i in range(60)
]


async def publish(sender: BatchSender, topic: str, pairs: list[tuple[str, Any]]) -> None:
    encode = msgspec.json.Encoder().encode
    await sender.send_keyed(topic, [(k.encode(), encode(v), None, []) for k, v in pairs])


@asynccontextmanager
async def producer(settings: Settings) -> AsyncIterator[BatchSender]:
    sender = BatchSender(settings)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop()
