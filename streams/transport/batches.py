"""What an agent sees of the engine: record batches, topics delivering them, and loops that ack them.

@app.agent(batch_topic(app, "events"))
async def count(stream):
    async for batch in durable(stream):     # offsets move on only when the body has finished
        ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

from faust import Schema, Topic
from faust.types.tuples import ConsumerMessage
from mode.utils.queues import ThrowableQueue

from .ledger import Ticket

#: Batches waiting for an agent before its partitions are paused.
QUEUED_BATCHES = 4
#: How often an agent looks whether its worker is a member of the group again.
LEASE_POLL_S = 0.02
#: What an app has when it says nothing else; see ``option``.
DEFAULTS = {"batch_max_records": 4000, "fetch_max_wait_ms": 250}


class RecordBatch:
    """Consecutive records of one partition, in offset order; never empty.

    Records have ``key``, ``value`` (bytes or None), ``offset``, ``timestamp`` (int ms) and ``headers``
    (sequence of ``(str, bytes)``). Offsets may have holes where the topic is compacted.
    """

    __slots__ = ("partition", "records", "topic")

    def __init__(self, topic: str, partition: int, records: Sequence[Any]) -> None:
        self.topic = topic
        self.partition = partition
        self.records = records

    @property
    def first_offset(self) -> int:
        """Offset of the first record."""
        return int(self.records[0].offset)

    @property
    def last_offset(self) -> int:
        """Offset of the last record."""
        return int(self.records[-1].offset)

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.records)

    def __repr__(self) -> str:
        offsets = f"{self.first_offset}..{self.last_offset}"
        return f"<RecordBatch {self.topic}-{self.partition} {offsets} n={len(self)}>"


class BatchMessage(ConsumerMessage):  # type: ignore[misc]
    """Faust's envelope around a batch.

    Faust acks in four places (``Message.ack``, ``Consumer.ack``, and inlined in both stream iterators).
    They have one thing in common: they set ``message.acked``. That is where our ticket is handed in.
    """

    consumer: Any = None
    ticket: Ticket | None = None
    on_acked: Callable[[], None] | None = None
    _acked = False

    @property
    def acked(self) -> bool:
        """Whether every agent that received the batch has acked it."""
        return self._acked

    @acked.setter
    def acked(self, value: bool) -> None:
        self._acked = value
        if value and self.ticket is not None:
            self.ticket.ack()
            if self.on_acked is not None:
                self.on_acked()


def option(app: Any, name: str) -> int:
    """Return a setting of the transport: that of the app, of its ``headrace_settings``, or the default.

    ``batch_max_records``: records an agent gets at most at once. ``fetch_max_wait_ms``: how long the broker
    may hold a fetch when there is nothing new.
    """
    for place in (app, getattr(app, "headrace_settings", None)):
        value = getattr(place, name, None)
        if value is not None:
            return int(value)
    return DEFAULTS[name]


def batch_topics(app: Any) -> set[str]:
    """Return the (live) set of topics that an app reads as batches."""
    names: set[str] = app.__dict__.setdefault("batch_topics", set())
    return names


class BatchSchema(Schema):  # type: ignore[misc]
    """Hands a ``RecordBatch`` on as it is: decoding is the agent's, for the whole batch at once."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        """Return Faust's decode function."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, None, message)

        return decode


