"""What `headrace topics check` says: every setting of a topic that correctness relies on."""

from __future__ import annotations

import asyncio
import logging

import pytest
from command_line import run_headrace
from fresh_topics import make_topic, make_topics

from headrace.agents.roles import run_worker
from headrace.streams.errors import UnavailableError
from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.topics.admin import check_topics, inspect_topics
from headrace.streams.topics.checks import NO_LIMIT, Fault, FoundTopic, Level, faults
from headrace.streams.topics.names import Topics, TopicSpec

SETTINGS = Settings(brokers="kafka:9092,other:9092")
EVENTS, ITEMS = TopicSpec("events", 4), TopicSpec("items", 4, compacted=True)
AFTER, DIFFERENCE = "message.timestamp.after.max.ms", "message.timestamp.difference.max.ms"


def found(spec: TopicSpec, replicas: int = 1, **changes: str | None) -> list[Fault]:
    """Return the faults of a topic that fits but for ``changes`` (None: the broker does not tell)."""
    config = {**spec.config(SETTINGS), "retention.bytes": "-1", "min.insync.replicas": "1"}
    config |= {name.replace("_", "."): value for name, value in changes.items()}
    told = {name: value for name, value in config.items() if value is not None}
    return list(faults(spec, FoundTopic(spec.partitions, replicas, told), SETTINGS))


@pytest.mark.parametrize("spec", Topics(SETTINGS).specs(SETTINGS), ids=lambda spec: spec.name)
def test_topics_that_we_made_fit(spec: TopicSpec) -> None:
    assert found(spec) == []


@pytest.mark.parametrize(
    ("spec", "name", "value", "level", "says"),
    [
        (EVENTS, "message.timestamp.type", "LogAppendTime", Level.WRONG, "must be CreateTime"),
        (EVENTS, "cleanup.policy", "compact", Level.REFUSED, "must be delete"),
        (EVENTS, "cleanup.policy", "compact,delete", Level.REFUSED, "must be delete"),
        (ITEMS, "cleanup.policy", "delete", Level.REFUSED, "must be compact"),
        (ITEMS, "cleanup.policy", "compact,delete", Level.REFUSED, "must be compact"),
        (EVENTS, "retention.ms", "60000", Level.WRONG, f"must be at least {7 * DAY_MS}"),
        (ITEMS, "delete.retention.ms", "1000", Level.WRONG, f"must be at least {DAY_MS}"),
        (EVENTS, "max.message.bytes", "1048588", Level.WRONG, "must be at least 4194304"),
        (EVENTS, AFTER, str(NO_LIMIT), Level.WRONG, "must be at most 300000"),
        (EVENTS, "retention.bytes", "1000000", Level.ADVICE, "before their time"),
    ],
)
def test_each_setting_is_one_sentence_with_its_repair(
    spec: TopicSpec, name: str, value: str, level: Level, says: str
) -> None:
    (fault,) = found(spec, **{name: value})
    assert (fault.topic, fault.level) == (spec.name, level)
    assert fault.text.startswith(f"{spec.name}: {name} is {value}")
    assert says in fault.text
    if level is not Level.ADVICE:
        want = spec.config(SETTINGS)[name]
        assert fault.text.endswith(
            "(kafka-configs.sh --bootstrap-server kafka:9092 --alter --entity-type topics "
            f"--entity-name {spec.name} --add-config {name}={want})"
        )


def test_longer_and_larger_is_fine() -> None:
    longer = {"retention.ms": str(30 * DAY_MS), "max.message.bytes": "16777216", AFTER: "1000"}
    assert found(EVENTS, **longer) == []
    assert found(EVENTS, **{"retention.ms": "-1"}) == []
    assert found(ITEMS, **{"retention.ms": "60000"}) == [], "a compacted topic has no retention"


@pytest.mark.parametrize(
    ("newer", "older", "fits"),
    [
        (None, "300000", True),
        (None, str(NO_LIMIT), False),  # Kafka before 3.6
        (str(NO_LIMIT), "1000", True),
        (str(NO_LIMIT), str(NO_LIMIT), False),
        ("300000", str(NO_LIMIT), True),
        ("3000000", "1000", False),
        (None, None, True),  # a broker that does not tell
    ],
)
def test_the_older_limit_of_future_timestamps_counts_where_the_newer_has_no_value(
    newer: str | None, older: str | None, fits: bool
) -> None:
    said = found(EVENTS, **{AFTER: newer, DIFFERENCE: older})
    assert [fault.level for fault in said] == ([] if fits else [Level.WRONG])
    assert all(f"add-config {AFTER}=300000" in fault.text for fault in said)


