"""What agents use of the transport: record batches, topics that deliver them, and loops that ack them.

Example::

    @app.agent(batch_topic(app, "events"))
    async def count(stream):
        async for batch in durable(stream):     # acked when the body has finished
            ...
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from faust import Schema, Topic
from faust.types.tuples import ConsumerMessage
from mode.utils.queues import ThrowableQueue

from .ledger import Ticket
from .places import Place
from .watcher import BatchEnd, watcher_of

#: Batches queued for an agent before its partitions are paused.
QUEUED_BATCHES = 4
#: Time between two checks whether this worker is a member of the group again.
LEASE_POLL_S = 0.02
#: Defaults of the transport's settings; see ``option``.
DEFAULTS = {"batch_max_records": 4000, "fetch_max_wait_ms": 250}


class RecordBatch:
    """Consecutive records of one partition, in offset order; never empty.

    Records have ``key`` and ``value`` (bytes or None), ``offset`` (int), ``timestamp`` (int, ms) and
    ``headers`` (a sequence of ``(str, bytes)``). In a compacted topic, offsets may be missing.

    Attributes
    ----------
    topic, partition
        Where the records are from.
    records
        The records.
    base
        Added to an offset of the log, it gives the *effective* offset. Effective offsets only grow, also when
        the topic was deleted and made again. Keep these in rows, never the offsets of the log.
    place
        The place after the last record; None in a batch that was not read by a group.
    """

    __slots__ = ("base", "partition", "place", "records", "topic")

    def __init__(
        self,
        topic: str,
        partition: int,
        records: Sequence[Any],
        base: int = 0,
        place: Place | None = None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.records = records
        self.base = base
        self.place = place

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

    @property
    def parts(self) -> tuple[RecordBatch, ...]:
        """The batch alone: see ``Batches``."""
        return (self,)


class Batches:
    """Batches that an agent takes together, of any partitions, in the order in which they came.

    Attributes
    ----------
    parts
        The batches.
    records
        The records of all.
    """

    __slots__ = ("parts", "records")

    def __init__(self, parts: Sequence[RecordBatch]) -> None:
        self.parts = tuple(parts)
        self.records = [record for part in parts for record in part]

    def __len__(self) -> int:
        return len(self.records)


def chunks(batch: RecordBatch | Batches, most: int) -> Iterator[list[tuple[RecordBatch, list[Any]]]]:
    """Yield the records in chunks of at most ``most``, each with the batches that they are from."""
    chunk: list[tuple[RecordBatch, list[Any]]] = []
    room = most
    for part in batch.parts:
        records = iter(part)
        while piece := list(islice(records, room)):
            chunk.append((part, piece))
            room -= len(piece)
            if not room:
                yield chunk
                chunk, room = [], most
    if chunk:
        yield chunk


class BatchMessage(ConsumerMessage):  # type: ignore[misc]
    """Faust's message around a batch.

    Faust acks in four places: ``Message.ack``, ``Consumer.ack`` and both stream iterators. All of them set
    ``message.acked``. So setting it acks the batch's ticket in the ``OffsetLedger``.
    """

    consumer: Any = None
    ticket: Ticket | None = None
    on_acked: Callable[[], None] | None = None
    _acked = False

    @classmethod
    def around(cls, batch: RecordBatch, tp: Any, generation: int) -> BatchMessage:
        """Return the message of a batch."""
        last = batch.records[-1]
        seconds, kind = last.timestamp / 1000.0, last.timestamp_type
        return cls(
            tp.topic, tp.partition, last.offset, seconds, kind, None, None, batch, None, 0, 0, tp,
            generation_id=generation,
        )  # fmt: skip

    @property
    def acked(self) -> bool:
        """Whether all agents that received the batch have acked it."""
        return self._acked

    @acked.setter
    def acked(self, value: bool) -> None:
        self._acked = value
        if value and self.ticket is not None:
            self.ticket.ack()
            if self.on_acked is not None:
                self.on_acked()


def option(app: Any, name: str) -> int:
    """Return a setting of the transport: from the app, else from its ``headrace_settings``, else the default.

    ``batch_max_records``: most records in a batch. ``fetch_max_wait_ms``: how long the broker may hold a
    fetch when there are no new records, ms.
    """
    for place in (app, getattr(app, "headrace_settings", None)):
        value = getattr(place, name, None)
        if value is not None:
            return int(value)
    return DEFAULTS[name]


def most_records(app: Any, topic: str) -> int:
    """Return the most records in a batch of a topic."""
    own: int | None = _limits(app).get(topic)
    return option(app, "batch_max_records") if own is None else own


def _limits(app: Any) -> dict[str, int]:
    limits: dict[str, int] = app.__dict__.setdefault("batch_limits", {})
    return limits


def batch_topics(app: Any) -> set[str]:
    """Return the set of topics that an app reads as batches; changes to the set count."""
    names: set[str] = app.__dict__.setdefault("batch_topics", set())
    return names


class BatchSchema(Schema):  # type: ignore[misc]
    """Passes a ``RecordBatch`` to the agent without decoding: the agent decodes the whole batch at once."""

    def compile(self, app: Any, **_: Any) -> Callable[..., Awaitable[Any]]:
        """Return Faust's decode function."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, None, message)

        return decode


