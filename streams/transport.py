"""The Faust transport that delivers record batches: one message per list of records fetched from a partition.

Faust's groups, rebalances, conductor, channels and agents stay in use. What changes: how records are taken
from the fetcher (`streams.fetching`), how they are delivered (`BatchConsumer._drain_messages`) and which
offsets are committed (`OffsetLedger` instead of Faust's per-offset gap logic). Topics not in
``app.batch_topics`` behave as stock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import aiokafka
import uvloop
from aiokafka.consumer.group_coordinator import OffsetCommitRequest
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    ConsumerStoppedError,
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    KafkaError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service
from mode.threads import WorkerThread

from streams.batches import (
    BatchMessage,
    BatchSchema,
    BatchTopic,
    RecordBatch,
    batch_topic,
    durable,
    manual,
)
from streams.fetching import be_patient, drain
from streams.ledger import OffsetLedger, Ticket

__all__ = [
    "BatchConsumer",
    "BatchMessage",
    "BatchSchema",
    "BatchTopic",
    "BatchTransport",
    "OffsetLedger",
    "RecordBatch",
    "Ticket",
    "batch_topic",
    "durable",
    "manual",
]

log = logging.getLogger(__name__)

#: Longest wait of one fetch; new data, a resumed partition and shutdown end it early or bound it.
FETCH_TIMEOUT_S = 1.0
#: The same while a partition is paused for a slow agent: it must be fetched again soon after the agent
#: catches up.
PAUSED_FETCH_TIMEOUT_S = 0.02
#: A rebalance or a shutdown waits this long for loop bodies that have begun (a rebalance: at most half a
#: session).
BODY_TIMEOUT_S = 5.0


class _DaemonThread(WorkerThread):
    """Never keeps a process alive, never blocks the main loop for long."""

    def __init__(self, service: Any, **kwargs: Any) -> None:
        super().__init__(service, **kwargs)
        self.daemon = True

    def stop(self) -> None:
        self.is_stopped.wait(timeout=2.0)


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer."""

    Worker = _DaemonThread
    mundane_level = "debug"
    shutdown_timeout = 5.0

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, thread_loop=uvloop.new_event_loop(), **kwargs)
        self._close_thread_loop_on_stop = True

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf, settings = self.app.conf, self.app.headrace_settings
        # Range keeps partition n of every topic of an app in one worker (`events` and `users` share a key);
        # Faust's default here, round-robin over all topics, does not.
        self._assignor = self.app.assignor if self.app.tables.changelog_topics else RangePartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=driver.server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset=conf.consumer_auto_offset_reset,
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_min_bytes=1,  # one record ends a long poll
            fetch_max_wait_ms=settings.fetch_max_wait_ms,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    @Service.task
    async def _watch_group(self) -> None:
        """Crash on what aiokafka tells only those who fetch: no right to join, a session timeout refused."""
        while not self.should_stop:
            await self.sleep(1.0)
            if self._consumer is not None:
                self._consumer._coordinator.check_errors()

    def set_shutdown(self) -> None:
        """Tell the main loop that this thread is done, if there still is a main loop."""
        with contextlib.suppress(RuntimeError):
            super().set_shutdown()

    def _stopped_set(self) -> None:
        try:
            super()._stopped_set()
        except RuntimeError:  # the thread crashed and closed its loop
            self._stopped.set()

    async def on_start(self) -> None:
        """Connect."""
        await super().on_start()
        be_patient(self._consumer)

    async def fetch(self, active: frozenset[TP], timeout: float) -> list[tuple[TP, list[Any], int]]:
        """Return ``(partition, records, high watermark)`` per partition; ends after ``timeout`` seconds."""
        # Not through the thread's method queue: its two workers stay free for commits and seeks.
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._fetch(active, timeout), self.thread_loop)
        )

    async def _fetch(self, active: frozenset[TP], timeout: float) -> list[tuple[TP, list[Any], int]]:
        # After aiokafka's Fetcher.fetched_records; it hands out the records as they are and never waits out
        # a rebalance, since what it would return then belongs to another assignment.
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        subscriptions = fetcher._subscriptions
        max_records = self.app.headrace_settings.batch_max_records
        deadline = time.monotonic() + timeout
        with subscriptions.fetch_context():
            while True:
                if consumer._closed or fetcher._closed:
                    raise ConsumerStoppedError
                if subscriptions.reassignment_in_progress or not self.consumer.flow_active:
                    await asyncio.sleep(0.01)
                    return []
                fetched = [
                    (ensure_TP(part.tp), part.records, part.highwater)
                    for part in drain(fetcher, active, max_records, self.app.batch_topics.__contains__)
                    if part.records
                ]
                remaining = deadline - time.monotonic()
                if fetched or remaining <= 0:
                    return fetched
                waiter = fetcher._create_fetch_waiter()
                done, _ = await asyncio.wait([waiter], timeout=remaining)
                if not done:
                    waiter.cancel()
                    return []
                waiter.result()  # coordination errors arrive here

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every partition to its committed offset, and those without one to where a new group begins."""
        offsets: Mapping[TP, int] = await self.call_thread(self._seek_to_committed)
        return offsets

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        offsets: Mapping[TP, int] = await consumer.seek_to_committed()
        # aiokafka leaves uncommitted partitions where they are: what was fetched and dropped would be lost.
        assignment = consumer._subscription.subscription.assignment
        moved = [
            tp
            for tp, offset in offsets.items()
            if not offset and (state := assignment.state_value(tp)) is not None and state.has_valid_position
        ]
        if moved:
            reset = consumer._fetcher.request_offset_reset(moved, consumer._fetcher._default_reset_strategy)
            await asyncio.wait(
                [reset, assignment.unassign_future],
                timeout=self.app.conf.broker_request_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
        return offsets

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        try:
            mine = self._ensure_consumer().assignment()
            done = await self._commit_mine({tp: offset for tp, offset in offsets.items() if tp in mine})
        except Exception as exc:
            log.exception("Commit failed")
            await self.crash(exc)
            return False
        if done:
            self.tp_last_committed_at.update(dict.fromkeys(offsets, time.monotonic()))
        return done

    async def _commit_mine(self, offsets: Mapping[TP, int]) -> bool:
        # Not aiokafka's commit: when a rebalance has begun it forgets its membership, rejoins as a
        # stranger, and the group waits for the member that is no more until its session ends.
        coordinator = self._ensure_consumer()._coordinator
        by_topic: dict[str, list[tuple[int, int, str]]] = {}
        for tp, offset in offsets.items():
            by_topic.setdefault(tp.topic, []).append((tp.partition, offset, ""))
        generation = coordinator.generation
        while by_topic and generation == coordinator.generation:
            await coordinator.ensure_coordinator_known()
            request = OffsetCommitRequest(
                coordinator.group_id, generation, coordinator.member_id,
                OffsetCommitRequest.DEFAULT_RETENTION_TIME, list(by_topic.items()),
            )  # fmt: skip
            try:
                response = await coordinator._send_req(request)
                codes = {code for _, partitions in response.topics for _, code in partitions}
                for code in codes - {0}:
                    raise for_code(code)
            except (RebalanceInProgressError, IllegalGenerationError, UnknownMemberIdError) as exc:
                # The group moves on; whoever owns the partitions then starts from the previous commit.
                log.info("Offsets were not committed, the group is rebalancing (%s)", type(exc).__name__)
                coordinator.request_rejoin()
                return False
            except KafkaError as exc:
                if not exc.retriable:
                    raise
                if isinstance(exc, (NotCoordinatorForGroupError, GroupCoordinatorNotAvailableError)):
                    coordinator.coordinator_dead()
                await asyncio.sleep(0.1)
            else:
                return True
        return False

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Look for stalled partitions; the stock check trips over state that a rebalance just removed."""
        with contextlib.suppress(AttributeError, AssertionError):
            super().verify_event_path(now, tp)


