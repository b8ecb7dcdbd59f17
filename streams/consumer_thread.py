"""The thread that owns the aiokafka consumer: it fetches whole lists, commits and seeks when asked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
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

from streams.fetching import be_patient, drain

log = logging.getLogger(__name__)


class _DaemonThread(WorkerThread):  # type: ignore[misc]
    """Never keeps a process alive, never blocks the main loop for long."""

    def __init__(self, service: Any, **kwargs: Any) -> None:
        super().__init__(service, **kwargs)
        self.daemon = True

    def stop(self) -> None:
        self.is_stopped.wait(timeout=2.0)


class BatchConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
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

    @Service.task  # type: ignore[untyped-decorator]
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

    def read_position(self, tp: TP) -> int | None:
        """Return the next offset to be fetched, None while the broker has more, or nothing is known."""
        if self._consumer is None or (subscription := self._consumer._subscription.subscription) is None:
            return None
        assignment = subscription.assignment
        state = assignment.state_value(tp) if assignment is not None and tp in assignment.tps else None
        if state is None or not state.has_valid_position or state.highwater is None:
            return None
        return int(state.position) if state.position >= state.highwater else None

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
