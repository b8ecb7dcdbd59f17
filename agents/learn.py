"""learn: reads `examples`; writes the online model to `models` every few seconds; keeps the learner.

One worker learns, from all partitions of `examples`: the one that owns the first of them. The published
weights say up to which example they have learnt, so whoever learns next goes on there: every example is
learnt once. The other workers only look for bad examples in their partitions.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import faust
import numpy as np
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from headrace.agents.stage.drive import forget_when_revoked
from headrace.agents.stage.group import AppMember, Member
from headrace.agents.wiring import Wiring
from headrace.models.features.spec import SPEC
from headrace.models.learning import online
from headrace.models.learning.online import OnlineLearner, OnlineWeights
from headrace.streams.errors import ArtefactError, RejectedError, UnavailableError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import Example
from headrace.streams.topics import flow
from headrace.streams.topics.reader import Reader, open_reader, read_partition
from headrace.streams.transport.batches import RecordBatch, batch_topic, durable

FLOW = flow.agent("learn")
log = logging.getLogger(__name__)

#: Examples learnt at once: river takes about the same time for a small mini-batch as for a large one.
MINI_BATCH = 512
#: How often a worker looks whether it is the one that learns, s.
LOOK_S = 0.25
_VERSION, _WIDTH = SPEC.version, 4 * len(SPEC)  # read here once: an example is checked often


def check_example(example: Example, _record: Any) -> None:
    """Raise ``RejectedError`` when an example has another feature list than this code."""
    if example.spec != _VERSION or len(example.features) != _WIDTH:
        raise RejectedError("other_features", "spec", f"spec {example.spec}, this code has {_VERSION}")


class LearnStage:
    """Learns from examples and publishes the weights of the online model.

    Parameters
    ----------
    wiring
        Settings, producers and clock.
    member
        The place of this worker in its group.

    Attributes
    ----------
    read
        By partition of `examples`, the offset after the last example that was read.
    """

    def __init__(self, wiring: Wiring, member: Member) -> None:
        self.wiring = wiring
        self.decoder = Decoder(Example, wiring.settings.max_event_bytes, check_example)
        self._member = member
        self._epoch = 0  # grows with every rebalance
        self._learns = False
        self._start_again()

    def _start_again(self) -> None:
        self.learner = OnlineLearner()
        self.read: dict[int, int] = {}
        self._published = 0
        self._good: tuple[OnlineWeights, int, int] | None = None  # the last weights that were sound
        self._since_ms = 0
        self._waiting: list[Example] = []

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
            async with open_reader(self.wiring.settings, [self.wiring.topics.examples]) as reader:
                await self._seek(reader)
                self._learns = epoch == self._epoch
                while self._learns and self._member.owns(self.wiring.topics.examples, 0):
                    for part in await reader.fetch(1.0):
                        if epoch == self._epoch:
                            self.learn(self.decoder.batch(part.records).values)
                            self.read[part.tp.partition] = part.position
                        await asyncio.sleep(0)  # learning one part takes long enough
        except (KafkaError, UnavailableError) as exc:
            log.warning("learning waits for the broker: %s", exc, extra={"action": "broker_away"})
        finally:
            self._learns = False

    async def _seek(self, reader: Reader) -> None:
        """Begin after the last example that was learnt."""
        begins, ends = await reader.bounds()
        since = await reader.offsets_for_time(self._since_ms)
        start: dict[TopicPartition, int] = {}
        for tp in reader.partitions:
            found = since.get(tp)
            first = ends[tp] if found is None and self._since_ms else max(begins[tp], found or 0)
            at = self.read.get(tp.partition, first)
            start[tp] = at if begins[tp] <= at <= ends[tp] else begins[tp]
        self.read = {tp.partition: offset for tp, offset in start.items()}
        reader.start(start)

    async def restore(self) -> None:
        """Start from the newest published weights that fit, so that the next publication keeps them."""
        self._start_again()

        def take(batch: RecordBatch) -> None:
            for record in batch:
                if record.key == online.NAME.encode() and record.value is not None:
                    try:
                        weights, counts = online.decode(record.value), online.learnt(record.value)
                        self.read, self._since_ms = online.read_up_to(record.value)
                    except ArtefactError as exc:
                        log.warning("published weights are skipped: %s", exc)
                        continue
                    self._good = (weights, *counts)

        await read_partition(self.wiring.settings, self.wiring.topics.models, 0, take)
        self._go_on()

    def _go_on(self) -> None:
        """Continue from the last sound weights."""
        self.learner = OnlineLearner()
        if self._good is not None:
            self.learner.restore(*self._good)
        self._published = self.learner.seen

    def learn(self, examples: list[Example]) -> None:
        """Collect examples of shown slots; learn when there are ``MINI_BATCH``."""
        self._waiting.extend(e for e in examples if not e.unshown)
        if len(self._waiting) >= MINI_BATCH:
            self._learn_waiting()

    def _learn_waiting(self) -> None:
        examples, self._waiting = self._waiting, []
        if examples:
            x = np.frombuffer(b"".join(e.features for e in examples), "<f4").reshape(-1, len(SPEC))
            self.learner.learn(x, np.array([e.clicked for e in examples]))

    # -- publishing

    async def publish(self) -> None:
        """Learn the examples that wait; publish the weights when there are new ones.

        Weights that are not finite are not published: learning goes on from the last ones that were.
        """
        self._learn_waiting()
        if not self._learns or self.learner.seen == self._published or not self.learner.clicks:
            return
        weights, quality, epoch = self.learner.weights(), self.learner.quality(), self._epoch
        if not online.sound(weights):
            log.error(
                "the online model is not finite any more: the last %d examples are not used",
                self.learner.seen - self._published,
                extra={"action": "online_not_finite", "count": self.learner.seen - self._published},
            )
            self._go_on()
            return
        self._published = self.learner.seen
        self._good = weights, self.learner.seen, self.learner.clicks
        now = self.wiring.clock.now_ms()
        value, _ = await asyncio.to_thread(online.encode, weights, now, quality, dict(self.read))
        with self._member.writing():
            if epoch == self._epoch and self._member.owns(self.wiring.topics.examples, 0):
                record = (online.NAME.encode(), value, None, ())
                await self.wiring.sender.send_many(self.wiring.topics.models, [record], partition=0)


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
    return []
