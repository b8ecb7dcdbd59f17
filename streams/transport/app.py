"""A Faust app whose agents get record batches. docs/transport.md shows how to use it in any Faust project."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from mode import CrashingSupervisor

from .consumer import BatchConsumer


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with our consumer."""

    Consumer = BatchConsumer


class BatchApp(faust.App):
    """A Faust app with the batch transport; everything else is Faust's.

    An exception in an agent stops the app, unless ``agent_supervisor`` is set. Offsets are not committed past
    the batch that failed, so work on later batches would only be repeated.

    Parameters
    ----------
    id
        Name of the app and of its consumer group.
    batch_max_records
        Most records in a batch.
    fetch_max_wait_ms
        How long the broker may hold a fetch when there are no new records, ms.
    options
        Faust's settings.

    Attributes
    ----------
    batch_topics
        Names of the topics delivered as batches; ``batch_topic`` adds to it.
    last_writes
        Functions awaited at a clean stop, when no loop body runs any more: they write and ack what is held.
    warm_up
        Functions awaited before this worker joins its group; see ``warm_up``.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - Faust's name
        *,
        batch_max_records: int | None = None,
        fetch_max_wait_ms: int | None = None,
        **options: Any,
    ) -> None:
        self.batch_max_records = batch_max_records
        self.fetch_max_wait_ms = fetch_max_wait_ms
        self.batch_topics: set[str] = set()
        self.last_writes: list[Callable[[], Awaitable[None]]] = []
        super().__init__(id, **{"agent_supervisor": CrashingSupervisor, **options})

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_producer, self)

    async def _stop_consumer(self) -> None:
        if self._consumer is not None and self._consumer.started:
            with contextlib.suppress(Exception):  # a consumer in a bad state must not prevent the stop
                await self._consumer.settle(self.last_writes)
        await super()._stop_consumer()