class BatchConsumer(driver.Consumer):
    """The main-loop side of the consumer: delivery and offsets."""

    mundane_level = "debug"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.ledger = OffsetLedger()
        self._assignment_epoch = 0
        self._bodies: set[object] = set()
        self._bodies_changed = asyncio.Event()
        self._resumed = asyncio.Event()
        super().__init__(*args, **kwargs)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    _n_acked: int

    # -- delivery

    async def _drain_messages(self, fetcher: Any) -> None:
        if self.app.client_only:
            await super()._drain_messages(fetcher)
            return
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._deliver_next()
                await asyncio.sleep(0)
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise
        except Exception:
            log.exception("Reading from the broker failed")
            raise

    async def _deliver_next(self) -> None:
        """Fetch once and deliver what came."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
            return
        active = frozenset(self._get_active_partitions())
        if not active:
            self._resumed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._resumed.wait(), FETCH_TIMEOUT_S)
            return
        epoch = self._assignment_epoch
        fetched = await self._thread.fetch(
            active, PAUSED_FETCH_TIMEOUT_S if self._buffered_partitions else FETCH_TIMEOUT_S
        )
        if not fetched:
            return
        if epoch != self._assignment_epoch or not self.flow_active:
            # Fetched for an assignment that is gone. Nothing of the new one was delivered yet, because
            # only this task delivers: starting it from its committed offsets loses nothing.
            if self.flow_active:
                await self._rewind()
            return
        batch_topics = self.app.batch_topics
        per_record = {}
        for tp, records, highwater in fetched:
            self.app.monitor.track_tp_end_offset(tp, highwater)
            if tp.topic in batch_topics:
                if not await self._deliver_list(tp, records, epoch):
                    return
            else:
                per_record[tp] = records
        if per_record:
            await self._deliver_records(per_record, epoch)

    async def _rewind(self) -> None:
        try:
            await self.perform_seek()
        except Exception as exc:  # noqa: BLE001 - of whatever kind: yet another rebalance has begun, and it seeks
            log.info("Could not seek to the committed offsets (%r); the rebalance in progress will", exc)

    def _interrupted(self, epoch: int) -> bool:
        # A rebalance (or shutdown) has begun. What is left undelivered is read again from the committed
        # offsets.
        return not self.flow_active or epoch != self._assignment_epoch

    async def _deliver_list(self, tp: TP, records: list[Any], epoch: int) -> bool:
        size = self.app.headrace_settings.batch_max_records
        for start in range(0, len(records), size):
            if self._interrupted(epoch):
                return False
            chunk = records[start : start + size] if len(records) > size else records
            message = self._batch_message(tp, chunk)
            await self.wait_first(self.callback(message), self.suspend_flow.wait())
        return True

    def _batch_message(self, tp: TP, records: list[Any]) -> BatchMessage:
        first, last = records[0].offset, records[-1].offset
        read = self._read_offset[tp]
        if read is not None and first < read:
            log.warning("%s-%d went back from offset %d to %d", tp.topic, tp.partition, read, first)
            self.ledger.forget([tp])
            self._committed_offset[tp] = None
        self._read_offset[tp] = last + 1
        message = BatchMessage(
            tp.topic,
            tp.partition,
            last,
            records[-1].timestamp / 1000.0,
            records[-1].timestamp_type,
            None,
            None,
            RecordBatch(tp.topic, tp.partition, records),
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
        message.consumer = self
        message.ticket = self.ledger.open(tp, last)
        message.on_acked = self._on_batch_acked
        return message

    async def _deliver_records(self, fetched: Mapping[TP, list[Any]], epoch: int) -> None:
        """Deliver one by one, as stock Faust does, with its read offsets and gaps."""
        acks_enabled_for = self.app.topics.acks_enabled_for
        for count, (tp, record) in enumerate(self.scheduler.iterate(fetched)):
            if self._interrupted(epoch):
                return
            if count % 100 == 99:
                await asyncio.sleep(0)
            message = self._to_message(tp, record)
            read = self._read_offset[tp]
            if read is not None and message.offset < read:
                continue
            if read and message.offset - read > 1 and acks_enabled_for(message.topic):
                await self._add_gap(tp, read + 1, message.offset)
            if self._commit_every is not None and self._n_acked >= self._commit_every:
                self._n_acked = 0
                await self.commit()
            await self.wait_first(self.callback(message), self.suspend_flow.wait())
            self._read_offset[tp] = message.offset

    def on_buffer_drop(self, tp: TP) -> None:
        """Fetch from a partition again: its agent has caught up."""
        super().on_buffer_drop(tp)
        self._resumed.set()

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Fetch from partitions again."""
        super().resume_partitions(tps)
        self._resumed.set()

    # -- loop bodies

    def body_started(self) -> object:
        """Note that an agent's loop body works on a batch; give the result to ``body_ended``."""
        body = object()
        self._bodies.add(body)
        return body

    def body_ended(self, body: object) -> None:
        """Note that it ended, in whatever way."""
        self._bodies.discard(body)
        self._bodies_changed.set()

    async def wait_for_bodies(self, timeout: float | None = None) -> bool:
        """Wait until no loop body is running; return False when some still are after the timeout."""
        if timeout is None:
            timeout = min(BODY_TIMEOUT_S, self.app.conf.broker_session_timeout / 2)
        deadline = time.monotonic() + timeout
        while self._bodies:
            self._bodies_changed.clear()
            try:
                await asyncio.wait_for(self._bodies_changed.wait(), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                log.warning("%d batches still being processed after %.0f s", len(self._bodies), timeout)
                return False
        return True

    async def settle(self) -> None:
        """Stop delivering, let running bodies finish, commit what they did."""
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        if not self.app.crashed:
            await self.wait_for_bodies()
        if not await self.commit():
            await self.commit()  # the first call may only have joined a commit that had begun earlier

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish what has begun, commit it, forget the rest: the next owner starts from there."""
        self._assignment_epoch += 1
        if revoked and not self.app.should_stop:
            await self.settle()
        self.ledger.forget(self.ledger.partitions())
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start with a clean ledger."""
        self._assignment_epoch += 1
        self.ledger.forget(self.ledger.partitions())
        await super().on_partitions_assigned(assigned, generation_id)
        log.info("Assigned %d partitions (generation %d)", len(assigned), generation_id)

    # -- offsets

    def _on_batch_acked(self) -> None:
        waiting = self._waiting_for_ack
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        yield from super()._filter_tps_with_pending_acks(topics)
        for topic, partition in self.ledger.partitions():
            tp = TP(topic, partition)
            if topics is None or tp in topics or topic in topics:
                yield tp

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic in self.app.batch_topics:
            return self.ledger.committable(tp)
        offset: int | None = super()._new_offset(tp)
        return offset


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with our consumer."""

    Consumer = BatchConsumer
