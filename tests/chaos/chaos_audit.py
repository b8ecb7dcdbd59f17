"""Reads the topics and the workers' output after a run: records, dead letters, replies, rebalances."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import msgspec
import pyarrow.dataset as ds
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from chaos_found import Found, Origin
from chaos_load import ABORTED, AGAIN, BAD, MARK
from chaos_states import Got, first_places
from chaos_strangers import expected_partition

from headrace.models.learning.log_files import folder_of
from headrace.serving.requests.address import PLAIN_ID
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.connection import connection
from headrace.streams.topics.dead_letters import is_letter, read_dead_letter
from headrace.streams.topics.names import Topics

Offsets = Mapping[TopicPartition, int]

#: Header of a record that was sent on to the partition of its key: where it was first.
SENT_ON = "headrace-from"
#: Ids of events that are sent over HTTP begin so.
HTTP_EVENT = "http-e-"
#: Longest wait for a record while the end offset says that there are more.
PATIENCE_S = 10.0


class _Sample(msgspec.Struct):
    """The candidates of a request that were not shown."""

    item_ids: list[str]


class _EventId(msgspec.Struct):
    event_id: str
    user_id: str


class _Slotted(msgspec.Struct):
    """The fields that an impression and an example have in common, and those that only one of them has."""

    user_id: str
    request_id: str
    ts: int
    item_ids: list[str] = []
    unshown: _Sample | bool | None = None
    position: int = 0
    label: str = ""


async def audit(settings: Settings, since: Offsets | None = None) -> Found:
    """Read the public topics, all of them or from ``since`` on, to their present ends."""
    topics, found = Topics(settings), Found()
    owned = {topics.events, topics.users, topics.items}
    asked = {topics.requests, topics.bulk_requests}
    async for topic, partition, record in every_record(settings, [*owned, *asked], since):
        origin, headers = (topic, partition, record.offset), dict(record.headers)
        mark = headers.get(MARK)
        if topic == topics.events and mark != BAD:
            _note_event(found, origin, record.value)
        if topic in owned and _place(found, origin, record, headers, settings.partitions):
            continue  # the record that was sent on is counted
        if mark == BAD:
            found.bad.add(origin)
        elif mark == ABORTED:
            found.aborted.append(origin)
        if topic == topics.events:
            found.events += 1
            found.again += mark == AGAIN
            _note_http(found, origin, record.value)
        elif topic == topics.users and record.value is None:
            found.forgotten.add(record.key)
        elif topic in asked and PLAIN_ID in headers:
            found.asked[headers[PLAIN_ID]] = record.timestamp
            found.asked_at[headers[PLAIN_ID]] = origin
            if mark != BAD:
                found.demands.ask(headers[PLAIN_ID], record.value)
            if topic == topics.bulk_requests:
                found.in_bulk.add(headers[PLAIN_ID])
    found.rebase()
    await _read_answers(settings, since, found)
    await _read_slots(settings, since, found)
    return found


def _note_event(found: Found, place: Origin, value: bytes | None) -> None:
    """Note where a record of an event is, also one that was sent on."""
    if value is not None:
        event = msgspec.json.decode(value, type=_EventId)
        found.places.setdefault((event.user_id, event.event_id), []).append(place)


def _note_http(found: Found, origin: Origin, value: bytes | None) -> None:
    """Note where an event is that was sent over HTTP."""
    if value is not None and HTTP_EVENT.encode() in value:
        event_id = msgspec.json.decode(value, type=_EventId).event_id
        found.by_http.setdefault(event_id, []).append(origin)


def _place(found: Found, origin: Origin, record: Any, headers: dict[str, bytes], partitions: int) -> bool:
    """Note where a record of ``events``, ``users`` or ``items`` is; return whether it was sent on."""
    right = record.key is not None and expected_partition(record.key, partitions) == origin[1]
    came_from = headers.get(SENT_ON)
    if came_from is None:
        if not right and headers.get(MARK) != BAD:
            found.misplaced.add(origin)
        return False
    topic, partition, offset = came_from.decode().rsplit("/", 2)
    found.copies[origin] = (topic, int(partition), int(offset))
    if not right:
        found.astray.append(origin)
    return True


async def _read_answers(settings: Settings, since: Offsets | None, found: Found) -> None:
    topics = Topics(settings)
    async for _, _, record in every_record(settings, [topics.dead_letters], since):
        if not is_letter(record):
            continue
        letter = read_dead_letter(record)
        found.letters += 1
        about = (letter.topic, letter.partition, letter.offset)
        found.buried[found.copies.get(about, about)] = (
            f"{letter.agent}: {letter.reason} {letter.field} {letter.detail}"
        )
    decode = msgspec.json.Decoder(Got).decode
    firsts = first_places(found.places, found.copies, settings.partitions)
    async for _, _, record in every_record(settings, reply_topics(settings), since):
        found.replies += 1
        name = dict(record.headers).get(PLAIN_ID, b"")
        found.answered.setdefault(name, record.timestamp)
        if name in found.asked_at:
            got = decode(record.value)
            found.verdicts.append((name, found.asked_at[name] in found.bad, got.error))
            found.demands.answer(name, got, settings.partitions, firsts, topics.events)


async def _read_slots(settings: Settings, since: Offsets | None, found: Found) -> None:
    topics, decode = Topics(settings), msgspec.json.Decoder(_Slotted).decode
    async for topic, partition, record in every_record(
        settings, [topics.impressions, topics.examples], since
    ):
        of = decode(record.value)
        if topic == topics.impressions:
            more = of.unshown.item_ids if isinstance(of.unshown, _Sample) else []
            found.shown[of.user_id, of.request_id, of.ts] = len(of.item_ids) + len(more)
        else:
            found.labels[of.label] += 1
            found.slots[of.user_id, of.request_id, of.ts, of.position] += 1
            found.examples.add((partition, record.offset, of.request_id, of.position))
    folder = folder_of(settings)
    if folder.is_dir():
        columns = ds.dataset(folder, format="parquet", exclude_invalid_files=True).to_table(
            columns=["log_partition", "log_offset", "request_id", "position"]
        )
        found.logged.update(zip(*(column.to_pylist() for column in columns.columns), strict=True))


def reply_topics(settings: Settings) -> list[str]:
    """Return the topics that the callers of a run read: their own, and that of the gateway."""
    return [Topics(settings).replies, gateway_replies(settings)]


def gateway_replies(settings: Settings) -> str:
    """Return the topic with the replies to requests over HTTP."""
    return settings.name(f"rec-replies-{settings.gateway_name}")


async def create_topic(settings: Settings, name: str) -> None:
    """Create a topic of callers with one partition."""
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, settings.replication)])
    finally:
        await admin.close()


async def ends_of(settings: Settings, names: Iterable[str]) -> dict[TopicPartition, int]:
    """Return the end offset of every partition of some topics."""
    consumer = AIOKafkaConsumer(
        *names,
        **connection(settings),
        group_id=None,
        isolation_level="read_committed",  # as the workers read
    )
    await consumer.start()
    try:
        return await consumer.end_offsets(consumer.assignment())
    finally:
        await consumer.stop()


async def every_record(
    settings: Settings, names: Iterable[str], since: Offsets | None = None
) -> AsyncIterator[tuple[str, int, Any]]:
    """Yield (topic, partition, record) of everything that is in some topics now, or there from ``since`` on.

    Records of aborted transactions are left out. Uses aiokafka only, none of the code under test.
    """
    consumer = AIOKafkaConsumer(
        *names,
        **connection(settings),
        group_id=None,
        auto_offset_reset="earliest",
        isolation_level="read_committed",  # as the workers read
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        for tp in ends:
            if since and tp in since:
                consumer.seek(tp, since[tp])
        deadline = time.monotonic() + PATIENCE_S
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            fetched = await consumer.getmany(timeout_ms=500, max_records=20_000)
            if fetched:
                deadline = time.monotonic() + PATIENCE_S
            elif time.monotonic() > deadline:
                raise UnavailableError(f"nothing more arrives of {', '.join(names)}")
            for tp, records in fetched.items():
                for record in records:
                    yield tp.topic, tp.partition, record
    finally:
        await consumer.stop()
