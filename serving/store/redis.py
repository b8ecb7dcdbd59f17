"""The online store in Redis. The layout of its keys: ``protocol.py``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import redis.asyncio as redis
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from headrace.serving.store.buckets import TAKE, take_arguments
from headrace.serving.store.connections import abort, within
from headrace.serving.store.marks import SET_MARKS, position_in, set_marks_arguments
from headrace.serving.store.protocol import BEAT_S, PROBE_S, Keys, Kind
from headrace.serving.store.resp import DEL_REPLY, SET_REPLY, delete_rows, set_beats, set_rows
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.secured import master_of, redis_tls, secret_of, sentinels_of
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows

log = logging.getLogger(__name__)

#: Bytes of rows and number of keys in one round trip: they take less than 1 ms of the event loop. Redis reads
#: them in pieces, between the commands of other clients.
_CHUNK_BYTES = 1024 * 1024
_CHUNK_KEYS = 10_000


class RedisStore:
    """The store in Redis.

    Parameters
    ----------
    settings
        URL, key prefix, expiries.
    timeout_s
        Longest wait for one write.
    read_timeout_s
        Longest wait for one read; a request waits for it. None: ``settings.redis_read_ms``. After a read has
        failed, the next ones fail at once, until Redis has answered a probe in the background.

    Raises
    ------
    ConfigError
        When ``settings.redis_url`` is not a Redis URL.
    """

    def __init__(
        self, settings: Settings, timeout_s: float = 1.0, read_timeout_s: float | None = None
    ) -> None:
        self._prefix = settings.topic_prefix
        of_users, of_items = settings.user_ttl_s, settings.item_ttl_s
        self._ttl = {"u": of_users, "s": of_users, "n": of_items, "i": of_items}
        self._timeout_s = timeout_s
        self._read_timeout_s = settings.redis_read_ms / 1000 if read_timeout_s is None else read_timeout_s
        self._redis = _open(settings, timeout_s)
        self._run_id: str | None = None
        self._probe: asyncio.Task[None] | None = None
        #: Called after every call with its name, how long it took (s), and whether it failed.
        self.measure: Callable[[str, float, bool], None] = lambda call, seconds, failed: None

    @contextlib.contextmanager
    def _call(self, name: str) -> Iterator[None]:
        began, failed = time.perf_counter(), False
        try:
            yield
        except (TimeoutError, RedisError, OSError, EOFError, RuntimeError) as exc:
            # RuntimeError: uvloop raises it for a transport that was closed meanwhile.
            failed = True
            raise UnavailableError(f"Redis: {exc or type(exc).__name__}") from exc
        finally:
            self.measure(name, time.perf_counter() - began, failed)

    def _start(self, kind: Kind) -> str:
        return f"{self._prefix}{kind}:"

    def _marks(self, kind: Kind) -> str:
        return f"{self._prefix}m:{kind}"

    async def put(self, kind: Kind, rows: PackedRows) -> None:
        """Write packed rows, about ``_CHUNK_BYTES`` in one round trip."""
        start = self._start(kind).encode()
        for chunk in rows.chunks(_CHUNK_BYTES, _CHUNK_KEYS):
            await self._write(set_rows(start, self._ttl[kind], chunk), SET_REPLY * len(chunk))

    async def drop(self, kind: Kind, keys: Keys) -> None:
        """Remove rows."""
        start = self._start(kind).encode()
        for first in range(0, len(keys), _CHUNK_KEYS):
            chunk = keys[first : first + _CHUNK_KEYS]
            await self._write(delete_rows(start, chunk), DEL_REPLY * len(chunk))

    async def _write(self, packed: bytes | memoryview, answer_bytes: int) -> None:
        with self._call("write"):
            await within(self._exchange(packed, answer_bytes), self._timeout_s)

    async def _exchange(self, packed: bytes | memoryview, answer_bytes: int) -> None:
        connection = await self._redis.connection_pool.get_connection()
        try:
            # Not through redis-py's methods: they read the answers one by one, which costs several times as
            # much as everything else here.
            connection._writer.write(packed)
            answer = await connection._reader.readexactly(answer_bytes)
            if not answer.endswith(b"\r\n"):  # it ends within an error: the rest says what is wrong
                answer += await connection._reader.readline()
            _check(answer)
        except BaseException:
            await abort(connection)
            raise
        finally:
            await self._redis.connection_pool.release(connection)

    async def get(self, kind: Kind, keys: Sequence[int]) -> list[bytes | None]:
        """Read packed rows in one round trip."""
        if not keys:
            return []
        start = self._start(kind)
        names = [f"{start}{key:016x}" for key in keys]
        rows: list[Any] = await self._for_request("read", lambda: self._redis.mget(names))
        return [row if isinstance(row, bytes) else None for row in rows]

    async def _for_request(self, name: str, call: Callable[[], Any]) -> Any:
        """Return the result of a call that a request waits for; after a failure, fail until Redis is back."""
        if self._probe is not None and not self._probe.done():
            raise UnavailableError("Redis: away")
        try:
            with self._call(name):
                return await within(call(), self._read_timeout_s)
        except UnavailableError as exc:
            # Where scripts are refused, rows may be readable.
            if name == "read" or not isinstance(exc.__cause__, ResponseError):
                self._probe = asyncio.create_task(self._until_back(f"{self._start('u')}{0:016x}"))
            raise

    async def take_tokens(
        self, callers: Sequence[int], tokens: Sequence[int], rate: float, burst: int
    ) -> list[int]:
        """Take tokens for many requests in one round trip."""
        if not callers:
            return []
        buckets, args = take_arguments(callers, tokens, rate, burst)
        keys = [f"{self._prefix}l:{{callers}}:{bucket:016x}" for bucket in buckets]
        call = lambda: self._redis.eval(TAKE, len(keys), *keys, *args)  # noqa: E731
        return [int(wait) for wait in await self._for_request("take_tokens", call)]

    async def _until_back(self, key: str) -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            with contextlib.suppress(TimeoutError, RedisError, OSError, EOFError, RuntimeError):
                await self._redis.mget([key])  # not a ping: that may be allowed when reading is not
                log.info("Redis answers again", extra={"action": "store_up"})
                return

    async def read_marks(self, kind: Kind, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return the marks in one round trip."""
        pipe: Any = self._redis.pipeline(transaction=False)
        pipe.info("server")
        pipe.hmget(self._marks(kind), [str(p) for p in partitions] or ["none"])
        with self._call("read_marks"):
            info, found = await within(pipe.execute(raise_on_error=False), self._timeout_s)
            _raise(found)
            if not isinstance(info, ResponseError):  # INFO may be forbidden or unknown at a hosted Redis
                _raise(info)
        self._run_id = str(info.get("run_id", "")) if isinstance(info, dict) else ""
        return {p: position_in(mark, self._run_id) for p, mark in zip(partitions, found, strict=False)}

    async def set_marks(
        self, kind: Kind, marks: Mapping[int, int], seen: Mapping[int, int | None] | None = None
    ) -> set[int]:
        """Write marks in one round trip."""
        if self._run_id is None:
            await self.read_marks(kind, [])
        args = set_marks_arguments(self._run_id or "", marks, seen)
        with self._call("set_marks"):
            call = self._redis.eval(SET_MARKS, 1, self._marks(kind), *args)
            done = await within(call, self._timeout_s)
        return {int(partition) for partition in done}

    def _beats(self, kind: Kind) -> str:
        return f"{self._prefix}w:{kind}:"

    async def beat(
        self, kind: Kind, partitions: Sequence[int], texts: Mapping[int, bytes] | None = None
    ) -> None:
        """Write beats, in the way in which rows are written: a store that refuses rows refuses these."""
        if partitions:
            packed = set_beats(self._beats(kind).encode(), BEAT_S, partitions, texts or {})
            await self._write(packed, SET_REPLY * len(partitions))

    async def beating(self, kind: Kind, partitions: Sequence[int]) -> set[int]:
        """Read which partitions have a beat, in one round trip."""
        return set(await self.beats(kind, partitions))

    async def beats(self, kind: Kind, partitions: Sequence[int]) -> dict[int, bytes]:
        """Read beats in one round trip."""
        keys = [f"{self._beats(kind)}{partition}" for partition in partitions]
        with self._call("read_beats"):
            found = await within(self._redis.mget(keys), self._timeout_s) if keys else []
        return {p: beat for p, beat in zip(partitions, found, strict=True) if beat is not None}

    async def same_ids(self, sample: str) -> bool:
        """Return whether the ids in the store are hashed as those of this process.

        ``sample`` is the hash of a fixed text. The first process of an installation leaves its own.
        """
        key = f"{self._prefix}ids"
        with self._call("same_ids"):
            await within(self._redis.set(key, sample, nx=True), self._timeout_s)
            found = await within(self._redis.get(key), self._timeout_s)
        return found is None or bytes(found) == sample.encode()

    async def close(self) -> None:
        """Close the connections."""
        if self._probe is not None:
            self._probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probe
        await _close(self._redis)


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


def _open(settings: Settings, timeout_s: float) -> Any:
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
    password = secret_of(settings, "redis_password")
    options: dict[str, Any] = {
        "socket_timeout": 2 * timeout_s,  # later than the timeouts of the store
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }
    access: dict[str, Any] = {}
    if password:
        access = {"username": settings.redis_user or None, "password": password}
    # Protocol 3 mixes the server's own messages with the answers.
    access |= {"decode_responses": False, "protocol": 2}
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


async def _close(client: Any) -> None:
    """Close the connections of a client, also those to Sentinel."""
    await client.aclose()
    sentinel = getattr(client.connection_pool, "sentinel_manager", None)
    if sentinel is not None:
        await sentinel.aclose()


def _check(answer: bytes) -> None:
    """Raise the first error in the answers."""
    _, error, text = answer.partition(b"-")
    if error:
        raise ResponseError(text.partition(b"\r\n")[0].decode(errors="replace"))


def _raise(answer: Any) -> None:
    if isinstance(answer, Exception):
        raise answer
