"""`headrace verify` over real topics: profiles, guard rows, neighbours, examples, online weights."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaProducer
from installation import read_all, until, worker
from oracle_examples import encode, event, impression

from headrace.console.verification.live_rows import latest_rows
from headrace.console.verification.raw_topics import read_raw
from headrace.console.verification.result import VerifyResult
from headrace.console.verification.run import verify
from headrace.models.state import items as item_state
from headrace.models.state import neighbours
from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state
from headrace.models.state.items import country_key, place_key
from headrace.serving.store.redis import RedisStore
from headrace.streams.clock import now_ms
from headrace.streams.messages.ids import hash64, hash_many
from headrace.streams.messages.schemas import Context, Event, Example, Item, UserProfile
from headrace.streams.settings import DAY_MS, HOUR_MS, Settings
from headrace.streams.tables.rows import PackedRows, unpack
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

USERS, ITEMS, LISTS = 12, 20, 60
#: The time between two lists, ms.
STEP = 60_000


def history(began: int) -> tuple[list[Any], list[Any]]:
    """Lists of five items, and clicks, likes and hides of some slots: all of the last two hours."""
    rng = np.random.default_rng(3)
    shown, did = [], []
    for i in range(LISTS):
        user, at = f"user-{i % USERS}", began + i * STEP
        items = [f"item-{k}" for k in rng.choice(ITEMS, 5, replace=False)]
        listed = impression(f"r{i}", items, at, user=user)
        listed.age_group = i % 3
        shown.append((user.encode(), encode(listed), at, []))
        for k, kind in enumerate(("click", "click", "like")[: int(rng.integers(4))]):
            e = event(kind, items[k], at + 1000 * (k + 1), request=f"r{i}", user=user)
            e.context = Context(country="BR", age=(None, 17, 20, 70)[i % 4])
            did.append((user.encode(), encode(e), e.ts + 10, []))
        if i % 3:
            e = event("hide", items[4], at + 9000, request=f"r{i}", user=user)
            e.scope = "creator" if i % 3 == 1 else "item"
            did.append((user.encode(), encode(e), e.ts + 10, []))
    return shown, did


@pytest.fixture
async def installation(settings: Settings, tmp_path: Path) -> AsyncIterator[tuple[Settings, BatchSender]]:
    changes = {"partitions": 2, "data_dir": tmp_path, "durable_every_ms": 100, "publish_every_s": 0.2}
    # The next lists come before the examples of these old ones are written: they would make labels unsure.
    changes["seen_below"] = 0
    s = settings.model_copy(update=changes)
    began, t, sender = now_ms() - 2 * HOUR_MS, Topics(s), BatchSender(s)
    await create_topics(s)
    await sender.start()
    catalog = [
        Item(f"item-{i}", began, category=f"category-{i % 5}", creator_id=f"c{i % 3}") for i in range(ITEMS)
    ]
    await sender.send_keyed(t.items, [(i.item_id.encode(), encode(i), began - DAY_MS, []) for i in catalog])
    profiles = [UserProfile(f"user-{u}", "NL", 30 + u, preferred_categories=["category-1"]) for u in (1, 2)]
    await sender.send_keyed(t.users, [(p.user_id.encode(), encode(p), None, []) for p in profiles])
    shown, did = history(began)
    await sender.send_keyed(t.impressions, shown)
    await sender.send_keyed(t.events, did)
    yield s, sender
    await sender.stop()


async def until_equal(settings: Settings, timeout: float = 40) -> VerifyResult:
    deadline = time.monotonic() + timeout
    while True:
        result = await verify(settings)
        if result.exit_code == 0 or time.monotonic() > deadline:
            return result
        await asyncio.sleep(0.5)


async def change(
    settings: Settings, sender: BatchSender, topic: str, dtype: Any, name: str | int, **fields: Any
) -> None:
    """Write the latest row of a user or item to its changelog, with other values."""
    key = name if isinstance(name, int) else hash64(name)
    for partition in range(settings.partitions):
        order = user_state.ORDER if dtype is user_state.ROW else ("offset",)
        latest = await latest_rows(settings, topic, partition, dtype, order)
        if key in latest.rows:
            row = unpack([latest.rows[key]], dtype)[0]
            for field, value in fields.items():
                row[field][0] = value
            record = (key.to_bytes(8, "little"), row.tobytes(), None, [])
            await sender.send_many(topic, [record], partition=partition)
            return
    raise AssertionError(f"no row of {name}")


def said(result: VerifyResult) -> set[tuple[str, str]]:
    return {(d["row"], d["feature"]) for d in result.first}


async def test_everything_that_is_kept_is_compared_and_what_is_changed_is_named(
    installation: tuple[Settings, BatchSender],
) -> None:
    settings, sender = installation
    t = Topics(settings)
    async with worker(settings, ["ingest", "aggregate", "learn"]):
        result = await until_equal(settings)
        assert (result.exit_code, result.first) == (0, [])
        await sender.send_keyed(t.users, [(b"user-3", None, None, [])])
        again = event("click", "item-1", now_ms(), request="", user="user-4")
        await sender.send_keyed(t.events, [(b"user-4", encode(again), None, [])])
        result = await until_equal(settings)
    assert (result.exit_code, result.first) == (0, [])
    assert (
        result.compared
        | {
            "profiles": 2,
            "guard rows of forgotten users": 1,
            "neighbour rows": ITEMS,
            "rows of what users were shown": USERS,
            "users who hid items": 8,
            "users who hid creators": 4,
            "examples": 5 * LISTS,
            "labels of examples": 5 * LISTS,
        }
        == result.compared
    )
    assert result.compared["items shown lately"] > 3 * USERS
    assert result.compared["versions of the online model"] >= 1
    assert result.compared["shown slots that the online model has learnt"] >= 1
    assert result.compared["event ids in dedup windows"] >= 1
    assert result.redis_rows == 2 * USERS + 2 * ITEMS

    await change(settings, sender, t.user_state, user_state.ROW, "user-1", age=77)
    await change(settings, sender, t.user_state, user_state.ROW, "user-3", since=-1)
    await change(settings, sender, t.user_state, user_state.ROW, "user-4", hidden_creators=7)
    await change(settings, sender, t.shown_state, shown_state.ROW, "user-5", counts=9)
    await change(settings, sender, t.shown_state, shown_state.ROW, "user-3", count=1)
    await change(settings, sender, t.neighbours, neighbours.ROW, "item-2", co_total=50)
    young = country_key(hash_many(["item-2"]), np.array([place_key(hash64("BR"), 2)], np.uint64))
    await change(settings, sender, t.item_countries, item_state.ROW, int(young[0]), first_ts=7)
    (first, *_) = [msgspec.json.decode(r.value, type=Example) for r in await read_all(settings, t.examples)]
    await sender.send_keyed(t.examples, [(first.user_id.encode(), encode(first), None, [])])
    await sender.send_many(t.models, [(b"online", b'{"body": ""}', None, [])], partition=0)
    result = await verify(settings, redis=False, first=100)
    assert {
        ("user user-1", "age"),
        ("user user-3", "total click"),
        ("user user-3", "shown lately: item 1"),
        ("user user-4", "hidden creators 1"),
        ("user user-5", "shown lately: item 1"),
        ("item item-2", "total together"),
        ("item item-2 in BR, age group 2", "first event"),
        (f"slot {first.position} shown to {first.user_id}", "examples"),
        ("online model ", "weights"),
    } <= said(result)
    assert {row for row, _ in said(result)} == {
        *(f"user user-{n}" for n in (1, 3, 4, 5)),
        *("item item-2", "item item-2 in BR, age group 2", "online model "),
        f"slot {first.position} shown to {first.user_id}",
    }


async def test_where_nobody_learns_no_example_is_missing(installation: tuple[Settings, BatchSender]) -> None:
    settings, _ = installation
    async with worker(settings, ["ingest", "aggregate"]):
        result = await until_equal(settings)
    assert (result.exit_code, result.first) == (0, [])
    assert "examples" not in result.compared
    assert any("role learn" in note for note in result.notes), result.notes


async def test_neighbours_in_redis_and_a_row_of_a_forgotten_user_there_are_compared(
    installation: tuple[Settings, BatchSender],
) -> None:
    settings, sender = installation
    await sender.send_keyed(Topics(settings).users, [(b"somebody", None, None, [])])
    async with worker(settings, ["ingest", "aggregate", "learn"]):
        assert (await until_equal(settings)).first == []
    store = RedisStore(settings)
    await store.drop("n", [hash64("item-3")])
    await store.drop("s", [hash64("user-2")])
    await store.put("s", PackedRows.of([hash64("somebody")], [bytes(shown_state.ROW.itemsize)]))
    await store.put("u", PackedRows.of([hash64("somebody")], [bytes(user_state.ROW.itemsize)]))
    await store.close()
    result = await verify(settings)
    assert said(result) == {
        ("item item-3", "neighbours in Redis"),
        ("user somebody", "row in Redis"),
        ("user user-2", "shown items in Redis"),
        ("user somebody", "shown items in Redis"),
    }


async def test_a_transaction_leaves_the_topics_whole(settings: Settings, real_kafka: bool) -> None:
    """Its marker has an offset, but is no record that compaction removed."""
    if not real_kafka:
        pytest.skip("the embedded broker has no transactions")
    t = Topics(settings)
    await create_topics(settings)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.brokers, transactional_id=f"{settings.topic_prefix}items"
    )
    async with producer, producer.transaction():
        for topic, name in ((t.items, "item_id"), (t.users, "user_id")):
            body = encode({name: "a", "published_ts": now_ms()})
            await producer.send_and_wait(topic, body, key=b"a")

    async def read() -> Any:
        return (await read_raw(settings, lambda done, text: None))[0]

    # The broker ends a transaction in each partition by itself, after it has told the producer.
    raw = await until(read, lambda raw: (len(raw.items), len(raw.users)) == (1, 1))
    assert (raw.items_whole, raw.users_whole) == (True, True)


async def test_an_event_in_the_wrong_partition_that_nobody_sent_on_is_found(
    installation: tuple[Settings, BatchSender],
) -> None:
    settings, sender = installation
    async with worker(settings, ["ingest", "aggregate", "learn"]):
        assert (await until_equal(settings)).first == []
    found = []
    for partition in range(settings.partitions):
        stray = Event(f"stray-{partition}", "click", "user-5", "item-1", now_ms())
        await sender.send_many(
            Topics(settings).events, [(b"user-5", encode(stray), None, [])], partition=partition
        )
        found.append((await verify(settings, first=100)).compared["records sent on"])
    assert sorted(found) in ([0, 1], [1, 1])
    result = await verify(settings, first=100)
    assert [d["expected"] for d in result.first if d["feature"] == "sent on"] == ["a copy that counts"]
    assert result.rejected_by["moved"] == 1
