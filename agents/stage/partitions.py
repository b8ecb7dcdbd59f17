"""The partitions a stage works on: their state lives in tables, and what is built on it lives as long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import faust
import numpy as np
from aiokafka.errors import KafkaError
from faust.types import TP
from mode import Service

from headrace.agents.stage.beats import Beats
from headrace.agents.stage.refill import OnlineCopy, Visible, changelog, everything
from headrace.agents.wiring import Wiring
from headrace.serving.store.protocol import Kind
from headrace.streams.errors import FencedError, UnavailableError
from headrace.streams.tables.partition import U64, StatePartition
from headrace.streams.tables.rows import PackedRows
from headrace.streams.tables.store import StateStore
from headrace.streams.transport.consumer import RecordBatch, manual

P = TypeVar("P", bound="StagePartition")
T = TypeVar("T")
log = logging.getLogger(__name__)

#: Rows older than ``state_ttl_s`` are looked for this often.
EXPIRE_EVERY_MS = 60_000
#: A read that failed because the broker is away is tried again after this.
RETRY_S = 1.0
#: What is assigned is looked at this often.
KEEP_EVERY_S = 0.5


def packed(state: StatePartition, keys: U64) -> list[bytes | None]:
    """Return the packed rows of ``keys``, None for those not in memory."""
    rows = state.rows.find(keys)
    there = np.flatnonzero(rows >= 0)
    out: list[bytes | None] = [None] * len(keys)
    for i, row in zip(there.tolist(), state.rows.pack(rows[there]), strict=True):
        out[i] = row
    return out


class StageStore:
    """A table and its place in the online store, if it has one: rows go out, evicted ones come back.

    Parameters
    ----------
    topic
        Full name of the changelog.
    kind
        Of the rows in the online store; None when they are not there.
    visible
        Which packed rows readers of the store may see.
    options
        ``StateStore``'s: dtype, blank, order.
    """

    def __init__(
        self,
        app: faust.App,
        wiring: Wiring,
        topic: str,
        kind: Kind | None,
        *,
        visible: Visible = everything,
        **options: Any,
    ) -> None:
        self._wiring = wiring
        self._kind = kind
        self._expired: dict[int, int] = {}  # when old rows were last looked for, by partition
        self.table = StateStore(
            app,
            topic,
            changelog=topic,
            sender=wiring.sender,
            fetch=self._fetch if kind is not None else None,
            max_rows=wiring.settings.memory_rows,
            **options,
        )
        self.feed = (
            OnlineCopy(
                wiring.store,
                kind,
                changelog(wiring.settings, topic),
                visible=visible,
                owned=self._owned,
            )
            if kind is not None
            else None
        )

    async def _fetch(self, _partition: int, keys: U64) -> Sequence[bytes | None]:
        if self._kind is None:
            return []
        try:
            return await self._wiring.store.get(self._kind, keys.tolist())
        except UnavailableError:
            return []  # then the changelog has them

    def _owned(self, partition: int) -> bool:
        try:
            self.table.check_lease()
        except FencedError:
            return False
        return partition in self.table.active

    def services(self) -> list[Service]:
        """Return what has to run beside the agent."""
        return [] if self.feed is None else [self.feed]

    def attach(self, state: StatePartition) -> None:
        """Begin to show a partition in the online store."""
        if self.feed is not None:
            self.feed.attach(state.number, partial(packed, state), state.position)

    async def show(self, changed: Mapping[int, PackedRows]) -> None:
        """Put changed rows, by partition, into the online store; none, too, is worth a call."""
        if self.feed is not None:
            await self.feed.put(changed)

    async def hide(self, partition: int, keys: U64 | Sequence[int]) -> None:
        """Remove rows from the online store."""
        if self.feed is not None and len(keys):
            await self.feed.drop(partition, keys)

    def settle(self, state: StatePartition) -> None:
        """After a durable write: the online store may count on it."""
        if self.feed is not None:
            self.feed.durable(state.number, state.position)

    async def tidy(self, state: StatePartition) -> None:
        """Let idle rows leave memory and old ones go.

        To be called where ``bring_back`` is, before it: nothing may leave between that and the use of rows.
        """
        state.evict(max_rows=self._wiring.settings.memory_rows)
        settings, now = self._wiring.settings, self._wiring.clock()
        if now - self._expired.get(state.number, 0) >= EXPIRE_EVERY_MS and len(state.rows):
            self._expired[state.number] = now
            newest = int(state.rows.view()["updated"].max())
            await self.hide(state.number, state.expire(newest - settings.state_ttl_s * 1000))

    async def bring_back(self, state: StatePartition, keys: Callable[[], U64]) -> None:
        """Have those of ``keys`` in memory again that were evicted."""
        if state.evicted_count:
            away = state.evicted(keys())
            if len(away):
                await persist(lambda: self.table.restore(state.number, np.unique(away)))


async def persist(read: Callable[[], Awaitable[T]]) -> T:
    """Return what ``read`` reads from Kafka, tried again while the broker is away.

    The agent waits meanwhile, as its consumer does. ``FencedError`` ends it: somebody else goes on.
    """
    while True:
        try:
            return await read()
        except (KafkaError, UnavailableError) as exc:
            log.warning("waiting for the broker: %s", exc, extra={"action": "broker_away"})
            await asyncio.sleep(RETRY_S)


class StagePartition:
    """What every stage knows of a partition. Pure: no broker, no clock.

    Attributes
    ----------
    number
        The partition.
    states
        Its part of every table of the stage.
    """

    def __init__(self, states: Sequence[StatePartition]) -> None:
        self.states = list(states)
        self.number = states[0].number
        self._applied: dict[str, int] = {}
        self._resumed: set[str] = set()

    def unseen(self, batch: RecordBatch) -> Sequence[Any]:
        """Return the records not applied yet.

        State that stays here over a rebalance is ahead of the committed offsets, from which records come
        again.
        """
        last = self._applied.get(batch.topic, -1)
        if batch.first_offset > last:
            return batch.records
        return [r for r in batch.records if r.offset > last]

    def resume(self) -> None:
        """Note that a rebalance went by: somebody else may have been here meanwhile."""
        self._resumed = set(self._applied)

    def continues(self, batch: RecordBatch) -> bool:
        """Return whether a batch goes on where its topic was left; after a rebalance it may not.

        Then another worker has seen the records between, even if it has left no trace of them in any row.
        """
        resumed = batch.topic in self._resumed
        self._resumed.discard(batch.topic)
        return not resumed or batch.first_offset <= self._applied[batch.topic] + 1

    def seen(self, batch: RecordBatch) -> None:
        """Note that a batch was applied."""
        self._applied[batch.topic] = max(self._applied.get(batch.topic, -1), batch.last_offset)


class StagePartitions(Generic[P]):
    """Stage partitions by number, each as long as its tables' partitions are the ones it was built on."""

    def __init__(self, shelves: Sequence[StageStore], make: Callable[[list[StatePartition]], P]) -> None:
        self._shelves = list(shelves)
        self._make = make
        self._partitions: dict[int, P] = {}

    def get(self, number: int) -> P:
        """Return a partition, built anew when its state is not what it was built on.

        Raises
        ------
        FencedError
            When it is not this worker's.
        """
        states = [shelf.table.partition(number) for shelf in self._shelves]
        part = self._partitions.get(number)
        if part is None or any(a is not b for a, b in zip(part.states, states, strict=True)):
            part = self._partitions[number] = self._make(states)
            for shelf, state in zip(self._shelves, states, strict=True):
                shelf.attach(state)
        return part

    def __iter__(self) -> Iterator[P]:
        """Yield those that are still this worker's; the others are forgotten."""
        for number, part in list(self._partitions.items()):
            if all(s.table.active.get(number) is p for s, p in zip(self._shelves, part.states, strict=True)):
                yield part
            else:
                self._drop(number)

    def resume(self) -> None:
        """Note that a rebalance goes by."""
        for part in self._partitions.values():
            part.resume()

    def keep_up(self) -> None:
        """Build what is assigned here and was not asked for yet; forget what is not any more.

        Raises
        ------
        FencedError
            During a rebalance.
        """
        for number in list(self._shelves[0].table.active):
            self.get(number)
        for _ in self:
            pass

    def _drop(self, number: int) -> None:
        del self._partitions[number]
        for shelf in self._shelves:
            if shelf.feed is not None:
                shelf.feed.detach(number)