def test_replication_is_advice_unless_nothing_can_be_written() -> None:
    assert [f.level for f in found(EVENTS, 3)] == [Level.ADVICE]
    assert "min.insync.replicas=2" in found(EVENTS, 3)[0].text
    assert found(EVENTS, 3, **{"min.insync.replicas": "2"}) == []
    (fault,) = found(EVENTS, 1, **{"min.insync.replicas": "2"})
    assert (fault.level, "refuses every record" in fault.text) == (Level.WRONG, True)
    unclean = {"min.insync.replicas": "2", "unclean.leader.election.enable": "true"}
    (fault,) = found(EVENTS, 3, **unclean)
    assert (fault.level, "newest records" in fault.text) == (Level.ADVICE, True)
    three = SETTINGS.model_copy(update={"replication": 3})
    (fault,) = faults(EVENTS, FoundTopic(4, 1, {}), three)
    assert (fault.level, fault.text) == (Level.ADVICE, "events has 1 replicas, HEADRACE_REPLICATION is 3")


def test_a_broker_that_tells_nothing_is_not_blamed() -> None:
    assert list(faults(EVENTS, FoundTopic(4, 1, {}), SETTINGS)) == []
    assert [f.level for f in faults(EVENTS, None, SETTINGS)] == [Level.REFUSED]
    assert [f.level for f in faults(EVENTS, FoundTopic(3, 1, {}), SETTINGS)] == [Level.REFUSED]


async def made_elsewhere(settings: Settings) -> None:
    """Make `events` as another tool makes it, with the defaults of a broker before Kafka 4, then the rest."""
    other = {"message_timestamp_type": "LogAppendTime", "retention_ms": "60000", "cleanup_policy": "delete"}
    other["max_message_bytes"] = "1048588"
    await make_topic(settings, Topics(settings).events, **other, **{AFTER: str(NO_LIMIT)})
    await make_topics(settings)


@pytest.mark.broker
async def test_a_topic_made_elsewhere_is_named_and_a_worker_warns(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    await made_elsewhere(settings)
    events = Topics(settings).events
    said = await inspect_topics(settings)
    assert {(fault.topic, fault.level) for fault in said} == {(events, Level.WRONG)}
    names = {fault.text.split(": ")[1].split(" is ")[0] for fault in said}
    assert names == {"message.timestamp.type", "retention.ms", "max.message.bytes", AFTER}
    assert await check_topics(settings) == [], "no reason to refuse a worker"
    caplog.set_level(logging.WARNING, "headrace.agents.roles")
    stop = asyncio.Event()
    stop.set()
    await asyncio.wait_for(run_worker(settings, ["log"], stop=stop), 30)
    warned = [record.getMessage() for record in caplog.records if record.name == "headrace.agents.roles"]
    assert warned == [fault.text for fault in said]


@pytest.mark.broker
async def test_no_worker_starts_when_the_catalogue_would_be_deleted(settings: Settings) -> None:
    items = Topics(settings).items
    await make_topic(settings, items, cleanup_policy="delete")
    await make_topics(settings)
    with pytest.raises(UnavailableError, match=f"{items}: cleanup.policy is delete, it must be compact"):
        await run_worker(settings, ["serve"])


@pytest.mark.broker
def test_the_commands_say_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", settings.topic_prefix)
    monkeypatch.setenv("HEADRACE_BROKERS", settings.brokers)
    asyncio.run(make_topic(settings, Topics(settings).events, **{AFTER: str(NO_LIMIT)}))
    assert run_headrace(monkeypatch, "topics", "create") == 0
    assert f"{AFTER} is {NO_LIMIT}" in capsys.readouterr().err
    asyncio.run(make_topics(settings))  # waits until the broker knows them
    assert run_headrace(monkeypatch, "topics", "check") == 1
    out = capsys.readouterr().out
    assert f"{Topics(settings).events}: {AFTER} is {NO_LIMIT}, it must be at most 300000" in out
    assert "all topics fit" not in out
