"""A transactional producer of events and items: what it aborts is as if it had never been sent."""

from __future__ import annotations

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from fresh_topics import make_topics
from installation import ITEMS, dead_letters, now_ms, until, worker

from headrace.console.verification.run import verify
from headrace.models.state import users as user_state
from headrace.serving.requests.client import RecClient
from headrace.serving.store.redis import RedisStore
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event, Item, RecRequest
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.lag import lag
from headrace.streams.topics.names import Topics

pytestmark = pytest.mark.broker


async def send(
    producer: AIOKafkaProducer, settings: Settings, items: list[Item], clicks: int, *, abort: bool
) -> None:
    """Send items and clicks of user ``u`` on the first of them in one transaction, and end it."""
    topics, encode = Topics(settings), msgspec.json.encode
    await producer.begin_transaction()
    for item in items:
        await producer.send(topics.items, encode(item), key=item.item_id.encode())
    for n in range(clicks):
        event = Event(f"{abort}-{n}", "click", "u", items[0].item_id, now_ms())
        await producer.send(topics.events, encode(event), key=b"u")
    await (producer.abort_transaction() if abort else producer.commit_transaction())


async def test_an_aborted_click_does_not_count_and_an_aborted_item_is_not_shown(
    settings: Settings, real_kafka: bool
) -> None:
    if not real_kafka:
        pytest.skip("the embedded broker has no transactions")
    await make_topics(settings)
    withdrawn = Item("never-sent", now_ms(), "a story", "sport", ["ball"])
    producer = AIOKafkaProducer(bootstrap_servers=settings.brokers, transactional_id=settings.name("shop"))
    store = RedisStore(settings)
    async with producer, worker(settings, ["ingest", "aggregate", "serve"]):
        await send(producer, settings, ITEMS[:20], 2, abort=False)
        await send(producer, settings, [withdrawn], 4, abort=True)
        await send(producer, settings, ITEMS[20:40], 0, abort=False)  # after it, so that it was passed
        key = hash64("u")
        await until(lambda: store.get("u", [key]), lambda found: found[0] is not None)
        await until(lambda: lag(settings), lambda rows: rows and not any(r.records for r in rows))
        row = unpack(await store.get("u", [key]), user_state.ROW)[0][0]
        assert row["n_clicks"] == 2
        async with RecClient(settings, "tx", timeout_s=5.0) as client:
            n = 0

            async def shown() -> set[str]:
                nonlocal n
                n += 1
                request = RecRequest(f"r{n}", "another", "home", n=100, deadline_ms=5000)
                return {item.item_id for item in (await client.recommend(request)).items}

            assert await until(shown, lambda ids: len(ids) == 40) == {item.item_id for item in ITEMS[:40]}
        result = await until(lambda: verify(settings), lambda result: result.exit_code == 0)
    assert (result.events, result.items, result.differences) == (2, 40, 0)
    assert await dead_letters(settings) == []
    await store.close()
