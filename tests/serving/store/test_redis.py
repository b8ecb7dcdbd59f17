"""Cases of the store in Redis only: expiry, run ids, refused writes, a server that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any

import hiredis
import numpy as np
import pytest
import redis.asyncio as redis

from headrace.demo.embedded import EmbeddedRedis
from headrace.serving.store import redis as redis_module
from headrace.serving.store.protocol import BEAT_S
from headrace.serving.store.redis import RedisStore
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows


@pytest.mark.broker
async def test_rows_expire_and_marks_do_not(redis_settings: Settings, in_redis: RedisStore) -> None:
    await in_redis.put("u", PackedRows.of([255, 254], [b"row", b"another"]))
    await in_redis.set_marks("u", {0: 1, 11: 1})
    await in_redis.beat("u", [0, 11])
    async with redis.from_url(redis_settings.redis_url) as client:
        prefix = redis_settings.topic_prefix
        assert 990 <= await client.ttl(f"{prefix}u:00000000000000ff") <= 1000
        assert 990 <= await client.ttl(f"{prefix}u:00000000000000fe") <= 1000
        assert await client.ttl(f"{prefix}m:u") == -1
        for partition in (0, 11):
            assert 0 < await client.pttl(f"{prefix}w:u:{partition}") <= 1000 * BEAT_S


async def test_a_mark_of_another_run_id_is_void() -> None:
    with EmbeddedRedis() as server:
        one, two = (RedisStore(Settings(redis_url=server.url), timeout_s=2.0) for _ in range(2))
        await one.read_marks("u", [0])
        await one.set_marks("u", {0: 5})
        async with redis.from_url(server.url) as client:
            await client.save()
        kill(server)
        again(server)  # with what it had saved
        await two.read_marks("u", [0])
        assert await until_answered(lambda: said(one)) == {}, "one has not heard of it"
        # One that has not looked since writes marks which are void, and sees none as its own.
        assert await until_answered(lambda: one.set_marks("u", {0: 6}, {0: 5})) == {0}
        assert await two.read_marks("u", [0]) == {0: None}
        assert await one.read_marks("u", [0]) == {0: None}
        assert await one.set_marks("u", {0: 0}, {0: 6}) == set()
        assert await one.set_marks("u", {0: 0}, {0: None}) == {0}
        assert await two.read_marks("u", [0]) == {0: 0}
        await one.close()
        await two.close()


async def said(store: RedisStore) -> dict[int, bytes]:
    await store.beat("u", [0], {0: b"all there"})
    return await store.beats("u", [0])


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
        store = RedisStore(Settings(redis_url=server.url, redis_read_ms=2000), timeout_s=2.0)
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
    """Call until the store answers."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return await call()
        except UnavailableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)  # a read fails without giving way while Redis is away


async def test_every_call_is_measured() -> None:
    calls: list[tuple[str, bool]] = []
    with EmbeddedRedis() as server:
        store = RedisStore(Settings(redis_url=server.url, redis_read_ms=2000), timeout_s=2.0)
        store.measure = lambda call, seconds, failed: calls.append((call, failed or seconds <= 0))
        await store.put("u", PackedRows.of([1], [b"row"]))
        assert await store.get("u", [1]) == [b"row"]
        await store.set_marks("u", {0: 1})
        await store.beating("u", [0])
    good = [
        ("write", False),
        ("read", False),
        ("read_marks", False),
        ("set_marks", False),
        ("read_beats", False),
    ]
    assert calls == good
    with pytest.raises(UnavailableError):
        await store.get("u", [1])  # the server is gone
    assert calls[len(good) :] == [("read", True)]
    await store.close()


@pytest.mark.broker
async def test_marks_of_another_kind_do_not_hide_that_keys_were_evicted(
    in_redis: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    evicted = 0
    monkeypatch.setattr(redis_module, "run_of", lambda server, stats: f"{server}-{evicted}")
    await in_redis.read_marks("u", [0])
    pipeline = in_redis._redis.pipeline

    def slow(**options: Any) -> Any:
        pipe = pipeline(**options)
        execute = pipe.execute

        async def answered(**how: Any) -> Any:
            nonlocal evicted
            evicted = 3
            answer = await execute(**how)
            monkeypatch.setattr(in_redis._redis, "pipeline", pipeline)
            await in_redis.read_marks("s", [0])  # while the marks of users are on their way
            return answer

        pipe.execute = answered
        return pipe

    monkeypatch.setattr(in_redis._redis, "pipeline", slow)
    assert await in_redis.set_marks("u", {0: 5}, {0: None}) == set()


async def test_reads_go_on_after_a_probe_that_was_never_answered() -> None:
    away, silent = True, set[asyncio.StreamWriter]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        with contextlib.suppress(ConnectionResetError):
            while got := await reader.read(1 << 16):
                commands.feed(got)
                while words := commands.gets():
                    if words[0] != b"MGET":
                        writer.write(b"+OK\r\n")
                    elif away or writer in silent:  # as a host that is gone: it never answers here any more
                        silent.add(writer)
                    else:
                        writer.write(b"*1\r\n$-1\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    store = RedisStore(Settings(redis_url=url, redis_read_ms=50), timeout_s=0.1)
    with pytest.raises(UnavailableError):
        await store.get("u", [1])
    while len(silent) < 2:  # that of the probe, too
        await asyncio.sleep(0.01)
    away = False
    assert await until_answered(lambda: store.get("u", [1])) == [None]
    await store.close()
    server.close()
