"""What the agents of a process share, and the few moves every agent makes: bury, hold, flush."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import MessageSizeTooLargeError

from headrace.serving.store.protocol import OnlineStore
from headrace.streams.errors import RejectedError
from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import ORIGINAL, dead_letter
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender, OutRecord
from headrace.streams.transport.consumer import RecordBatch

log = logging.getLogger(__name__)


def wall_clock() -> int:
    """Return the time, ms since the epoch."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Wiring:
    """Settings, topic names, the producers, the online store and the clock of one process."""

    settings: Settings
    sender: BatchSender
    replier: BatchSender  # apart: uncompressed, and a caller's bad topic holds up nothing else
    store: OnlineStore
    clock: Callable[[], int] = wall_clock
    topics: Topics = field(init=False)

    def __post_init__(self) -> None:
        self.topics = Topics(self.settings)

    async def bury(
        self, agent: str, batch: RecordBatch, rejects: Sequence[tuple[Any, RejectedError]]
    ) -> None:
        """Write the rejected records to `dead-letters`; returns when they are safe."""
        if not rejects:
            return
        letters = [
            fitting(
                dead_letter(
                    record,
                    batch.topic,
                    batch.partition,
                    agent=agent,
                    reason=e.reason,
                    field=e.field,
                    detail=e.detail,
                ),
                self.sender.max_bytes,
            )
            for record, e in rejects
        ]
        try:
            await self.sender.send_keyed(self.topics.dead_letters, letters)
        except MessageSizeTooLargeError:
            await self._bury_one_by_one(letters)
        log.warning(
            "%s: %d of %d records of %s-%d are dead letters (first: %s %s)",
            agent,
            len(rejects),
            len(batch),
            batch.topic,
            batch.partition,
            rejects[0][1].reason,
            rejects[0][1].field,
            extra={"action": "dead_letter", "agent": agent, "count": len(rejects)},
        )

    async def _bury_one_by_one(self, letters: Sequence[OutRecord]) -> None:
        """Write letters of which the broker refused one: the topic's limit is lower than ours."""
        for letter in letters:
            for shape in (letter, without_body(letter), without_body(letter, bare=True)):
                try:
                    await self.sender.send_keyed(self.topics.dead_letters, [shape])
                    break
                except MessageSizeTooLargeError as exc:
                    refused = exc
            else:
                raise refused


def fitting(letter: OutRecord, max_bytes: int) -> OutRecord:
    """Return a dead letter as it is, or with as much left out as makes it fit into ``max_bytes``."""
    for shape in (letter, without_body(letter)):
        key, value, _, headers = shape
        size = 256 + len(key or b"") + len(value or b"")
        size += sum(len(name) * 4 + len(content) + 16 for name, content in headers)
        if size <= max_bytes:
            return shape
    return without_body(letter, bare=True)


def without_body(letter: OutRecord, *, bare: bool = False) -> OutRecord:
    """Return a dead letter without the original value, whose size is told in ``origin-body-dropped``.

    A ``bare`` one has lost its key and the record's own headers, too.
    """
    key, value, timestamp, headers = letter
    kept = [h for h in headers if not (bare and h[0].startswith(ORIGINAL))]
    kept.append(("origin-body-dropped", b"%d" % len(value or b"")))
    if bare and key is not None:
        key = None
        kept.append(("origin-key-dropped", b"%d" % len(letter[0] or b"")))
    return key, b"", timestamp, kept


class Flusher:
    """Coalesces the effects of many batches into one write, and acks the batches after it.

    Parameters
    ----------
    write
        Takes what is dirty (synchronously, before its first await) and makes it durable.
    every_s
        Batches are held at most about this long.

    The task that calls ``hold``, an agent's, owns the flusher: when it ends, so does the late flush, because
    nobody is left to write for. What was not flushed is delivered again.
    """

    def __init__(self, write: Callable[[], Awaitable[None]], every_s: float) -> None:
        self._write = write
        self._every_s = every_s
        self._acks: list[Callable[[], None]] = []
        self._lock = asyncio.Lock()
        self._due = 0.0
        self._late: asyncio.Task[None] | None = None
        self._owner: asyncio.Task[Any] | None = None
        self._error: BaseException | None = None

    async def hold(self, ack: Callable[[], None]) -> None:
        """Keep a batch's ack until the next flush; flush when one is due."""
        if self._error is not None:
            raise self._error
        now = time.monotonic()
        if not self._acks:
            self._due = now + self._every_s
        self._acks.append(ack)
        if now >= self._due:
            await self.flush()
        elif self._late is None or self._late.done():
            owner = asyncio.current_task()
            if owner is not self._owner and owner is not None:
                self._owner = owner
                owner.add_done_callback(self._orphaned)
            self._late = asyncio.create_task(self._flush_later())

    async def _flush_later(self) -> None:
        try:
            while self._acks:
                await asyncio.sleep(max(0.0, self._due - time.monotonic()))
                if time.monotonic() >= self._due:
                    await self.flush()
        except Exception as exc:
            self._error = exc
            if self._owner is not None and self._owner.done():
                log.info("the last flush was not finished (%s); its batches are delivered again", exc)
            else:
                log.exception("flush failed")

    def _orphaned(self, owner: asyncio.Task[Any]) -> None:
        if owner is self._owner:
            self._cancel_late()

    def _cancel_late(self) -> None:
        # A write that has begun is left to finish: state is read back only after it (they share the lock).
        if self._late is not None and not self._lock.locked():
            self._late.cancel()
            self._late = None

    async def flush(self) -> None:
        """Write, then ack what was held before the write began."""
        async with self._lock:
            acks, self._acks = self._acks, []
            self._due = time.monotonic() + self._every_s
            await self._write()
            for ack in acks:
                ack()

    def locked(self) -> asyncio.Lock:
        """Return the lock that keeps writes apart from loading and dropping state."""
        return self._lock

    def forget(self) -> None:
        """Drop held acks: their partitions went to somebody else."""
        self._acks = []
        self._cancel_late()
