"""The two towers on `models`: writing a version so that it is used as a whole, and finding the last one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.models.embeddings.pieces import NAME, Assembly, Whole, cut, head_of
from headrace.models.embeddings.stream import TowerStream
from headrace.streams.errors import ArtefactError
from headrace.streams.settings import Settings
from headrace.streams.topics.reader import Reader, read_partition, read_to
from headrace.streams.transport.batches import RecordBatch

if TYPE_CHECKING:  # to import it takes seconds, and who writes a snapshot does not need it
    from headrace.agents.wiring import Wiring

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """A version that was published: the artefact; up to which events, when (ms), from how many clicks.

    ``slot`` says which keys its pieces have: the next version uses the others.
    """

    body: bytes = b""
    read: dict[int, int] = field(default_factory=dict)
    created_ts: int = 0
    learnt: int = 0
    slot: int = 1


async def published(settings: Settings, topic: str) -> list[Whole]:
    """Return the last two versions that were published with all their pieces, the newest first."""
    assembly, found = Assembly(), list[Whole]()

    def take(batch: RecordBatch) -> None:
        for record in batch:
            try:
                whole = assembly.take(record.key, record.value)
            except ArtefactError as exc:
                log.warning("published towers are skipped: %s", exc)
                continue
            if whole is not None:
                found[:-1] = []
                found.append(whole)

    await read_partition(settings, topic, 0, take)
    return found[::-1]


async def read_published(wiring: Wiring, topic: str, stream: TowerStream) -> Published:
    """Give ``stream`` the newest published towers that fit; return which they are."""
    for whole in await published(wiring.settings, topic):
        try:
            body = await asyncio.to_thread(whole.body)
            await asyncio.to_thread(stream.restore, body)
        except ArtefactError as exc:
            log.warning("published towers are skipped: %s", exc)
            continue
        head = whole.head
        return Published(body, dict(head.read), head.created_ts, stream.learner.learnt, head.slot)
    return Published()


class TowersWatch:
    """Which version was published last, by looking at what is new on `models` now and then.

    Attributes
    ----------
    version
        That of the last head; empty before the first one.
    """

    def __init__(self) -> None:
        self.version = ""
        self._next = 0

    async def look(self, reader: Reader) -> None:
        """Read what is new; ``reader`` is one of `models` alone."""
        begins, ends = await reader.bounds()
        (tp,) = reader.partitions
        start = self._next if begins[tp] <= self._next <= ends[tp] else begins[tp]
        async for part in read_to(reader, {tp: start}, {tp: ends[tp]}):
            for record in part.records:
                if record.key == NAME.encode() and record.value is not None:
                    self._note(record.value)
        self._next = ends[tp]

    def _note(self, value: bytes) -> None:
        try:
            self.version = head_of(value).version
        except ArtefactError as exc:
            log.warning("published towers are skipped: %s", exc)


async def write(
    wiring: Wiring, topic: str, version: Published, metrics: Mapping[str, float], leads: Callable[[], bool]
) -> bool:
    """Write the pieces of a version, then its head; return whether it was written.

    Parameters
    ----------
    topic
        Full name of `models`.
    leads
        Whether this worker may still write; asked before the pieces, and before the head.
    """
    pieces, head = await asyncio.to_thread(
        cut, version.body, version.slot, version.created_ts, version.read, metrics
    )
    for records in (pieces, [head]):
        if not leads():
            return False
        out = [(key, value, None, ()) for key, value in records]
        await wiring.sender.send_many(topic, out, partition=0)
    return True