class BatchQueue(ThrowableQueue):  # type: ignore[misc]
    """A channel's queue that asks for less instead of making the consumer wait.

    A put that waits would hold up every other topic of the app. Here a partition that delivers into a full
    queue is paused after that one batch, so at most ``maxsize`` + (number of partitions) batches are ever
    held.
    """

    def full(self) -> bool:
        """Return False: the limit works through pausing."""
        return False

    @property
    def pressure_high_size(self) -> int:
        """Queued batches from which on a delivering partition is paused."""
        return int(self.maxsize)

    @property
    def pressure_drop_size(self) -> int:
        """Queued batches at which paused partitions go on."""
        return int(self.maxsize) // 2

    def in_pressure_high_state(self, callback: Callable[[], None]) -> bool:
        """Say so as long as it is: stock says it once, even to a partition that was resumed meanwhile."""
        if self.qsize() < self.pressure_high_size:
            return False
        self._pending_pressure_drop_callbacks.add(callback)
        return True

    def clear(self) -> None:
        """Forget the batches, and who waits for them to become fewer: a rebalance resumes whom it wants.

        Only while the flow is suspended. Faust also clears at every resume, of a flow that was not suspended,
        too: batches would vanish that were delivered for good.
        """
        if self._flow_control.is_active():
            return
        super().clear()
        self._pending_pressure_drop_callbacks.clear()

    def maybe_endorse_pressure_drop(self) -> None:
        """Resume all paused partitions at once; stock resumes one per message taken."""
        pending = self._pending_pressure_drop_callbacks
        if pending and self.qsize() <= self.pressure_drop_size:
            callbacks = list(pending)
            pending.clear()
            for resume in callbacks:
                resume()


class BatchTopic(Topic):  # type: ignore[misc]
    """A topic, or several, delivered as record batches."""

    _queue: BatchQueue | None

    @property
    def queue(self) -> BatchQueue:
        """The queue of one subscriber."""
        if self._queue is None:
            self._queue = BatchQueue(
                maxsize=self.maxsize, flow_control=self.app.flow_control, clear_on_resume=True
            )
        return self._queue


def batch_topic(app: Any, *names: str, queued_batches: int = QUEUED_BATCHES) -> BatchTopic:
    """Declare topics whose records reach agents as ``RecordBatch``, all through one channel.

    Parameters
    ----------
    app
        A Faust app with the batch transport: a ``BatchApp``, or made by ``headrace.streams.app.make_app``.
    names
        Full topic names.
    queued_batches
        Batches held for a slow agent before its partitions are paused.
    """
    batch_topics(app).update(names)
    # acks=False keeps Faust's own bookkeeping (per offset, with gaps) away from these topics.
    return BatchTopic(
        app, topics=list(names), schema=BatchSchema(), acks=False, internal=False, maxsize=queued_batches
    )


async def durable(stream: Any) -> AsyncIterator[RecordBatch]:
    """Iterate over batches; ack each one when the loop body has finished it.

    A body that raises, breaks or is cancelled leaves its batch unacked: it is delivered again after the
    restart. (Stock Faust acks in a ``finally``, so also what failed.)
    """
    async for batch, ack in manual(stream):
        message = stream.current_event.message if stream.current_event is not None else None
        consumer = getattr(message, "consumer", None)
        body = consumer.body_started() if consumer is not None else None
        try:
            yield batch
        finally:
            if consumer is not None:
                consumer.body_ended(body)
        ack()


async def manual(stream: Any) -> AsyncIterator[tuple[RecordBatch, Callable[[], None]]]:
    """Iterate over ``(batch, ack)``; nothing is committed past a batch before its ``ack()`` was called.

    Calling ``ack`` again, or after the partition went to another worker, does nothing. Batches of a partition
    that went away while they waited, or from before a ``seek``, are left out. No batch is begun while this
    worker may have been removed from its group (it was stopped for longer than a session, say).
    """
    stream.enable_acks = False
    async for batch in stream:
        event = stream.current_event
        if event is None or await _still_ours(event.message):
            yield batch, _ack_once(event)


async def _still_ours(message: Any) -> bool:
    ticket, consumer = getattr(message, "ticket", None), getattr(message, "consumer", None)
    if ticket is None or consumer is None:
        return True
    # The answer to the next heartbeat decides, or the rebalance after it.
    while not (ticket.void or consumer.lease_valid()):  # noqa: ASYNC110
        await asyncio.sleep(LEASE_POLL_S)
    return not ticket.void


def _ack_once(event: Any) -> Callable[[], None]:
    events = [event] if event is not None else []

    def ack() -> None:
        while events:
            events.pop().ack()

    return ack
