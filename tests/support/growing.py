"""`headrace repartition` that is killed midway, and workers that somebody starts then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import TopicAuthorizationFailedError
from installation import worker

from headrace.console.repartitioning.job import repartition
from headrace.streams.errors import HeadraceError
from headrace.streams.settings import Settings
from headrace.streams.topics.acls import grants
from headrace.streams.topics.flow import group_reads


class KilledError(Exception):
    """The command was killed."""


def silent(text: str) -> None:
    """Hear nothing of the progress."""


async def killed_at(settings: Settings, new: int, last: str) -> None:
    """Make the partitions more, until it has said something."""

    def say(text: str) -> None:
        if last in text:
            raise KilledError

    with pytest.raises(KilledError):
        await repartition(settings, new, say)


@contextmanager
def topics_as_seen_by(role: str, settings: Settings) -> Iterator[None]:
    """Show an admin only the topics that a role may see, as a Kafka does with the ACLs that are printed."""
    names = [
        g
        for g in grants(role, settings)
        if g.kind == "topic" and {"Read", "Write", "Describe"} & {*g.operations}
    ]

    def may_see(topic: str) -> bool:
        return any(topic.startswith(g.name) if g.prefixed else topic == g.name for g in names)

    plain_topics, plain_configs = AIOKafkaAdminClient.describe_topics, AIOKafkaAdminClient.describe_configs

    async def topics(self: Any, asked: Sequence[str] | None = None) -> list[Any]:
        return [told for told in await plain_topics(self, asked) if may_see(told["topic"])]

    async def configs(self: Any, asked: Any, **how: Any) -> Any:
        answers = await plain_configs(self, asked, **how)
        for answer in answers:
            answer.resources = [
                told if may_see(told[3]) else (TopicAuthorizationFailedError.errno, "", *told[2:4], [])
                for told in answer.resources
            ]
        return answers

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AIOKafkaAdminClient, "describe_topics", topics)
        patch.setattr(AIOKafkaAdminClient, "describe_configs", configs)
        yield


async def no_worker_starts(settings: Settings, numbers: Sequence[int]) -> None:
    """Try to start each role with a group, which sees only its own topics, with each number of partitions."""
    for partitions in numbers:
        mine = settings.model_copy(update={"partitions": partitions})
        for role in group_reads():
            with topics_as_seen_by(role, mine), pytest.raises(HeadraceError, match="partitions, expected"):
                async with worker(mine, [role]):
                    pass
