"""How a healthy agent commits what it reads, by role and topic: what lag is lawful. See docs/operator.md."""

from __future__ import annotations

from headrace.streams.settings import Settings
from headrace.streams.topics.lag_verdict import Pace
from headrace.streams.topics.names import Topics

#: More than the work and the next commit take on a busy machine, s.
SLACK_S = 2.0
#: No commit for so long, though records wait for one, is no accident: a rebalance takes less, s.
QUIET_S = 5.0
#: The join holds its acknowledgements in so many slices of its wait.
SLICES = 64


def pace(settings: Settings, role: str, topic: str) -> Pace:
    """Return how the group of a role commits a topic (full name).

    A batch is committed when its effects are durable: after a durable flush, a file of the log, or the wait
    of a shown slot. The group may have all of that still before it, twice over, when it has just committed.
    """
    wait_s = every_s = 0.0
    if role in ("ingest", "aggregate"):
        wait_s = every_s = settings.durable_every_ms / 1000
    elif role == "log":
        wait_s = every_s = settings.log_flush_s
    elif role == "learn" and topic != Topics(settings).examples:
        wait_s, every_s = settings.outcome_wait_ms / 1000, settings.outcome_wait_ms / 1000 / SLICES
    return Pace(wait_s + every_s + SLACK_S, 2 * every_s + QUIET_S)
