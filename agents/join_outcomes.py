"""join_outcomes: reads `impressions` and `events`; writes `examples`; keeps the impressions still open.

A batch is acknowledged when every impression it may belong to is closed, so after a crash the records of open
impressions are read again. Some examples are then written twice; the trainer counts each slot (user, request,
time and position) once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import faust
import msgspec
from faust.types import TP
from mode import Service

from headrace.agents.partitions.outcomes import JoinPartition
from headrace.agents.stage.drive import forget_when_revoked
from headrace.agents.stage.hold import AckHold, release
from headrace.agents.wiring import Wiring
from headrace.streams.errors import RejectedError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import Event, Impression, check_event
from headrace.streams.topics import flow
from headrace.streams.transport.batches import RecordBatch, batch_topic, manual

FLOW = flow.agent("join_outcomes")


class JoinStage:
    """Joins events to impressions in the partitions that this process owns; writes examples.

    Parameters
    ----------
    wiring
        Settings, producers and clock.
    at_end
        Called with (topic, partition, offset after the last processed record or None); returns whether there
        are no further records.
    """

    def __init__(self, wiring: Wiring, at_end: Callable[[str, int, int | None], bool]) -> None:
        self.wiring = wiring
        self.partitions: dict[int, JoinPartition] = {}
        self.held = AckHold()  # acks of batches that open impressions may need
        self._at_end = at_end
        s = wiring.settings
        # The same checks as in track_users: an event that is rejected there must not label an example here.
        self._events = Decoder(
            Event, s.max_event_bytes, lambda e, r: check_event(e, r.timestamp, s.lateness_ms, s.future_ms)
        )
        self._impressions = Decoder(Impression, s.max_message_bytes)
        self._encoder = msgspec.json.Encoder()
        self._lock = asyncio.Lock()
        self._next: dict[tuple[str, int], int] = {}

    def revoked(self) -> None:
        """Forget all state: batches that were not acknowledged are delivered again."""
        self.partitions.clear()
        self._next.clear()
        self.held.forget()

    async def apply(self, batch: RecordBatch, ack: Callable[[], None]) -> None:
        """Decode a batch, apply it, and write the examples of impressions that are closed now."""
        now = self.wiring.clock.now_ms()
        part = self.partitions.get(batch.partition)
        if part is None:
            part = self.partitions[batch.partition] = JoinPartition(self.wiring.settings.outcome_wait_ms, now)
        last_ts = min(max(r.timestamp for r in batch), now)
        self._next[batch.topic, batch.partition] = batch.last_offset + 1
        if batch.topic == self.wiring.topics.events:
            matters = self._happened(part, batch)
            part.events.read(last_ts, now)
        else:
            matters = True
            await self._open(part, batch)
            part.shown.read(last_ts, now)
        if matters:
            self.held.add(ack, batch.partition, until=last_ts + self.wiring.settings.outcome_wait_ms)
            batch.records = ()  # frees the records: only the ack is held for the whole wait
        else:
            ack()
        await self._emit(batch.partition, part)

    def _happened(self, part: JoinPartition, batch: RecordBatch) -> bool:
        """Note events; return whether one has a request id. track_users rejects the bad ones."""
        decoded = self._events.batch(batch.records)
        answers = [(e, r) for e, r in zip(decoded.values, decoded.records, strict=True) if e.request_id]
        for event, record in answers:
            part.join.happened((event,), record.timestamp)
        return bool(answers)

    async def _open(self, part: JoinPartition, batch: RecordBatch) -> None:
        decoded = self._impressions.batch(batch.records)
        rejects = decoded.rejects
        for impression, record in zip(decoded.values, decoded.records, strict=True):
            try:
                part.join.shown(impression, record.timestamp)
            except RejectedError as exc:
                rejects.append((record, exc))
        await self.wiring.bury(FLOW.name, batch, rejects)

    async def tick(self) -> None:
        """Close impressions whose wait has passed while no records came."""
        now, topics = self.wiring.clock.now_ms(), self.wiring.topics
        for number, part in list(self.partitions.items()):
            for topic, progress in ((topics.events, part.events), (topics.impressions, part.shown)):
                progress.idle(now, self._at_end(topic, number, self._next.get((topic, number))))
            await self._emit(number, part)

    async def _emit(self, number: int, part: JoinPartition) -> None:
        async with self._lock:
            if self.partitions.get(number) is not part:
                return  # given out anew meanwhile: the acks held now are of another assignment
            examples, closed = part.advance(), self.held.take([number], until=part.read_to)
            if examples:
                await self.wiring.sender.send_many(
                    self.wiring.topics.examples,
                    [(e.user_id.encode(), self._encoder.encode(e), None, ()) for e in examples],
                    partition=number,
                )
            release(closed)


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    stage = JoinStage(
        wiring, lambda topic, number, offset: bool(app.consumer.at_end(TP(topic, number), offset))
    )

    @app.agent(batch_topic(app, *FLOW.input_topics(wiring.topics)), name=FLOW.name)
    async def join_outcomes(stream: Any) -> None:
        async for batch, ack in manual(stream):
            await stage.apply(batch, ack)

    @app.timer(interval=0.25)
    async def close_outcomes() -> None:
        await stage.tick()

    forget_when_revoked(app, stage.revoked)
    return []
