"""After a clean stop no event is processed again: all applied events are durable and committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from fresh_topics import make_topics

from headrace.agents.roles import run_worker
from headrace.models.state import items as item_state
from headrace.models.state import users as user_state
from headrace.serving.store.redis import RedisStore
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.names import Topics
from headrace.streams.topics.reader import read_partition
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

EVENTS = 300


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return make_settings(data_dir=tmp_path, durable_every_ms=60_000)  # longer than the test


async def committed(settings: Settings, role: str, topic: str) -> int:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(settings.name(f"headrace-{role}"))
        return sum(found.offset for tp, found in offsets.items() if tp.topic == topic)
    finally:
        await admin.close()


async def saved(settings: Settings, topic: str) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}

    def note(batch: object) -> None:
        for record in batch:  # type: ignore[attr-defined]
            if len(record.key) == 8:
                found[record.key] = record.value

    for partition in range(settings.partitions):
        await read_partition(settings, topic, partition, note)
    return found


async def test_what_was_held_back_is_written_and_committed(
    settings: Settings, sender: BatchSender, eventually: Callable[..., Awaitable[None]]
) -> None:
    topics, store = Topics(settings), RedisStore(settings)
    await make_topics(settings)
    now = time.time_ns() // 1_000_000
    events = [
        Event(event_id=f"e{n}", user_id=f"u{n % 7}", item_id="i1", type="click", ts=now)
        for n in range(EVENTS)
    ]
    await sender.send_keyed(
        topics.events, [(e.user_id.encode(), msgspec.json.encode(e), None, ()) for e in events]
    )

    async def counted() -> bool:
        (row,) = await store.get("i", [hash64("i1")])
        return row is not None and unpack([row], item_state.ROW)[0]["totals"].sum() >= EVENTS

    ready, stop = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_worker(settings, ["ingest", "aggregate"], ready=ready, stop=stop))
    try:
        await eventually(counted, 20)
        assert await committed(settings, "ingest", topics.events) == 0, "held until the durable flush"
        assert await saved(settings, topics.user_state) == {}
    finally:
        stop.set()
        await asyncio.wait_for(running, 20)
        await store.close()

    assert await committed(settings, "ingest", topics.events) == EVENTS
    assert await committed(settings, "aggregate", topics.item_events) > 0  # packed, many in a record
    users = list((await saved(settings, topics.user_state)).values())
    assert unpack(users, user_state.ROW)[0]["n_clicks"].sum() == EVENTS
    items = list((await saved(settings, topics.item_features)).values())
    assert unpack(items, item_state.ROW)[0]["totals"].sum() == EVENTS
    left = {path.name for path in (settings.data_dir / "snapshots").rglob("*") if path.is_file()}
    assert left, "a clean stop leaves snapshots behind"
