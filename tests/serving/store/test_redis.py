"""One suite for every online store: in memory, and Redis (embedded, or the one the environment names)."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest
import redis.asyncio as redis

from headrace.demo.embedded import EmbeddedRedis
from headrace.serving.store.memory import MemoryStore
from headrace.serving.store.protocol import OnlineStore
from headrace.serving.store.redis import _CHUNK_BYTES, RedisStore
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows, RowTable

ROW = np.dtype([("key", "u8"), ("offset", "i8"), ("body", "V2032")])
Lose = Callable[[], Awaitable[None]]


def rows_of(keys: np.ndarray, offset: int = 0) -> np.ndarray:
    rows = np.zeros(len(keys), ROW)
    rows["key"], rows["offset"] = keys, offset
    rows["body"] = np.frombuffer(np.random.default_rng(offset).bytes(2032 * len(keys)), "V2032")
    return rows


@pytest.fixture
def redis_settings(redis_url: str) -> Settings:
    return Settings(
        redis_url=redis_url,
        topic_prefix=f"t{secrets.token_hex(4)}-100%d-",
        user_ttl_s=1000,
        redis_read_ms=2000,
    )


@pytest.fixture
async def in_redis(redis_settings: Settings) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis_settings, timeout_s=2.0)
    yield store
    await store.close()


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.broker)])
def store(request: pytest.FixtureRequest) -> OnlineStore:
    if request.param == "memory":
        return MemoryStore()
    made: RedisStore = request.getfixturevalue("in_redis")
    return made


async def test_rows_come_back_as_they_were_written(store: OnlineStore) -> None:
    await store.put("u", PackedRows.of([1, 2**64 - 1, 3], [b"a", b"\r\n$1\r\n-\x00", b"c" * 3000]))
    await store.put("i", PackedRows.of([1], [b"another kind"]))
    assert await store.get("u", [3, 2, 2**64 - 1, 1]) == [b"c" * 3000, None, b"\r\n$1\r\n-\x00", b"a"]
    await store.put("u", PackedRows.of([1], [b"newer"]))
    await store.drop("u", [3, 77])
    assert await store.get("u", [1, 3]) == [b"newer", None]
    assert await store.get("i", [1]) == [b"another kind"]
    for nothing in (store.put("u", PackedRows.of([], [])), store.drop("u", [])):
        await nothing
    assert await store.get("u", []) == []


def packed(keys: np.ndarray, offset: int) -> PackedRows:
    table = RowTable(ROW)
    rows = rows_of(keys, offset)
    rows["body"][::2] = np.void(bytes(2032))  # packed rows are of many lengths
    table.load(rows)
    return table.pack(table.find(keys))


async def test_packed_rows_come_back(store: OnlineStore) -> None:
    keys = np.random.default_rng(5).integers(1, 2**64, 2 * _CHUNK_BYTES // 1024, np.uint64)
    rows = packed(keys, 0)
    assert len(set(map(len, rows))) > 1
    assert len(rows.blob) > _CHUNK_BYTES, "several chunks"
    await store.put("n", rows)
    assert await store.get("n", keys.tolist()) == list(rows)
    newer = packed(keys, 1)
    await store.put("n", newer[:50])
    await store.put("n", PackedRows.joined([newer[50:60], newer[60:]]))
    assert await store.get("n", keys.tolist()) == list(newer)
    await store.drop("n", keys[:10])
    assert await store.get("n", keys[:11].tolist()) == [None] * 10 + [newer[10]]


async def test_marks_are_kept_by_kind_and_partition(store: OnlineStore) -> None:
    assert await store.read_marks("u", [0, 7]) == {0: None, 7: None}
    assert await store.set_marks("u", {0: 5, 7: 12}) == {0, 7}
    assert await store.set_marks("i", {0: 1}) == {0}
    assert await store.read_marks("u", [0, 1, 7]) == {0: 5, 1: None, 7: 12}
    assert await store.read_marks("i", [0, 7]) == {0: 1, 7: None}
    assert await store.read_marks("i", []) == {}


async def test_a_mark_moves_only_from_where_it_was_seen(store: OnlineStore) -> None:
    assert await store.set_marks("u", {0: 0, 1: 3}, {0: None, 1: None}) == {0, 1}
    assert await store.set_marks("u", {0: 9, 1: 9}, {0: 0, 1: 2}) == {0}
    assert await store.set_marks("u", {0: 10}, {0: None}) == set()
    assert await store.read_marks("u", [0, 1]) == {0: 9, 1: 3}


async def test_marks_can_be_written_before_any_is_read(store: OnlineStore) -> None:
    assert await store.set_marks("u", {0: 4}, {0: None}) == {0}
    assert await store.read_marks("u", [0]) == {0: 4}


# --- Redis only ------------------------------------------------------------------------------------------


@pytest.mark.broker
async def test_rows_expire_and_marks_do_not(redis_settings: Settings, in_redis: RedisStore) -> None:
    await in_redis.put("u", PackedRows.of([255, 254], [b"row", b"another"]))
    await in_redis.set_marks("u", {0: 1})
    async with redis.from_url(redis_settings.redis_url) as client:
        prefix = redis_settings.topic_prefix
        assert 990 <= await client.ttl(f"{prefix}u:00000000000000ff") <= 1000
        assert 990 <= await client.ttl(f"{prefix}u:00000000000000fe") <= 1000
        assert await client.ttl(f"{prefix}m:u") == -1


async def test_a_mark_of_another_run_id_is_void() -> None:
    with EmbeddedRedis() as server:
        one, two = (RedisStore(Settings(redis_url=server.url), timeout_s=2.0) for _ in range(2))
        await one.read_marks("u", [0])
        await one.set_marks("u", {0: 5})
        async with redis.from_url(server.url) as client:
            await client.save()
        kill(server)
        again(server)  # with what it had saved
        # One that has not looked since writes marks which are void, and sees none as its own.
        assert await until_answered(lambda: one.set_marks("u", {0: 6}, {0: 5})) == {0}
        assert await two.read_marks("u", [0]) == {0: None}
        assert await one.read_marks("u", [0]) == {0: None}
        assert await one.set_marks("u", {0: 0}, {0: 6}) == set()
        assert await one.set_marks("u", {0: 0}, {0: None}) == {0}
        assert await two.read_marks("u", [0]) == {0: 0}
        await one.close()
        await two.close()


async def test_a_redis_that_tells_no_run_id_still_keeps_marks() -> None:
    with EmbeddedRedis() as server:
        store = RedisStore(Settings(redis_url=server.url), timeout_s=2.0)
        async with redis.from_url(server.url) as client:
            await client.acl_setuser(
                "default", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"], reset=True
            )
        await store.put("u", PackedRows.of([1], [b"row"]))
        assert await store.read_marks("u", [0]) == {0: None}
        assert await store.set_marks("u", {0: 5}, {0: None}) == {0}
        assert await store.read_marks("u", [0]) == {0: 5}
        await store.close()


async def test_a_refused_write_is_unavailable_and_the_next_one_works() -> None:
    with EmbeddedRedis() as server:
        store = RedisStore(Settings(redis_url=server.url), timeout_s=2.0)
        keys = np.arange(600, dtype=np.uint64)
        async with redis.from_url(server.url) as client:
            await client.config_set("maxmemory", "1mb")
            with pytest.raises(UnavailableError, match="OOM"):
                await store.put("u", PackedRows.of(keys, [bytes(2000)] * len(keys)))
            await client.config_set("maxmemory", "0")
        await store.put("u", PackedRows.of(keys, [bytes(2000)] * len(keys)))
        assert await store.get("u", [599]) == [bytes(2000)]
        await store.close()


async def test_a_write_to_a_redis_that_hangs_ends_in_time_and_never_comes_late() -> None:
    with EmbeddedRedis() as server:
        store = RedisStore(Settings(redis_url=server.url, redis_read_ms=2000), timeout_s=0.1)
        large = bytes(16_000_000)  # more than the network holds
        await store.put("u", PackedRows.of([1], [b"row"]))
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            for call in (
                lambda: store.put("u", PackedRows.of([3], [large])),
                lambda: store.drop("u", [7]),
                lambda: store.read_marks("u", [1]),
                lambda: store.set_marks("u", {1: 1}),
            ):
                with pytest.raises(UnavailableError):
                    await call()
            assert time.monotonic() - began < 5.0
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await until_answered(lambda: store.read_marks("u", [1]))
        await store.put("u", PackedRows.of([2], [b"after"]))
        for _ in range(300):  # long enough for the rest of it to arrive, were it sent
            assert await store.get("u", [1, 2, 3]) == [b"row", b"after", None]
        await store.close()


def kill(server: EmbeddedRedis) -> None:
    """``kill -9``."""
    assert server._process is not None
    server._process.kill()
    server._process.wait()


def again(server: EmbeddedRedis) -> None:
    """Start it again at the same address, in the same folder."""
    assert server._folder is not None
    server._launch(server._folder)


async def until_answered(call: Callable[[], Awaitable[object]]) -> object:
    """Call until the store is not away."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return await call()
        except UnavailableError:
            assert time.monotonic() < deadline
