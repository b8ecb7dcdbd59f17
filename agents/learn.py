"""learn: reads `impressions`, `events`; writes the online model and leaf deltas to `models`; keeps learners.

It does not wait for outcomes: see `early_join`. One worker learns, from all partitions: the one that owns the
first partition of `examples`. The published weights say up to where they have learnt, so whoever learns next
goes on there: everything is learnt once. Lists before that place are read again, because clicks on them may
still come. The other workers only look for bad examples in their partitions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import faust
import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from headrace.agents import learn_towers
from headrace.agents.partitions.leaf_deltas import RankerLeaves
from headrace.agents.stage.drive import forget_when_revoked
from headrace.agents.stage.group import AppMember, Member
from headrace.agents.wiring import Wiring
from headrace.models import outcomes
from headrace.models.features.spec import SPEC
from headrace.models.learning import leaves, online
from headrace.models.learning.early_join import EarlyJoin
from headrace.models.learning.hashed import Ids
from headrace.models.learning.online import OnlineWeights
from headrace.models.learning.online_learner import OnlineLearner
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
    read
        By `impressions` and `events`, and partition, the offset after the last record that was learnt.
    """

    def __init__(self, wiring: Wiring, member: Member) -> None:
        self.wiring = wiring
        self.decoder = Decoder(Example, wiring.settings.max_event_bytes, check_example)
        s = wiring.settings
        self._events = Decoder(Event, s.max_event_bytes, self._check_event)
        self._impressions = Decoder(Impression, s.max_message_bytes, outcomes.check)
        self._kinds = {wiring.topics.impressions: "impressions", wiring.topics.events: "events"}
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
        self.learner = OnlineLearner()
        s = self.wiring.settings
        self._join = EarlyJoin(s.outcome_wait_ms, s.future_ms)
        self.read: dict[str, dict[int, int]] = {"impressions": {}, "events": {}}
        self._published = 0
        self._good: tuple[OnlineWeights, int, int] | None = None  # the last weights that were sound
        self._since_ms = 0
        self._waiting: list[Example] = []
        self.leaves = RankerLeaves()
        self._models_read = 0

    def revoked(self) -> None:
        """Learn nothing more: another worker may go on from the weights that were published last."""
        self._epoch += 1
        self._learns = False

    # -- learning

    async def lead(self) -> None:
        """Learn as long as this worker owns the first partition of `examples`."""
        epoch = self._epoch
        if not self._member.owns(self.wiring.topics.examples, 0):
            return
        try:
            await self.restore()
            async with open_reader(self.wiring.settings, [*self._kinds, self.wiring.topics.models]) as reader:
                await self._seek(reader)
                self._learns = epoch == self._epoch
                while self._learns and self._member.owns(self.wiring.topics.examples, 0):
                    fetched = await reader.fetch(1.0)
                    for part in sorted(fetched, key=lambda p: p.tp.topic != self.wiring.topics.impressions):
                        if epoch != self._epoch:
                            continue
                        if part.tp.topic == self.wiring.topics.models:
                            self._follow(part.records)
                        else:
                            self._take(part)
                        await asyncio.sleep(0)  # learning one part takes long enough
        except (KafkaError, UnavailableError) as exc:
            log.warning("learning waits for the broker: %s", exc, extra={"action": "broker_away"})
        finally:
            self._learns = False

    def _take(self, part: Fetched) -> None:
        """Learn records; those learnt before the last publication are only remembered."""
        kind = self._kinds[part.tp.topic]
        learnt_to = self.read[kind].get(part.tp.partition, 0)
        for learn in (False, True):
            records = [r for r in part.records if (r.offset >= learnt_to) == learn]
            self.learn(self._joined(kind, records, learn))
        self.read[kind][part.tp.partition] = max(learnt_to, part.position)

    def _joined(self, kind: str, records: list[Any], learn: bool) -> list[Example]:
        if kind == "events":
            told = self._events.batch(records)
            events = [(e, r.timestamp) for e, r in zip(told.values, told.records, strict=True)]
            return self._join.happen(events, learn=learn)
        shown = self._impressions.batch(records)
        lists = [(i, r.timestamp) for i, r in zip(shown.values, shown.records, strict=True)]
        return self._join.show(lists, learn=learn)

    async def _seek(self, reader: Reader) -> None:
        """Begin with the lists that may still be clicked, and after the models that were read."""
        begins, ends = await reader.bounds()
        back = await reader.offsets_for_time(max(0, self._since_ms - self.wiring.settings.outcome_wait_ms))
        since = await reader.offsets_for_time(self._since_ms)
        start: dict[TopicPartition, int] = {}
        for tp in reader.partitions:
            if tp.topic == self.wiring.topics.models:
                start[tp] = min(max(self._models_read, begins[tp]), ends[tp])
                continue
            read, found = self.read[self._kinds[tp.topic]], since.get(tp)
            first = ends[tp] if found is None and self._since_ms else max(begins[tp], found or 0)
            at = read.get(tp.partition, first)
            if not begins[tp] <= at <= ends[tp]:
                at = begins[tp]  # the topic was made again
            read[tp.partition] = at
            earlier = back.get(tp)
            start[tp] = max(begins[tp], at if earlier is None else min(at, earlier))
        reader.start(start)

    async def restore(self) -> None:
        """Start from the newest published weights that fit, so that the next publication keeps them."""
        self._start_again()

        def take(batch: RecordBatch) -> None:
            self._models_read = batch.last_offset + 1
            self._follow(batch)
            for record in batch:
                if record.key == online.NAME.encode() and record.value is not None:
                    try:
                        weights, counts = online.decode(record.value), online.learnt(record.value)
                        read, self._since_ms = online.read_up_to(record.value)
                    except ArtefactError as exc:
                        log.warning("published weights are skipped: %s", exc)
                        continue
                    self._good = (weights, *counts)
                    self.read = {kind: dict(read.get(kind, {})) for kind in self._kinds.values()}

        await read_partition(self.wiring.settings, self.wiring.topics.models, 0, take)
        self._go_on()

    def _follow(self, records: Iterable[Any]) -> None:
        """Take note of new rankers."""
        if self.wiring.settings.leaf_steps:
            for record in records:
                self.leaves.take(record.key, record.value)

    def _go_on(self) -> None:
        """Continue from the last sound weights."""
        self.learner = OnlineLearner()
        if self._good is not None:
            self.learner.restore(*self._good)
        self._published = self.learner.steps

    def learn(self, examples: list[Example]) -> None:
        """Collect examples of shown slots; learn when there are ``MINI_BATCH``."""
        self._waiting.extend(e for e in examples if not e.unshown)
        if len(self._waiting) >= MINI_BATCH:
            self._learn_waiting()

    def _learn_waiting(self) -> None:
        examples, self._waiting = self._waiting, []
        if examples:
            x = np.frombuffer(b"".join(e.features for e in examples), "<f4").reshape(-1, len(SPEC))
            clicked, ids = np.array([e.clicked for e in examples]), Ids.of_examples(examples)
            self.learner.learn(x, clicked, ids, early=True)
            self.leaves.learn(x, clicked, ids, early=True)

    # -- publishing

    async def publish(self) -> None:
        """Learn the examples that wait; publish weights and deltas when there are new ones.

        Weights that are not finite are not published: learning goes on from the last ones that were.
        """
        self._learn_waiting()
        if not self._learns or self.learner.steps == self._published or not self.learner.clicks:
            return
        weights, quality, epoch = self.learner.weights(), self.learner.quality(), self._epoch
        if not online.sound(weights):
            log.error(
                "the online model is not finite any more: the last %d examples are not used",
                self.learner.steps - self._published,
                extra={"action": "online_not_finite", "count": self.learner.steps - self._published},
            )
            self._go_on()
            return
        self._published = self.learner.steps
        self._good = weights, self.learner.seen, self.learner.clicks
        now = self.wiring.clock.now_ms()
        found, read = self.leaves.to_publish(), {kind: dict(at) for kind, at in self.read.items()}
        value, _ = await asyncio.to_thread(online.encode, weights, now, quality, read)
        records: list[OutRecord] = [(online.NAME.encode(), value, None, ())]
        if found is not None:
            value, _ = await asyncio.to_thread(leaves.encode, found[0], now, found[1])
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
    async def learn_when_first() -> None:
        while not app.should_stop:
            await stage.lead()
            await app.sleep(LOOK_S)

    @app.timer(interval=wiring.settings.publish_every_s)
    async def publish_weights() -> None:
        await stage.publish()

    forget_when_revoked(app, stage.revoked)
    return learn_towers.attach(app, wiring)
