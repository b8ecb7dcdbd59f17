"""Tails: read all records of some topics without a group, from the beginning and then as they are written."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import faust
from mode import Service
from mode.utils.queues import FlowControlEvent, ThrowableQueue

from headrace.streams.settings import Settings
from headrace.streams.topics.reader import Deliver, Reader, deliver, open_reader, read_to
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.fetching import Fetched

#: After a list of so many records, the next one is fetched at once.
MANY = 2000
#: Partition -> offset to start at, of the partitions that do not start at their beginning.
Starts: TypeAlias = "Callable[[Reader, Mapping[Any, int]], Awaitable[Mapping[Any, int]]]"


class BroadcastChannel(faust.Channel):
    """An in-process channel for the batches of a tail. No rebalance empties it; a ``put`` waits when full."""

    _queue: ThrowableQueue | None

    @property
    def queue(self) -> ThrowableQueue:
        """The queue of one subscriber."""
        if self._queue is None:
            flow = FlowControlEvent(initially_suspended=False)
            flow.resume()
            self._queue = ThrowableQueue(maxsize=self.maxsize or 16, flow_control=flow)
        return self._queue

    async def put(self, value: Any) -> None:
        """Put ``value`` into the queue of every subscriber; wait until there is one."""
        root = self._root if self._root is not None else self
        while not root._subscribers:  # noqa: ASYNC110 - Faust has no event for a new subscriber
            await asyncio.sleep(0.01)
        for subscriber in list(root._subscribers):
            await subscriber.queue.put(value)


def broadcast_channel(app: faust.App, maxsize: int = 16) -> BroadcastChannel:
    """Return a channel that an agent can read and a ``Tail`` can deliver to."""
    return BroadcastChannel(app, maxsize=maxsize)


class Tail(Service):
    """A service that reads all partitions of some topics, for ever, and delivers ``RecordBatch``.

    Batches of one partition come in order, one at a time. An exception in ``deliver`` crashes the service.
    When a topic is deleted and made again, the new one is read from its beginning. When a log has lost its
    last records, reading goes on where they were.

    Parameters
    ----------
    source
        Settings, or an app made by ``make_app``.
    topics
        Full topic names.
    deliver
        A function called with every batch (an awaitable that it returns is awaited), or a
        ``BroadcastChannel``.
    name
        Name for logs.
    from_end
        Skip records written before the start.
    starts
        Asked once where to start; it is given the reader and the first offsets.
    turned
        Called with (topic, partition) when the log turns out to be another one, or to have lost records.

    Attributes
    ----------
    caught_up
        Set when every record written before the start has been delivered.
    position
        (topic, partition) -> next offset to be delivered.
    reader
        What it reads with, while it runs.
    """

    mundane_level = "debug"

    def __init__(
        self,
        source: Settings | faust.App,
        topics: str | Iterable[str],
        deliver: Deliver | BroadcastChannel,
        *,
        name: str = "tail",
        from_end: bool = False,
        starts: Starts | None = None,
        turned: Callable[[str, int], None] = lambda topic, partition: None,
        **kwargs: Any,
    ) -> None:
        self._settings: Settings = source if isinstance(source, Settings) else source.headrace_settings
        self._topics = [topics] if isinstance(topics, str) else list(topics)
        self._deliver: Deliver = deliver.put if isinstance(deliver, BroadcastChannel) else deliver
        self._name = name
        self._from_end = from_end
        self._starts, self._on_turn = starts, turned
        self.reader: Reader | None = None
        self._highwater: dict[tuple[str, int], int] = {}
        self.caught_up = asyncio.Event()
        self.position: dict[tuple[str, int], int] = {}
        super().__init__(**kwargs)

    @property
    def label(self) -> str:
        """Name for logs."""
        return f"{type(self).__name__}: {self._name}"

    def lag(self) -> int:
        """Return how many records are written and not delivered yet, by the broker's last answers."""
        return sum(max(0, end - self.position.get(tp, 0)) for tp, end in self._highwater.items())

    @Service.task
    async def _read(self) -> None:
        async with open_reader(self._settings, self._topics) as reader:
            begins, ends = await reader.bounds()
            start = dict(ends if self._from_end else begins)
            if self._starts is not None:
                start.update(await self._starts(reader, begins))
            self.position.update({tuple(tp): offset for tp, offset in start.items()})
            self._highwater.update({tuple(tp): offset for tp, offset in ends.items()})
            await reader.watch(start, self._turned)
            self.reader = reader
            async for part in read_to(reader, start, ends, follow=True, timeout_s=math.inf):
                await self._take([part])
            await self._catch_up()
            self.caught_up.set()
            while not self.should_stop:
                await self._next(reader)

    async def _catch_up(self) -> None:
        """Called once, when every record written before the start has been taken."""

    async def _next(self, reader: Reader) -> None:
        await self._take(await reader.fetch(1.0))

    def _turned(self, tp: tuple[str, int], offset: int, end: int) -> None:
        self.position[tp[0], tp[1]], self._highwater[tp[0], tp[1]] = offset, end
        self._on_turn(tp[0], tp[1])

    async def _take(self, parts: Sequence[Fetched]) -> None:
        for part in parts:
            await deliver(self._deliver, part)
            self._took(part)

    def _took(self, part: Fetched) -> None:
        self.position[tuple(part.tp)] = part.position
        self._highwater[tuple(part.tp)] = max(part.highwater, self._highwater[tuple(part.tp)])


