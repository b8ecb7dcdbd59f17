"""Writes records to Kafka in bulk: record batches, encoded by a compiled loop or by aiokafka's builder."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import murmur2
from mode import Service

from headrace.streams.clock import now_ms
from headrace.streams.errors import ConfigError
from headrace.streams.settings import Settings
from headrace.streams.tables.rows import PackedRows
from headrace.streams.topics.connection import connection
from headrace.streams.topics.framing import frame_records
from headrace.streams.topics.lost_ends import LOST_END, say_again
from headrace.streams.topics.names import LETTER_ROOM, OWN_BYTES
from headrace.streams.topics.record_batch import FramedBatch
from headrace.streams.topics.sent_on import SentOn
from headrace.streams.transport.patience import calm

log = logging.getLogger(__name__)

Headers: TypeAlias = Sequence[tuple[str, bytes]]
_NO_HEADERS: list[tuple[str, bytes]] = []
#: key, value, timestamp (ms since epoch, None = now), headers.
OutRecord: TypeAlias = tuple[bytes | None, bytes | None, int | None, Headers]
U8: TypeAlias = npt.NDArray[np.uint8]
I64: TypeAlias = npt.NDArray[np.int64]

_Batches: TypeAlias = Iterable[FramedBatch]
#: Every batch of a call and its number of records.
_Sent: TypeAlias = list[tuple[asyncio.Future[Any], int]]

#: Largest record batch, in bytes. Larger ones save little, and readers always get whole batches.
BATCH_BYTES = 512 * 1024
#: Batches of one call in flight at once: enough to keep the connection busy, with bounded memory.
IN_FLIGHT = 4
#: Number of keys whose partition is cached.
CACHED_KEYS = 200_000


class Written(NamedTuple):
    """Offsets of written records: that of the first, and the one after the last; -1 when not known.

    When ``end - first`` is the number of records, no other producer wrote in between.
    """

    first: int
    end: int


_NOWHERE = Written(-1, -1)


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of ``key``, computed as by Kafka's default partitioner (murmur2)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


class BatchSender(Service):
    """One idempotent producer (acks=all) for all writes of a process.

    Methods raise aiokafka's ``KafkaError`` when the broker refuses a write, or cannot be reached for longer
    than the request timeout. A refused write leaves a gap in the sequence numbers of an idempotent producer,
    and the broker refuses every later write of it: so the next call uses a new producer.

    Parameters
    ----------
    settings
        The broker, the compression, and the largest record.
    again
        Topics of which batches that are refused because the broker has lost the end of a log are written
        again (``lost_ends``), but for those of ``send_batches`` and ``send_one``.
    """

    mundane_level = "debug"

    def __init__(self, settings: Settings, again: Collection[str] = (), **kwargs: Any) -> None:
        self._settings, self._again = settings, again
        self._letter_bytes = settings.max_message_bytes + LETTER_ROOM
        self._max_bytes = max(settings.max_message_bytes, OWN_BYTES) + LETTER_ROOM
        # For the broker a batch is one message: the limit for the largest record is also that for a batch.
        self._batch_bytes = min(BATCH_BYTES, settings.max_message_bytes)
        self._producer: AIOKafkaProducer | None = None
        self._refused = False
        self._renewing = asyncio.Lock()
        self._partition_cache: dict[tuple[int, bytes], int] = {}
        self._keyless = 0
        super().__init__(**kwargs)

    async def on_start(self) -> None:
        """Connect to the broker."""
        self._producer = await self._connect()

    async def _connect(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **connection(self._settings),
            client_id="headrace",
            acks="all",
            enable_idempotence=True,
            compression_type=None if self._settings.compression == "none" else self._settings.compression,
            max_batch_size=self._batch_bytes,
            max_request_size=self._max_bytes,
        )
        try:
            await producer.start()
            calm(producer.client)
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def on_stop(self) -> None:
        """Send what is buffered, then disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    @property
    def producer(self) -> AIOKafkaProducer:
        """aiokafka's producer; exists only between start and stop."""
        if self._producer is None:
            raise RuntimeError("the sender is not running")
        return self._producer

    async def _usable(self) -> AIOKafkaProducer:
        """Return the producer; make a new one after a refused write."""
        if self._refused:
            async with self._renewing:
                if self._refused:
                    try:
                        fresh = await self._connect()
                    except ConfigError as exc:  # it was right at the start: a file is being written anew
                        raise KafkaConnectionError(str(exc)) from exc
                    old, self._producer, self._refused = self.producer, fresh, False
                    log.warning("The broker refused a write; a new producer is used from now on")
                    self.add_future(old.stop())
        return self.producer

    def _note(self, producer: AIOKafkaProducer, sent: asyncio.Future[Any]) -> None:
        error = None if sent.cancelled() else sent.exception()
        if isinstance(error, KafkaError) and producer is self._producer:  # a former one has ended anyway
            self._refused = True

    @property
    def max_bytes(self) -> int:
        """Largest record of `dead-letters`, in bytes."""
        return self._letter_bytes

    def known_partitions(self, topic: str) -> int:
        """Return the number of partitions of ``topic`` without a request; 0 when it is not known."""
        return len(self.producer.client.cluster.partitions_for_topic(topic) or ())

    @property
    def queued(self) -> bool:
        """Whether there are records that were not given to a connection yet."""
        return self._producer is not None and any(self._producer._message_accumulator._batches.values())

    async def list_topics(self) -> dict[str, int]:
        """Request all topics of the cluster and their numbers of partitions.

        A request for one topic would create it on a broker that creates topics on demand; this one does not.
        """
        cluster = await self.producer.client.fetch_all_metadata()
        names = cluster.topics(exclude_internal_topics=False)
        return {name: len(cluster.partitions_for_topic(name) or ()) for name in names}

    async def get_to_know(self, topic: str) -> None:
        """Add an existing topic to the metadata that the producer keeps up to date."""
        client = self.producer.client
        client.add_topic(topic)
        await client.force_metadata_update()

    async def partitions_of(self, topic: str) -> int:
        """Return the number of partitions of ``topic``, from metadata that the producer keeps up to date."""
        return len(await self.producer.partitions_for(topic))

    async def send_many(self, topic: str, records: Iterable[OutRecord], *, partition: int) -> Written:
        """Write ``records`` to one partition, in order; return their offsets when all are acknowledged.

        When the call fails, the records written are a prefix of ``records``: the broker takes the batches of
        an idempotent producer in order or not at all.

        Raises
        ------
        MessageSizeTooLargeError
            When a record is larger than any topic takes; those before it may have been written.
        KafkaError
            When the broker refuses the write or cannot be reached.
        """
        return await self._send(topic, tuple, records, partition)

    async def send_rows(
        self, topic: str, rows: PackedRows, records: Iterable[OutRecord] = (), *, partition: int
    ) -> Written:
        """Write packed rows with their keys (8 bytes, little-endian), then ``records``.

        Returns and raises as ``send_many``.
        """
        frames = frame_records(rows.keys, rows.blob, rows.bounds, self._batch_bytes)
        batches = partial(_dated_now, frames, self._settings.bulk_compression)
        return await self._send(topic, batches, records, partition)

    def pieces_in_batch(self, most_bytes: int, per_record: int) -> int:
        """Return how many pieces of at most ``most_bytes`` ``send_values`` surely writes as one record batch.

        At most ``per_record`` of them are one record, with at most 16 bytes of its own.
        """
        overhead = 64 + -(-self._batch_bytes // (most_bytes * per_record)) * 48
        return max(1, (self._batch_bytes - overhead) // most_bytes)

    async def send_values(self, topic: str, blob: U8, bounds: I64, *, partition: int) -> Written:
        """Write records without keys and without compression: their values are packed as far as it pays.

        Parameters
        ----------
        blob, bounds
            The values, one after the other, uint8, and where they begin and end, int64 ``(records + 1,)``.

        Returns and raises as ``send_many``.
        """
        frames = frame_records(None, blob, bounds, self._batch_bytes)
        return await self._send(topic, partial(_dated_now, frames, "none"), (), partition)

    def sent_on(self) -> SentOn:
        """Return where records to be sent on are encoded, in batches as large as this sender writes."""
        return SentOn(self._batch_bytes)

    async def send_on(self, topic: str, records: SentOn, *, partition: int) -> Written:
        """Write the records encoded there, with their own timestamps; return and raise as ``send_many``."""
        taken, compression = records.take(), self._settings.compression

        def batches() -> list[FramedBatch]:
            return [FramedBatch(body, n, first, compression, newest) for body, n, first, newest in taken]

        return await self._send(topic, batches, (), partition)

    async def send_batches(self, topic: str, batches: Iterable[FramedBatch], *, partition: int) -> Written:
        """Write record batches that are made already; return and raise as ``send_many``."""
        return await self._send_once(topic, batches, (), partition, _Sent())

    async def _send(
        self, topic: str, batches: Callable[[], _Batches], records: Iterable[OutRecord], partition: int
    ) -> Written:
        """Write it; what the broker refuses because it has lost the end of the log, once more."""
        sent = _Sent()
        if topic not in self._again:
            return await self._send_once(topic, batches(), records, partition, sent)
        held = list(records)
        try:
            return await self._send_once(topic, batches(), held, partition, sent)
        except LOST_END as exc:
            say_again(topic, partition, exc)
        made = list(batches())  # a batch belongs to the producer that it was sent with
        taken = [count for _, count in takewhile(_is_taken, sent)]
        rest, held = made[len(taken) :], held[sum(taken[len(made) :]) :]
        written = await self._send_once(topic, rest, held, partition, _Sent())
        return _NOWHERE if taken else written

    async def _send_once(
        self,
        topic: str,
        batches: _Batches,
        records: Iterable[OutRecord],
        partition: int,
        sent: _Sent,
    ) -> Written:
        pending: list[asyncio.Future[Any]] = []
        producer = await self._usable()
        try:
            for batch in batches:
                count = batch.record_count()
                if count == 1 and batch.size() > self._max_bytes:
                    raise MessageSizeTooLargeError(f"a record of {batch.size()} bytes for topic {topic}")
                sent.append((await self._queue(producer, batch, topic, partition, pending), count))
            builder, count = producer.create_batch(), 0
            for key, value, timestamp, given in records:
                headers = list(given) if given else _NO_HEADERS  # the builder takes lists only
                while builder.append(key=key, value=value, timestamp=timestamp, headers=headers) is None:
                    sent.append((await self._queue(producer, builder, topic, partition, pending), count))
                    builder, count = producer.create_batch(), 0  # an empty batch takes a record of any size
                count += 1
                if count == 1 and builder.size() > self._max_bytes:  # others are bounded by the batch size
                    raise MessageSizeTooLargeError(f"a record of {builder.size()} bytes for topic {topic}")
            if count:
                sent.append((await self._queue(producer, builder, topic, partition, pending), count))
            await _all(pending)
        finally:
            for future in pending:  # empty unless a batch failed
                future.cancel()
        return _where(sent)

    async def _queue(
        self,
        producer: AIOKafkaProducer,
        builder: Any,
        topic: str,
        partition: int,
        pending: list[asyncio.Future[Any]],
    ) -> asyncio.Future[Any]:
        builder.close()
        if len(pending) >= IN_FLIGHT:
            await _all(pending)
        future: asyncio.Future[Any] = await producer.send_batch(builder, topic, partition=partition)
        future.add_done_callback(partial(self._note, producer))
        pending.append(future)
        return future

    async def send_keyed(self, topic: str, records: Iterable[OutRecord]) -> None:
        """Write ``records`` to the partitions of their keys; return when all are acknowledged.

        Records of the same key keep their order. Records without a key go to one partition per call. Raises
        as ``send_many``.
        """
        count = await self.partitions_of(topic)
        self._keyless = (self._keyless + 1) % count
        parts: dict[int, list[OutRecord]] = {}
        cache = self._partition_cache
        if len(cache) > CACHED_KEYS:
            cache.clear()
        for record in records:
            key = record[0]
            if key is None:
                partition = self._keyless
            else:
                partition = cache.get((count, key), -1)
                if partition < 0:
                    partition = cache[count, key] = partition_of(key, count)
            parts.setdefault(partition, []).append(record)
        if len(parts) == 1:
            ((partition, only),) = parts.items()
            await self.send_many(topic, only, partition=partition)
        elif parts:
            tasks: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(self.send_many(topic, part, partition=p)) for p, part in parts.items()
            ]
            try:
                await _all(tasks)
            finally:
                for task in tasks:  # empty unless this call was cancelled
                    task.cancel()

    async def send_one(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
    ) -> asyncio.Future[Any]:
        """Queue one record; return a future of its acknowledgement (aiokafka's ``RecordMetadata``).

        Parameters
        ----------
        partition
            Partition; by default that of ``key``.
        timestamp_ms
            Timestamp, ms since the epoch; by default now.
        """
        producer = await self._usable()
        future: asyncio.Future[Any] = await producer.send(
            topic, value, key=key, partition=partition, timestamp_ms=timestamp_ms, headers=list(headers)
        )
        future.add_done_callback(partial(self._note, producer))
        return future


def _dated_now(frames: Iterable[tuple[bytes, int]], compression: str) -> list[FramedBatch]:
    now = now_ms()
    return [FramedBatch(payload, count, now, compression) for payload, count in frames]


def _is_taken(sent: tuple[asyncio.Future[Any], int]) -> bool:
    return sent[0].done() and not sent[0].cancelled() and sent[0].exception() is None


def _where(sent: _Sent) -> Written:
    if not sent:
        return _NOWHERE
    first, base = int(sent[0][0].result().offset), int(sent[-1][0].result().offset)
    if first < 0 or base < 0:  # a retry of a batch that the broker had already: it does not say the offset
        return _NOWHERE
    return Written(first, base + sent[-1][1])


async def _all(futures: list[asyncio.Future[Any]]) -> None:
    """Wait for all, empty the list, then raise the first error."""
    if not futures:
        return
    done, _ = await asyncio.wait(futures)
    futures.clear()
    errors = [error for future in done if (error := future.exception()) is not None]
    if errors:
        raise errors[0]
