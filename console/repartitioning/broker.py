"""What growing does to topics: makes their partitions more, takes copies of them, makes them anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from headrace.console.upgrading.offline import admin_of
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.sender import BatchSender
from headrace.streams.transport.log_view import operations

#: A broker knows a change of its topics only some time after its answer, s.
KNOWN_WITHIN_S, LOOK_S = 60.0, 0.05
#: Source of a setting that is the topic's own.
_OWN = 1
#: Kafka's codes of operations.
OPERATIONS = {"Delete": 6, "Alter": 7, "DescribeConfigs": 10}
_RIGHTS = "`headrace acls repartition` prints the rights that are needed"


def not_allowed(needs: Mapping[str, Collection[str]], may: Mapping[str, int]) -> list[str]:
    """Return which rights are lacking, a sentence each. Pure.

    Parameters
    ----------
    needs
        Topics by operation.
    may
        What we may do with topics: a bit for each code. Nothing is said of a topic that is not there.
    """
    out = []
    for operation, topics in needs.items():
        lacking = [topic for topic in topics if topic in may and not may[topic] >> OPERATIONS[operation] & 1]
        if lacking:
            out.append(f"{operation} is not allowed for {', '.join(lacking)}: {_RIGHTS}")
    return out


class Broker:
    """The topics of an installation."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self._admin = admin

    async def counts(self) -> dict[str, int]:
        """Return the number of partitions of every topic."""
        return {
            t["topic"]: len(t["partitions"])
            for t in await self._admin.describe_topics()
            if not t["error_code"] and t["partitions"]
        }

    async def grow(self, topic: str, partitions: int) -> None:
        """Make the partitions of a topic more, unless they are."""
        if (await self.counts()).get(topic, 0) < partitions:
            await self._admin.create_partitions({topic: NewPartitions(partitions)})
        await self._until(lambda counts: counts.get(topic, 0) >= partitions, f"the partitions of {topic}")

    async def like(self, topic: str, config: Mapping[str, str]) -> tuple[int, dict[str, str]]:
        """Return the replicas of a topic, and its own settings, with ``config`` where it has none.

        Raises
        ------
        UnavailableError
            The broker does not tell the settings.
        """
        (told,) = [t for t in await self._admin.describe_topics() if t["topic"] == topic]
        replicas = min(len(part["replicas"]) for part in told["partitions"])
        answers = await self._admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        own = dict(config)
        for code, message, _, _, entries in (found for answer in answers for found in answer.resources):
            if code:
                raise UnavailableError(
                    f"the settings of {topic} cannot be read: {for_code(code).__name__} {message or ''} "
                    f"(DescribeConfigs; {_RIGHTS})"
                )
            own |= {
                name: value
                for name, value, _, source, *_ in entries
                if type(source) is int and source == _OWN and value is not None
            }
        return replicas, own

    async def make(self, topic: str, partitions: int, replicas: int, config: Mapping[str, str]) -> None:
        """Make a topic, unless it is there; wait until an earlier one of its name is gone."""

        async def tried() -> bool:
            new = NewTopic(topic, partitions, replicas, topic_configs=dict(config))
            answer = await self._admin.create_topics([new])
            error = for_code(answer.topic_errors[0][1])
            if error not in (NoError, TopicAlreadyExistsError):
                raise error(f"topic {topic}")
            return (await self.counts()).get(topic) == partitions

        for _ in range(round(KNOWN_WITHIN_S / LOOK_S)):
            if await tried():
                return
            await asyncio.sleep(LOOK_S)
        raise UnavailableError(f"the broker does not make {topic} with {partitions} partitions")

    async def remove(self, topic: str) -> None:
        """Delete a topic, if it is there.

        Raises
        ------
        UnavailableError
            The broker does not delete it.
        """
        if topic not in await self.counts():
            return
        answer = await self._admin.delete_topics([topic])
        code = answer.topic_error_codes[0][1]
        error = for_code(code)
        if error not in (NoError, UnknownTopicOrPartitionError):
            raise UnavailableError(f"{topic} cannot be deleted: {error.__name__} {code} (Delete; {_RIGHTS})")
        await self._until(lambda counts: topic not in counts, f"that {topic} is gone")

    async def refused(self, needs: Mapping[str, Collection[str]]) -> list[str]:
        """Return what we may not do with topics, a sentence each; as far as the broker says it.

        Parameters
        ----------
        needs
            Topics by operation.
        """
        asked = {topic for topics in needs.values() for topic in topics}
        return not_allowed(needs, await operations(self._admin._client, asked))

    async def _until(self, good: Callable[[Mapping[str, int]], bool], what: str) -> None:
        for _ in range(round(KNOWN_WITHIN_S / LOOK_S)):
            if good(await self.counts()):
                return
            await asyncio.sleep(LOOK_S)
        raise UnavailableError(f"the broker does not show {what}")


@asynccontextmanager
async def broker_of(settings: Settings) -> AsyncIterator[Broker]:
    """Open the topics of an installation."""
    async with admin_of(settings) as admin:
        yield Broker(admin)


def number_of(counts: Mapping[str, int], topic: str) -> int:
    """Return the number of partitions of a topic.

    Raises
    ------
    UnavailableError
        There is no such topic.
    """
    if topic not in counts:
        raise UnavailableError(f"{topic} is missing (create it with: headrace topics create)")
    return counts[topic]


@asynccontextmanager
async def sender_of(settings: Settings) -> AsyncIterator[BatchSender]:
    """Open a new sender: one that has written to a topic before it was made anew would be refused there."""
    sender = BatchSender(settings)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop()


async def known(sender: BatchSender, topic: str, partitions: int) -> None:
    """Wait until a sender knows the partitions of a topic that has just grown, or was made anew.

    Raises
    ------
    UnavailableError
        When it does not get to know them.
    """
    for _ in range(round(KNOWN_WITHIN_S / LOOK_S)):
        await sender.get_to_know(topic)
        if sender.known_partitions(topic) == partitions:
            return
        await asyncio.sleep(LOOK_S)
    raise UnavailableError(f"the broker does not show {partitions} partitions of {topic}")
