"""Shared fixtures. One suite, two kinds of server: embedded ones, started once per run, or those the environment names.

HEADRACE_TEST_BROKER=host:port    run against this Kafka
HEADRACE_TEST_REDIS=redis://...   run against this Redis
HEADRACE_TEST_REQUIRE=1           a missing server is a failure (CI), not a skip
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from streams.embedded import EmbeddedBroker, EmbeddedRedis, EmbeddedServer
from streams.errors import UnavailableError
from streams.settings import Settings


def _start(server: EmbeddedServer) -> EmbeddedServer:
    try:
        return server.start()
    except UnavailableError as exc:
        if os.environ.get("HEADRACE_TEST_REQUIRE") == "1":
            pytest.fail(f"required server is missing: {exc}", pytrace=False)
        pytest.skip(str(exc))


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """Bootstrap address of a Kafka broker."""
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


@pytest.fixture
def real_kafka() -> bool:
    """Whether the suite runs against an external (real) Kafka."""
    return bool(os.environ.get("HEADRACE_TEST_BROKER"))


@pytest.fixture
def make_settings(broker: str, redis_url: str) -> Callable[..., Settings]:
    """Return a function making settings of a fresh installation (own topic prefix) with overrides."""

    def make(**overrides: object) -> Settings:
        values: dict[str, object] = {
            "brokers": broker,
            "redis_url": redis_url,
            "topic_prefix": f"t{secrets.token_hex(4)}-",
            "session_timeout_s": 6.0,  # the least a stock Kafka broker accepts
        }
        return Settings(**{**values, **overrides})  # type: ignore[arg-type]

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """Settings of a fresh installation: own topic prefix, no topics yet."""
    return make_settings()