class Stage(Protocol):
    """What an agent drives: it applies batches, and its beats write what they did."""

    beats: Beats[Any]

    async def apply(self, batch: RecordBatch) -> None:
        """Apply a batch. Raises ``FencedError`` when its partition is not this worker's any more."""


async def work(app: faust.App, stream: Any, stage: Stage) -> None:
    """Apply every batch of a stream; each is acked once what it did is durable."""
    async for batch, ack in manual(stream):
        try:
            await stage.apply(batch)
        except FencedError as exc:
            # Only of a partition that is not assigned here, or in a rebalance: then it is delivered again, to
            # whoever gets it. A lease that may have ended is no reason to pass a batch over.
            log.info("a batch was left to the next owner: %s", exc)
            continue
        more = behind(app, batch)
        batch.records = ()  # only the ack is held until the durable beat, not the records
        await stage.beats.hold(ack, batch.partition, behind=more)


class AssignmentKeeper(Service):
    """Sees to it that every partition assigned here is built and shown, also one whose input is silent."""

    mundane_level = "debug"

    def __init__(self, owned: StagePartitions[Any], **kwargs: Any) -> None:
        self._owned = owned
        super().__init__(**kwargs)

    @Service.task
    async def _look(self) -> None:
        while not self.should_stop:
            with contextlib.suppress(FencedError):  # a rebalance: later
                self._owned.keep_up()
            await self.sleep(KEEP_EVERY_S)


def behind(app: faust.App, batch: RecordBatch) -> bool:
    """Return whether, as far as the broker has said, more than one batch is waiting after this one."""
    end = app.monitor.tp_end_offsets.get(TP(batch.topic, batch.partition), 0)
    return bool(end - batch.last_offset > app.headrace_settings.batch_max_records)


async def all_of(*parts: Awaitable[None]) -> None:
    """Wait for all, then raise the first error: none is left running behind the others' backs."""
    for result in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
