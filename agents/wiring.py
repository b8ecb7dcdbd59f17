"""What the agents of a process share: settings, topic names, producers, the online store, the clock."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka.errors import MessageSizeTooLargeError

from headrace.serving.store.protocol import OnlineStore
from headrace.serving.traces.spans import SpanSink
from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import RejectedError
from headrace.streams.metrics import Metrics
from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import dead_letter, fitting, without_body
from headrace.streams.topics.names import Topics
from headrace.streams.topics.sender import BatchSender, OutRecord
from headrace.streams.transport.batches import RecordBatch

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Wiring:
    """Settings, topic names, the producers, the online store and the clock of one process.

    Attributes
    ----------
    sender
        Writes everything except replies.
    replier
        Writes replies, uncompressed.
    metrics
        What is measured in this process.
    spans
        Takes spans of requests; None: nobody does.
    """

    settings: Settings
    sender: BatchSender
    replier: BatchSender  # a producer of its own: a bad reply topic of a caller delays no other write
    store: OnlineStore
    clock: Clock = SYSTEM
    metrics: Metrics = field(default_factory=Metrics)
    spans: SpanSink | None = None
    topics: Topics = field(init=False)

    def __post_init__(self) -> None:
        self.topics = Topics(self.settings)

    async def bury(
        self, agent: str, batch: RecordBatch, rejects: Sequence[tuple[Any, RejectedError]]
    ) -> None:
        """Write rejected records to `dead-letters`; return when the broker has acknowledged them.

        Parameters
        ----------
        agent
            Name of the agent that rejected them.
        batch
            The batch that they are from.
        rejects
            Pairs of a record and why it was rejected.
        """
        if not rejects:
            return
        letters = [
            fitting(
                dead_letter(
                    record,
                    batch.topic,
                    batch.partition,
                    agent=agent,
                    reason=e.reason,
                    field=e.field,
                    detail=e.detail,
                ),
                self.sender.max_bytes,
            )
            for record, e in rejects
        ]
        try:
            await self.sender.send_keyed(self.topics.dead_letters, letters)
        except MessageSizeTooLargeError:
            await self._bury_one_by_one(letters)
        for reason, count in Counter(e.reason for _, e in rejects).items():
            self.metrics.count("headrace_dead_letters_total", agent, reason, by=count)
        log.warning(
            "%s: %d of %d records of %s-%d are dead letters (first: %s %s)",
            agent,
            len(rejects),
            len(batch),
            batch.topic,
            batch.partition,
            rejects[0][1].reason,
            rejects[0][1].field,
            extra={"action": "dead_letter", "agent": agent, "count": len(rejects)},
        )

    async def _bury_one_by_one(self, letters: Sequence[OutRecord]) -> None:
        """Write dead letters one by one, each as small as the broker demands, after it refused one."""
        for letter in letters:
            for shape in (letter, without_body(letter), without_body(letter, bare=True)):
                try:
                    await self.sender.send_keyed(self.topics.dead_letters, [shape])
                    break
                except MessageSizeTooLargeError as exc:
                    refused = exc
            else:
                raise refused
