"""A tombstone among the events of its user: its place is durable before later events have effects."""

from __future__ import annotations

from typing import Any

import pytest
from fresh_topics import make_topics
from installation import now_ms, producer, publish, read_all, until, worker

from headrace.models.state import users as user_state
from headrace.serving.store.redis import RedisStore
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.packed_item_events import unpack_item_events
from headrace.streams.messages.schemas import Event
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker

USER = "user-1"


async def shown(settings: Settings) -> bool:
    """Return whether readers find a row of the user."""
    store = RedisStore(settings)
    try:
        (row,) = await store.get("u", [hash64(USER)])
    finally:
        await store.close()
    return row is not None


async def clicked(settings: Settings, item: str) -> bool:
    """Return whether the click on an item is in `item-events`."""
    values = [r.value for r in await read_all(settings, Topics(settings).item_events)]
    return bool((unpack_item_events(values, [0] * len(values))[0]["item"] == hash64(item)).any())


async def durable_rows(settings: Settings) -> list[Any]:
    """Return the rows of the user in the changelog, oldest first."""
    key = hash64(USER).to_bytes(8, "little")
    values = [r.value for r in await read_all(settings, Topics(settings).user_state) if r.key == key]
    return list(unpack(values, user_state.ROW)[0])


async def test_what_comes_after_a_tombstone_is_sent_when_the_tombstone_is_durable(
    settings: Settings,
) -> None:
    """Durable flushes are ten minutes apart: without need there is none."""
    settings = settings.model_copy(update={"durable_every_ms": 600_000})
    await make_topics(settings)
    topics = Topics(settings)
    async with producer(settings) as sender, worker(settings, ["ingest"]):
        await publish(sender, topics.events, [(USER, Event("e1", "click", USER, "before", now_ms()))])
        await until(lambda: clicked(settings, "before"), bool)
        await until(lambda: shown(settings), bool)
        await sender.send_keyed(topics.users, [(USER.encode(), None, None, [])])
        await until(lambda: shown(settings), lambda there: not there)
        assert await durable_rows(settings) == []
        await publish(sender, topics.events, [(USER, Event("e2", "click", USER, "after", now_ms()))])
        await until(lambda: clicked(settings, "after"), bool)
        (row,) = await durable_rows(settings)
    assert (int(row["since"]), int(row["profile_offset"])) == (0, 0)
    assert (int(row["offset"]), int(row["n_clicks"])) == (0, 0), "the later click is not in it"
