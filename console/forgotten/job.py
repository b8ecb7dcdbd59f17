"""Forgets a user: a tombstone on `users`, and the training log without its rows. Looks for what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from headrace.console.verification.foreign_records import ForeignRecords
from headrace.console.verification.live_rows import latest_rows
from headrace.models.learning import log_files, purge
from headrace.models.state import shown as shown_state
from headrace.models.state import users as user_state
from headrace.serving.store.opened import open_store
from headrace.serving.traces import record as trace_record
from headrace.streams.errors import TraceError
from headrace.streams.messages.ids import hash64, use_key
from headrace.streams.settings import Settings
from headrace.streams.topics.dead_letters import is_letter
from headrace.streams.topics.names import CLEARS, Topics, TopicSpec
from headrace.streams.topics.partitioners import right_partition
from headrace.streams.topics.reader import open_reader, read_to
from headrace.streams.topics.refusal import unavailable
from headrace.streams.topics.sender import BatchSender

#: Longest wait for an answer of the online store, s. No request waits for it.
STORE_TIMEOUT_S = 10.0


class _User(msgspec.Struct):
    """Whose an event is."""

    user_id: str


@dataclass
class Left:
    """What is left of a user. The fields are the keys of the JSON.

    Attributes
    ----------
    still_there
        By place, what is there though it must not be: records, rows or keys.
    until
        By topic that cannot lose single records: how many records of the user it has, and when the newest of
        them has gone (ms), by the retention of the topic.
    """

    user_id: str
    still_there: dict[str, int] = field(default_factory=dict)
    until: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def forgotten(self) -> bool:
        """Whether nothing is left that must not be."""
        return not any(self.still_there.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {"forgotten": self.forgotten, **asdict(self)}


async def forget(settings: Settings, user_id: str) -> int:
    """Write the tombstone of a user, and take its rows out of the training log; return how many there were.

    A profile in a wrong partition, such as one from before partitions were made more, is hidden there, too.

    Raises
    ------
    UnavailableError
        No broker answers, or the log is being read.
    """
    sender = BatchSender(settings)
    try:
        await sender.start()
        users, key = Topics(settings).users, user_id.encode()
        await sender.send_keyed(users, [(key, None, None, ())])
        last = await _last_ones(settings, users, key)
        for number in [n for n, record in last.items() if record.value is not None]:
            await sender.send_many(users, [(key, None, None, [(CLEARS, b"1")])], partition=number)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    finally:
        await sender.stop()
    return await asyncio.to_thread(purge.without, log_files.folder_of(settings), user_id)


async def look(settings: Settings, user_id: str) -> Left:
    """Return what is left of a user.

    Raises
    ------
    UnavailableError
        Broker or online store do not answer.
    """
    use_key(settings.id_key)
    left = Left(user_id)
    try:
        await _look_at_rows(settings, left)
        await _look_at_topics(settings, left)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    store = open_store(settings, STORE_TIMEOUT_S, STORE_TIMEOUT_S)
    try:
        for kind in ("u", "s"):
            (row,) = await store.get(kind, [hash64(user_id)])
            left.still_there[f"Redis {kind}:"] = int(row is not None)
    finally:
        await store.close()
    found = await asyncio.to_thread(purge.rows_of, log_files.folder_of(settings), user_id)
    left.still_there["training log"] = sum(found.values())
    return left


async def _look_at_rows(settings: Settings, left: Left) -> None:
    """Look at the newest row in each changelog: that of a forgotten user has no data, only places."""
    topics, key = Topics(settings), hash64(left.user_id)
    number = right_partition(left.user_id.encode(), settings.partitions)
    users = await latest_rows(settings, topics.user_state, number, user_state.ROW, user_state.ORDER)
    shown = await latest_rows(settings, topics.shown_state, number, shown_state.ROW, shown_state.ORDER)
    for name, rows, has_data in (
        ("user-state", users.rows, user_state.known),
        ("shown-state", shown.rows, shown_state.filled),
    ):
        row = rows.get(key)
        left.still_there[name] = int(row is not None and bool(has_data([row])[0]))


async def _look_at_topics(settings: Settings, left: Left) -> None:
    """Count the records of the user in the topics; the last one of each `users` partition must be a null."""
    topics, key = Topics(settings), left.user_id.encode()
    by_key = (topics.impressions, topics.examples, topics.requests, topics.bulk_requests)
    specs = {spec.name: spec for spec in topics.specs(settings)}
    last = await _last_ones(settings, topics.users, key)
    left.still_there["users"] = sum(record.value is not None for record in last.values())
    foreign = ForeignRecords(settings)
    await _count(
        settings, specs[topics.events], left, lambda r: r.key == key or _names(r, left.user_id), foreign
    )
    for name in by_key:
        await _count(settings, specs[name], left, lambda r: r.key == key)
    await _count(settings, specs[topics.traces], left, lambda r: _is_of(r.value, left.user_id))
    written = msgspec.json.encode(left.user_id)
    await _count(
        settings, specs[topics.dead_letters], left,
        lambda r: is_letter(r) and (r.key == key or written in bytes(r.value or b"")),
    )  # fmt: skip


async def _last_ones(settings: Settings, topic: str, key: bytes) -> dict[int, Any]:
    """Return the last record of a key in each partition that has one."""
    out: dict[int, Any] = {}
    async with open_reader(settings, [topic]) as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            out.update((part.tp.partition, record) for record in part.records if record.key == key)
    return out


async def _count(
    settings: Settings,
    spec: TopicSpec,
    left: Left,
    mine: Callable[[Any], bool],
    foreign: ForeignRecords | None = None,
) -> None:
    count = last = 0
    async with open_reader(settings, [spec.name]) as reader:
        begins, ends = await reader.bounds()
        async for part in read_to(reader, begins, ends):
            for record in part.records if foreign is None else await foreign.read(part.records):
                if mine(record):
                    count, last = count + 1, max(last, record.timestamp)
    if count:
        left.until[spec.name] = {"records": count, "gone_ts": last + spec.retention_ms}


def _names(record: Any, user_id: str) -> bool:
    """Return whether an event without a key is of a user. One that nobody can read is nobody's."""
    if record.key or not record.value:
        return False
    try:
        return msgspec.json.decode(record.value, type=_User).user_id == user_id
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False


def _is_of(value: bytes | None, user_id: str) -> bool:
    """Return whether a record is a trace of a user. One that nobody can read is nobody's."""
    try:
        return value is not None and trace_record.decode(bytes(value)).request.user_id == user_id
    except TraceError:
        return False
