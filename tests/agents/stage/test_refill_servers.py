"""Rows that a store loses are restored from Kafka without a restart: real topics, a Redis that dies."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import numpy as np
import numpy.typing as npt
import pytest
import redis.asyncio as redis
from fresh_topics import make_topics

from headrace.agents.stage.online_copy import OnlineCopy
from headrace.agents.stage.refill import changelog_reader
from headrace.demo.embedded import EmbeddedRedis
from headrace.serving.store.redis import RedisStore
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender

pytestmark = pytest.mark.broker

Eventually = Callable[..., Awaitable[None]]
ROWS = 3000


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    """A Redis of our own, to be killed."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def settings(make_settings: Callable[..., Settings], server: EmbeddedRedis) -> Settings:
    return make_settings(redis_url=server.url, redis_read_ms=2000, partitions=2)


class Worker:
    """The parts of a stage that concern the feed: rows in memory, flushes to Redis and to the changelog."""

    def __init__(self, settings: Settings, sender: BatchSender, store: RedisStore) -> None:
        self.topic = Topics(settings).user_state
        self.sender = sender
        self.store = store
        self.memory: dict[int, bytes] = {}
        self.feed = OnlineCopy(store, "u", changelog_reader(settings, self.topic), settle_s=0.3)
        self.position = 0

    def lookup(self, keys: npt.NDArray[np.uint64]) -> list[bytes | None]:
        return [self.memory.get(key) for key in keys.tolist()]

    async def flush(self, rows: dict[int, bytes]) -> None:
        self.memory.update(rows)
        await self.feed.put({1: PackedRows.of(list(rows), list(rows.values()))})
        await self.sender.send_many(
            self.topic, [(k.to_bytes(8, "little"), r, None, ()) for k, r in rows.items()], partition=1
        )
        self.position += len(rows)
        self.feed.durable(1, self.position)

    async def complete(self) -> bool:
        """Whether Redis has every row in its present state."""
        keys = list(self.memory)
        found: list[bytes | None] = []
        with contextlib.suppress(UnavailableError):
            for first in range(0, len(keys), 500):
                found += await self.store.get("u", keys[first : first + 500])
        return found == list(self.memory.values())

    async def right(self) -> bool:
        return self.feed.caught_up and await self.complete()


def rows_of(keys: range, version: int = 0) -> dict[int, bytes]:
    return {key: (b"%d v%d " % (key, version)).ljust(2048, b".") for key in keys}


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[RedisStore]:
    store = RedisStore(settings)
    yield store
    await store.close()


@pytest.fixture
async def worker(settings: Settings, sender: BatchSender, store: RedisStore) -> AsyncIterator[Worker]:
    """A worker with rows in Redis and the changelog, some of which it has evicted from memory."""
    await make_topics(settings)
    worker = Worker(settings, sender, store)
    worker.feed.attach(1, worker.lookup, 0)
    async with worker.feed:
        for version in range(2):
            await worker.flush(rows_of(range(ROWS), version))
        yield worker


@pytest.fixture
async def client(server: EmbeddedRedis) -> AsyncIterator[redis.Redis[bytes]]:
    async with redis.from_url(server.url) as client:
        yield client


def kill(server: EmbeddedRedis) -> None:
    assert server._process is not None
    server._process.kill()
    server._process.wait()


def again(server: EmbeddedRedis) -> None:
    assert server._folder is not None
    server._launch(server._folder)


async def test_flushall_at_run_time(
    worker: Worker, client: redis.Redis[bytes], eventually: Eventually
) -> None:
    await eventually(lambda: worker.feed.caught_up)
    await client.flushall()
    assert not await worker.complete()
    await worker.flush(rows_of(range(10), 2))  # life goes on
    await eventually(worker.right, 20)
    assert await client.dbsize() == ROWS + 1


async def test_killed_and_back_with_nothing(
    worker: Worker, server: EmbeddedRedis, eventually: Eventually
) -> None:
    kill(server)
    slowest = 0.0
    for version in range(2, 20):
        began = time.monotonic()
        await worker.feed.put({1: PackedRows.of(range(100), list(rows_of(range(100), version).values()))})
        slowest = max(slowest, time.monotonic() - began)
        await worker.flush(rows_of(range(50), version))
    assert slowest < 1.0
    again(server)
    await eventually(worker.right, 20)


async def test_back_with_what_it_had_some_time_ago(
    worker: Worker, server: EmbeddedRedis, client: redis.Redis[bytes], eventually: Eventually
) -> None:
    await eventually(lambda: worker.feed.caught_up)
    await client.save()
    await worker.flush(rows_of(range(100, 400), 5))
    kill(server)
    again(server)
    assert not await worker.complete()
    await eventually(worker.right, 20)


async def test_a_redis_that_hangs_for_a_while(
    worker: Worker, server: EmbeddedRedis, eventually: Eventually
) -> None:
    await eventually(lambda: worker.feed.caught_up)
    written: list[float] = []

    def note(call: str, seconds: float, _failed: bool) -> None:
        if call == "write":
            written.append(seconds)

    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        worker.store.measure, worker.store.timeout_s = note, 0.2
        for version in range(2, 12):
            rows = rows_of(range(500), version)
            await worker.feed.put({1: PackedRows.of(list(rows), list(rows.values()))})
            await worker.flush(rows)
        assert len(written) <= 1, "only the first write waits; none, if the look at the marks came before it"
        assert sum(written) < 1.5
        worker.store.timeout_s = 1.0
    finally:
        os.kill(server.pid, signal.SIGCONT)
    await eventually(worker.right, 20)


async def test_a_worker_dies_while_redis_is_away(
    worker: Worker, server: EmbeddedRedis, settings: Settings, eventually: Eventually
) -> None:
    await eventually(lambda: worker.feed.caught_up)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await worker.flush(rows_of(range(200, 700), 9))
        worker.feed.detach(1)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    heir = Worker(settings, worker.sender, worker.store)
    heir.memory = dict(worker.memory)
    async with heir.feed:
        heir.feed.attach(1, heir.lookup, worker.position)
        await eventually(heir.right, 20)
    assert (await heir.store.read_marks("u", [1]))[1] == worker.position


async def test_evicted_rows_come_from_the_changelog_reader(
    worker: Worker, client: redis.Redis[bytes], eventually: Eventually
) -> None:
    await eventually(lambda: worker.feed.caught_up)
    whole, worker.memory = worker.memory, {}
    await client.flushall()
    worker.feed.attach(1, lambda keys: [None] * len(keys), worker.position)
    await eventually(lambda: worker.feed.caught_up, 20)
    worker.memory = whole
    assert await worker.complete()
