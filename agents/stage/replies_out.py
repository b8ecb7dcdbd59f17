"""What answers to requests write: replies, impressions, dead letters."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headrace.agents.wiring import Wiring
from headrace.serving.requests.address import ReplyAddress, format_reply
from headrace.serving.requests.read import Reject
from headrace.serving.requests.replies import ReplySender
from headrace.streams.errors import RejectedError
from headrace.streams.messages.schemas import Impression, RecReply
from headrace.streams.topics.sender import OutRecord
from headrace.streams.transport.batches import Batches, RecordBatch

log = logging.getLogger(__name__)

#: A reply is written to its connection in the third round of the event loop after it was sent: so many tasks
#: of aiokafka run one after the other. It takes a few more where that before it must be acknowledged first; a
#: broker that is slow is not waited for.
ROUNDS, MOST_ROUNDS = 4, 16
#: A reply waits about so long (s) at most for those of the lists made after it: one request to the broker
#: takes them all. With one for each, a worker at its limit makes a third fewer lists.
TOGETHER_S = 0.015


@dataclass(slots=True)
class Sent:
    """A reply that is being sent.

    Attributes
    ----------
    record
        Record of the request.
    delivery
        Ends when the broker has acknowledged the reply.
    buried
        Whether the request is already a dead letter.
    impressions
        Written to `impressions` when the reply is acknowledged; without those that were written before.
    writing
        Ends when the broker has acknowledged what is written behind: impressions of a whole chunk.
    batch
        What the request came in; None: the only batch that is answered.
    """

    record: Any
    delivery: asyncio.Task[None]
    buried: bool = False
    impressions: list[Impression] = field(default_factory=list)
    writing: asyncio.Future[None] | None = None
    batch: RecordBatch | None = None


class RepliesOut:
    """Writes replies, impressions and dead letters.

    Parameters
    ----------
    wiring
        The producers.
    agent
        Name of the agent that refuses what becomes a dead letter.
    impressions
        Full name of the topic of impressions.
    """

    def __init__(self, wiring: Wiring, agent: str, impressions: str) -> None:
        self._wiring, self._agent, self._impressions = wiring, agent, impressions
        self._json = msgspec.json.Encoder()
        self._replies = ReplySender(wiring.replier)
        self._waiting_since = math.inf  # the oldest reply that may not be on its way

    def send(self, record: Any, address: ReplyAddress, reply: RecReply) -> Sent:
        """Begin to send the reply to a request."""
        self._waiting_since = min(self._waiting_since, self._wiring.clock.monotonic())
        return Sent(record, self._reply(address, reply))

    async def give_way(self) -> None:
        """Let other tasks run; return when no reply waits for longer than ``TOGETHER_S``.

        What comes next may hold the loop for a whole list.
        """
        if self._wiring.clock.monotonic() - self._waiting_since < TOGETHER_S:
            await asyncio.sleep(0)
        else:
            await self.gone()

    async def gone(self) -> None:
        """Return when all replies are on their way."""
        self._waiting_since = math.inf
        for number in range(MOST_ROUNDS):
            written = number >= ROUNDS - 1 and not self._wiring.replier.queued
            await asyncio.sleep(0)  # also after the queue has become empty: the next task writes
            if written:
                break

    def refuse(
        self, rejects: Sequence[Reject], error_reply: Callable[[Any, RejectedError], RecReply]
    ) -> list[Sent]:
        """Begin to send an error for each refused record that says where to reply to."""
        return [
            Sent(record, self._reply(address, error_reply(record, error)), buried=True)
            for record, address, error in rejects
            if address is not None
        ]

    def _reply(self, address: ReplyAddress, reply: RecReply) -> asyncio.Task[None]:
        topic, partition, key, value, headers = format_reply(address, self._json.encode(reply))
        return self._replies.send(topic, partition, key, value, headers)

    def knows(self, address: ReplyAddress) -> bool:
        """Return whether the reply topic is known to exist."""
        return self._replies.knows(address.topic, address.partition)

    async def log(self, impressions: Sequence[Impression]) -> None:
        """Write impressions to the partitions of their users."""
        if impressions:
            out: list[OutRecord] = [(i.user_id.encode(), self._json.encode(i), None, ()) for i in impressions]
            await self._wiring.sender.send_keyed(self._impressions, out)

    async def bury(self, batch: RecordBatch, rejects: Sequence[Reject]) -> None:
        """Write refused records to `dead-letters`; return when the broker has acknowledged them."""
        await self._wiring.bury(self._agent, batch, [(record, error) for record, _, error in rejects])

    async def finish(self, batch: RecordBatch | Batches, sent: Sequence[Sent]) -> None:
        """Wait until replies and impressions are acknowledged.

        A request whose reply was refused becomes a dead letter.
        """
        results = await asyncio.gather(*(s.delivery for s in sent), return_exceptions=True)
        lost: dict[RecordBatch, list[Reject]] = {}
        seen: list[Impression] = []
        for reply, result in zip(sent, results, strict=True):
            if isinstance(result, RejectedError):
                log.warning("%s", result, extra={"action": "reply_lost"})
                if not reply.buried:
                    of = reply.batch or batch.parts[0]
                    lost.setdefault(of, []).append((reply.record, None, result))
            elif isinstance(result, BaseException):
                raise result
            else:
                seen += reply.impressions
        await self.log(seen)
        for reply in sent:
            if reply.writing is not None:
                await reply.writing
        for of, rejects in lost.items():
            await self.bury(of, rejects)
