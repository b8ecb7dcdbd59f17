"""Calls of Redis: each is measured and ends in time; those of requests fail at once while Redis is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from redis.exceptions import RedisError, ResponseError

from headrace.serving.store.connections import within
from headrace.serving.store.protocol import PROBE_S, Kind
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings

log = logging.getLogger(__name__)

#: Bytes of rows and number of keys in one round trip: they take less than 1 ms of the event loop. Redis reads
#: them in pieces, between the commands of other clients.
CHUNK_BYTES = 1024 * 1024
CHUNK_KEYS = 10_000


class RedisCalls:
    """What the store in one Redis and that in a Redis Cluster have in common.

    Parameters
    ----------
    settings
        Key prefix, expiries.
    timeout_s
        Longest wait for one write.
    read_timeout_s
        Longest wait for one read; a request waits for it. None: ``settings.redis_read_ms``. After a read has
        failed, the next ones fail at once, until Redis has answered a probe in the background.
    probe
        Asks Redis for a row; raises when it does not answer.
    """

    def __init__(
        self,
        settings: Settings,
        timeout_s: float,
        read_timeout_s: float | None,
        probe: Callable[[], Awaitable[object]],
    ) -> None:
        self.prefix = settings.topic_prefix
        of_users, of_items = settings.user_ttl_s, settings.item_ttl_s
        self.ttl: dict[Kind, int] = {"u": of_users, "s": of_users, "n": of_items, "i": of_items}
        self.timeout_s = timeout_s
        self.read_timeout_s = settings.redis_read_ms / 1000 if read_timeout_s is None else read_timeout_s
        self._ask = probe
        self._probe: asyncio.Task[None] | None = None
        #: Called after every call with its name, how long it took (s), and whether it failed.
        self.measure: Callable[[str, float, bool], None] = lambda call, seconds, failed: None

    @contextlib.contextmanager
    def call(self, name: str) -> Iterator[None]:
        """Measure the block; what goes wrong with Redis in it becomes ``UnavailableError``."""
        began, failed = time.perf_counter(), False
        try:
            yield
        except (TimeoutError, RedisError, OSError, EOFError, RuntimeError) as exc:
            # RuntimeError: uvloop raises it for a transport that was closed meanwhile.
            failed = True
            raise UnavailableError(f"Redis: {exc or type(exc).__name__}") from exc
        finally:
            self.measure(name, time.perf_counter() - began, failed)

    async def for_request(self, name: str, call: Callable[[], Any]) -> Any:
        """Return the result of a call that a request waits for; after a failure, fail until Redis is back."""
        if self._probe is not None and not self._probe.done():
            raise UnavailableError("Redis: away")
        try:
            with self.call(name):
                return await within(call(), self.read_timeout_s)
        except UnavailableError as exc:
            # Where scripts are refused, rows may be readable.
            if name == "read" or not isinstance(exc.__cause__, ResponseError):
                self._probe = asyncio.create_task(self._until_back())
            raise

    async def _until_back(self) -> None:
        while True:
            await asyncio.sleep(PROBE_S)
            with contextlib.suppress(TimeoutError, RedisError, OSError, EOFError, RuntimeError):
                await self._ask()
                log.info("Redis answers again", extra={"action": "store_up"})
                return

    async def stop_probing(self) -> None:
        """End the probe."""
        if self._probe is not None:
            self._probe.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probe
