"""How an agent drives a stage: read batches, apply each, hold its ack until what it caused is durable."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import faust
from faust.types import TP

from headrace.agents.stage.beats import Beats
from headrace.agents.wiring import Wiring
from headrace.streams.errors import FencedError
from headrace.streams.topics.flow import AgentFlow
from headrace.streams.transport.batches import RecordBatch, batch_topic, manual

log = logging.getLogger(__name__)


class Stage(Protocol):
    """What an agent drives: it applies batches, and its flushes write what they did."""

    beats: Beats[Any]

    async def apply(self, batch: RecordBatch) -> None:
        """Apply a batch. Raises ``FencedError`` when its partition is not this worker's any more."""

    def revoked(self) -> None:
        """Forget what belongs to the assignment that just ended: its batches are delivered again."""


async def _ready() -> None:
    """Wait for nothing."""


def drive(
    app: faust.App,
    wiring: Wiring,
    flow: AgentFlow,
    stage: Stage,
    ready: Callable[[], Awaitable[Any]] = _ready,
) -> None:
    """Add an agent to the app that applies every batch of its topics to ``stage``.

    Parameters
    ----------
    flow
        The agent's declaration: its name and the topics it reads.
    ready
        Awaited before the first batch.
    """

    @app.agent(batch_topic(app, *flow.input_topics(wiring.topics)), name=flow.name)
    async def _agent(stream: Any) -> None:
        await ready()
        await work(app, stream, stage)

    app.last_writes.append(stage.beats.finish)
    forget_when_revoked(app, stage.revoked)


def forget_when_revoked(app: faust.App, revoked: Callable[[], None]) -> None:
    """Have ``revoked`` called when a rebalance takes partitions away."""

    @app.on_partitions_revoked.connect
    async def _revoked(_app: Any, _partitions: Any, **_: Any) -> None:
        revoked()


async def work(app: faust.App, stream: Any, stage: Stage) -> None:
    """Apply every batch of a stream; each is acknowledged once what it did is durable."""
    async for batch, ack in manual(stream):
        try:
            await stage.apply(batch)
        except FencedError as exc:
            # Only of a partition that is not assigned here, or in a rebalance: then it is delivered again, to
            # whoever gets it. A lease that may have ended is no reason to pass a batch over.
            log.info("a batch was left to the next owner: %s", exc)
            continue
        more = behind(app, batch)
        batch.records = ()  # only the ack is held until the durable flush, not the records
        await stage.beats.hold(ack, batch.partition, behind=more)


def behind(app: faust.App, batch: RecordBatch) -> bool:
    """Return whether, as far as the broker has said, more than one batch is waiting after this one."""
    end = app.monitor.tp_end_offsets.get(TP(batch.topic, batch.partition), 0)
    return bool(end - batch.last_offset > app.headrace_settings.batch_max_records)


async def all_of(*parts: Awaitable[None]) -> None:
    """Wait for all, then raise the first error: none is left running unnoticed."""
    for result in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
