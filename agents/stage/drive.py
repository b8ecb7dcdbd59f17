"""Connects an agent to a stage: reads batches, applies each, holds its ack until its effects are durable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import faust
import numpy as np
import numpy.typing as npt
from faust.types import TP

from headrace.agents.stage.flushes import Backlog, Flushes
from headrace.agents.stage.partitions import StagePartitions
from headrace.agents.wiring import Wiring
from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import FencedError
from headrace.streams.topics.flow import AgentFlow
from headrace.streams.transport.batches import RecordBatch, batch_topic, manual
from headrace.streams.transport.places import known_places

log = logging.getLogger(__name__)

#: Pause before a flush is tried again that was refused.
RETRY_S = 0.5
#: So many old events in one batch are not just late ones.
MANY = 1000
LOOKED_AT = 512


class Stage(Protocol):
    """The part of an agent that applies batches; its flushes write the changes."""

    flushes: Flushes[Any]

    async def apply(self, batch: RecordBatch) -> Backlog | None:
        """Apply a batch; return how far the stage is behind, None: its records say it (``backlog``).

        Raises
        ------
        FencedError
            When its partition is not assigned to this worker any more.
        """

    def revoked(self) -> None:
        """Forget held acks and unfinished work after a rebalance: the batches are delivered again."""


async def _ready() -> None:
    """Return at once."""


def drive(
    app: faust.App,
    wiring: Wiring,
    flow: AgentFlow,
    stage: Stage,
    ready: Callable[[], Awaitable[Any]] = _ready,
    partitions: StagePartitions[Any] | None = None,
) -> None:
    """Add an agent to the app that applies every batch of its topics to ``stage``.

    Parameters
    ----------
    flow
        Declaration of the agent: its name and the topics it reads.
    stage
        Applies the batches.
    ready
        Awaited before the first batch.
    partitions
        The partitions of a stage with state: it says up to where every topic was applied.
    """
    topics = flow.input_topics(wiring.topics)
    if partitions is not None:
        for topic in topics:
            known_places(app)[topic] = partial(partitions.place, topic)

    @app.agent(batch_topic(app, *topics), name=flow.name)
    async def _agent(stream: Any) -> None:
        await ready()
        await work(app, stream, stage, partitions, wiring.clock)

    app.last_writes.append(stage.flushes.finish)
    forget_when_revoked(app, stage.revoked)


def forget_when_revoked(app: faust.App, revoked: Callable[[], None]) -> None:
    """Call ``revoked`` whenever partitions are revoked in a rebalance."""

    @app.on_partitions_revoked.connect
    async def _revoked(_app: Any, _partitions: Any, **_: Any) -> None:
        revoked()


async def work(
    app: faust.App,
    stream: Any,
    stage: Stage,
    partitions: StagePartitions[Any] | None = None,
    clock: Clock = SYSTEM,
) -> None:
    """Apply every batch of a stream; each is acknowledged when its effects are durable."""
    async for batch, ack in manual(stream):
        try:
            if batch.base and partitions is not None:
                await turn(stage.flushes, partitions, batch)
            more = await stage.apply(batch)
        except FencedError as exc:
            # The partition is not assigned here, or a rebalance has begun: the batch is not acknowledged, and
            # the next owner gets it. (An expired lease alone does not raise this in `apply`.)
            log.info("a batch was skipped, the next owner of its partition gets it: %s", exc)
            continue
        more = backlog(app, clock, batch) if more is None else more
        batch.records = ()  # frees the records: only the ack is held until the durable flush
        await stage.flushes.hold(ack, batch.partition, more)


async def turn(flushes: Flushes[Any], partitions: StagePartitions[Any], batch: RecordBatch) -> None:
    """Before the first batch of another log is applied, make all before it and the new base durable.

    Rows and derived records of the batch have numbers with that base. After a crash it must be found again,
    not computed anew from less.

    Raises
    ------
    FencedError
        When another worker owns the partition.
    """
    if partitions.get(batch.partition).base(batch.topic) != batch.base:
        await make_durable(flushes, partitions, batch.partition)
        partitions.get(batch.partition).turn(batch)
        await make_durable(flushes, partitions, batch.partition)


async def make_durable(flushes: Flushes[Any], partitions: StagePartitions[Any], number: int) -> None:
    """Flush until every change of a partition is durable; call it between two batches.

    Raises
    ------
    FencedError
        When another worker owns the partition.
    """
    await flushes.flush({number})
    while not all(state.clean for state in partitions.get(number).states):
        await asyncio.sleep(RETRY_S)
        await flushes.flush({number})


def backlog(app: faust.App, clock: Clock, batch: RecordBatch) -> Backlog:
    """Return how much is waiting after a batch, by the last end offset of the broker."""
    settings = app.headrace_settings
    end = app.monitor.tp_end_offsets.get(TP(batch.topic, batch.partition), 0)
    if end - batch.last_offset <= settings.batch_max_records:
        return Backlog.NONE
    age_ms = clock.now_ms() - batch.records[-1].timestamp
    return Backlog.OLD if age_ms > settings.durable_every_ms else Backlog.WAITING


class OldEvents:
    """Says whether a stage reads old events, where the records are newer than the events in them.

    Parameters
    ----------
    old_ms
        An event that is older than this is old, ms.
    """

    def __init__(self, old_ms: int) -> None:
        self._old_ms = old_ms
        self._old = False

    def backlog(self, ts: npt.NDArray[np.int64], now_ms: int) -> Backlog:
        """Return ``OLD`` from ``MANY`` old events on in one batch, until an event comes that is not old.

        Of a large batch, ``LOOKED_AT`` events are looked at, and the last one.

        Parameters
        ----------
        ts
            Times of the events of a batch, int64 ``(n,)``, ms.
        now_ms
            The time, ms.
        """
        young = now_ms - self._old_ms
        if len(ts) and (ts[-1] >= young or ts[:: 1 + len(ts) // LOOKED_AT].max() >= young):
            self._old = False
        elif len(ts) >= MANY:
            self._old = True
        return Backlog.OLD if self._old else Backlog.NONE


async def all_of(*parts: Awaitable[None]) -> None:
    """Wait for all, then raise the first error, so that none is still running."""
    for result in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