class GatheringTail(Tail):
    """A tail that delivers a list of batches: what has come of all partitions, each at most once.

    While few records come, it waits a little between two lists, and the broker gathers meanwhile.

    Parameters
    ----------
    deliver
        A function called with every list (an awaitable that it returns is awaited).
    every_s
        Shortest time between two lists, s, unless one is long.
    """

    def __init__(
        self,
        source: Settings | faust.App,
        topics: str | Iterable[str],
        deliver: Callable[[list[RecordBatch]], Awaitable[None] | None],
        *,
        every_s: float = 0.05,
        **kwargs: Any,
    ) -> None:
        self._deliver_all, self._every_s = deliver, every_s
        super().__init__(source, topics, lambda batch: deliver([batch]), **kwargs)

    async def _next(self, reader: Reader) -> None:
        parts = await reader.fetch(1.0)
        began = time.monotonic()
        await self._take(parts)
        if 0 < sum(len(part.records) for part in parts) < MANY:
            await self.sleep(max(0.0, began + self._every_s - time.monotonic()))

    async def _take(self, parts: Sequence[Fetched]) -> None:
        batches = [
            RecordBatch(part.tp.topic, part.tp.partition, part.records) for part in parts if len(part.records)
        ]
        if batches:
            waiting = self._deliver_all(batches)
            if waiting is not None:
                await waiting
        for part in parts:
            self._took(part)


class CompactedTail(Tail):
    """A tail of a compacted topic: of what was written before the start, only the newest records count.

    The broker compacts late. So of each key the newest ``KEPT`` records are delivered, all of a partition in
    one batch: a reader that wants one good record of each key finds it, and reads no more than it needs.
    """

    #: More than one: the newest record may be a bad one, which leaves the one before it in use.
    KEPT = 4

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._newest: dict[tuple[str, int], dict[bytes | None, deque[Any]]] = {}
        super().__init__(*args, **kwargs)

    async def _take(self, parts: Sequence[Fetched]) -> None:
        if self.caught_up.is_set():
            await super()._take(parts)
            return
        for part in parts:
            newest = self._newest.setdefault(tuple(part.tp), {})
            for record in part.records:
                newest.setdefault(record.key, deque(maxlen=self.KEPT)).append(record)
            self._took(part)

    async def _catch_up(self) -> None:
        newest, self._newest = self._newest, {}
        for (topic, partition), by_key in newest.items():
            records = sorted(chain.from_iterable(by_key.values()), key=lambda record: int(record.offset))
            if records:
                waiting = self._deliver(RecordBatch(topic, partition, records))
                if waiting is not None:
                    await waiting

    def _turned(self, tp: tuple[str, int], offset: int, end: int) -> None:
        self._newest.pop((tp[0], tp[1]), None)  # of the log that is gone
        super()._turned(tp, offset, end)
