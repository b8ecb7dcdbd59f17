"""join_outcomes: reads `impressions` and `events`; writes `examples`; keeps the impressions still open.

A batch is acked only when every impression it could matter to has closed, so after a crash the open window is
read again. Examples may then be written twice; (request_id, position) tells them apart for the trainer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import faust
import msgspec
from mode import Service

from agents.wiring import Wiring
from models.outcomes import OutcomeJoin
from streams.codec import Decoder
from streams.errors import RejectedError
from streams.schemas import Event, Example, Impression
from streams.transport import RecordBatch, batch_topic, manual

NAME = "join_outcomes"
#: A partition without events for this long has been read to its end: wall time may close its impressions.
IDLE_MS = 1000


class Partition:
    """Open impressions and held batches of one partition. Pure: time is passed in."""

    def __init__(self, wait_ms: int) -> None:
        self.join = OutcomeJoin(wait_ms)
        self._wait_ms = wait_ms
        self._held: deque[tuple[int, Callable[[], None]]] = deque()
        self.watermark = 0
        self.heard = 0

    def hold(self, last_ts: int, ack: Callable[[], None]) -> None:
        """Keep a batch until everything in it has closed."""
        self._held.append((last_ts + self._wait_ms, ack))

    def advance(self, now: int, read_to: int | None = None) -> list[Example]:
        """Move time on: to ``read_to`` (events read so far), or to ``now`` when nothing came for a while."""
        if read_to is not None:
            self.watermark = max(self.watermark, read_to)
            self.heard = now
        elif now - self.heard > IDLE_MS:
            self.watermark = max(self.watermark, now - IDLE_MS)
        return self.join.close(self.watermark)

    def done(self) -> list[Callable[[], None]]:
        """Return the acks of batches that have closed."""
        out = []
        while self._held and self._held[0][0] <= self.watermark:
            out.append(self._held.popleft()[1])
        return out


class JoinStage:
    """The partitions this process owns."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.partitions: dict[int, Partition] = {}
        self._events = Decoder(Event, wiring.settings.max_event_bytes)
        self._impressions = Decoder(Impression, wiring.settings.max_message_bytes)
        self._encoder = msgspec.json.Encoder()
        self._lock = asyncio.Lock()

    def revoked(self) -> None:
        """Forget all state: unacked batches are delivered again."""
        self.partitions.clear()

    async def apply(self, batch: RecordBatch, ack: Callable[[], None]) -> None:
        """Decode a batch, apply it, and write the examples it closes."""
        part = self.partitions.get(batch.partition)
        if part is None:
            part = self.partitions[batch.partition] = Partition(self.wiring.settings.outcome_wait_ms)
        last_ts = max(r.timestamp for r in batch)
        read_to = None
        matters = True
        if batch.topic == self.wiring.topics.events:
            # Bad events are buried by track_users, which reads the same topic.
            decoded = self._events.batch(batch.records)
            answers = [(e, r) for e, r in zip(decoded.values, decoded.records, strict=True) if e.request_id]
            for event, record in answers:
                part.join.happened((event,), record.timestamp)
            read_to, matters = last_ts, bool(answers)
        else:
            await self._open(part, batch)
        if matters:
            part.hold(last_ts, ack)
        else:
            ack()
        await self._emit(batch.partition, part, read_to)

    async def _open(self, part: Partition, batch: RecordBatch) -> None:
        decoded = self._impressions.batch(batch.records)
        rejects = decoded.rejects
        for impression, record in zip(decoded.values, decoded.records, strict=True):
            try:
                part.join.shown(impression, record.timestamp)
            except RejectedError as exc:
                rejects.append((record, exc))
        await self.wiring.bury(NAME, batch, rejects)

    async def tick(self) -> None:
        """Let time close what no new record closes."""
        for number, part in list(self.partitions.items()):
            await self._emit(number, part, None)

    async def _emit(self, number: int, part: Partition, read_to: int | None) -> None:
        async with self._lock:
            examples = part.advance(self.wiring.clock(), read_to)
            done = part.done()
            if examples:
                await self.wiring.sender.send_many(
                    self.wiring.topics.examples,
                    [(e.user_id.encode(), self._encoder.encode(e), None, []) for e in examples],
                    partition=number,
                )
            for ack in done:
                ack()


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    stage = JoinStage(wiring)

    @app.agent(batch_topic(app, wiring.topics.impressions, wiring.topics.events), name=NAME)
    async def join_outcomes(stream: Any) -> None:
        async for batch, ack in manual(stream):
            await stage.apply(batch, ack)

    @app.timer(interval=0.25)
    async def close_outcomes() -> None:
        await stage.tick()

    @app.on_partitions_revoked.connect
    async def _revoked(_app: Any, revoked: Any, **_: Any) -> None:
        stage.revoked()

    return []
