"""Online store: rows by key in Redis, and the same in memory for tests and tools.

Layout (everything can be thrown away and rebuilt from Kafka):

    <prefix>u:<16 hex digits>   string   packed user_state.ROW    expires user_ttl_s after it was last written
    <prefix>n:<16 hex digits>   string   packed neighbours.ROW    expires item_ttl_s after it was last written
    <prefix>i:<16 hex digits>   string   packed item_state.ROW    expires item_ttl_s after it was last written
    <prefix>m:<u|n|i>           hash     marks of one kind: partition -> "<run id> <position>"; never expires

A *mark* says that what the rows' changelog partition holds before ``position`` has been written here. It goes
the way of the rows when Redis loses its data. It is void when it was written under another run id than the
server's present one (``INFO server``): a restart may have brought back older rows. Where a hosted Redis tells
no run id, the run id is empty and only a missing mark tells of a loss.

Rows are written with one ``SET`` a key, so any node, proxy or script-less Redis takes them. The marks of a
kind are one key: several nodes that lose their data one by one would need marks of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from headrace.serving.store.resp import DEL_REPLY, SET_REPLY, Keys, delete_rows, set_rows
from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows

Kind = Literal["u", "n", "i"]

log = logging.getLogger(__name__)

#: While Redis is away, it is asked this often whether it is back.
PROBE_S = 0.25
#: A call that timed out is looked at once more after this: it may be our own loop that was busy.
_GRACE_S = 0.005

#: Sent in one round trip, of rows and of keys: below 1 ms of our loop; Redis reads it in pieces, between
#: other clients' commands.
_CHUNK_BYTES = 1024 * 1024
_CHUNK_KEYS = 10_000

#: Sets the marks that still stand where they were seen ('*': wherever); returns their partitions.
_SET_MARKS = """
local run, done = ARGV[1] .. ' ', {}
for i = 2, #ARGV, 3 do
  local mark = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  mark = string.sub(mark, 1, #run) == run and string.sub(mark, #run + 1) or ''
  if ARGV[i + 1] == '*' or ARGV[i + 1] == mark then
    redis.call('HSET', KEYS[1], ARGV[i], run .. ARGV[i + 2])
    done[#done + 1] = ARGV[i]
  end
end
return done
"""


class OnlineStore(Protocol):
    """What serving reads and the stages write."""

    async def put(self, kind: Kind, rows: PackedRows) -> None:
        """Write packed rows. Raises ``UnavailableError``."""

    async def get(self, kind: Kind, keys: Sequence[int]) -> list[bytes | None]:
        """Read packed rows, None where there is none. Raises ``UnavailableError``."""

    async def drop(self, kind: Kind, keys: Keys) -> None:
        """Remove rows. Raises ``UnavailableError``."""

    async def read_marks(self, kind: Kind, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return the mark of every partition, None where it is missing or void.

        Raises ``UnavailableError``.
        """

    async def set_marks(
        self, kind: Kind, marks: Mapping[int, int], seen: Mapping[int, int | None] | None = None
    ) -> set[int]:
        """Write marks; with ``seen``, only those that still stand there (None: that are missing or void).

        Returns the partitions whose mark was written. Marks are written under the run id that ``read_marks``
        met last: after a restart they are void until it has looked again. Raises ``UnavailableError``.
        """

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
        self._timeout_s = timeout_s
        self._read_timeout_s = settings.redis_read_ms / 1000 if read_timeout_s is None else read_timeout_s
        try:
            client: Any = redis.from_url(
                settings.redis_url,
                socket_timeout=2 * timeout_s,  # never before our own
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                decode_responses=False,
                protocol=2,  # answers only: the newer one mixes the server's own messages in
            )
            client.connection_pool.make_connection()  # does not connect, but refuses unknown options
        except (ValueError, TypeError) as exc:
            # Not the URL itself: it may hold a password.
            raise ConfigError(
                f"HEADRACE_REDIS_URL is wrong, redis://host:port/db is expected: {exc}"
            ) from exc
        self._redis = client
        self._run_id: str | None = None
        self._probe: asyncio.Task[None] | None = None

    def _start(self, kind: Kind) -> str:
        return f"{self._prefix}{kind}:"

    def _marks(self, kind: Kind) -> str:
        return f"{self._prefix}m:{kind}"

    async def put(self, kind: Kind, rows: PackedRows) -> None:
        """Write packed rows, some ``_CHUNK_BYTES`` in one round trip."""
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
        with _unavailable():
            await _soon(self._exchange(packed, answer_bytes), self._timeout_s)

    async def _exchange(self, packed: bytes | memoryview, answer_bytes: int) -> None:
        connection = await self._redis.connection_pool.get_connection()
        try:
            # Past redis-py's methods: taking the answers one by one costs several times what all else does.
            connection._writer.write(packed)
            answer = await connection._reader.readexactly(answer_bytes)
            _check(answer)
        except BaseException:
            await _cut(connection)
            raise
        finally:
            await self._redis.connection_pool.release(connection)

    async def get(self, kind: Kind, keys: Sequence[int]) -> list[bytes | None]:
        """Read packed rows in one round trip."""
        if not keys:
            return []
        if self._probe is not None and not self._probe.done():
            raise UnavailableError("Redis: away")
        start = self._start(kind)
        try:
            with _unavailable():
                rows: list[Any] = await _soon(
                    self._redis.mget([f"{start}{key:016x}" for key in keys]), self._read_timeout_s
                )
        except UnavailableError:
            self._probe = asyncio.create_task(self._until_back())
            raise
        return [row if isinstance(row, bytes) else None for row in rows]

    async def _until_back(self) -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            with contextlib.suppress(TimeoutError, RedisError, OSError, EOFError, RuntimeError):
                await self._redis.ping()
                log.info("Redis answers again", extra={"action": "store_up"})
                return

    async def read_marks(self, kind: Kind, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return the marks in one round trip."""
        pipe: Any = self._redis.pipeline(transaction=False)
        pipe.info("server")
        pipe.hmget(self._marks(kind), [str(p) for p in partitions] or ["none"])
        with _unavailable():
            info, found = await _soon(pipe.execute(raise_on_error=False), self._timeout_s)
            _raise(found)
            if not isinstance(info, ResponseError):  # not allowed, or not known, there
                _raise(info)
        self._run_id = str(info.get("run_id", "")) if isinstance(info, dict) else ""
        return {p: _position(mark, self._run_id) for p, mark in zip(partitions, found, strict=False)}

    async def set_marks(
        self, kind: Kind, marks: Mapping[int, int], seen: Mapping[int, int | None] | None = None
    ) -> set[int]:
        """Write marks in one round trip."""
        if self._run_id is None:
            await self.read_marks(kind, [])
        args: list[str | int] = [self._run_id or ""]
        for partition, position in marks.items():
            last = "*" if seen is None else seen[partition]
            args += [partition, "" if last is None else last, position]
        with _unavailable():
            call = self._redis.eval(_SET_MARKS, 1, self._marks(kind), *args)
            done = await _soon(call, self._timeout_s)
        return {int(partition) for partition in done}

    async def close(self) -> None:
        """Close the connections."""
        if self._probe is not None:
            self._probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probe
        await self._redis.aclose()


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (TimeoutError, RedisError, OSError, EOFError, RuntimeError) as exc:
        # RuntimeError: what uvloop says of a transport that was closed meanwhile.
        raise UnavailableError(f"Redis: {exc or type(exc).__name__}") from exc


async def _soon(call: Any, timeout_s: float) -> Any:
    """Return a call's result, or raise ``TimeoutError`` after ``timeout_s`` whatever it hangs in."""
    task = asyncio.ensure_future(call)
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if not done:
            done, _ = await asyncio.wait({task}, timeout=_GRACE_S)
        if not done:
            raise TimeoutError(f"no answer within {timeout_s * 1000:.0f} ms")
        return task.result()
    finally:
        task.cancel()  # nothing, when it is done


def _check(answer: bytes) -> None:
    """Raise what the first error in the answers says."""
    _, error, text = answer.partition(b"-")
    if error:
        raise ResponseError(text.partition(b"\r\n")[0].decode(errors="replace"))


def _raise(answer: Any) -> None:
    if isinstance(answer, Exception):
        raise answer


async def _cut(connection: Any) -> None:
    """Close a connection so that nothing of what it was given to send goes out any more.

    An ordinary close sends the rest when the network is back: old rows would overwrite newer ones.
    """
    writer = connection._writer
    if writer is not None:
        with contextlib.suppress(OSError, ValueError):  # of a socket that is closed already
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    await connection.disconnect(nowait=True)


def _position(mark: bytes | None, run_id: str) -> int | None:
    """Return the position in a mark, None when there is none or it is void."""
    run, _, position = (mark or b"").decode().rpartition(" ")
    return int(position) if position and run == run_id else None


class MemoryStore:
    """The same in a dictionary; nothing expires. What happens to a Redis can happen to it, for tests.

    Attributes
    ----------
    away
        While true, every call raises ``UnavailableError``.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[Kind, int], bytes] = {}
        self._marks: dict[tuple[Kind, int], tuple[str, int]] = {}
        self._run_id = self._met = secrets.token_hex(8)
        self.away = False

    def lose(self) -> None:
        """Lose all data, as at ``FLUSHALL``."""
        self._rows.clear()
        self._marks.clear()

    def restart(self) -> None:
        """Get another run id; data stays as it is."""
        self._run_id = secrets.token_hex(8)

    def _answer(self) -> None:
        if self.away:
            raise UnavailableError("the store is away")

    async def put(self, kind: Kind, rows: PackedRows) -> None:
        """Write packed rows."""
        self._answer()
        self._rows.update(zip([(kind, k) for k in rows.keys.tolist()], rows, strict=True))

    async def get(self, kind: Kind, keys: Sequence[int]) -> list[bytes | None]:
        """Read packed rows."""
        self._answer()
        return [self._rows.get((kind, k)) for k in keys]

    async def drop(self, kind: Kind, keys: Keys) -> None:
        """Remove rows."""
        self._answer()
        for key in keys:
            self._rows.pop((kind, int(key)), None)

    def _mark(self, kind: Kind, partition: int, run_id: str) -> int | None:
        run, position = self._marks.get((kind, partition), ("", 0))
        return position if run == run_id else None

    async def read_marks(self, kind: Kind, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return the marks."""
        self._answer()
        self._met = self._run_id
        return {p: self._mark(kind, p, self._met) for p in partitions}

    async def set_marks(
        self, kind: Kind, marks: Mapping[int, int], seen: Mapping[int, int | None] | None = None
    ) -> set[int]:
        """Write marks."""
        self._answer()
        done = {p for p in marks if seen is None or self._mark(kind, p, self._met) == seen[p]}
        self._marks.update({(kind, p): (self._met, marks[p]) for p in done})
        return done

    async def close(self) -> None:
        """Nothing to let go of."""
