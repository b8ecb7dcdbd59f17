"""A process that would hash ids in another way than the others does not start."""

from __future__ import annotations

import asyncio

import pytest

from headrace.agents.roles import run_worker
from headrace.serving.store.redis import RedisStore
from headrace.streams.errors import ConfigError
from headrace.streams.messages.ids import use_key

pytestmark = pytest.mark.broker


async def test_a_worker_with_another_id_key_does_not_start(topics_made):
    ready, stop = asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(run_worker(topics_made, ["log"], ready=ready, stop=stop))
    await asyncio.wait_for(ready.wait(), 30)
    stop.set()
    await asyncio.wait_for(first, 30)
    try:
        with pytest.raises(ConfigError, match="HEADRACE_ID_KEY"):
            await asyncio.wait_for(run_worker(topics_made.model_copy(update={"id_key": "x"}), ["log"]), 30)
    finally:
        use_key("")


async def test_without_redis_a_worker_starts_all_the_same(topics_made, caplog):
    caplog.set_level("INFO")
    ready, stop = asyncio.Event(), asyncio.Event()
    settings = topics_made.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    worker = asyncio.create_task(run_worker(settings, ["log"], ready=ready, stop=stop))
    await asyncio.wait_for(ready.wait(), 30)
    stop.set()
    await asyncio.wait_for(worker, 30)
    assert "HEADRACE_ID_KEY" in caplog.text


async def test_the_first_process_decides(topics_made):
    store = RedisStore(topics_made, timeout_s=5.0)
    assert await store.same_ids("00ff")
    assert await store.same_ids("00ff")
    assert not await store.same_ids("00fe")
    await store.close()
