"""Creates topics and checks those that exist."""

from __future__ import annotations

import logging
from collections.abc import Container
from dataclasses import replace

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, TopicAuthorizationFailedError, for_code

from headrace.streams.errors import UnavailableError
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.topics.checks import Fault, FoundTopic, Level, faults
from headrace.streams.topics.connection import connection
from headrace.streams.topics.names import Topics
from headrace.streams.topics.refusal import unavailable, who

log = logging.getLogger(__name__)


def _error_of(entry: object) -> tuple[str, int, str]:
    """Return ``(topic, code, message)`` of one entry of a CreateTopics response of any version."""
    values = tuple(entry) if isinstance(entry, (tuple, list)) else ()
    message = str(values[2] or "") if len(values) > 2 else ""
    return str(values[0]), int(values[1]), message


async def _admin(settings: Settings) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        await admin.start()
    except KafkaError as exc:
        await admin.close()
        raise await unavailable(settings, exc) from exc
    return admin


async def create_topics(settings: Settings, events_days: int = 0) -> list[str]:
    """Create the topics that are missing; return their names. Existing topics are not changed.

    Parameters
    ----------
    events_days
        `events` is created so that it keeps its records for so many days, if that is longer.

    Raises
    ------
    UnavailableError
        When no broker answers, or it refuses to create a topic.
    """
    admin = await _admin(settings)
    try:
        topics = Topics(settings)
        specs = [
            replace(s, retention_ms=max(s.retention_ms, events_days * DAY_MS))
            if s.name == topics.events
            else s
            for s in topics.specs(settings)
        ]
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
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    else:
        return created
    finally:
        await admin.close()


async def inspect_topics(settings: Settings, needed: Container[str] | None = None) -> list[Fault]:
    """Return what is wrong with the topics, in the order of their specifications; an empty list: nothing.

    Parameters
    ----------
    needed
        Topics that we must be allowed to see; others may be hidden from us. None: all.

    Raises
    ------
    UnavailableError
        When no broker answers.
    """
    admin = await _admin(settings)
    specs = Topics(settings).specs(settings)
    try:
        described = {
            t["topic"]: t["partitions"] for t in await admin.describe_topics() if not t["error_code"]
        }
        configs = await _configs(admin, [spec.name for spec in specs if spec.name in described])
        hidden = await _hidden(admin, [spec.name for spec in specs if spec.name not in described])
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    finally:
        await admin.close()
    found = {
        name: FoundTopic(
            len(partitions), min(len(part["replicas"]) for part in partitions), configs.get(name, {})
        )
        for name, partitions in described.items()
    }
    out: list[Fault] = []
    for spec in specs:
        if spec.name not in hidden:
            out += faults(spec, found.get(spec.name), settings)
        elif needed is None or spec.name in needed:
            text = f"{spec.name} is missing, or {who(settings)} may not see it "
            text += "(headrace topics create, or headrace acls)"
            out.append(Fault(spec.name, Level.REFUSED, text))
    return out


async def topic_configs(settings: Settings, topics: list[str]) -> dict[str, dict[str, str]]:
    """Return the settings of topics, as far as the broker tells them. Raises as ``inspect_topics``."""
    admin = await _admin(settings)
    try:
        return await _configs(admin, topics)
    except KafkaError as exc:
        raise await unavailable(settings, exc) from exc
    finally:
        await admin.close()


async def check_topics(settings: Settings) -> list[str]:
    """Return why no worker can run with these topics, one sentence each. Raises as ``inspect_topics``."""
    return [fault.text for fault in await inspect_topics(settings) if fault.level is Level.REFUSED]


async def _hidden(admin: AIOKafkaAdminClient, missing: list[str]) -> set[str]:
    """Return the topics of which the broker does not tell us whether they exist.

    Asking for their settings makes no topic. Asking for themselves would, on some brokers.
    """
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in missing]
    try:
        answers = await admin.describe_configs(resources) if resources else []
    except KafkaError:
        return set()
    entries = (entry for answer in answers for entry in answer.resources)
    return {topic for code, _, _, topic, *_ in entries if for_code(code) is TopicAuthorizationFailedError}


async def _configs(admin: AIOKafkaAdminClient, topics: list[str]) -> dict[str, dict[str, str]]:
    """Return the settings of topics; without those that the broker does not tell, or not us."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    try:
        answers = await admin.describe_configs(resources) if resources else []
    except KafkaError as exc:
        log.info("the settings of the topics are not checked: %s", exc)
        return {}
    told: dict[str, dict[str, str]] = {}
    for code, message, _, topic, entries in (entry for answer in answers for entry in answer.resources):
        if code:
            log.info("the settings of %s are not checked: %s %s", topic, for_code(code).__name__, message)
        told[topic] = {name: value for name, value, *_ in entries if value is not None}
    return told
