"""The two towers on `models`: writing a version so that it is used as a whole, and finding the last one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headrace.agents.wiring import Wiring
from headrace.models.embeddings.pieces import Assembly, Whole, cut
from headrace.models.embeddings.stream import TowerStream
from headrace.streams.errors import ArtefactError
from headrace.streams.topics.reader import read_partition
from headrace.streams.transport.batches import RecordBatch

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


async def read_published(wiring: Wiring, topic: str, stream: TowerStream) -> Published:
    """Give ``stream`` the newest published towers that fit; return which they are."""
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

    await read_partition(wiring.settings, topic, 0, take)
    for whole in reversed(found):
        try:
            body = await asyncio.to_thread(whole.body)
            await asyncio.to_thread(stream.restore, body)
        except ArtefactError as exc:
            log.warning("published towers are skipped: %s", exc)
            continue
        head = whole.head
        return Published(body, dict(head.read), head.created_ts, stream.learner.learnt, head.slot)
    return Published()


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
