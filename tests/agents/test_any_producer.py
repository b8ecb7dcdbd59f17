"""Records of any producer: in the wrong partition, without a key, sent on twice, dated at any time."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from counting_stage import move_group
from fresh_topics import make_topics
from installation import dead_letters, now_ms, producer, publish, read_all, until, worker

from headrace.models.state import users as user_state
from headrace.serving.requests.client import RecClient
from headrace.serving.store.redis import RedisStore
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event, Item, RecRequest, UserProfile
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.names import Topics
from headrace.streams.topics.placement import FORWARDED, Origin, misplaced, origin_of
from headrace.streams.topics.sender import BatchSender, partition_of

pytestmark = pytest.mark.broker

USERS = [f"user-{n}" for n in range(20)]
ITEM = "item-1"


def click(user: str, number: int, ts: int) -> Event:
    return Event(f"{user}-{number}", "click", user, ITEM, ts)


def by_crc32(key: str, partitions: int) -> int:
    """Return the partition where librdkafka puts a key by default."""
    return zlib.crc32(key.encode()) % partitions


async def put(
    sender: BatchSender,
    topic: str,
    partition: int,
    key: str | None,
    value: Any,
    ts: int | None = None,
    *headers: Any,
) -> None:
    body = None if value is None else msgspec.json.encode(value)
    record = (None if key is None else key.encode(), body, ts, headers)
    await sender.send_many(topic, [record], partition=partition)


async def rows_of(settings: Settings, users: list[str]) -> dict[str, Any]:
    store = RedisStore(settings)
    try:
        packed = await store.get("u", [hash64(user) for user in users])
    finally:
        await store.close()
    rows, there = unpack(packed, user_state.ROW)
    return {user: rows[i] for i, user in enumerate(users) if there[i]}


async def until_counted(settings: Settings, counts: dict[str, int]) -> dict[str, Any]:
    """Wait until the rows of users have these numbers of clicks; return the rows."""
    return await until(
        lambda: rows_of(settings, list(counts)),
        lambda rows: {user: int(row["n_clicks"]) for user, row in rows.items()} == counts,
    )


@contextlib.asynccontextmanager
async def installation(settings: Settings) -> AsyncIterator[tuple[Topics, BatchSender]]:
    """Make the topics and publish an item; yield the topics and a producer."""
    await make_topics(settings)
    topics = Topics(settings)
    async with producer(settings) as sender:
        await publish(sender, topics.items, [(ITEM, Item(ITEM, now_ms()))])
        yield topics, sender


async def test_a_shop_with_two_kinds_of_clients_counts_every_click_once(settings: Settings) -> None:
    """Four clicks by a client with another partitioner and two by a good one: six for every user."""
    async with installation(settings) as (topics, sender), worker(settings, ["ingest"]):
        for n in range(4):
            for user in USERS:
                partition = by_crc32(user, settings.partitions)
                await put(sender, topics.events, partition, user, click(user, n, now_ms()))
        await publish(sender, topics.events, [(u, click(u, n, now_ms())) for n in (4, 5) for u in USERS])
        await until_counted(settings, dict.fromkeys(USERS, 6))
    assert await dead_letters(settings) == []
    wrong = [
        u for u in USERS if by_crc32(u, settings.partitions) != partition_of(u.encode(), settings.partitions)
    ]
    moved = [record for record in await read_all(settings, topics.events) if origin_of(record)]
    assert len(moved) == 4 * len(wrong) > 0
    for record in moved:
        assert not misplaced([record], record.partition, settings.partitions)[0]


async def test_records_without_a_key_or_elsewhere_find_their_user_and_their_item(settings: Settings) -> None:
    """A compacted topic takes no record without a key, so only an event can be without one."""
    users, items = USERS[: settings.partitions], [f"new-{n}" for n in range(settings.partitions)]
    async with installation(settings) as (topics, sender):
        for partition, (user, item) in enumerate(zip(users, items, strict=True)):
            elsewhere = (partition_of(user.encode(), settings.partitions) + 1) % settings.partitions
            await put(sender, topics.events, partition, None, click(user, 1, now_ms()))
            await put(sender, topics.users, elsewhere, user, UserProfile(user, "BR", 33))
            elsewhere = (partition_of(item.encode(), settings.partitions) + 1) % settings.partitions
            await put(sender, topics.items, elsewhere, item, Item(item, now_ms()))
        async with worker(settings, ["ingest"]):
            rows = await until_counted(settings, dict.fromkeys(users, 1))
            rows = await until(
                lambda: rows_of(settings, users),
                lambda rows: all(row["has_profile"] for row in rows.values()),
            )
            assert {int(row["age"]) for row in rows.values()} == {33}
            found = await until(
                lambda: read_all(settings, topics.items),
                lambda found: sum(bool(origin_of(record)) for record in found) == len(items),
            )
            user = users[0]  # a tombstone in the wrong partition
            elsewhere = (partition_of(user.encode(), settings.partitions) + 1) % settings.partitions
            await put(sender, topics.users, elsewhere, user, None)
            await until(lambda: rows_of(settings, [user]), lambda rows: not rows)
    assert await dead_letters(settings) == []
    moved = {record.key.decode(): record for record in found if origin_of(record)}
    assert sorted(moved) == items
    assert not any(misplaced([r], r.partition, settings.partitions)[0] for r in moved.values())


async def test_an_item_elsewhere_is_sent_on_also_when_an_operator_moved_the_group_past_it(
    settings: Settings,
) -> None:
    new = "new-item"
    wrong = (partition_of(new.encode(), settings.partitions) + 1) % settings.partitions

    async def sent_on() -> list[Any]:
        return [record for record in await read_all(settings, topics.items) if origin_of(record)]

    async with installation(settings) as (topics, sender):
        await put(sender, topics.items, wrong, "old-item", Item("old-item", now_ms()))
        async with worker(settings, ["ingest"]):
            await publish(sender, topics.events, [(user, click(user, 1, now_ms())) for user in USERS])
            await until_counted(settings, dict.fromkeys(USERS, 1))
        await put(sender, topics.items, wrong, new, Item(new, now_ms()))
        ends = [r.offset + 1 for r in await read_all(settings, topics.items) if r.partition == wrong]
        await move_group(settings, "ingest", topics.items, {wrong: max(ends)})
        async with worker(settings, ["ingest"]):
            await until(sent_on, lambda found: new.encode() in [record.key for record in found])


async def test_a_record_that_is_sent_on_twice_counts_once(settings: Settings) -> None:
    """A crash between sending on and committing: long after it, no window of event ids would notice."""
    settings = settings.model_copy(update={"dedup_window_ms": 0})
    user, other = USERS[:2]
    right = partition_of(user.encode(), settings.partitions)
    wrong = (right + 1) % settings.partitions
    async with installation(settings) as (topics, sender), worker(settings, ["ingest"]):
        for offset in (5, 5, 6, 5, 6, 7):
            origin = Origin(topics.events, wrong, offset).header()
            await put(sender, topics.events, right, user, click(user, offset, now_ms()), None, origin)
        await until_counted(settings, {user: 3})
    async with producer(settings) as sender, worker(settings, ["ingest"]):
        origin = Origin(topics.events, wrong, 6).header()
        await put(sender, topics.events, right, user, click(user, 6, now_ms()), None, origin)
        await publish(
            sender, topics.events, [(other, click(other, 1, now_ms())), (user, click(user, 9, now_ms()))]
        )
        await until_counted(settings, {user: 4, other: 1})


async def test_refusing_is_a_setting(settings: Settings) -> None:
    settings = settings.model_copy(update={"wrong_partition": "refuse"})
    user = USERS[0]
    right = partition_of(user.encode(), settings.partitions)
    wrong = (right + 1) % settings.partitions
    async with installation(settings) as (topics, sender), worker(settings, ["ingest"]):
        await put(sender, topics.events, wrong, user, click(user, 1, now_ms()))
        await put(sender, topics.events, right, None, click(user, 2, now_ms()))
        await put(sender, topics.users, wrong, user, UserProfile(user))
        await put(
            sender, topics.items, (partition_of(b"x", settings.partitions) + 1) % 2, "x", Item("x", now_ms())
        )
        await put(sender, topics.events, right, user, click(user, 3, now_ms()))
        await until_counted(settings, {user: 1})
        letters = await until(lambda: dead_letters(settings), lambda letters: len(letters) == 4)
    assert {letter.reason for letter in letters} == {"wrong_partition"}


async def test_a_record_that_was_sent_on_to_a_wrong_place_does_not_go_round(settings: Settings) -> None:
    user = USERS[0]
    wrong = (partition_of(user.encode(), settings.partitions) + 1) % settings.partitions
    async with installation(settings) as (topics, sender), worker(settings, ["ingest"]):
        header = (FORWARDED, f"{topics.events}/0/7".encode())
        await put(sender, topics.events, wrong, user, click(user, 1, now_ms()), None, header)
        (letter,) = await until(lambda: dead_letters(settings), bool)
    assert letter.reason == "wrong_partition"


@pytest.mark.parametrize("timestamp", [0, 1000, 599_999])
async def test_the_first_record_may_be_dated_near_the_epoch(settings: Settings, timestamp: int) -> None:
    """It is a dead letter, as it is in the middle of a partition, and the worker goes on."""
    user = USERS[0]
    right = partition_of(user.encode(), settings.partitions)
    async with installation(settings) as (topics, sender):
        await put(sender, topics.events, right, user, click(user, 1, now_ms()), timestamp)
        await put(sender, topics.events, right, user, click(user, 2, now_ms()))
        async with worker(settings, ["ingest"]):
            await until_counted(settings, {user: 1})
        async with worker(settings, ["ingest"]):  # a take-over reads the window of event ids again
            await put(sender, topics.events, right, user, click(user, 3, now_ms()), timestamp)
            await put(sender, topics.events, right, user, click(user, 2, now_ms()))
            await put(sender, topics.events, right, user, click(user, 4, now_ms()))
            await until_counted(settings, {user: 2})
    assert [letter.reason for letter in await dead_letters(settings)] == ["from_the_future"] * 2


async def test_one_record_of_2096_moves_no_time_for_others(settings: Settings) -> None:
    """Where the broker does not refuse such a record, the worker does: users are not expired."""
    user, other = USERS[:2]
    far = now_ms() + 70 * 365 * DAY_MS
    async with installation(settings) as (topics, sender), worker(settings, ["ingest"]):
        await publish(sender, topics.events, [(user, click(user, n, now_ms())) for n in range(3)])
        for partition in range(settings.partitions):
            late = next(u for u in USERS if partition_of(u.encode(), settings.partitions) == partition)
            with contextlib.suppress(Exception):  # a broker with the right setting refuses it
                await put(sender, topics.events, partition, late, click(late, 99, far), far)
        await publish(
            sender, topics.events, [(user, click(user, 7, now_ms())), (other, click(other, 8, now_ms()))]
        )
        await until_counted(settings, {user: 4, other: 1})
    letters = await dead_letters(settings)
    assert {(letter.reason, letter.field) for letter in letters} <= {("from_the_future", "timestamp")}


async def test_a_request_of_any_producer_is_answered(settings: Settings) -> None:
    body = msgspec.json.encode(RecRequest("r", USERS[0], "home", deadline_ms=5000))
    async with (
        installation(settings),
        worker(settings, ["serve"]),
        RecClient(settings, "any") as client,
    ):
        for key in (None, *(user.encode() for user in USERS[:6])):
            reply = msgspec.json.decode(await client.request(body, key, timeout_s=10.0))
            assert [item["item_id"] for item in reply["items"]] == [ITEM]
