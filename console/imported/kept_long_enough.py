"""Whether a topic keeps events of the past until the workers have read them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from headrace.streams.settings import DAY_MS, Settings
from headrace.streams.topics.checks import repair

#: Setting, how much longer than the age of the oldest event it must be, ms, what the broker does else.
_LIMITS = (
    ("retention.ms", DAY_MS, "deletes such events, perhaps before they are read"),
    ("message.timestamp.before.max.ms", DAY_MS, "refuses such events"),
    ("message.timestamp.difference.max.ms", 0, "refuses such events"),  # of brokers before Kafka 4
)


def objection(config: Mapping[str, str], topic: str, oldest_ms: int, now_ms: int, settings: Settings) -> str:
    """Return why events from ``oldest_ms`` on must not be written now; "" when they may.

    A broker deletes records by their timestamps. Those of an import have the time of the event, because the
    workers refuse an event that is much older than its record.

    Parameters
    ----------
    config
        Settings of the topic, as far as the broker tells them.
    """
    age = now_ms - oldest_ms
    dated = config.get("message.timestamp.type", "CreateTime")
    if dated != "CreateTime":
        wish = repair(topic, "message.timestamp.type", "CreateTime", settings)
        return (
            f"{topic} has message.timestamp.type={dated}: every event of the past would be too late ({wish})"
        )
    for name, margin, does in _LIMITS:
        most = int(config.get(name, -1))
        if 0 <= most < age + margin:
            wish = repair(topic, name, str((-(-age // DAY_MS) + 7) * DAY_MS), settings)
            return (
                f"the oldest event is {age / DAY_MS:.1f} days old, and {topic} has {name}={most}: the broker "
                f"{does}. First: {wish} (set it back to {most} when `headrace lag` is 0)"
            )
    return ""
