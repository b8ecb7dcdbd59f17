"""Replies say ``user`` and ``neighbours`` when the rows in Redis may be old, for whatever reason."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import redis.asyncio as redis
from fresh_topics import make_topics
from installation import ITEMS, now_ms, producer, publish, until, worker

from headrace.demo.embedded import EmbeddedRedis
from headrace.models.state import users as user_state
from headrace.serving.requests.client import RecClient
from headrace.serving.store.redis import RedisStore
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event, RecReply, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker

USER: dict[str, Any] = {
    "enabled": True, "nopass": False, "passwords": ["+secret"], "keys": ["*"], "reset": True,
}  # fmt: skip
_numbers = itertools.count()


async def ask(client: RecClient, user: str) -> RecReply:
    request = RecRequest(f"r{next(_numbers)}", user, "home", n=5, deadline_ms=20_000)
    return await client.recommend(request, 20)


def says(reply: RecReply) -> set[str]:
    return set(reply.degraded) & {"user", "neighbours"}


async def clicks_in(store: RedisStore, user: str) -> int:
    """The clicks in the row that replies use. A click passes a topic first."""
    rows = await store.get("u", [hash64(user)])
    return 0 if rows[0] is None else int(unpack(rows, user_state.ROW)[0]["n_clicks"][0])


async def test_replies_say_that_history_is_old_and_it_heals(settings: Settings) -> None:
    with EmbeddedRedis() as server:
        async with redis.from_url(server.url) as admin:
            await admin.acl_setuser("headrace", commands=["+@all"], **USER)
            url = server.url.replace("redis://", "redis://headrace:secret@")
            changes = {"partitions": 2, "redis_url": url, "redis_read_ms": 2000}
            quick = settings.model_copy(update=changes)
            await make_topics(quick)
            store = RedisStore(quick)
            async with producer(quick) as sender:
                await publish(sender, Topics(quick).items, [(i.item_id, i) for i in ITEMS])
                async with worker(quick, ["serve"]), RecClient(quick, "shop") as client:
                    assert says(await ask(client, "u")) == {"user"}, "no worker has written anything yet"
                    async with worker(quick, ["ingest", "aggregate"]):
                        await until(lambda: ask(client, "u"), lambda r: not says(r), 30)
                        await click(quick, sender, "u", "item-7")
                        await until(lambda: clicks_in(store, "u"), lambda n: n == 1, 30)
                        await admin.acl_setuser("headrace", commands=["+@all", "-eval"], **USER)
                        both = {"user", "neighbours"}
                        await until(lambda: ask(client, "u"), lambda r: says(r) == both, 30)
                        await click(quick, sender, "u", "item-9")
                        assert says(await ask(client, "u")) == both
                        await admin.acl_setuser("headrace", commands=["+@all"], **USER)
                        await until(lambda: ask(client, "u"), lambda r: not says(r), 30)
                        assert await clicks_in(store, "u") >= 1, "what the store had before it refused writes"
                        await until(lambda: clicks_in(store, "u"), lambda n: n == 2, 30)
                    await until(lambda: ask(client, "u"), lambda r: says(r) == both, 30)
            await store.close()


async def click(settings: Settings, sender: Any, user: str, item: str) -> None:
    event = Event(f"e{next(_numbers)}", "click", user, item, now_ms())
    await publish(sender, Topics(settings).events, [(user, event)])
