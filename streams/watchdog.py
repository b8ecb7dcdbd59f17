"""Restarts a consumer that does not read, though records wait; counts it, and says why."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import faust
from aiokafka.errors import KafkaError
from mode import Service

from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.errors import HeadraceError
from headrace.streams.metrics import Metrics
from headrace.streams.settings import Settings
from headrace.streams.transport.rejoin import readings, rejoin
from headrace.streams.transport.stuck import LOOKS, Stuck, StuckWatch

log = logging.getLogger(__name__)

#: Longest wait for the broker's answer, s.
ANSWER_S = 5.0
#: Shortest time between two looks, s.
SHORTEST_S = 0.1


class Watchdog(Service):  # type: ignore[misc]
    """Looks at the partitions of one app.

    It looks only while the app reads: not during a rebalance, while tables are restored, or while the broker
    does not answer. A partition that its slow agent holds back is no reason for a restart.

    Parameters
    ----------
    app
        The app of a role.
    role
        Its role.
    settings
        ``watchdog_s`` and ``watchdog_batch_s``.
    metrics
        Counts restarts.
    clock
        Time.
    """

    mundane_level = "debug"

    def __init__(
        self,
        app: faust.App,
        role: str,
        settings: Settings,
        metrics: Metrics,
        clock: Clock = SYSTEM,
        **kwargs: Any,
    ) -> None:
        self._app, self._role, self._metrics, self._clock = app, role, metrics, clock
        self._batch_s = settings.watchdog_batch_s
        self._watch = StuckWatch(settings.watchdog_s) if settings.watchdog_s else None
        shortest = min((s for s in (settings.watchdog_s, settings.watchdog_batch_s) if s), default=0.0)
        self._every_s = max(SHORTEST_S, shortest / LOOKS)
        self._epoch = -1
        super().__init__(**kwargs)

    @Service.task  # type: ignore[untyped-decorator]
    async def _look_again(self) -> None:
        while not self.should_stop and (self._watch is not None or self._batch_s):
            await self.sleep(self._every_s)
            consumer = self._app._consumer
            if consumer is None or self._app.should_stop or self.should_stop:
                continue
            if self._batch_s and (took := consumer.longest_body_s()) > self._batch_s:
                await self._end(HeadraceError(f"a batch of {self._role} has been processed for {took:.0f} s"))
                return
            if self._watch is not None:
                await self._look(self._watch, consumer)

    async def _look(self, watch: StuckWatch, consumer: Any) -> None:
        epoch = consumer._assignment_epoch
        if epoch != self._epoch or self._waits(consumer):
            self._epoch = epoch
            watch.forget()
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                found = await readings(consumer._thread)
        except (KafkaError, TimeoutError, RuntimeError, AssertionError) as exc:  # also of a thread that stops
            log.debug("where the partitions of %s end is not known: %r", self._role, exc)
            watch.forget()
            return
        if epoch != consumer._assignment_epoch or self._waits(consumer):
            watch.forget()
        elif stuck := watch.look(found, self._clock.monotonic()):
            await self._restart(watch, consumer, stuck)

    def _waits(self, consumer: Any) -> bool:
        """Return whether the app reads nothing now, and has said so."""
        return bool(self._app.rebalancing or not consumer.flow_active)

    async def _restart(self, watch: StuckWatch, consumer: Any, stuck: list[Stuck]) -> None:
        pause_s = watch.restarted(self._clock.monotonic())
        for tp, position, records, seconds in stuck:
            log.error(
                "%s-%d is not read: at %d for %.0f s, %d records wait; its consumer joins the group again",
                tp.topic, tp.partition, position, seconds, records,
                extra={
                    "action": "consumer_restart", "role": self._role, "topic": tp.topic,
                    "partition": tp.partition, "position": position, "records": records,
                    "next_after_s": pause_s,
                },
            )  # fmt: skip
        try:
            if not await rejoin(consumer._thread):
                return
        except Exception as exc:  # noqa: BLE001 - the old one may hold its partitions: nobody would read them
            await self._end(HeadraceError(f"the consumer of {self._role} could not be restarted: {exc!r}"))
            return
        for tp, *_ in stuck:
            self._metrics.count("headrace_consumer_restarts_total", self._role, tp.topic, str(tp.partition))

    async def _end(self, error: HeadraceError) -> None:
        """End the process; what was not acked is delivered again."""
        log.error("%s; this process ends", error, extra={"action": "watchdog_end", "role": self._role})
        await self._app.crash(error)
