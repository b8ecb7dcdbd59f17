"""The thread that owns the aiokafka consumer: fetches lists of records, commits, seeks, pauses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import aiokafka
import uvloop
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import ConsumerStoppedError, IllegalStateError
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service
from mode.threads import WorkerThread

from .batches import most_records, option
from .commits import commit_offsets
from .fetching import ISOLATION, drain, plan_fetches, poke
from .gathering import gather_from_now_on
from .lease import Lease
from .patience import be_patient
from .places import Place
from .positions import Positions, Taken, persist

log = logging.getLogger(__name__)

#: Longest wait of a thread for Python's interpreter lock (``sys.setswitchinterval``). This thread waits for
#: it several times between an answer of the broker and its records in the main thread.
SWITCH_S = 0.0005
#: How often partitions in doubt are looked at again.
RETRY_S = 0.2
#: Most records taken at once from a partition whose records are delivered one by one.
MAX_SINGLE = 100


class RebalanceListener(driver.ConsumerRebalanceListener):  # type: ignore[misc]
    """Pauses new partitions before the first fetch. Faust resumes later those that it wants to read."""

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Pause the partitions; called in the consumer's thread."""
        self._thread.taken.clear()
        self._thread.sought.clear()
        self._thread.positions.reset()
        self._thread.pause_now(assigned)
        await super().on_partitions_assigned(assigned)


class _DaemonThread(WorkerThread):  # type: ignore[misc]
    """A daemon thread: does not keep the process alive; stopping it blocks the main loop for 2 s at most."""

    def __init__(self, service: Any, **kwargs: Any) -> None:
        super().__init__(service, **kwargs)
        self.daemon = True

    def stop(self) -> None:
        self.is_stopped.wait(timeout=2.0)


class BatchConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, with fetches of whole lists of records and a lease.

    Attributes
    ----------
    lease
        When the group last confirmed this worker.
    taken
        Position after the records taken last, per partition of this assignment. A partition is missing when
        none were taken since it was assigned, or since a seek.
    sought
        Where a partition of this assignment was sought last. Missing: it starts where a new group does.
    positions
        Compares the partitions that are read as batches with their logs.
    states
        Place up to which the state of an agent has everything, per partition; set before a seek to the
        committed offsets.
    committing
        Metadata of the offsets that are being committed.
    """

    Worker = _DaemonThread
    mundane_level = "debug"
    shutdown_timeout = 5.0

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, thread_loop=uvloop.new_event_loop(), **kwargs)
        self._close_thread_loop_on_stop = True
        self.lease = Lease()
        self.taken: dict[TP, int] = {}
        self.sought: dict[TP, int] = {}
        self.positions = Positions(self._ensure_consumer, self._seek_now)
        self.states: dict[TP, Place] = {}
        self.committing: dict[TP, str] = {}
        self._seeks: Counter[TP] = Counter()

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        # Range assigns partition n of every topic of an app to the same worker (`events` and `users` have the
        # same key). Faust's default here, round-robin over all topics, does not.
        with_tables = conf.table_standby_replicas > 0 or self.app.tables.changelog_topics
        self._assignor = self.app.assignor if with_tables else RangePartitionAssignor
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
            fetch_min_bytes=1,  # the broker answers a held fetch as soon as there is one record
            fetch_max_wait_ms=option(self.app, "fetch_max_wait_ms"),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            check_crcs=conf.broker_check_crcs,
            isolation_level=ISOLATION,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    @Service.task  # type: ignore[untyped-decorator]
    async def _watch_group(self) -> None:
        """Crash on group errors that aiokafka raises only in a fetch: not authorised, bad session timeout.

        Also look for topics that are missing: one that was just created, or that is made again. When it is
        there, the group rebalances. (aiokafka would look for it every five minutes.)
        """
        while not self.should_stop:
            await self.sleep(1.0)
            if self._consumer is not None:
                self._consumer._coordinator.check_errors()
                client = self._consumer._client
                if not all(map(client.cluster.partitions_for_topic, client._topics)):
                    client.force_metadata_update()

    def set_shutdown(self) -> None:
        """Signal the end of this thread to the main loop, if that still runs."""
        with contextlib.suppress(RuntimeError):
            super().set_shutdown()

    def _stopped_set(self) -> None:
        try:
            super()._stopped_set()
        except RuntimeError:  # the thread crashed and closed its loop
            self._stopped.set()

    async def on_start(self) -> None:
        """Connect."""
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))
        gather_from_now_on()
        await super().on_start()
        self.adopt(self._ensure_consumer())

    def adopt(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        """Read with a consumer that was started; nothing of the one before is valid any more."""
        be_patient(consumer)
        if consumer._coordinator is not None and consumer._group_id is not None:
            self.lease.watch(consumer._coordinator)
            plan_fetches(consumer, lambda: self.consumer._active_partitions)
        self._consumer = consumer

    def close(self) -> None:
        """Do nothing: stopping the app closes the connections.

        Faust calls this from the main thread when a rebalance happens while the app stops. Its own version
        closes the connections of this thread from there, which can crash the process.
        """

    def _soon(self, call: Any, *args: Any) -> None:
        """Call a function in the consumer's thread."""
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self.thread_loop.call_soon_threadsafe(call, *args)

    def _assignment(self) -> Any:
        consumer = self._consumer
        subscription = consumer._subscription.subscription if consumer is not None else None
        return subscription.assignment if subscription is not None else None

    # -- pausing

    def pause(self, tps: Iterable[TP]) -> None:
        """Stop fetching from partitions, and drop the records held of them."""
        self._soon(self.pause_now, list(tps))

    def resume(self, tps: Iterable[TP]) -> None:
        """Fetch from partitions again."""
        self._soon(self._resume_now, list(tps))

    def wake(self) -> None:
        """Plan the next fetch and delivery again: an agent has caught up, or fallen behind."""
        if self._consumer is not None:
            self._soon(poke, self._consumer._fetcher)

    def pause_now(self, tps: Iterable[Any]) -> None:
        """Do the same as ``pause``; call it in the consumer's thread."""
        if (assignment := self._assignment()) is None:
            return
        for tp in tps:
            if (state := assignment.state_value(tp)) is not None:
                state.pause()
        poke(self._ensure_consumer()._fetcher)

    def _resume_now(self, tps: Iterable[TP]) -> None:
        if (assignment := self._assignment()) is None:
            return
        for tp in tps:
            if (state := assignment.state_value(tp)) is not None:
                state.resume()
        poke(self._ensure_consumer()._fetcher)

    # -- fetching

    def read_position(self, tp: TP) -> int | None:
        """Return the next offset to be fetched; None while the broker has more, or when it is not known.

        It is not known after a seek, until the broker has answered a fetch from there.
        """
        assignment = self._assignment()
        state = assignment.state_value(tp) if assignment is not None and tp in assignment.tps else None
        if state is None or not state.has_valid_position or state.highwater is None:
            return None
        return int(state.position) if state.position >= state.highwater else None

    async def fetch(self, timeout: float, delay_s: float = 0.0) -> list[Taken]:
        """Return records of the active partitions; wait at most ``timeout`` seconds for some.

        The next request to a broker waits for ``delay_s`` seconds.
        """
        # Not through the method queue of the thread: its two workers stay free for commits and seeks.
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._fetch(timeout, delay_s), self.thread_loop)
        )

    async def _fetch(self, timeout: float, delay_s: float) -> list[Taken]:
        # As aiokafka's Fetcher.fetched_records, with two differences: it returns the C records, and it does
        # not wait for the end of a rebalance, because records after that belong to another assignment.
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        fetcher._client.delay_s = delay_s
        subscriptions = fetcher._subscriptions
        deadline = time.monotonic() + timeout
        with subscriptions.fetch_context():
            while True:
                if consumer is not self._consumer:
                    return []  # another one has taken its place
                if consumer._closed or fetcher._closed:
                    raise ConsumerStoppedError
                if subscriptions.reassignment_in_progress or not self.consumer.flow_active:
                    await asyncio.sleep(0.01)
                    return []
                if doubtful := self.positions.doubtful():
                    await self.positions.settle()
                    doubtful = self.positions.doubtful()
                taken = self._take(fetcher, doubtful)
                remaining = deadline - time.monotonic()
                if taken or remaining <= 0:
                    return taken
                if doubtful:
                    remaining = min(remaining, RETRY_S)
                waiter = fetcher._create_fetch_waiter()
                done, _ = await asyncio.wait([waiter], timeout=remaining)
                if not done:
                    waiter.cancel()
                    return []
                waiter.result()  # raises errors of the group

    def _take(self, fetcher: Any, doubtful: set[TP]) -> list[Taken]:
        most = option(self.app, "batch_max_records")
        active, in_bulk = self.consumer._active_partitions, self.consumer.batch_topics
        if doubtful:
            active = active - doubtful
        # Faust's queue pauses partitions when four fifths are full, and a put into a full one blocks all
        # topics: so one fetch takes at most the last fifth.
        room = self.app.conf.stream_buffer_maxsize // 5
        single = max(1, min(MAX_SINGLE, room // max(1, len(active))))
        taken = []
        for part in drain(
            fetcher, active, partial(most_records, self.app), lambda topic: topic not in in_bulk,
            max_single=single, budget=4 * most,
        ):  # fmt: skip
            tp = ensure_TP(part.tp)
            if part.records or self.taken.get(tp, -1) != part.position:
                self.taken[tp] = part.position
                taken += self.positions.take(
                    part._replace(tp=tp), self._seeks[tp], fetcher._client.epoch(*tp)
                )
        return taken

    # -- positions

    async def seek_here(self, tp: TP, offset: int) -> None:
        """Read ``tp`` from ``offset`` on; ``Taken.seeks`` of later fetches is one more."""
        await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._seek_here(tp, offset), self.thread_loop)
        )

    async def _seek_here(self, tp: TP, offset: int) -> None:
        self._seeks[tp] += 1
        self._seek_now(tp, offset)
        self.positions.moved(tp, offset)

    def _seek_now(self, tp: TP, offset: int) -> None:
        self._ensure_consumer().seek(tp, offset)
        self._left(tp, offset)

    def _left(self, tp: TP, offset: int | None) -> None:
        """Forget where a partition ends: it is read from elsewhere, and the next answer says it."""
        assignment = self._assignment()
        if assignment is not None and (state := assignment.state_value(tp)) is not None:
            state.highwater = None
        self.taken.pop(ensure_TP(tp), None)
        if offset is not None:
            self.sought[ensure_TP(tp)] = offset

    def give_back(self, taken: Taken) -> None:
        """Give back records that could not be delivered: they are fetched again after ``resume``."""
        self._soon(self._give_back, taken)

    def _give_back(self, taken: Taken) -> None:
        tp = taken.tp
        if taken.records and self._seeks[tp] == taken.seeks and self.taken.get(tp) == taken.position:
            with contextlib.suppress(IllegalStateError):  # the partition was revoked meanwhile
                self._seek_now(tp, taken.records[0].offset)
                self.positions.moved(tp, taken.records[0].offset)

    async def seek_to_committed(self) -> Mapping[TP, int | None]:
        """Seek every partition to its committed offset; those without one to where a new group starts.

        A partition that is read as batches is compared with its log first, and with the states of agents;
        then it may start elsewhere.

        Returns
        -------
        Offset at which every assigned partition starts, None where a new group starts.
        """
        offsets: Mapping[TP, int | None] = await self.call_thread(self._seek_to_committed)
        return offsets

    async def _seek_to_committed(self) -> Mapping[TP, int | None]:
        consumer = self._ensure_consumer()
        assignment = self._assignment()
        if assignment is None or not assignment.tps:
            return {}
        # One request; aiokafka's own seek_to_committed sends one per partition.
        found = await consumer._coordinator.fetch_committed_offsets(list(assignment.tps))
        committed = {ensure_TP(tp): (at.offset, at.metadata) for tp, at in found.items() if at.offset >= 0}
        in_bulk = [ensure_TP(tp) for tp in assignment.tps if tp.topic in self.consumer.batch_topics]
        starts = await persist(
            lambda: self.positions.starts(in_bulk, committed, self.states), lambda: assignment.active
        )
        offsets: dict[TP, int | None] = {}
        moved = []
        changelogs = self.app.tables.changelog_topics
        for tp in assignment.tps:
            offset = starts.get(tp, committed[tp][0] if tp in committed else None)
            offsets[ensure_TP(tp)] = offset
            if not assignment.active:
                raise IllegalStateError("The partitions were revoked meanwhile")
            sought = None
            if offset or tp in starts:
                consumer.seek(tp, offset)
                sought = offset
            elif tp.topic not in changelogs and assignment.state_value(tp).has_valid_position:
                # aiokafka does not move these partitions: records that were fetched and dropped would be
                # lost.
                moved.append(tp)
            self._left(tp, sought)
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
            consumer = self._ensure_consumer()
            mine = consumer.assignment()
            places = self.committing
            done = await commit_offsets(
                consumer._coordinator,
                {tp: (offset, places.get(tp, "")) for tp, offset in offsets.items() if tp in mine},
            )
        except Exception as exc:
            log.exception("Commit failed")
            await self.crash(exc)
            return False
        if done:
            self.tp_last_committed_at.update(dict.fromkeys(offsets, time.monotonic()))
        return done

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Check for stalled partitions, as Faust does; ignore errors on state that a rebalance removed."""
        if tp in self.consumer._paused_partitions:
            return  # it is paused, so it makes no progress
        with contextlib.suppress(AttributeError, AssertionError):
            super().verify_event_path(now, tp)