class BatchQueue(ThrowableQueue):  # type: ignore[misc]
    """The queue of a channel; when it is full, partitions are paused and ``put`` does not wait.

    A put that waits would delay every other topic of the app. Here a partition that delivers into a full
    queue is paused after that batch. So the queue holds at most ``maxsize`` + (number of partitions) batches.
    """

    def full(self) -> bool:
        """Return False: pausing keeps the limit, not a put that waits."""
        return False

    @property
    def pressure_high_size(self) -> int:
        """Number of queued batches at which a partition that delivers is paused."""
        return int(self.maxsize)

    @property
    def pressure_drop_size(self) -> int:
        """Number of queued batches at which paused partitions are resumed."""
        return int(self.maxsize) // 2

    def head(self) -> Any:
        """Return the event of the batch that is next; None: there is none, or an error comes first."""
        return self._queue[0] if self._queue and not self._errors else None

    def records(self) -> list[Sequence[Any]]:
        """Return the records of each batch that waits, in their order."""
        return [event.value.records for event in self._queue]

    def in_pressure_high_state(self, callback: Callable[[], None]) -> bool:
        """Return whether the queue is full; ``callback`` resumes the partition later.

        Faust returns True only once, so a partition that was resumed meanwhile would not be paused again.
        """
        if self.qsize() < self.pressure_high_size:
            return False
        self._pending_pressure_drop_callbacks.add(callback)
        return True

    def clear(self) -> None:
        """Remove all batches and all paused partitions; a rebalance resumes partitions itself.

        Does nothing unless the flow is suspended. Faust also clears the queue at every resume, even of a flow
        that was not suspended: delivered batches would be lost.
        """
        if self._flow_control.is_active():
            return
        super().clear()
        self._pending_pressure_drop_callbacks.clear()

    def maybe_endorse_pressure_drop(self) -> None:
        """Resume all paused partitions at once; Faust resumes one per message taken."""
        pending = self._pending_pressure_drop_callbacks
        if pending and self.qsize() <= self.pressure_drop_size:
            callbacks = list(pending)
            pending.clear()
            for resume in callbacks:
                resume()


class BatchTopic(Topic):  # type: ignore[misc]
    """One or several topics delivered as record batches."""

    _queue: BatchQueue | None

    @property
    def queue(self) -> BatchQueue:
        """The queue of one subscriber."""
        if self._queue is None:
            self._queue = BatchQueue(
                maxsize=self.maxsize, flow_control=self.app.flow_control, clear_on_resume=True
            )
        return self._queue


