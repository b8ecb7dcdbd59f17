"""learn: reads `impressions`, `events`; writes the online model and leaf deltas to `models`; keeps learners.

It does not wait for outcomes (clicks, long views, likes): see `early_join`. Every worker learns from its
partitions, those of `examples` that it owns, and tells on `model-updates` what it has learnt. The owner of
the first partition merges that and publishes the model (`partitions/learning.py`). The published weights say
up to where they have learnt, so whoever learns next goes on there: everything is learnt once. Lists before
that place are read again, because outcomes may still come.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterable
from typing import Any

import faust
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from headrace.agents import learn_towers
from headrace.agents.partitions.learning import Learning, Merged, Verdict
from headrace.agents.stage.drive import forget_when_revoked
from headrace.agents.stage.foreign_events import ForeignEvents
from headrace.agents.stage.group import AppMember, Member
from headrace.agents.wiring import Wiring
from headrace.models import outcomes
from headrace.models.features.spec import SPEC
from headrace.models.learning import leaves, online, parts
from headrace.models.learning.early_join import EarlyJoin
from headrace.models.learning.parts import Read
from headrace.streams.errors import ArtefactError, RejectedError, UnavailableError
from headrace.streams.messages.codec import Decoder, check_key
from headrace.streams.messages.schemas import Event, Example, Impression, check_event
from headrace.streams.topics import flow
from headrace.streams.topics.reader import Reader, open_reader, read_partition
from headrace.streams.topics.sender import OutRecord
from headrace.streams.transport.batches import RecordBatch, batch_topic, durable
from headrace.streams.transport.fetching import Fetched

FLOW = flow.agent("learn")
log = logging.getLogger(__name__)

#: Examples learnt at once.
MINI_BATCH = 512
#: How often a worker looks whether it is the one that learns, s.
LOOK_S = 0.25
_VERSION, _WIDTH = SPEC.version, 4 * len(SPEC)  # read here once: an example is checked often


def check_example(example: Example, _record: Any) -> None:
    """Raise ``RejectedError`` when an example has another feature list than this code."""
    if example.spec != _VERSION or len(example.features) != _WIDTH:
        raise RejectedError("other_features", "spec", f"spec {example.spec}, this code has {_VERSION}")


class LearnStage:
    """Learns from what is shown and clicked; publishes the online model, and how far leaves have moved.

    Parameters
    ----------
    wiring
        Settings, producers and clock.
    member
        The place of this worker in its group.

    Attributes
    ----------
    learning
        What this worker has learnt.
    merged
        What all have learnt, if this worker merges.
    """

    def __init__(self, wiring: Wiring, member: Member) -> None:
        self.wiring = wiring
        self.decoder = Decoder(Example, wiring.settings.max_event_bytes, check_example)
        s, topics = wiring.settings, wiring.topics
        self._foreign = ForeignEvents(wiring)
        self._events = Decoder(Event, s.max_event_bytes, self._check_event)
        self._impressions = Decoder(Impression, s.max_message_bytes, outcomes.check)
        self._kinds = {topics.impressions: "impressions", topics.events: "events"}
        self._member = member
        self._epoch = 0  # grows with every rebalance
        self._learns = False
        self._start_again()

    def _check_event(self, event: Event, record: Any) -> None:
        # The same checks as in track_users: an event that is rejected there must not be learnt here.
        check_key(record, "user_id", event.user_id)
        s = self.wiring.settings
        check_event(event, record.timestamp, s.lateness_ms, s.future_ms)

    def _start_again(self) -> None:
        s = self.wiring.settings
        self.learning = Learning(uuid.uuid4().hex, leaf_steps=s.leaf_steps)
        self.merged: Merged | None = None
        self._join = EarlyJoin(s.outcome_wait_ms, s.future_ms)
        self._waiting: list[Example] = []
        self._models_read = 0

    def revoked(self) -> None:
        """Learn nothing more: other workers may go on from the model that was published last."""
        self._epoch += 1
        self._learns = False

    def _owned(self) -> list[int]:
        """Return the partitions that this worker learns from."""
        s, examples = self.wiring.settings, self.wiring.topics.examples
        return [p for p in range(s.partitions) if self._member.owns(examples, p)]

    # -- learning

    async def run(self) -> None:
        """Learn as long as this worker owns the partitions that it owns now."""
        epoch, owned = self._epoch, self._owned()
        if not owned:
            return
        topics = self.wiring.topics
        try:
            await self.restore(merges=0 in owned)
            read = [*self._kinds, topics.models, topics.model_updates]
            async with open_reader(self.wiring.settings, read) as reader:
                await self._seek(reader, owned)
                self._learns = epoch == self._epoch
                while self._learns and self._owned() == owned:
                    fetched = await reader.fetch(1.0)
                    for part in sorted(fetched, key=lambda p: p.tp.topic != topics.impressions):
                        if part.tp.topic == topics.events:
                            part = part._replace(records=(await self._foreign.read(part.records)).records)
                        elif part.tp.topic == topics.models:
                            await asyncio.to_thread(leaves.read_ahead, part.records)
                        if epoch == self._epoch and self._learns and self._take(part) is Verdict.CONTAINED:
                            await self.publish()  # at once: the others wait for nothing else
                        await asyncio.sleep(0)  # learning one part takes long enough
        except (KafkaError, UnavailableError) as exc:
            log.warning("learning waits for the broker: %s", exc, extra={"action": "broker_away"})
        finally:
            self._learns = False

    def _take(self, part: Fetched) -> Verdict | None:
        if part.tp.topic == self.wiring.topics.models:
            return self._follow(part.records)
        if part.tp.topic == self.wiring.topics.model_updates:
            self._offer(part.records)
        else:
            self._learn_records(part)
        return None

    def _learn_records(self, part: Fetched) -> None:
        """Learn records; those learnt before are only remembered."""
        kind = self._kinds[part.tp.topic]
        read = self.learning.read[kind]
        learnt_to = read.get(part.tp.partition, 0)
        for learn in (False, True):
            records = [r for r in part.records if (r.offset >= learnt_to) == learn]
            self.learn(self._joined(kind, records, learn))
        read[part.tp.partition] = max(learnt_to, part.position)

    def _joined(self, kind: str, records: list[Any], learn: bool) -> list[Example]:
        if kind == "events":
            told = self._events.batch(records)
            events = [(e, r.timestamp) for e, r in zip(told.values, told.records, strict=True)]
            return self._join.happen(events, learn=learn)
        shown = self._impressions.batch(records)
        lists = [(i, r.timestamp) for i, r in zip(shown.values, shown.records, strict=True)]
        return self._join.show(lists, learn=learn)

    async def _seek(self, reader: Reader, owned: list[int]) -> None:
        """Begin with the lists whose outcomes may still come, and after the models that were read."""
        begins, ends = await reader.bounds()
        since_ms, topics = self.learning.since_ms, self.wiring.topics
        back = await reader.offsets_for_time(max(0, since_ms - self.wiring.settings.outcome_wait_ms))
        since = await reader.offsets_for_time(since_ms)
        start: dict[TopicPartition, int] = {}
        at: Read = {kind: {} for kind in self._kinds.values()}
        for tp in reader.partitions:
            if tp.topic == topics.models:
                start[tp] = min(max(self._models_read, begins[tp]), ends[tp])
            elif tp.topic == topics.model_updates:
                if self.merged is not None:
                    start[tp] = ends[tp]  # a learner tells again what was not merged
            elif tp.partition in owned:
                kind = self._kinds[tp.topic]
                place = self.learning.known(kind, tp.partition)
                if place is None and since_ms and not self.learning.tells:
                    place = since.get(tp) or ends[tp]
                if place is None or not begins[tp] <= place <= ends[tp]:
                    place = begins[tp]  # nothing of it was learnt, or the topic was made again
                at[kind][tp.partition] = place
                earlier = back.get(tp)
                start[tp] = max(begins[tp], place if earlier is None else min(place, earlier))
        self.learning.begin(at)
        reader.start(start)

    async def restore(self, *, merges: bool) -> None:
        """Start from the newest published weights that fit, so that the next publication keeps them."""
        self._start_again()
        s = self.wiring.settings
        merged = None
        if merges:
            merged = Merged(leaf_steps=s.leaf_steps, objectives=s.objectives, least=s.train_min_clicks)

        def take(batch: RecordBatch) -> None:
            self._models_read = batch.last_offset + 1
            records = list(batch)
            self.learning.restore(records)
            if merged is not None:
                merged.restore(records)

        await read_partition(self.wiring.settings, self.wiring.topics.models, 0, take)
        self.merged = merged

    def _follow(self, records: Iterable[Any]) -> Verdict | None:
        """Take note of new rankers and, if another worker merges, of what it has published."""
        last: Verdict | None = None
        for record in records:
            if self.merged is not None:
                self.merged.follow(record.key, record.value)
                self.learning.follow_ranker(record.key, record.value)
                continue
            last = self.learning.follow(record.key, record.value) or last
            if last is Verdict.LOST:
                log.info("learning begins again from the published model", extra={"action": "learn_again"})
                self._learns = False
                break
        return last

    def _offer(self, records: Iterable[Any]) -> None:
        for record in records:
            try:
                part = parts.decode(record.value or b"")
            except ArtefactError as exc:
                log.warning("%s", exc, extra={"action": "part_refused"})
                continue
            if self.merged is not None and part.learner != self.learning.name:
                self.merged.offer(part)

    def learn(self, examples: list[Example]) -> None:
        """Collect examples of shown slots; learn when there are ``MINI_BATCH``."""
        self._waiting.extend(e for e in examples if not e.unshown)
        if len(self._waiting) >= MINI_BATCH:
            self._learn_waiting()

    def _learn_waiting(self) -> None:
        examples, self._waiting = self._waiting, []
        self.learning.learn(examples)

    # -- publishing

    async def publish(self) -> None:
        """Learn the examples that wait; tell what was learnt, or merge and publish it.

        What is not finite is not used: learning goes on from the last model that was published.
        """
        self._learn_waiting()
        if not self._learns:
            return
        if self.merged is None:
            await self._tell()
        else:
            await self._merge(self.merged)

    async def _tell(self) -> None:
        part = self.learning.sent or self.learning.give_part()
        if part is not None:
            value = await asyncio.to_thread(parts.encode, part)
            record: OutRecord = (part.learner.encode(), value, None, ())
            await self.wiring.sender.send_many(self.wiring.topics.model_updates, [record], partition=0)

    async def _merge(self, merged: Merged) -> None:
        own = self.learning.give_part()
        if own is not None and not merged.fits(own):
            self._learns = False  # somebody else has learnt of these partitions: begin again
            return
        merged.merge(own)
        self.learning.settle(merged)
        if not merged.changed or not merged.model.clicks:
            return
        weights, quality, read, of_leaves = merged.to_publish()
        now, epoch = self.wiring.clock.now_ms(), self._epoch
        value, _ = await asyncio.to_thread(online.encode, weights, now, quality, read)
        records: list[OutRecord] = [(online.NAME.encode(), value, None, ())]
        if of_leaves is not None:
            value, _ = await asyncio.to_thread(leaves.encode, of_leaves[0], now, of_leaves[1])
            records.append((leaves.NAME.encode(), value, None, ()))
        with self._member.writing():
            if epoch == self._epoch and self._member.owns(self.wiring.topics.examples, 0):
                await self.wiring.sender.send_many(self.wiring.topics.models, records, partition=0)


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    stage = LearnStage(wiring, AppMember(app))

    @app.agent(batch_topic(app, *FLOW.input_topics(wiring.topics)), name=FLOW.name)
    async def learn(stream: Any) -> None:
        async for batch in durable(stream):
            await wiring.bury(FLOW.name, batch, stage.decoder.batch(batch.records).rejects)

    @app.task
    async def learn_what_it_owns() -> None:
        while not app.should_stop:
            await stage.run()
            await app.sleep(LOOK_S)

    @app.timer(interval=wiring.settings.publish_every_s)
    async def publish_weights() -> None:
        await stage.publish()

    forget_when_revoked(app, stage.revoked)
    return learn_towers.attach(app, wiring)
