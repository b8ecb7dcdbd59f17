"""Writes what many callers have at the same time: one record batch for all that wait for a partition.

A partition takes one batch after the other. What arrives meanwhile is written together, so a busy gateway
writes few batches, an idle one writes at once. No batch is larger than the broker's, so the offset of every
record is known from that of its batch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka.errors import KafkaError

from headrace.serving.gateway.backend import Landed
from headrace.serving.gateway.records import Fresh
from headrace.streams.errors import UnavailableError
from headrace.streams.topics.murmur2 import partitions_of_keys
from headrace.streams.topics.sender import BATCH_BYTES, BatchSender, OutRecord

log = logging.getLogger(__name__)

#: Bytes that a record takes beside its key and its value, at most; no headers.
_OVERHEAD = 64


class _Group(NamedTuple):
    """Records of one caller for one partition, at most a batch; ``done`` is the offset of the first."""

    records: list[OutRecord]
    size: int
    done: asyncio.Future[int]


class Outbox:
    """Writes records by their keys, with one idempotent producer.

    Parameters
    ----------
    sender
        The producer.
    max_message_bytes
        Of the settings: also the most that a batch may have.
    timeout_s
        Longest wait for the broker, s. What was not written by then may be written later.
    """

    def __init__(self, sender: BatchSender, max_message_bytes: int, timeout_s: float) -> None:
        self._sender = sender
        self._most = min(BATCH_BYTES, max_message_bytes) * 9 // 10
        self._timeout_s = timeout_s
        self._lanes: dict[tuple[str, int], _Lane] = {}

    async def put(self, topic: str, records: Sequence[Fresh]) -> list[Landed | Exception]:
        """Write records; return where each landed, or ``UnavailableError`` for it. Keys keep their order."""
        try:
            async with asyncio.timeout(self._timeout_s):
                count = await self._sender.partitions_of(topic)
        except (KafkaError, TimeoutError) as exc:
            return [_away(exc)] * len(records)
        partitions = partitions_of_keys([record.key for record in records], count).tolist()
        places: dict[int, list[int]] = {}
        for place, partition in enumerate(partitions):
            places.setdefault(partition, []).append(place)
        out: list[Landed | Exception] = [UnavailableError("not written")] * len(records)
        await asyncio.gather(
            *(
                self._put_into(topic, p, records, group, out)
                for p, part in places.items()
                for group in self._cut(records, part)
            )
        )
        return out

    def _cut(self, records: Sequence[Fresh], places: list[int]) -> list[list[int]]:
        """Cut the records of a partition into groups that fit into a batch."""
        groups, size = list[list[int]](), self._most
        for place in places:
            own = _size(records[place])
            if size + own > self._most:
                groups.append([])
                size = 0
            groups[-1].append(place)
            size += own
        return groups

    async def _put_into(
        self,
        topic: str,
        partition: int,
        records: Sequence[Fresh],
        group: list[int],
        out: list[Landed | Exception],
    ) -> None:
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = _Lane(self._sender, topic, partition, self._most)
        chosen = [records[place] for place in group]
        try:
            async with asyncio.timeout(self._timeout_s):
                first = await lane.put(chosen)
        except (KafkaError, TimeoutError) as exc:
            for place in group:
                out[place] = _away(exc)
            return
        for n, place in enumerate(group):
            out[place] = Landed(partition, first + n if first >= 0 else -1)

    async def close(self) -> None:
        """Wait until what is being written is written, or has failed."""
        running = [lane.writing for lane in self._lanes.values() if lane.writing is not None]
        if running:
            await asyncio.wait(running, timeout=self._timeout_s)


class _Lane:
    """One partition: what waits for it, and the task that writes it while something waits."""

    def __init__(self, sender: BatchSender, topic: str, partition: int, most: int) -> None:
        self._sender, self._topic, self._partition, self._most = sender, topic, partition, most
        self._waiting: list[_Group] = []
        self.writing: asyncio.Task[None] | None = None

    def put(self, records: list[Fresh]) -> asyncio.Future[int]:
        """Return a future of the offset of the first record; -1 when it is not known."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        rows: list[OutRecord] = [(r.key, r.value, r.timestamp, ()) for r in records]
        self._waiting.append(_Group(rows, sum(map(_size, records)), done))
        if self.writing is None or self.writing.done():
            self.writing = asyncio.create_task(self._write_all())
        return done

    async def _write_all(self) -> None:
        while groups := self._take():
            records = [record for group in groups for record in group.records]
            try:
                written = await self._sender.send_many(self._topic, records, partition=self._partition)
            except KafkaError as exc:
                _fail(groups, exc)
                continue
            except Exception as exc:  # whoever waits must hear of it
                log.exception("writing to %s", self._topic, extra={"action": "write_failed"})
                _fail(groups, KafkaError(repr(exc)))
                continue
            at = written.first if written.end - written.first == len(records) else -1
            for group in groups:
                if not group.done.done():
                    group.done.set_result(at)
                at += len(group.records) if at >= 0 else 0

    def _take(self) -> list[_Group]:
        """Take groups that fit into one batch; whoever does not wait any more is left out."""
        waiting = [group for group in self._waiting if not group.done.done()]
        size, n = 0, 0
        while n < len(waiting) and (n == 0 or size + waiting[n].size <= self._most):
            size += waiting[n].size
            n += 1
        self._waiting = waiting[n:]
        return waiting[:n]


def _fail(groups: Sequence[_Group], error: KafkaError) -> None:
    for group in groups:
        if not group.done.done():
            group.done.set_exception(error)


def _size(record: Fresh) -> int:
    return len(record.key or b"") + len(record.value or b"") + _OVERHEAD


def _away(exc: Exception) -> UnavailableError:
    why = "no answer in time" if isinstance(exc, TimeoutError) else repr(exc)
    return UnavailableError(f"the broker did not take it: {why}; it may be sent again")
