"""Online store: rows by key in Redis, and the same in memory for tests and tools.

Layout (everything can be thrown away and rebuilt from Kafka):

    <prefix>u:<16 hex digits>   string   packed user_state.ROW        expires user_ttl_s after its last change
    <prefix>n:<16 hex digits>   string   packed neighbours.ROW        expires item_ttl_s after its last change
    <prefix>i:<16 hex digits>   string   packed item_stats.ROW        expires item_ttl_s after its last change
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from streams.errors import ConfigError, UnavailableError
from streams.settings import Settings

Kind = Literal["u", "n", "i"]

log = logging.getLogger(__name__)

#: While Redis is away, it is asked this often whether it is back.
PROBE_S = 0.25
#: A read that timed out is looked at once more after this: it may be our own loop that was busy.
_GRACE_S = 0.005

#: Rows sent in one round trip.
_CHUNK = 500

#: One command for many rows: packing and answering a SET a row costs the client ten times more.
_PUT = """
for i, key in ipairs(KEYS) do
  redis.call('SET', key, ARGV[i + 1], 'EX', ARGV[1])
end
return #KEYS
"""


class OnlineStore(Protocol):
    """What serving reads and the stages write."""

    async def put(self, kind: Kind, keys: Sequence[int], rows: Sequence[bytes]) -> None:
        """Write packed rows. Raises ``UnavailableError``."""

    async def get(self, kind: Kind, keys: Sequence[int]) -> list[bytes | None]:
        """Read packed rows, None where there is none. Raises ``UnavailableError``."""

    async def drop(self, kind: Kind, keys: Sequence[int]) -> None:
        """Remove rows. Raises ``UnavailableError``."""

    async def close(self) -> None:
        """Let go of connections."""


class RedisStore:
    """The store in Redis.

    Parameters
    ----------
    settings
        Where it is, the key prefix, the expiries.
    timeout_s
        Longest wait for one write.
    read_timeout_s
        Longest wait for one read, ``settings.redis_read_ms`` when None: a request waits for it. After a read
        that failed the next ones fail at once, until a probe in the background has got an answer.

    Raises
    ------
    ConfigError
        When ``settings.redis_url`` is not a Redis URL.
    """

    def __init__(
        self, settings: Settings, timeout_s: float = 0.25, read_timeout_s: float | None = None
    ) -> None:
        self._prefix = settings.topic_prefix
        self._ttl = {"u": settings.user_ttl_s, "n": settings.item_ttl_s, "i": settings.item_ttl_s}
        self._read_timeout_s = settings.redis_read_ms / 1000 if read_timeout_s is None else read_timeout_s
        try:
            self._redis = redis.from_url(
                settings.redis_url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
            )
            pool: Any = self._redis.connection_pool
            pool.make_connection()  # does not connect, but refuses unknown options
        except (ValueError, TypeError) as exc:
            # Not the URL itself: it may hold a password.
            raise ConfigError(
                f"HEADRACE_REDIS_URL is wrong, redis://host:port/db is expected: {exc}"
            ) from exc
        self._put = self._redis.register_script(_PUT)
        self._probe: asyncio.Task[None] | None = None

    def _names(self, kind: Kind, keys: Sequence[int]) -> list[str]:
        start = f"{self._prefix}{kind}:"
        return [f"{start}{key:016x}" for key in keys]

    async def put(self, kind: Kind, keys: Sequence[int], rows: Sequence[bytes]) -> None:
        """Write packed rows, ``_CHUNK`` in one round trip."""
        names = self._names(kind, keys)
        try:
            for start in range(0, len(names), _CHUNK):
                chunk = names[start : start + _CHUNK]
                await self._put(keys=chunk, args=[self._ttl[kind], *rows[start : start + _CHUNK]])
        except (TimeoutError, RedisError, OSError) as exc:
            raise UnavailableError(f"Redis: {exc or type(exc).__name__}") from exc

    async def get(self, kind: Kind, keys: Sequence[int]) -> list[bytes | None]:
        """Read packed rows in one round trip."""
        if not keys:
            return []
        if self._probe is not None and not self._probe.done():
            raise UnavailableError("Redis: away")
        try:
            rows = await self._soon(self._redis.mget(self._names(kind, keys)))
        except (TimeoutError, RedisError, OSError) as exc:
            self._probe = asyncio.create_task(self._until_back())
            raise UnavailableError(f"Redis: {exc or type(exc).__name__}") from exc
        return [row if isinstance(row, bytes) else None for row in rows]

    async def _soon(self, call: Any) -> list[Any]:
        """Return a call's result, or raise ``TimeoutError`` after ``read_timeout_s`` whatever it hangs in."""
        task = asyncio.ensure_future(call)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._read_timeout_s)
            if not done:
                done, _ = await asyncio.wait({task}, timeout=_GRACE_S)
            if not done:
                raise TimeoutError(f"no answer within {self._read_timeout_s * 1000:.0f} ms")
            rows: list[Any] = task.result()
            return rows
        finally:
            task.cancel()  # nothing, when it is done

    async def _until_back(self) -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            with contextlib.suppress(TimeoutError, RedisError, OSError):
                await self._redis.ping()
                log.info("Redis answers again", extra={"action": "store_up"})
                return

    async def drop(self, kind: Kind, keys: Sequence[int]) -> None:
        """Remove rows."""
        if not keys:
            return
        try:
            await self._redis.delete(*self._names(kind, keys))
        except (TimeoutError, RedisError, OSError) as exc:
            raise UnavailableError(f"Redis: {exc or type(exc).__name__}") from exc

    async def close(self) -> None:
        """Close the connections."""
        if self._probe is not None:
            self._probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probe
        await self._redis.aclose()


class MemoryStore:
    """The same in a dictionary; nothing expires."""

    def __init__(self) -> None:
        self._rows: dict[tuple[Kind, int], bytes] = {}

    async def put(self, kind: Kind, keys: Sequence[int], rows: Sequence[bytes]) -> None:
        """Write packed rows."""
        self._rows.update(zip([(kind, k) for k in keys], rows, strict=True))

    async def get(self, kind: Kind, keys: Sequence[int]) -> list[bytes | None]:
        """Read packed rows."""
        return [self._rows.get((kind, k)) for k in keys]

    async def drop(self, kind: Kind, keys: Sequence[int]) -> None:
        """Remove rows."""
        for key in keys:
            self._rows.pop((kind, key), None)

    async def close(self) -> None:
        """Nothing to let go of."""
