"""learn: reads `examples`; writes the online model to `models` every few seconds; keeps the learner."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import faust
import numpy as np
from mode import Service

from headrace.agents.wiring import Wiring
from headrace.models.features.spec import SPEC
from headrace.models.learning import online
from headrace.models.learning.online import OnlineLearner
from headrace.streams.errors import ArtefactError, RejectedError
from headrace.streams.messages.codec import Decoder
from headrace.streams.messages.schemas import Example
from headrace.streams.topics import flow
from headrace.streams.topics.reader import read_partition
from headrace.streams.transport.batches import RecordBatch, batch_topic, durable

FLOW = flow.agent("learn")
log = logging.getLogger(__name__)

#: Examples learnt at once: river takes about the same time for a small mini-batch as for a large one.
MINI_BATCH = 512


def check_example(example: Example, _record: Any) -> None:
    """Raise ``RejectedError`` when an example has another feature list than this code."""
    if example.spec != SPEC.version or len(example.features) != 4 * len(SPEC):
        raise RejectedError("other_features", "spec", f"spec {example.spec}, this code has {SPEC.version}")


class LearnStage:
    """Learns from examples and publishes the weights of the online model."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.learner = OnlineLearner()
        self.decoder = Decoder(Example, wiring.settings.max_event_bytes, check_example)
        self._published = 0
        self._waiting: list[Example] = []

    async def restore(self) -> None:
        """Start from the newest published weights that fit, so that the next publication keeps them."""

        def take(batch: RecordBatch) -> None:
            for record in batch:
                if record.key == online.NAME.encode() and record.value is not None:
                    try:
                        self.learner.restore(online.decode(record.value), *online.learnt(record.value))
                    except ArtefactError as exc:
                        log.warning("published weights are skipped: %s", exc)
                    self._published = self.learner.seen

        await read_partition(self.wiring.settings, self.wiring.topics.models, 0, take)

    def learn(self, examples: list[Example]) -> None:
        """Collect examples; learn when there are ``MINI_BATCH``."""
        self._waiting.extend(examples)
        if len(self._waiting) >= MINI_BATCH:
            self._learn_waiting()

    def _learn_waiting(self) -> None:
        examples, self._waiting = self._waiting, []
        if examples:
            x = np.frombuffer(b"".join(e.features for e in examples), "<f4").reshape(-1, len(SPEC))
            self.learner.learn(x, np.array([e.clicked for e in examples]))

    async def publish(self) -> None:
        """Learn the examples that wait; publish the weights when there are new ones."""
        self._learn_waiting()
        if self.learner.seen == self._published or not self.learner.clicks:
            return
        self._published = self.learner.seen
        weights, quality = self.learner.weights(), self.learner.quality()
        value, _ = await asyncio.to_thread(online.encode, weights, self.wiring.clock.now_ms(), quality)
        await self.wiring.sender.send_many(
            self.wiring.topics.models, [(online.NAME.encode(), value, None, [])], partition=0
        )


def attach(app: faust.App, wiring: Wiring) -> list[Service]:
    """Add the agent to the app; return the services it needs."""
    stage = LearnStage(wiring)

    @app.agent(batch_topic(app, *FLOW.input_topics(wiring.topics)), name=FLOW.name)
    async def learn(stream: Any) -> None:
        await stage.restore()
        async for batch in durable(stream):
            decoded = stage.decoder.batch(batch.records)
            stage.learn(decoded.values)
            await wiring.bury(FLOW.name, batch, decoded.rejects)

    @app.timer(interval=wiring.settings.publish_every_s)
    async def publish_weights() -> None:
        await stage.publish()

    return []
