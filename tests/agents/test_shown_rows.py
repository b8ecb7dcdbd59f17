"""What users were shown, with a broker and a store: kills, evictions, tombstones, a lost Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis.asyncio as redis
from fresh_topics import make_topics
from installation import now_ms, producer, publish, until, worker
from oracle_examples import event, impression
from transport_worker import worker_process

from headrace.console.verification.result import VerifyResult
from headrace.console.verification.run import verify
from headrace.models.state import shown
from headrace.models.state import users as user_state
from headrace.models.state.shown import hidden, shown_lately
from headrace.serving.store.redis import RedisStore
from headrace.streams.messages.ids import hash64
from headrace.streams.messages.schemas import Event, Item
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import unpack
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

USERS, ITEMS = 40, 300
MEMORY_ROWS = 6


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    return make_settings(data_dir=tmp_path, partitions=2, durable_every_ms=400)


def lists(n: int, seed: int) -> list[tuple[str, Any]]:
    """Return impressions of 12 items; one user gets every third of them."""
    rng, out = np.random.default_rng(seed), []
    for i in range(n):
        user = f"user-{0 if i % 3 == 0 else int(rng.integers(USERS))}"
        items = [f"item-{k}" for k in rng.integers(ITEMS, size=12)]
        out.append((user, impression(f"r{seed}-{i}", items, now_ms() - int(rng.integers(5000)), user=user)))
    return out


async def row(settings: Settings, kind: Any, user: str, dtype: Any) -> Any:
    store = RedisStore(settings)
    try:
        (packed,) = await store.get(kind, [hash64(user)])
    finally:
        await store.close()
    return None if packed is None else unpack([packed], dtype)[0][0]


async def send(settings: Settings, sender: BatchSender, seed: int) -> None:
    """Send lists; wait until readers see the last of them."""
    await publish(sender, Topics(settings).impressions, lists(150, seed))
    last = impression("last", [f"last-{seed}"], now_ms(), user="user-0")
    await publish(sender, Topics(settings).impressions, [("user-0", last)])
    await until(
        lambda: row(settings, "s", "user-0", shown.ROW),
        lambda r: r is not None and hash64(f"last-{seed}") in shown_lately(r, now_ms()),
        60,
    )


async def forget(settings: Settings, sender: BatchSender, user: str) -> None:
    await sender.send_keyed(Topics(settings).users, [(user.encode(), None, None, [])])


async def verified(settings: Settings) -> VerifyResult:
    """Return the first verification without a difference, or the last one within a minute."""
    deadline = time.monotonic() + 30
    while True:
        result = await verify(settings)
        if result.exit_code == 0 or time.monotonic() > deadline:
            return result
        await asyncio.sleep(0.5)


async def whole(settings: Settings, sender: BatchSender, seed: int) -> VerifyResult:
    """Let a worker with little memory read everything, and more, and compare."""
    small = settings.model_copy(update={"memory_rows": MEMORY_ROWS})
    # It waits for the sessions of those that were killed.
    async with worker(small, ["ingest", "aggregate"], within_s=60):
        await send(settings, sender, seed)
        return await verified(settings)


async def test_rows_are_exact_after_kills(settings: Settings, tmp_path: Path, real_kafka: bool) -> None:
    if not real_kafka:
        pytest.skip("the embedded broker never removes a dead member from its group")
    await make_topics(settings)
    async with producer(settings) as sender:
        for n in range(2):
            async with worker_process(settings, "ingest", tmp_path / "worker.log"):
                await send(settings, sender, n)
                await forget(settings, sender, f"user-{2 + n}")
                await publish(sender, Topics(settings).impressions, lists(100, 10 + n))
        result = await whole(settings, sender, 20)
    assert (result.exit_code, result.first, result.forgotten) == (0, [], 2)


async def test_rows_are_exact_with_evictions_tombstones_and_a_lost_redis(settings: Settings) -> None:
    await make_topics(settings)
    async with producer(settings) as sender:
        result = await whole(settings, sender, 1)
        assert (result.exit_code, result.first) == (0, [])
        assert result.shown_rows > 4 * MEMORY_ROWS, "most rows are evicted"

        client = redis.from_url(settings.redis_url)
        keys = [key async for key in client.scan_iter(f"{settings.topic_prefix}*")]
        await client.delete(*keys)
        await client.aclose()
        for user in ("user-0", "user-1", "nobody"):
            await forget(settings, sender, user)
        result = await whole(settings, sender, 2)
    assert (result.exit_code, result.first, result.forgotten) == (0, [], 3)
    assert result.redis_rows > result.users
    rows = "rows of what users were shown"
    assert (result.compared[rows], result.left_out.get(rows, 0)) == (result.shown_rows, 0)


async def test_a_forgotten_user_is_forgotten_in_both_rows_and_hides_reach_readers(settings: Settings) -> None:
    await make_topics(settings)
    topics = Topics(settings)

    async def both() -> tuple[Any, Any]:
        return await row(settings, "u", "u", user_state.ROW), await row(settings, "s", "u", shown.ROW)

    async with producer(settings) as sender:
        items = [Item(f"item-{i}", now_ms() - 60_000, creator_id=f"creator-{i}") for i in range(9)]
        await publish(sender, topics.items, [(i.item_id, i) for i in items])
        async with worker(settings, ["ingest"]):
            await publish(
                sender, topics.impressions, [("u", impression("r1", ["a", "b"], now_ms(), user="u"))]
            )
            did: list[Event] = [
                event("hide", "item-1", now_ms(), user="u"),
                event("hide", "item-2", now_ms(), user="u", scope="creator"),
                event("hide", "item-3", now_ms(), user="u", scope="creator"),
                event("like", "item-1", now_ms(), user="u"),
                event("follow", "item-3", now_ms(), user="u"),
            ]
            await publish(sender, topics.events, [("u", e) for e in did])
            user, _ = await until(
                both, lambda r: None not in r and len(hidden(r[0])[0]) == 2 and r[1] is not None
            )
            assert [keys.tolist() for keys in hidden(user)] == [
                [hash64("item-2"), hash64("item-3")], [hash64("creator-2")],
            ]  # fmt: skip
            await sender.send_keyed(topics.users, [(b"u", None, None, [])])
            await until(both, lambda rows: rows == (None, None))
            await publish(sender, topics.impressions, [("u", impression("r2", ["c"], now_ms(), user="u"))])
            _, lately = await until(both, lambda rows: None not in rows)
            assert shown_lately(lately, now_ms()).tolist() == [hash64("c")]