def batch_topic(
    app: Any, *names: str, queued_batches: int = QUEUED_BATCHES, max_records: int | None = None
) -> BatchTopic:
    """Declare topics whose records are delivered as ``RecordBatch``, in one channel.

    Parameters
    ----------
    app
        A Faust app with the batch transport: a ``BatchApp``, or made by ``headrace.streams.app.make_app``.
    names
        Full topic names.
    queued_batches
        Batches queued for a slow agent before its partitions are paused.
    max_records
        Most records in a batch of these topics; None: ``batch_max_records`` of the app.
    """
    batch_topics(app).update(names)
    if max_records is not None:
        _limits(app).update(dict.fromkeys(names, max_records))
    # acks=False: Faust does not track acks of these topics (it does so per offset, with gaps).
    return BatchTopic(
        app, topics=list(names), schema=BatchSchema(), acks=False, internal=False, maxsize=queued_batches
    )


async def durable(stream: Any) -> AsyncIterator[RecordBatch]:
    """Iterate over batches; ack each one when its loop body has finished.

    When the body raises, breaks or is cancelled, the batch is not acked, and is delivered again after the
    restart. (Faust itself acks in a ``finally``, so failed messages too.)
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
    """Iterate over ``(batch, ack)``; offsets are committed past a batch only after its ``ack()`` was called.

    A second call of ``ack`` does nothing; neither does a call after the partition was revoked. Queued batches
    are skipped when their partition was revoked, or when they are from before a ``seek``. While this worker
    may have been removed from its group (for example it was stopped for longer than a session), the loop
    waits.
    """
    async for taken, ack in together(stream, 0):
        for batch in taken.parts:
            yield batch, ack


async def together(stream: Any, most: int) -> AsyncIterator[tuple[RecordBatch | Batches, Callable[[], None]]]:
    """As ``manual``, but with a batch come those that wait behind it, while all have at most so many records.

    Faust's sensors see the first of them only.
    """
    stream.enable_acks = False
    watcher = watcher_of(getattr(stream, "app", None))
    async for batch in stream:
        event = stream.current_event
        if event is None:
            yield batch, _ack_once([])
        elif await _still_ours(event.message):
            events = [event, *_behind(stream, most - len(batch))]
            counts = [len(e.value) for e in events]  # the agent may free the records
            began = time.perf_counter()
            yield batch if len(events) == 1 else Batches([e.value for e in events]), _ack_once(events)
            each_s = (time.perf_counter() - began) / sum(counts)
            for count, last in zip(counts, (e.message for e in events), strict=True):
                end = BatchEnd(last.tp, count, last.offset + 1, last.timestamp, each_s * count)
                watcher.batch_ended(end)


def _behind(stream: Any, room: int) -> Iterator[Any]:
    """Take events from a stream's queue while their batches have room; Faust would deliver each."""
    queue, app = stream.channel.queue, stream.app
    while room > 0 and (event := queue.head()) is not None and len(event.value) <= room:
        message = event.message
        if message.generation_id != app.consumer_generation_id or not app.flow_control.is_active():
            return
        ticket = getattr(message, "ticket", None)
        if ticket is not None and ticket.void:
            return
        queue.get_nowait()
        stream.events_total += 1
        room -= len(event.value)
        yield event


async def _still_ours(message: Any) -> bool:
    ticket, consumer = getattr(message, "ticket", None), getattr(message, "consumer", None)
    if ticket is None or consumer is None:
        return True
    # Either the next heartbeat is confirmed, or a rebalance makes the ticket void.
    while not (ticket.void or consumer.lease_valid()):  # noqa: ASYNC110
        await asyncio.sleep(LEASE_POLL_S)
    return not ticket.void


def _ack_once(taken: Sequence[Any]) -> Callable[[], None]:
    events = list(taken)

    def ack() -> None:
        while events:
            events.pop().ack()

    return ack
