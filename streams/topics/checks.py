"""What is wrong with the topics of a broker, in sentences. Pure.

Correctness relies on settings of the topics. Topics may have been made by another tool, or by a broker with
other defaults. ``TopicSpec.config`` says what they must be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from headrace.streams.settings import Settings
from headrace.streams.topics.names import TopicSpec

#: Kafka's largest number: no limit.
NO_LIMIT = 2**63 - 1


class Level(IntEnum):
    """How bad a fault is."""

    #: Worth knowing; nothing is wrong.
    ADVICE = 0
    #: Results may become wrong: `headrace topics check` fails, a worker warns at its start.
    WRONG = 1
    #: No worker starts: it could not run, or the broker would delete what must stay.
    REFUSED = 2


@dataclass(frozen=True, slots=True)
class Fault:
    """One sentence about one topic, and how bad it is."""

    topic: str
    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as the broker describes it.

    Attributes
    ----------
    partitions, replicas
        Number of partitions, and the smallest number of replicas of any.
    config
        Name of a setting -> its value. Settings that the broker does not tell are missing.
    """

    partitions: int
    replicas: int
    config: Mapping[str, str]


def faults(spec: TopicSpec, found: FoundTopic | None, settings: Settings) -> Iterator[Fault]:
    """Yield what is wrong with one topic; ``found`` is None when it does not exist."""
    if found is None:
        text = f"{spec.name} is missing (create it with: headrace topics create)"
        yield Fault(spec.name, Level.REFUSED, text)
        return
    if found.partitions != spec.partitions:
        text = f"{spec.name} has {found.partitions} partitions, expected {spec.partitions} "
        text += "(set HEADRACE_PARTITIONS, or recreate the topic)"
        yield Fault(spec.name, Level.REFUSED, text)
    yield from _wrong_settings(spec, found, settings)
    yield from _replication(spec, found, settings)


def _never_shorter(have: str, want: str) -> bool:
    return int(have) == -1 or int(have) >= int(want)


@dataclass(frozen=True, slots=True)
class _Rule:
    level: Level
    fits: Callable[[str, str], bool]
    must_be: str
    because: str


_RULES: Mapping[str, _Rule] = {
    "cleanup.policy": _Rule(
        Level.REFUSED, lambda have, want: have == want, "it must be", "else Kafka deletes what must stay"
    ),
    "message.timestamp.type": _Rule(
        Level.WRONG,
        lambda have, want: have == want,
        "it must be",
        "the ts of an event is compared with the time of sending, and the broker dates our rows",
    ),
    "message.timestamp.after.max.ms": _Rule(
        Level.WRONG,
        lambda have, want: int(have) <= int(want),
        "it must be at most",
        "a record dated in the future must be refused when it is written",
    ),
    "retention.ms": _Rule(
        Level.WRONG, _never_shorter, "it must be at least", "else Kafka deletes records before they are used"
    ),
    "delete.retention.ms": _Rule(
        Level.WRONG,
        lambda have, want: int(have) >= int(want),
        "it must be at least",
        "else a worker that was down, or starts from a snapshot, misses deletions",
    ),
    "max.message.bytes": _Rule(
        Level.WRONG,
        lambda have, want: int(have) >= int(want),
        "it must be at least",
        "else Kafka refuses records",
    ),
}


def _wrong_settings(spec: TopicSpec, found: FoundTopic, settings: Settings) -> Iterator[Fault]:
    told = _with_older_names(found.config)
    for name, want in spec.config(settings).items():
        have, rule = told.get(name), _RULES.get(name)
        if (
            rule is None
            or have is None
            or (name == "retention.ms" and spec.compacted)
            or rule.fits(have, want)
        ):
            continue
        text = f"{spec.name}: {name} is {have}, {rule.must_be} {want}: {rule.because}"
        yield Fault(spec.name, rule.level, f"{text} ({repair(spec.name, name, want, settings)})")
    if not spec.compacted and not spec.most_bytes and int(told.get("retention.bytes", -1)) != -1:
        text = f"{spec.name}: retention.bytes is {told['retention.bytes']}: "
        text += "a partition that grows larger loses records before their time"
        yield Fault(spec.name, Level.ADVICE, text)


def _with_older_names(config: Mapping[str, str]) -> dict[str, str]:
    """Return the settings with the limit on future timestamps under its present name.

    Before Kafka 4, ``message.timestamp.difference.max.ms`` holds where the newer setting has no value.
    """
    out = dict(config)
    older = config.get("message.timestamp.difference.max.ms")
    newer = config.get("message.timestamp.after.max.ms")
    if older is not None and (newer is None or int(newer) == NO_LIMIT):
        out["message.timestamp.after.max.ms"] = older
    return out


def _replication(spec: TopicSpec, found: FoundTopic, settings: Settings) -> Iterator[Fault]:
    replicas, least = found.replicas, int(found.config.get("min.insync.replicas", 1))
    wish = repair(spec.name, "min.insync.replicas", str(max(1, min(2, replicas))), settings)
    if least > replicas:
        text = f"{spec.name}: min.insync.replicas is {least}, and the topic has {replicas} replicas: "
        yield Fault(spec.name, Level.WRONG, text + f"Kafka refuses every record ({wish})")
    elif least < 2 <= replicas:
        text = f"{spec.name}: min.insync.replicas is {least} of {replicas} replicas: "
        text += f"what one broker alone has acknowledged can be lost with it ({wish})"
        yield Fault(spec.name, Level.ADVICE, text)
    if replicas < settings.replication:
        text = f"{spec.name} has {replicas} replicas, HEADRACE_REPLICATION is {settings.replication}"
        yield Fault(spec.name, Level.ADVICE, text)
    if replicas > 1 and found.config.get("unclean.leader.election.enable") == "true":
        wish = repair(spec.name, "unclean.leader.election.enable", "false", settings)
        text = f"{spec.name}: unclean.leader.election.enable is true: newest records can be lost ({wish})"
        yield Fault(spec.name, Level.ADVICE, text)


def repair(topic: str, name: str, value: str, settings: Settings) -> str:
    """Return the command that changes one setting of a topic."""
    broker = settings.brokers.split(",")[0]
    return (
        f"kafka-configs.sh --bootstrap-server {broker} --alter --entity-type topics "
        f"--entity-name {topic} --add-config {name}={value}"
    )
