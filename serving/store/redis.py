"""The online store in Redis. The layout of its keys: ``protocol.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import ResponseError

from headrace.serving.store.buckets import TAKE, take_arguments
from headrace.serving.store.calls import CHUNK_BYTES, CHUNK_KEYS, RedisCalls
from headrace.serving.store.clients import close_client, open_client
from headrace.serving.store.connections import abort, within
from headrace.serving.store.exchange import exchange
from headrace.serving.store.marks import (
    SET_BEATS,
    SET_MARKS,
    position_in,
    run_of,
    set_beats_arguments,
    set_marks_arguments,
)
from headrace.serving.store.protocol import BEAT_S, Keys, Kind
from headrace.serving.store.resp import DEL_REPLY, SET_REPLY, command, delete_rows, set_rows
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows


class RedisStore(RedisCalls):
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
        super().__init__(settings, timeout_s, read_timeout_s, self._read_one)
        self._redis = open_client(settings, timeout_s)
        #: By kind: what the server was when its marks were read last, and its run.
        self._runs: dict[Kind, tuple[str, str]] = {}

    def _start(self, kind: Kind) -> str:
        return f"{self.prefix}{kind}:"

    def _marks(self, kind: Kind) -> str:
        return f"{self.prefix}m:{kind}"

    async def put(self, kind: Kind, rows: PackedRows) -> None:
        """Write packed rows, about ``CHUNK_BYTES`` in one round trip."""
        start = self._start(kind).encode()
        for chunk in rows.chunks(CHUNK_BYTES, CHUNK_KEYS):
            await self._write(set_rows(start, self.ttl[kind], chunk), SET_REPLY * len(chunk))

    async def drop(self, kind: Kind, keys: Keys) -> None:
        """Remove rows."""
        start = self._start(kind).encode()
        for first in range(0, len(keys), CHUNK_KEYS):
            chunk = keys[first : first + CHUNK_KEYS]
            await self._write(delete_rows(start, chunk), DEL_REPLY * len(chunk))

    async def _write(self, packed: bytes | memoryview, answer_bytes: int) -> None:
        with self.call("write"):
            await within(self._exchange(packed, answer_bytes), self.timeout_s)

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
        (rows,) = await self.get_several([(kind, keys)])
        return rows

    async def get_several(self, wanted: Sequence[tuple[Kind, Sequence[int]]]) -> list[list[bytes | None]]:
        """Read packed rows of several kinds with one command."""
        starts = [(self._start(kind), keys) for kind, keys in wanted]
        names = [f"{start}{key:016x}" for start, keys in starts for key in keys]
        if not names:
            return [[] for _ in wanted]
        rows = iter(await self.for_request("read", lambda: self._mget(names)))
        return [[next(rows) for _ in keys] for _, keys in wanted]

    async def _mget(self, names: Sequence[str]) -> list[bytes | None]:
        (rows,) = await exchange(self._redis.connection_pool, command("MGET", *names), 1)
        _raise(rows)
        return list(rows)

    async def take_tokens(
        self, callers: Sequence[int], tokens: Sequence[int], rate: float, burst: int
    ) -> list[int]:
        """Take tokens for many requests in one round trip."""
        if not callers:
            return []
        buckets, args = take_arguments(callers, tokens, rate, burst)
        keys = [f"{self.prefix}l:{{callers}}:{bucket:016x}" for bucket in buckets]
        call = lambda: self._redis.eval(TAKE, len(keys), *keys, *args)  # noqa: E731
        return [int(wait) for wait in await self.for_request("take_tokens", call)]

    async def _read_one(self) -> None:
        """Read a row, for the probe: not a ping, which may be allowed without it. It ends in time."""
        await within(self._mget([f"{self._start('u')}{0:016x}"]), self.timeout_s)

    async def read_marks(self, kind: Kind, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return the marks in one round trip."""
        pipe: Any = self._redis.pipeline(transaction=False)
        pipe.info("server")
        pipe.info("stats")
        pipe.hmget(self._marks(kind), [str(p) for p in partitions] or ["none"])
        with self.call("read_marks"):
            *told, found = await within(pipe.execute(raise_on_error=False), self.timeout_s)
            _raise(found)
            server, stats = map(_told, told)
        name = str(server.get("run_id", ""))
        run = run_of(name, stats)
        self._runs[kind] = name, run
        return {p: position_in(mark, run) for p, mark in zip(partitions, found, strict=False)}

    async def set_marks(
        self, kind: Kind, marks: Mapping[int, int], seen: Mapping[int, int | None] | None = None
    ) -> set[int]:
        """Write marks in one round trip."""
        server, run = await self._run(kind)
        args = set_marks_arguments(run, marks, seen)
        pipe: Any = self._redis.pipeline(transaction=False)
        pipe.eval(SET_MARKS, 1, self._marks(kind), *args)
        pipe.info("stats")
        with self.call("set_marks"):
            done, stats = await within(pipe.execute(raise_on_error=False), self.timeout_s)
            _raise(done)
            evicted = run_of(server, _told(stats)) != run
        return set() if evicted else {int(partition) for partition in done}

    async def _run(self, kind: Kind) -> tuple[str, str]:
        if kind not in self._runs:
            await self.read_marks(kind, [])
        return self._runs[kind]

    def _beats(self, kind: Kind) -> str:
        return f"{self.prefix}w:{kind}:"

    async def beat(
        self, kind: Kind, partitions: Sequence[int], texts: Mapping[int, bytes] | None = None
    ) -> None:
        """Write beats in one round trip; a store that refuses rows refuses these."""
        if not partitions:
            return
        _, run = await self._run(kind)
        keys = [self._marks(kind), *(f"{self._beats(kind)}{partition}" for partition in partitions)]
        args = set_beats_arguments(("server", "run_id"), run, run, BEAT_S, partitions, texts or {})
        with self.call("write"):
            await within(self._redis.eval(SET_BEATS, len(keys), *keys, *args), self.timeout_s)

    async def silence(self, kind: Kind, partitions: Sequence[int]) -> None:
        """Delete beats in one round trip."""
        if partitions:
            with self.call("write"):
                await within(
                    self._redis.delete(*(f"{self._beats(kind)}{p}" for p in partitions)), self.timeout_s
                )

    async def beating(self, kind: Kind, partitions: Sequence[int]) -> set[int]:
        """Read which partitions have a beat, in one round trip."""
        return set(await self.beats(kind, partitions))

    async def beats(self, kind: Kind, partitions: Sequence[int]) -> dict[int, bytes]:
        """Read beats in one round trip."""
        keys = [f"{self._beats(kind)}{partition}" for partition in partitions]
        with self.call("read_beats"):
            found = await within(self._redis.mget(keys), self.timeout_s) if keys else []
        return {p: beat for p, beat in zip(partitions, found, strict=True) if beat is not None}

    async def same_ids(self, sample: str) -> bool:
        """Return whether the ids in the store are hashed as those of this process.

        ``sample`` is the hash of a fixed text. The first process of an installation leaves its own.
        """
        key = f"{self.prefix}ids"
        with self.call("same_ids"):
            await within(self._redis.set(key, sample, nx=True), self.timeout_s)
            found = await within(self._redis.get(key), self.timeout_s)
        return found is None or bytes(found) == sample.encode()

    async def close(self) -> None:
        """Close the connections."""
        await self.stop_probing()
        await close_client(self._redis)


def _check(answer: bytes) -> None:
    """Raise the first error in the answers."""
    _, error, text = answer.partition(b"-")
    if error:
        raise ResponseError(text.partition(b"\r\n")[0].decode(errors="replace"))


def _told(info: Any) -> Mapping[str, object]:
    """Return what ``INFO`` tells: nothing where it is forbidden or unknown, as at a hosted Redis."""
    if isinstance(info, ResponseError):
        return {}
    _raise(info)
    return info if isinstance(info, dict) else {}


def _raise(answer: Any) -> None:
    if isinstance(answer, Exception):
        raise answer
