"""Clients of Redis from the settings: of one server, of Sentinel's master, of a cluster's node."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import redis.asyncio as redis
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection
from redis.backoff import NoBackoff

from headrace.streams.errors import ConfigError
from headrace.streams.secured import master_of, redis_tls, secret_of, sentinels_of
from headrace.streams.settings import Settings


class TlsConnection(Connection):
    """A connection over TLS with a context of ours. That of redis-py would trust the system's CAs, too.

    Parameters
    ----------
    context
        Of TLS.
    """

    def __init__(self, *, context: ssl.SSLContext, **options: Any) -> None:
        self._context = context
        super().__init__(**options)

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._context}


class SentinelTlsConnection(SentinelManagedConnection, TlsConnection):
    """A connection over TLS to the master that Sentinel names."""


def open_client(settings: Settings, timeout_s: float) -> Any:
    """Return a client; it connects with its first call.

    Parameters
    ----------
    timeout_s
        Longest time of connecting, and half of that of an answer.

    Raises
    ------
    ConfigError
        When the URL or an option in it is wrong.
    """
    options, access = _options(timeout_s), _access(settings)
    try:
        client = (
            _by_sentinel(settings, options, access)
            if settings.redis_sentinels
            else _of_one(settings, options | access)
        )
        client.connection_pool.make_connection()  # does not connect, but refuses unknown options
    except (ValueError, TypeError):
        # Neither the URL nor what is wrong with it: that may have a part of the password.
        expected = "redis://host:port/db, rediss:// or unix:///path is expected"
        raise ConfigError(f"HEADRACE_REDIS_URL is wrong, {expected}") from None
    return client


def node_options(settings: Settings, timeout_s: float) -> dict[str, Any]:
    """Return how the nodes of a cluster are reached; files with secrets and certificates are read once."""
    of_url: dict[str, Any] = dict(parse_url(settings.redis_url))
    kind = of_url.pop("connection_class", Connection)
    if kind is SSLConnection:
        of_url["context"], kind = redis_tls(settings) or ssl.create_default_context(), TlsConnection
    return {**of_url, **_options(timeout_s), **_access(settings), "connection_class": kind}


def open_node(options: Mapping[str, Any], host: str, port: int) -> Any:
    """Return a client of one node of a cluster, with ``node_options``; it connects with its first call."""
    return redis.Redis.from_pool(redis.ConnectionPool(**{**options, "host": host, "port": port}))


def _options(timeout_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": 2 * timeout_s,  # later than the timeouts of the store
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }


def _access(settings: Settings) -> dict[str, Any]:
    password = secret_of(settings, "redis_password")
    access = {"username": settings.redis_user or None, "password": password} if password else {}
    # Protocol 3 mixes the server's own messages with the answers.
    return {**access, "decode_responses": False, "protocol": 2}


def _of_one(settings: Settings, options: dict[str, Any]) -> Any:
    client: Any = redis.from_url(settings.redis_url, **options)
    if (tls := redis_tls(settings)) is not None:
        _over_tls(client.connection_pool, tls)
    return client


def _by_sentinel(settings: Settings, options: dict[str, Any], access: dict[str, Any]) -> Any:
    """Return a client of the master. Each new connection asks Sentinel which server that is."""
    of_url: dict[str, Any] = dict(parse_url(settings.redis_url))
    of_url.pop("host", None)
    secure = of_url.pop("connection_class", None) is SSLConnection
    password = secret_of(settings, "redis_sentinel_password") or None
    asked_with = {**options, "password": password}
    sentinel = Sentinel(sentinels_of(settings), sentinel_kwargs=asked_with)  # type: ignore[no-untyped-call]
    kind: dict[str, Any] = {}
    if secure:
        tls = redis_tls(settings) or ssl.create_default_context()
        kind = {"connection_class": SentinelTlsConnection, "context": tls}
        for asked in sentinel.sentinels:
            _over_tls(asked.connection_pool, tls)
    return sentinel.master_for(master_of(settings), **{**options, **access, **of_url, **kind})


def _over_tls(pool: Any, context: ssl.SSLContext) -> None:
    pool.connection_class = TlsConnection
    pool.connection_kwargs["context"] = context


async def close_client(client: Any) -> None:
    """Close the connections of a client, also those to Sentinel."""
    await client.aclose()
    sentinel = getattr(client.connection_pool, "sentinel_manager", None)
    if sentinel is not None:
        await sentinel.aclose()
