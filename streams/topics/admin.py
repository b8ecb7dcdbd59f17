"""Creates topics and checks those that exist."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from headrace.streams.errors import UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.names import Topics


def _error_of(entry: object) -> tuple[str, int, str]:
    """Return ``(topic, code, message)`` of one entry of a CreateTopics response of any version."""
    values = tuple(entry) if isinstance(entry, (tuple, list)) else ()
    message = str(values[2] or "") if len(values) > 2 else ""
    return str(values[0]), int(values[1]), message


async def _admin(settings: Settings) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.brokers.split(","))
    try:
        await admin.start()
    except KafkaError as exc:
        await admin.close()
        raise UnavailableError(f"no Kafka broker answers at {settings.brokers}: {exc}") from exc
    return admin


async def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing; return their names. Existing topics are not changed.

    Raises
    ------
    UnavailableError
        When no broker answers, or it refuses to create a topic.
    """
    admin = await _admin(settings)
    try:
        specs = Topics(settings).specs(settings)
        new = [
            NewTopic(
                s.name,
                s.partitions,
                settings.replication,
                topic_configs=s.config(settings),
            )
            for s in specs
        ]
        response = await admin.create_topics(new)
        created = []
        for entry in response.topic_errors:
            topic, code, message = _error_of(entry)
            if code == 0:
                created.append(topic)
            elif for_code(code) is not TopicAlreadyExistsError:
                raise UnavailableError(f"topic {topic} was not created: {for_code(code).__name__} {message}")
        return created
    finally:
        await admin.close()


async def check_topics(settings: Settings) -> list[str]:
    """Return what is wrong with the topics, one sentence each; an empty list when all is right.

    Raises
    ------
    UnavailableError
        When no broker answers.
    """
    admin = await _admin(settings)
    try:
        described = await admin.describe_topics()
        have = {t["topic"]: len(t["partitions"]) for t in described if not t.get("error_code")}
    finally:
        await admin.close()
    problems = []
    for spec in Topics(settings).specs(settings):
        if spec.name not in have:
            problems.append(f"{spec.name} is missing (create it with: headrace topics create)")
        elif have[spec.name] != spec.partitions:
            problems.append(
                f"{spec.name} has {have[spec.name]} partitions, expected {spec.partitions} "
                f"(set HEADRACE_PARTITIONS, or recreate the topic)"
            )
    return problems
