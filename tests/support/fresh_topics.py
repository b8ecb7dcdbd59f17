"""Topics of one test: created before any client reads them, deleted afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from headrace.streams.settings import Settings
from headrace.streams.topics.admin import create_topics
from headrace.streams.topics.names import Topics, TopicSpec

#: A broker knows a new topic only some time after its answer: a busy broker, after a second or more.
KNOWN_WITHIN_S = 10.0


@asynccontextmanager
async def admin_of(brokers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def make_topics(settings: Settings) -> None:
    """Create all topics and wait until the broker knows them; a group that joins before misses partitions."""
    await create_topics(settings)
    async with admin_of(settings.brokers) as admin:
        await _known(admin, [spec.name for spec in Topics(settings).specs(settings)])


async def make_topics_of(settings: Settings, specs: Collection[TopicSpec]) -> None:
    """Create some of the topics and wait until the broker knows them."""
    async with admin_of(settings.brokers) as admin:
        await admin.create_topics(
            [NewTopic(s.name, s.partitions, 1, topic_configs=s.config(settings)) for s in specs]
        )
        await _known(admin, [s.name for s in specs])


async def make_topic(settings: Settings, name: str, partitions: int = 4, **config: str) -> None:
    """Create one topic and wait until the broker knows it. ``cleanup_policy``: Kafka's ``cleanup.policy``."""
    configs = {key.replace("_", "."): value for key, value in config.items()}
    async with admin_of(settings.brokers) as admin:
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
        await _known(admin, [name])


async def add_partitions(settings: Settings, name: str, total: int) -> None:
    """Extend a topic to ``total`` partitions and wait until the broker knows them."""
    deadline = time.monotonic() + KNOWN_WITHIN_S
    async with admin_of(settings.brokers) as admin:
        await admin.create_partitions({name: NewPartitions(total)})
        while len((await admin.describe_topics([name]))[0]["partitions"]) < total:
            assert time.monotonic() < deadline, "the broker does not know the partitions it has created"
            await asyncio.sleep(0.02)


async def make_changelog(settings: Settings, app: str, table: str) -> None:
    """Create the changelog of a Faust table: Faust does not wait until the broker knows its own."""
    await make_topic(settings, f"{app}-{table}-changelog", cleanup_policy="compact")


async def _known(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    deadline = time.monotonic() + KNOWN_WITHIN_S
    while any(topic["error_code"] for topic in await admin.describe_topics(names)):
        assert time.monotonic() < deadline, "the broker does not know the topics it has created"
        await asyncio.sleep(0.02)


async def delete_topics(brokers: str, prefixes: Collection[str]) -> None:
    """Delete the topics with these prefixes, because every client reads the metadata of all topics."""
    async with admin_of(brokers) as admin:
        left = [topic for topic in await admin.list_topics() if topic.startswith(tuple(prefixes))]
        if left:
            await admin.delete_topics(left)
            await _gone(admin, left)


async def _gone(admin: AIOKafkaAdminClient, names: list[str]) -> None:
    """Wait until the broker has forgotten: until then a topic made again is still the deleted one to it."""
    deadline = time.monotonic() + KNOWN_WITHIN_S
    while not set(names).isdisjoint(await admin.list_topics()):
        assert time.monotonic() < deadline, "the broker still knows the topics it has deleted"
        await asyncio.sleep(0.02)
