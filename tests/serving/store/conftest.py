"""Every online store: in memory, and Redis (embedded, or the one the environment names)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
from redis_cluster import RedisCluster

from headrace.serving.store.cluster_store import ClusterStore
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


@pytest.fixture
def cluster_settings(redis_settings: Settings, cluster: RedisCluster) -> Settings:
    return Settings(**(redis_settings.model_dump() | cluster.access))


@pytest.fixture
async def in_cluster(cluster_settings: Settings) -> AsyncIterator[ClusterStore]:
    store = ClusterStore(cluster_settings, timeout_s=5.0, read_timeout_s=5.0)
    yield store
    await store.close()


@pytest.fixture
async def in_valkey_cluster(
    redis_settings: Settings, valkey_cluster: RedisCluster
) -> AsyncIterator[ClusterStore]:
    settings = Settings(**(redis_settings.model_dump() | valkey_cluster.access))
    store = ClusterStore(settings, timeout_s=5.0, read_timeout_s=5.0)
    yield store
    await store.close()


#: Where the store may be, besides in memory.
SERVERS = [
    pytest.param(name, marks=pytest.mark.broker) for name in ("in_redis", "in_cluster", "in_valkey_cluster")
]


@pytest.fixture(params=["memory", *SERVERS])
def store(request: pytest.FixtureRequest) -> OnlineStore:
    if request.param == "memory":
        return MemoryStore()
    made: OnlineStore = request.getfixturevalue(request.param)
    return made
