"""What is done to an installation while no worker runs: looks at its groups, moves them, reads changelogs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupIdNotFound, NoError, for_code
from aiokafka.structs import OffsetAndMetadata

from headrace.streams.errors import HeadraceError
from headrace.streams.settings import Settings
from headrace.streams.tables.row_records import row_records
from headrace.streams.topics.connection import connection
from headrace.streams.topics.reader import read_partition
from headrace.streams.transport.batches import RecordBatch
from headrace.streams.transport.fetching import ISOLATION

#: States of a group without members.
_EMPTY = ("Empty", "Dead")


class StillRunningError(HeadraceError):
    """Workers run that must be stopped first."""


def group_of(settings: Settings, role: str) -> str:
    """Return the consumer group of a role."""
    return settings.name(f"headrace-{role}")


@asynccontextmanager
async def admin_of(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open an admin client."""
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def check_stopped(settings: Settings, roles: Collection[str]) -> None:
    """Raise ``StillRunningError`` when a group of one of the roles has members."""
    running = []
    async with admin_of(settings) as admin:
        for role in roles:
            (answer,) = await admin.describe_consumer_groups([group_of(settings, role)])
            error, _, state, *_ = answer.groups[0]
            if for_code(error) not in (NoError, GroupIdNotFound):
                raise for_code(error)(f"group {group_of(settings, role)}")
            if state not in _EMPTY and not error:
                running.append(role)
    if running:
        raise StillRunningError(
            f"workers of {', '.join(running)} still run, or were killed a moment ago: stop them, and try "
            f"again after HEADRACE_SESSION_TIMEOUT_S"
        )


async def committed(settings: Settings, role: str) -> dict[TopicPartition, int]:
    """Return the committed offsets of a role's group; partitions without one are not in it."""
    async with admin_of(settings) as admin:
        told = await admin.list_consumer_group_offsets(group_of(settings, role))
    return {TopicPartition(*tp): int(at.offset) for tp, at in told.items() if at.offset >= 0}


async def commit(settings: Settings, role: str, offsets: Mapping[TopicPartition, int]) -> None:
    """Move a role's group, which must have no members."""
    if not offsets:
        return
    consumer = AIOKafkaConsumer(
        **connection(settings),
        group_id=group_of(settings, role),
        enable_auto_commit=False,
        isolation_level=ISOLATION,
    )
    await consumer.start()
    try:
        consumer.assign(list(offsets))
        await consumer.commit({tp: OffsetAndMetadata(at, "") for tp, at in offsets.items()})
    finally:
        await consumer.stop()


async def kept(settings: Settings, topic: str, partition: int) -> tuple[dict[int, bytes], dict[bytes, bytes]]:
    """Return what a changelog partition has now: packed rows by key, and meta records."""
    rows: dict[int, bytes] = {}
    meta: dict[bytes, bytes] = {}

    def apply(batch: RecordBatch) -> None:
        split = row_records(batch.records)
        for key, value in split.meta:
            if value is None:
                meta.pop(key, None)
            else:
                meta[key] = value
        for number, row in split.latest().items():
            if row is None:
                rows.pop(number, None)
            else:
                rows[number] = row

    await read_partition(settings, topic, partition, apply)
    return rows, meta
