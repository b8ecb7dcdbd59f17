"""Shared fixtures. One suite, two kinds of server: embedded ones, or those the environment names.

HEADRACE_TEST_BROKER=host:port    run against this Kafka
HEADRACE_TEST_REDIS=redis://...   run against this Redis
HEADRACE_TEST_REQUIRE=1           a missing server is a failure (CI), not a skip
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from fresh_topics import admin_of, delete_topics, make_topics
from hypothesis import HealthCheck
from hypothesis import settings as given_settings
from redis_cluster import RedisCluster

from headrace.demo.embedded import EmbeddedBroker, EmbeddedRedis, EmbeddedServer
from headrace.streams.errors import UnavailableError
from headrace.streams.process import run_apps
from headrace.streams.settings import Settings
from headrace.streams.topics.sender import BatchSender

# For every test with @given, whichever file is read first: a busy machine may take long over one example.
given_settings.register_profile(
    "unit", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
given_settings.load_profile("unit")

#: The shortest session a stock Kafka broker accepts, and the embedded one.
STOCK_SESSION_MS = 6000

#: Slow files -> their marker. They run only when one of the two is named (make test-wheel, make test-slow).
ONLY_WHEN_NAMED = {
    "test_wheel.py": "wheel",
    **dict.fromkeys(
        (
            "test_bench_run.py",
            "test_bench_digest.py",
            "test_bench_monitoring.py",
            "test_demo_run.py",
            "test_learning_off_run.py",
            "test_alerts_hour.py",
            "test_alerts_whole.py",
        ),
        "slow",
    ),
}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the slow files. (A file that is named on the command line does not come here.)"""
    marker = ONLY_WHEN_NAMED.get(collection_path.name)
    return True if marker is not None and marker not in config.getoption("markexpr") else None


def _start(server: EmbeddedServer | RedisCluster) -> None:
    try:
        server.start()
    except UnavailableError as exc:
        if os.environ.get("HEADRACE_TEST_REQUIRE") == "1":
            pytest.fail(f"required server is missing: {exc}", pytrace=False)
        pytest.skip(str(exc))


@pytest.fixture
def broker() -> Iterator[str]:
    """Bootstrap address of a Kafka broker.

    An embedded broker is new for every test. It starts quickly, and every client reads the metadata of all
    topics, which would take most of the time of a test after a hundred tests with their topics.
    """
    if external := os.environ.get("HEADRACE_TEST_BROKER"):
        yield external
        return
    server = EmbeddedBroker()
    _start(server)
    yield server.bootstrap
    server.stop()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a Redis-compatible server."""
    if external := os.environ.get("HEADRACE_TEST_REDIS"):
        yield external
        return
    server = EmbeddedRedis()
    _start(server)
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def cluster() -> Iterator[RedisCluster]:
    """A Redis Cluster with a password; each test leaves it whole."""
    made = RedisCluster(password=secrets.token_hex(8))
    _start(made)
    yield made
    made.close()


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[RedisCluster]:
    """A cluster of Valkey; each test leaves it whole."""
    made = RedisCluster(valkey=True, password=secrets.token_hex(8))
    _start(made)
    yield made
    made.close()


@pytest.fixture
def real_kafka() -> bool:
    """Whether the suite runs against an external (real) Kafka."""
    return bool(os.environ.get("HEADRACE_TEST_BROKER"))


@pytest.fixture
async def short_session_s(broker: str) -> float:
    """Shortest session timeout, s, that the broker accepts and a busy machine can meet."""
    async with admin_of(broker) as admin:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "1")])
    told = {name: value for name, value, *_ in answer.resources[0][4]}
    return max(3.0, int(told.get("group.min.session.timeout.ms", STOCK_SESSION_MS)) / 1000)


@pytest.fixture
async def make_settings(
    broker: str, redis_url: str, real_kafka: bool
) -> AsyncIterator[Callable[..., Settings]]:
    """Return a function making settings of a fresh installation (own topic prefix) with overrides."""
    prefixes: list[str] = []

    def make(**overrides: Any) -> Settings:
        values: dict[str, Any] = {
            "brokers": broker,
            "redis_url": redis_url,
            "topic_prefix": f"t{secrets.token_hex(4)}-",
            "session_timeout_s": STOCK_SESSION_MS / 1000,
            "redis_read_ms": 2000,  # on a busy machine Redis may be slow
        }
        settings = Settings(**{**values, **overrides})
        prefixes.append(settings.topic_prefix)
        return settings

    yield make
    if real_kafka and all(prefixes):
        await delete_topics(broker, prefixes)


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """Settings of a fresh installation: own topic prefix, no topics yet."""
    return make_settings()


@pytest.fixture
async def topics_made(settings: Settings) -> Settings:
    """The same settings, with all topics created."""
    await make_topics(settings)
    return settings


@pytest.fixture
async def sender(settings: Settings) -> AsyncIterator[BatchSender]:
    """A running BatchSender."""
    service = BatchSender(settings)
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
def running(settings: Settings) -> Callable[..., contextlib.AbstractAsyncContextManager[asyncio.Event]]:
    """Return an async context manager that runs apps and services around its body, through ``run_apps``.

    When an app crashes, its error ends the body, as it ends the process of a worker.
    """

    @contextlib.asynccontextmanager
    async def run(*apps: Any, services: Any = ()) -> AsyncIterator[asyncio.Event]:
        ready, stop = asyncio.Event(), asyncio.Event()
        body = asyncio.current_task()
        task = asyncio.create_task(
            run_apps(apps, settings=settings, services=services, ready=ready, stop=stop)
        )
        task.add_done_callback(lambda done: None if stop.is_set() or body is None else body.cancel())
        try:
            await asyncio.wait_for(ready.wait(), 20)
            yield stop
        except asyncio.CancelledError:
            if not task.done() or body is None:
                raise
            body.uncancel()
        finally:
            stop.set()
            await asyncio.wait_for(task, 20)

    return run


@pytest.fixture
def eventually() -> Callable[..., Awaitable[None]]:
    """Return a function that waits, a bounded time, until a condition holds."""

    async def wait(condition: Callable[[], Any], timeout: float = 8.0) -> None:
        deadline = time.monotonic() + timeout
        while True:
            result = condition()
            if isinstance(result, Awaitable):
                result = await result
            if result:
                return
            assert time.monotonic() < deadline, "the condition never held"
            await asyncio.sleep(0.01)

    return wait
