"""Sending replies to topics that callers name. A topic that does not exist delays no other reply.

A producer that writes to an unknown topic waits for its metadata until the request times out (40 s), and a
broker that creates topics on demand creates the topic. So a topic is looked up first, in the background.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka.errors import KafkaError

from headrace.streams.errors import RejectedError
from headrace.streams.topics.lost_ends import LOST_END
from headrace.streams.topics.sender import BatchSender

log = logging.getLogger(__name__)

#: A missing topic is looked up again during this time: it may have been created a moment ago.
APPEAR_S = 0.3
#: Longest wait for the cluster to list its topics.
LISTING_S = 2.0
#: Shortest time between two listings, for any number of topics.
PAUSE_S = 0.05
#: A topic that was missing is not looked up again during this time.
MISSING_S = 30.0
#: Largest number of missing topics remembered: their names come from callers.
MAX_MISSING = 10_000


def _undeliverable(detail: str) -> RejectedError:
    return RejectedError("reply_undeliverable", "reply_to", detail)


class ReplySender:
    """Sends replies through a ``BatchSender``, each in a task of its own.

    Parameters
    ----------
    sender
        The producer; it must be running when something is sent.
    clock
        Seconds, monotonic.
    """

    def __init__(self, sender: BatchSender, clock: Callable[[], float] = time.monotonic) -> None:
        self._sender = sender
        self._clock = clock
        self._missing: dict[tuple[str, int], float] = {}  # (topic, partitions) -> when to look again
        self._listing: asyncio.Task[dict[str, int]] | None = None
        self._listed_at = -PAUSE_S

    def knows(self, topic: str, partition: int | None) -> bool:
        """Return whether the topic, with this partition, is known to exist; does not ask the cluster."""
        return self._sender.known_partitions(topic) >= _needed(partition)

    def send(
        self,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes,
        headers: Sequence[tuple[str, bytes]],
    ) -> asyncio.Task[None]:
        """Begin to send one reply; the task ends when the broker has acknowledged it.

        The task raises ``RejectedError`` ``reply_undeliverable``, and nothing else, when the topic or the
        partition does not exist or the broker does not accept the reply.
        """
        task = asyncio.create_task(self._send(topic, partition, key, value, headers))
        task.add_done_callback(_seen)  # else asyncio logs the error of a task that is not awaited
        return task

    async def _send(
        self,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes,
        headers: Sequence[tuple[str, bytes]],
    ) -> None:
        try:
            if not self.knows(topic, partition):
                await self._look_up(topic, partition)
            try:
                await (await self._sender.send_one(topic, value, key, partition, headers))
            except LOST_END:  # it surely is not there
                await (await self._sender.send_one(topic, value, key, partition, headers))
        except RejectedError:
            raise
        except (KafkaError, TimeoutError) as exc:
            raise _undeliverable(f"the reply to topic {topic!r} was not taken: {exc!r}") from exc
        except Exception as exc:
            log.exception("a reply to topic %s failed", topic)
            raise _undeliverable(f"the reply to topic {topic!r} failed: {type(exc).__name__}") from exc

    async def _look_up(self, topic: str, partition: int | None) -> None:
        needed = _needed(partition)
        wanted = (topic, needed)
        began = self._clock()
        if began < self._missing.get(wanted, began):
            raise _undeliverable(_what(topic, partition))
        while (await self._topics()).get(topic, 0) < needed:
            if self._clock() - began >= APPEAR_S:
                self._remember(wanted)
                raise _undeliverable(_what(topic, partition))
        async with asyncio.timeout(LISTING_S):
            while not self.knows(topic, partition):
                await self._sender.get_to_know(topic)
                await asyncio.sleep(0.01)

    async def _topics(self) -> dict[str, int]:
        """Return the cluster's topics and their partition counts; concurrent calls share one listing."""
        if self._listing is None or self._listing.done():
            self._listing = asyncio.create_task(self._list())
            self._listing.add_done_callback(_seen)
        return await asyncio.shield(self._listing)

    async def _list(self) -> dict[str, int]:
        await asyncio.sleep(max(0.0, self._listed_at + PAUSE_S - self._clock()))
        try:
            return await asyncio.wait_for(self._sender.list_topics(), LISTING_S)
        finally:
            self._listed_at = self._clock()

    def _remember(self, wanted: tuple[str, int]) -> None:
        now = self._clock()
        self._missing.pop(wanted, None)  # moved to the end: the entries are in the order of their times
        self._missing[wanted] = now + MISSING_S
        for known in list(self._missing):
            if len(self._missing) <= MAX_MISSING and self._missing[known] > now:
                break
            del self._missing[known]


def _needed(partition: int | None) -> int:
    return 1 if partition is None else partition + 1


def _what(topic: str, partition: int | None) -> str:
    return f"there is no topic {topic!r}" + (f" with a partition {partition}" if partition else "")


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
