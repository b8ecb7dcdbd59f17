"""What is done to an installation while no worker runs: looks at its groups, moves them, reads changelogs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupIdNotFound,
    GroupLoadInProgressError,
    NoError,
    NotCoordinatorForGroupError,
    for_code,
)
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
#: A broker that has just started does not know its groups yet: what it says, how long it is believed, s.
_NOT_YET = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)
PATIENCE_S, LOOK_S = 30.0, 0.2


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
    async with admin_of(settings) as admin:
        states = {role: await _state_of(admin, group_of(settings, role)) for role in roles}
    running = [role for role, state in states.items() if state not in _EMPTY]
    if running:
        raise StillRunningError(
            f"workers of {', '.join(running)} still run, or were killed a moment ago: stop them, and try "
            f"again after HEADRACE_SESSION_TIMEOUT_S"
        )


async def _state_of(admin: AIOKafkaAdminClient, group: str) -> str:
    """Return the state of a group; of one that is not there: ``Dead``."""
    left = round(PATIENCE_S / LOOK_S)
    while True:
        try:
            (answer,) = await admin.describe_consumer_groups([group])
            code, _, state, *_ = answer.groups[0]
            error = for_code(code)
            if error is GroupIdNotFound:
                return "Dead"
            if error is not NoError:
                raise error(f"group {group}")
            return str(state)
        except _NOT_YET:
            if left <= 0:
                raise
            left -= 1
            await asyncio.sleep(LOOK_S)


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
