"""The Faust consumer that delivers record batches: one message per list of records fetched from a partition.

Faust's groups, rebalances, conductor, channels and agents stay in use. Three things are replaced: how records
are taken from the fetcher (`consumer_thread`, `fetching`), how they are delivered
(`BatchConsumer._drain_messages`), and which offsets are committed (`OffsetLedger` in place of Faust's gaps
per offset). Topics not read through ``batch_topic`` work as in Faust. docs/transport.md shows how to use this
in any Faust project.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka.errors import ConsumerStoppedError, IllegalStateError
from faust.exceptions import ImproperlyConfigured
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.enums import ProcessingGuarantee

from . import bodies
from .batches import BatchMessage, RecordBatch, batch_topics, most_records
from .consumer_thread import BatchConsumerThread, RebalanceListener
from .fetch_delay import fetch_delay_s
from .ledger import OffsetLedger
from .places import Place, Source, known_places, place_after
from .positions import Taken
from .warm import get_warm
from .watcher import watcher_of

log = logging.getLogger(__name__)

#: Longest wait of one fetch. New records end it early.
FETCH_TIMEOUT_S = 1.0


class BatchConsumer(driver.Consumer):
    """The part of the consumer that runs in the main loop: delivery and offsets.

    Raises
    ------
    ImproperlyConfigured
        When the app has ``processing_guarantee="exactly_once"``.
    """

    mundane_level = "debug"
    RebalanceListener = RebalanceListener

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.ledger = OffsetLedger()
        self._assignment_epoch = 0
        self._bodies = bodies.LoopBodies()
        #: Number of seeks, and position after the records delivered last, per partition.
        self._seeks: Counter[TP] = Counter()
        self._delivered: dict[TP, int] = {}
        super().__init__(*args, **kwargs)
        if self.app.conf.processing_guarantee == ProcessingGuarantee.EXACTLY_ONCE:
            raise ImproperlyConfigured("the batch transport offers no processing_guarantee='exactly_once'")
        #: Topics delivered as batches.
        self.batch_topics = batch_topics(self.app)

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    _n_acked: int

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group when this worker is warm; see ``warm_up``."""
        await get_warm(self.app)
        await super().subscribe(topics)

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
        """Fetch once and deliver the records."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
            return
        epoch = self._assignment_epoch
        fetched = await self._thread.fetch(FETCH_TIMEOUT_S, fetch_delay_s(self.app))
        if not fetched:
            return
        if epoch != self._assignment_epoch or not self.flow_active:
            # The records belong to an earlier assignment. Only this task delivers, so nothing of the new
            # assignment was delivered yet: starting at its committed offsets loses nothing.
            if self.flow_active:
                await self._rewind()
            return
        per_record = {}
        for taken in fetched:
            self.app.monitor.track_tp_end_offset(taken.tp, taken.highwater)
            if taken.tp.topic in self.batch_topics:
                if not await self._deliver_list(taken, epoch):
                    return
            elif taken.seeks == self._seeks[taken.tp]:
                per_record[taken.tp] = taken.records
        if per_record:
            await self._deliver_records(per_record, epoch)

    async def _rewind(self) -> None:
        try:
            await self.perform_seek()
        except Exception as exc:  # noqa: BLE001 - any error: another rebalance has begun, which seeks again
            log.info("Could not seek to the committed offsets (%r); the next rebalance does it", exc)

    async def perform_seek(self) -> None:
        """Seek every partition to its committed offset; batches delivered before are forgotten.

        Delivery stops meanwhile, because Faust resumes partitions before it seeks at the end of a recovery.
        A partition starts elsewhere when its log is not the one that was read, or when the state of an agent
        has less than the commit says.
        """
        was_active = self.flow_active
        self.stop_flow()
        self._thread.states = self._known()
        try:
            await super().perform_seek()
        finally:
            self._assignment_epoch += 1
            self.ledger.forget(self.ledger.partitions())
            if was_active:
                self.resume_flow()
        uncommitted = self._thread.positions.uncommitted
        self.ledger.begin(uncommitted)
        self._committed_offset.update(dict.fromkeys(uncommitted))

    def _known(self) -> dict[TP, Place]:
        """Return the places of the states of agents."""
        known = known_places(self.app)
        found = ((tp, known[tp.topic](tp.partition)) for tp in self.assignment() if tp.topic in known)
        return {ensure_TP(tp): place for tp, place in found if place is not None}

    @property
    def unread(self) -> Mapping[TP, int]:
        """Number of records that were deleted before they were read, by partition."""
        unread: Mapping[TP, int] = self._thread.positions.unread
        return unread

    def _interrupted(self, epoch: int) -> bool:
        # True when a rebalance or a shutdown has begun: records that were not delivered are read again from
        # the committed offsets.
        return not self.flow_active or epoch != self._assignment_epoch

    async def _deliver_list(self, taken: Taken, epoch: int) -> bool:
        """Deliver in batches of ``most_records``; return False when a rebalance has begun."""
        tp, records, size = taken.tp, taken.records, most_records(self.app, taken.tp.topic)
        if taken.turn is not None and taken.seeks == self._seeks[tp] and not self._interrupted(epoch):
            self._turn(tp, taken.turn, taken.source)
        for start in range(0, len(records), size):
            if self._interrupted(epoch):
                return False
            chunk = records[start : start + size] if len(records) > size else records
            if taken.seeks != self._seeks[tp]:
                return True  # the records are from before a seek
            if tp not in self._active_partitions and tp not in self._buffered_partitions:
                self._thread.give_back(taken._replace(records=records[start:]))
                return True
            await self._hand_over(self._batch_message(tp, chunk, taken.source))
        if taken.seeks == self._seeks[tp]:
            self.ledger.skip(tp, taken.position)
            self._delivered[tp] = taken.position
        return True

    async def _hand_over(self, message: BatchMessage) -> None:
        """Put a batch into the queues of its agents; a ``BatchQueue`` takes any number of batches."""
        buffer, topics = self.app.producer.buffer, self.app.topics
        waits = buffer.size > buffer.max_messages or topics._tp_to_callback_lock.locked()
        if waits or not self.app.flow_control.is_active():
            await self.wait_first(self.callback(message), self.suspend_flow.wait())
        else:  # without waiting: this saves four tasks per batch and their turns of the event loop
            await self.callback(message)

    def _turn(self, tp: TP, offset: int, source: Source) -> None:
        """Go on in another log, or after the records that a log has lost."""
        self.ledger.turn(tp, Place(offset, source.base, topic_id=source.topic_id))
        self._committed_offset[tp] = self._read_offset[tp] = None

    def _batch_message(self, tp: TP, records: Sequence[Any], source: Source) -> BatchMessage:
        first, last = records[0].offset, records[-1].offset
        read = self._read_offset[tp]
        if read is not None and first < read:
            log.warning("%s-%d went back from offset %d to %d", tp.topic, tp.partition, read, first)
            self.ledger.forget([tp])
            self._committed_offset[tp] = None
        self._read_offset[tp] = last + 1
        place = place_after(records[-1], source)
        batch = RecordBatch(tp.topic, tp.partition, records, source.base, place)
        message = BatchMessage.around(batch, tp, self.app.consumer_generation_id)
        message.consumer = self
        message.ticket = self.ledger.open(tp, last, place)
        message.on_acked = self._on_batch_acked
        return message

    async def _deliver_records(self, fetched: Mapping[TP, list[Any]], epoch: int) -> None:
        """Deliver records one by one, as Faust does, with its read offsets and gaps."""
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

    def at_end(self, tp: TP, processed: int | None) -> bool:
        """Return whether an agent has processed all records of a partition that the broker has reported.

        Parameters
        ----------
        tp
            Partition of a topic that is delivered as batches.
        processed
            Offset after the last record that the agent has processed, None without any.
        """
        position = self._thread.read_position(tp)
        taken = self._thread.taken.get(tp)
        if position is None or taken not in (None, self._delivered.get(tp)):
            return False
        if taken is None and self._thread.sought.get(tp, position) != position:
            return False  # records are just being taken
        delivered = self._read_offset[tp]
        if processed is None or delivered is None:
            return not self.ledger.in_flight(tp)
        return bool(processed >= delivered)

    # -- pausing and seeking

    def on_buffer_full(self, tp: TP) -> None:
        """Stop delivering a partition: its agent is slow. Records already fetched stay in the fetcher."""
        super().on_buffer_full(tp)
        self._thread.wake()

    def on_buffer_drop(self, tp: TP) -> None:
        """Deliver a partition again: its agent has caught up."""
        super().on_buffer_drop(tp)
        self._thread.wake()

    def pause_partitions(self, tps: Iterable[TP]) -> None:
        """Stop fetching from partitions; records not delivered yet are dropped and fetched again later."""
        paused = list(tps)
        super().pause_partitions(paused)
        self._thread.pause(paused)

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Fetch from partitions again."""
        resumed = list(tps)
        super().resume_partitions(resumed)
        self._thread.resume(resumed)

    async def seek(self, partition: TP, offset: int) -> None:
        """Read a partition from ``offset`` on, and commit that offset.

        Batches fetched before are not delivered any more. A loop body that works on one finishes; its ack
        does nothing.

        Raises
        ------
        IllegalStateError
            When the partition is not assigned to this worker.
        """
        tp = ensure_TP(partition)
        if tp not in self.assignment():
            raise IllegalStateError(f"Partition {tp} is not assigned to this worker")
        if tp.topic in self.batch_topics:
            self.ledger.restart(tp, offset)
            self._committed_offset[tp] = None
        self._seeks[tp] += 1
        self._read_offset[tp] = offset or None
        await self._thread.seek_here(tp, offset)

    # -- the lease

    def lease_age(self) -> float:
        """Return the seconds since the group last confirmed this worker as a member; inf when it is not one.

        They count from the moment the worker sent the request (a heartbeat, or the last one of a join), on a
        clock that runs while the process is stopped.
        """
        return float(self._thread.lease.age())

    def lease_valid(self) -> bool:
        """Return whether it is certain that no other worker has this worker's partitions."""
        conf = self.app.conf
        return self.lease_age() < float(min(conf.broker_session_timeout, conf.broker_rebalance_timeout))

    # -- loop bodies

    def body_started(self) -> object:
        """Note that a loop body of an agent has begun; pass the result to ``body_ended``."""
        return self._bodies.started()

    def body_ended(self, body: object) -> None:
        """Note that a loop body has ended, with or without an error."""
        self._bodies.ended(body)

    def longest_body_s(self) -> float:
        """Return for how long the oldest running loop body works on its batch, s; 0 without one."""
        return self._bodies.longest_s()

    async def wait_for_bodies(self, timeout: float | None = None) -> bool:
        """Wait until no loop body runs; return False when some still run after ``timeout`` seconds.

        The default is ``BODY_TIMEOUT_S``, at most half a session.
        """
        if timeout is None:
            timeout = min(bodies.BODY_TIMEOUT_S, self.app.conf.broker_session_timeout / 2)
        return await self._bodies.wait(timeout)

    async def settle(self, last_writes: Iterable[Callable[[], Awaitable[None]]] = ()) -> None:
        """Stop delivery, wait for running loop bodies and ``last_writes``, then commit what was acked."""
        self.stop_flow()
        self.app.flow_control.suspend()
        self.app.flow_control.clear()
        if not self.app.crashed:
            await self.wait_for_bodies()
            await bodies.finish(last_writes)
        if not await self.commit():
            await self.commit()  # the first call may only have waited for a commit that had begun before

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Wait for running loop bodies, commit, forget all batches: the next owner starts at the commit."""
        self._assignment_epoch += 1
        if revoked and not self.app.should_stop:
            await self.settle()
        self.ledger.forget(self.ledger.partitions())
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start with an empty ledger."""
        self._assignment_epoch += 1
        self.ledger.forget(self.ledger.partitions())
        self._delivered.clear()
        self._buffered_partitions.clear()
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
        if tp.topic in self.batch_topics:
            return self.ledger.committable(tp)
        offset: int | None = super()._new_offset(tp)
        return offset

    async def _commit_offsets(self, offsets: dict[TP, int], start_new_transaction: bool = True) -> bool:
        before = {tp: (self._committed_offset[tp], self._seeks[tp]) for tp in offsets}
        places = {tp: self.ledger.place(tp, offset) for tp, offset in offsets.items()}
        self._thread.committing = {tp: place.text() for tp, place in places.items() if place is not None}
        began = time.perf_counter()
        done = bool(await super()._commit_offsets(offsets, start_new_transaction))
        watcher_of(self.app).committed(time.perf_counter() - began, done=done)
        for tp, (committed, seeks) in before.items():
            # Faust notes an offset as committed even when the commit failed, or when there was a seek
            # meanwhile.
            if seeks != self._seeks[tp]:
                self._committed_offset[tp] = None
            elif not done and self._committed_offset[tp] == offsets[tp]:
                self._committed_offset[tp] = committed
        return done
