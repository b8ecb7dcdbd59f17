"""Every online store: in memory, and Redis (embedded, or the one the environment names)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest

from headrace.serving.store.memory import MemoryStore
from headrace.serving.store.protocol import OnlineStore
from headrace.serving.store.redis import RedisStore
from headrace.streams.settings import Settings


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
