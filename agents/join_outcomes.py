"""join_outcomes: reads `impressions` and `events`; writes `examples`; keeps the lists still open.

Of an open list it keeps keys and times; its impression is read again when the list closes, or when a slot of
it does that the user passed. A batch is acknowledged when every list it may belong to has closed, so after a
crash the records of open lists are read again. Every example says in a header which slot it is of, and what
is written besides. So each slot becomes one example, whoever writes it (``agents/partitions/written.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import faust
import numpy as np
import numpy.typing as npt
from mode import Service

from headrace.agents.partitions.outcomes import JoinPartition
from headrace.agents.partitions.progress import SteadyClock
from headrace.agents.stage.drive import forget_when_revoked
from headrace.agents.stage.foreign_events import ForeignEvents
from headrace.agents.stage.group import AppMember, Member
from headrace.agents.stage.hold import AckHold, release
from headrace.agents.stage.join_reader import JoinReader
from headrace.agents.stage.join_writer import JoinWriter
from headrace.agents.wiring import Wiring
from headrace.models import outcomes
from headrace.models.slot_labels import Rules
from headrace.streams.messages.codec import Decoder, check_key
from headrace.streams.messages.schemas import Event, Impression, check_event
from headrace.streams.topics import flow
from headrace.streams.topics.placement import misplaced
from headrace.streams.transport.batches import RecordBatch, batch_topic, manual
from headrace.streams.transport.record_list import offsets_of

FLOW = flow.agent("join_outcomes")

#: Acks are held in slices of time, this many in one wait.
SLICES = 64
#: Lists that should have closed so long ago (event time) are written before more is read: in a backlog.
OVERDUE_MS = 5000
#: A topic that is ahead of the other by more than the wait, and by more than this, is read later.
AHEAD_MS = 10_000
#: How often lists are closed while no records come, s.
TICK_S = 0.25


class JoinStage:
    """Joins events to lists in the partitions that this process owns; writes examples.

    Parameters
    ----------
    wiring
        Settings, producers and clock.
    member
        The place of this worker in its group.
    reader
        Reads impressions again.
    """

    def __init__(self, wiring: Wiring, member: Member, reader: JoinReader) -> None:
        self.wiring = wiring
        self.partitions: dict[int, JoinPartition] = {}
        #: Acks of batches that open lists may need, by topic.
        self.held = {topic: AckHold() for topic in FLOW.input_topics(wiring.topics)}
        self._member = member
        self._writer = JoinWriter(self.partitions, reader, wiring.sender, wiring.topics.examples, member)
        wiring.metrics.read(self._writer.sources.read)
        s = wiring.settings
        self._slice_ms = max(1, s.outcome_wait_ms // SLICES)
        self._foreign = ForeignEvents(wiring)
        self._events = Decoder(Event, s.max_event_bytes, self._check_event)
        self._impressions = Decoder(Impression, s.max_message_bytes, outcomes.check)
        self._clock = self._steady()
        self._next: dict[tuple[str, int], int] = {}
        self._slices: dict[tuple[str, int], int] = {}  # end (ms) of the slice whose first ack is held
        self._held_back: set[tuple[str, int]] = set()

    def _steady(self) -> SteadyClock:
        return SteadyClock(self.wiring.clock.now_ms(), self.wiring.clock.monotonic())

    def _now(self) -> int:
        return self._clock.now(self.wiring.clock.now_ms(), self.wiring.clock.monotonic())

    def _check_event(self, event: Event, record: Any) -> None:
        # The same checks as in track_users: an event that is rejected there must not label an example here.
        check_key(record, "user_id", event.user_id)
        s = self.wiring.settings
        check_event(event, record.timestamp, s.lateness_ms, s.future_ms)

    def revoked(self) -> None:
        """Forget all state: batches that were not acknowledged are delivered again."""
        for state in (self.partitions, self._next, self._slices, self._held_back):
            state.clear()
        for held in self.held.values():
            held.forget()
        self._clock = self._steady()

    # -- reading

    async def apply(self, batch: RecordBatch, ack: Callable[[], None]) -> None:
        """Decode a batch and apply it; its ack is held as long as open lists need it."""
        now, number = self._now(), batch.partition
        part = self.partitions.get(number)
        if part is None:
            s = self.wiring.settings
            rules = Rules(s.passed_wait_ms, s.seen_below)
            part = JoinPartition(
                s.outcome_wait_ms, s.future_ms, now, unshown=s.unshown_share > 0, rules=rules
            )
            self.partitions[number] = part
        place = batch.topic, number
        if self._next.get(place) != batch.first_offset:
            self._slices.pop(place, None)  # after a seek, the ack that was held is void
        times = np.fromiter((r.timestamp for r in batch), np.int64, len(batch))
        credible = times <= now + self.wiring.settings.future_ms
        last_ts = int(times[credible].max(initial=-1))
        if batch.topic == self.wiring.topics.events:
            matters = await self._happened(part, batch, credible, now)
            part.events.read(last_ts, now)
            needed_to = part.events.read_to
        else:
            matters = True
            await self._shown(part, batch, now)
            part.shown.read(last_ts, now)
            needed_to = max(part.shown.read_to, part.newest)
        if self.partitions.get(number) is not part:
            return  # the partition was revoked meanwhile: the batch is delivered again
        self._next[place] = batch.last_offset + 1
        batch.records = ()  # frees the records: only the ack is held for the whole wait
        self._hold(place, ack, needed_to, matters=matters)
        self._balance(number, part)
        if part.read_to - part.closed_to > OVERDUE_MS:
            await self.write()

    async def _happened(
        self, part: JoinPartition, batch: RecordBatch, credible: npt.NDArray[np.bool_], now: int
    ) -> bool:
        """Note events; return whether one of them matters. track_users rejects the bad ones.

        One in the wrong partition is sent on by track_users and read there.
        """
        partitions = await self.wiring.sender.partitions_of(batch.topic)
        translated = await self._foreign.read(batch.records)
        if translated.ignored:
            credible = credible[np.isin(offsets_of(batch.records), offsets_of(translated.records))]
        here = credible & ~misplaced(translated.records, batch.partition, partitions)
        records: Sequence[Any] = [
            r for r, ours in zip(translated.records, here.tolist(), strict=True) if ours
        ]
        decoded = self._events.batch(records)
        told = [(e, r.timestamp) for e, r in zip(decoded.values, decoded.records, strict=True)]
        return part.happen(told, now) > 0

    async def _shown(self, part: JoinPartition, batch: RecordBatch, now: int) -> None:
        decoded = self._impressions.batch(batch.records)
        part.arrive(batch.first_offset, batch.last_offset + 1)
        records = decoded.records
        part.show(decoded.values, [r.offset for r in records], [r.timestamp for r in records], now)
        await self.wiring.bury(FLOW.name, batch, decoded.rejects)

    def _hold(
        self, place: tuple[str, int], ack: Callable[[], None], needed_to: int, *, matters: bool
    ) -> None:
        """Hold an ack until the lists have closed that were written up to ``needed_to`` (ms).

        Offsets are committed in order. So only the first batch of a slice of time is held, and until the
        lists of the whole slice have closed.
        """
        end = -(-needed_to // self._slice_ms) * self._slice_ms
        if not matters or self._slices.get(place) == end:
            ack()
            return
        self._slices[place] = end
        until = end + self.wiring.settings.outcome_wait_ms
        topic, number = place
        self.held[topic].add(ack, number, until=until)

    def _balance(self, number: int, part: JoinPartition) -> None:
        """Hold the topic back that is far ahead of the other: what it says would wait in memory."""
        topics = self.wiring.topics
        lead = part.events.read_to - part.shown.read_to
        for topic, ahead in ((topics.events, lead), (topics.impressions, -lead)):
            place = topic, number
            if ahead > max(AHEAD_MS, self.wiring.settings.outcome_wait_ms):
                self._held_back.add(place)
                self._member.hold_back(*place)
            elif place in self._held_back:
                self._held_back.discard(place)
                self._member.let_go(*place)

    # -- closing

    async def tick(self) -> None:
        """Close lists whose wait has passed while no records came."""
        now, topics = self._now(), self.wiring.topics
        for number, part in list(self.partitions.items()):
            for topic, progress in ((topics.events, part.events), (topics.impressions, part.shown)):
                progress.idle(now, self._member.at_end(topic, number, self._next.get((topic, number))))
            self._balance(number, part)
        await self.write()

    async def write(self) -> None:
        """Write the examples of lists that may close; release the acks that no open list needs."""
        await self._writer.write()
        for number, part in self.partitions.items():
            self.wiring.metrics.count("headrace_late_touches_total", FLOW.name, by=part.late)
            part.late = 0
            for held in self.held.values():
                release(held.take([number], until=part.closed_to))


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    reader = JoinReader(wiring.settings)
    stage = JoinStage(wiring, AppMember(app), reader)

    @app.agent(batch_topic(app, *FLOW.input_topics(wiring.topics)), name=FLOW.name)
    async def join_outcomes(stream: Any) -> None:
        async for batch, ack in manual(stream):
            await stage.apply(batch, ack)

    @app.timer(interval=TICK_S)
    async def close_lists() -> None:
        await stage.tick()

    forget_when_revoked(app, stage.revoked)
    return [reader]
