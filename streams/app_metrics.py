"""Measures what an app reads: lag, batches, commits, recovery, state stores."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import faust
from aiokafka.errors import KafkaError
from faust.types import TP
from mode import Service

from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.metrics import Metrics, Sample
from headrace.streams.own_lag import OwnLag
from headrace.streams.restore_pace import RestorePace
from headrace.streams.tables.store import StateStore
from headrace.streams.topics import flow
from headrace.streams.topics.names import Topics
from headrace.streams.transport.watcher import BatchEnd, Watcher

log = logging.getLogger(__name__)

#: Time between two questions for the ends of partitions, s, and the longest wait for an answer.
LOOK_S = 1.0
ANSWER_S = 5.0
#: Ends that are older than this are not known any more, s.
STALE_S = 10.0


class AppMetrics(Service, Watcher):  # type: ignore[misc]
    """Asks once a second where the partitions of an app end; hears of its batches and commits.

    Parameters
    ----------
    app
        The app of a role.
    role
        Its role.
    metrics
        Gets the values.
    clock
        Time.
    """

    mundane_level = "debug"

    def __init__(
        self, app: faust.App, role: str, metrics: Metrics, clock: Clock = SYSTEM, **kwargs: Any
    ) -> None:
        self._app, self._role, self._metrics, self._clock = app, role, metrics, clock
        topics = Topics(app.headrace_settings)
        agents = {t: a.name for a in flow.roles()[role] for t in a.input_topics(topics)}
        self._labels = {topic: (role, agent, topic) for topic, agent in agents.items()}
        self._lags: dict[TP, OwnLag] = {}
        self._restores = RestorePace[TP]()
        self._epoch = -1
        self._looked_s = float("-inf")
        app.watcher = self
        metrics.read(self._read)
        super().__init__(**kwargs)

    # -- what the transport tells

    def batch_ended(self, end: BatchEnd) -> None:
        """See ``Watcher``."""
        labels = self._labels.get(end.tp[0])
        if labels is None:
            return
        self._of(TP(*end.tp)).processed(end.next_offset, end.timestamp_s)
        self._metrics.count("headrace_records_total", *labels, by=end.records)
        self._metrics.observe("headrace_batch_records", end.records, *labels[1:])
        self._metrics.observe("headrace_batch_seconds", end.seconds, *labels[1:])

    def committed(self, seconds: float, *, done: bool) -> None:
        """See ``Watcher``."""
        if done:
            self._metrics.observe("headrace_commit_seconds", seconds, self._role)
        else:
            self._metrics.count("headrace_commit_failures_total", self._role)

    def _of(self, tp: TP) -> OwnLag:
        """Return the lag of a partition; after a rebalance or a seek, nothing is known of any."""
        epoch = self._app.consumer._assignment_epoch
        if epoch != self._epoch:
            self._epoch = epoch
            self._lags.clear()
        return self._lags.setdefault(tp, OwnLag())

    # -- what the broker tells

    @Service.task  # type: ignore[untyped-decorator]
    async def _watch(self) -> None:
        while not self.should_stop:
            self.pace()
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self.look()
            except (
                KafkaError,
                TimeoutError,
                RuntimeError,
                AssertionError,
            ) as exc:  # also of a thread that stops
                log.debug("where the partitions of %s end is not known: %r", self._role, exc)
            await self.sleep(LOOK_S)

    def pace(self) -> None:
        """Note how much of a recovery is left now."""
        self._restores.take(self._left(), self._clock.monotonic())

    async def look(self) -> None:
        """Ask where the partitions that are read end, and where those begin that have no offset committed.

        Raises
        ------
        KafkaError
            When the broker does not answer.
        """
        consumer = self._app._consumer
        if consumer is None or not consumer.flow_active:
            return
        mine = [tp for tp in consumer.assignment() if tp.topic in self._labels]
        epoch = consumer._assignment_epoch
        ends = await self._ask("end_offsets", mine)
        fresh = [tp for tp in mine if self._of(tp).position is None]
        starts: dict[TP, int] = {tp: at for tp in fresh if (at := consumer._committed_offset[tp]) is not None}
        starts |= await self._ask("beginning_offsets", [tp for tp in fresh if tp not in starts])
        if epoch != consumer._assignment_epoch:
            return
        for tp, end in ends.items():
            lag = self._of(tp)
            if tp in starts:
                lag.start(starts[tp])
            lag.ends(end, self._clock.now_ms() / 1000)
        self._looked_s = self._clock.monotonic()

    async def _ask(self, what: str, tps: list[TP]) -> Mapping[TP, int]:
        if not tps:
            return {}
        # Not through the method queue of the thread: it is for commits and seeks.
        thread = self._app.consumer._thread
        asked = getattr(thread._ensure_consumer(), what)(tps)
        found = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked, thread.thread_loop))
        return {TP(*tp): int(offset) for tp, offset in found.items()}

    # -- what is read

    def _read(self) -> Iterator[Sample]:
        yield from self._lag()
        yield from self._restore()
        yield from self._tables()

    def _lag(self) -> Iterator[Sample]:
        consumer = self._app._consumer
        if consumer is None or self._clock.monotonic() - self._looked_s > STALE_S:
            return
        now_s, mine = self._clock.now_ms() / 1000, consumer.assignment()
        for tp, lag in list(self._lags.items()):
            if self._epoch != consumer._assignment_epoch or tp not in mine:
                continue
            labels = (*self._labels[tp.topic], str(tp.partition))
            for name, value in (("records", lag.records()), ("seconds", lag.seconds(now_s))):
                if value is not None:
                    yield Sample(f"headrace_lag_{name}", value, labels)

    def _stores(self) -> Iterable[StateStore]:
        return [table for table in self._app.tables.values() if isinstance(table, StateStore)]

    def _left(self) -> dict[TP, int]:
        """Return by partition how many changelog records are left to read."""
        if not self._stores():
            return {}
        return {
            copy.tp: max(0, copy.end - max(copy.begin, copy.part.position))
            for copy in self._app.tables.recovery.copies
        }

    def _restore(self) -> Iterator[Sample]:
        names = {store.changelog: store.name for store in self._stores()}
        for tp, left in self._left().items():
            labels = names[tp.topic], str(tp.partition)
            yield Sample("headrace_restore_records", left, labels)
            if (seconds := self._restores.seconds(tp) if left else 0.0) is not None:
                yield Sample("headrace_restore_seconds", seconds, labels)

    def _tables(self) -> Iterator[Sample]:
        for store in self._stores():
            own, standby = list(store.active.values()), list(store.standby.values())
            if not own and not standby:
                continue
            rows = {
                "memory": sum(len(part.rows) for part in own),
                "evicted": sum(part.evicted_count for part in own),
                "standby": sum(len(part.rows) for part in standby),
            }
            for place, count in rows.items():
                yield Sample("headrace_table_rows", count, (store.name, place))
            yield Sample("headrace_table_bytes", sum(part.nbytes for part in own + standby), (store.name,))
