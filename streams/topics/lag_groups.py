"""The lag of partitions, summed up by agent and topic. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.streams.topics.lag_verdict import Verdict, worst

if TYPE_CHECKING:
    from headrace.streams.topics.lag import LagRow


@dataclass(frozen=True, slots=True)
class AgentLag:
    """Lag of one agent on one topic: all its partitions together, and the oldest record of any.

    ``trend`` is None when that of a partition is not known. ``members`` are the ids of those that have the
    partitions. ``verdict`` is that of the worst partition.
    """

    agent: str
    topic: str
    partitions: int
    records: int
    seconds: float | None
    deleted: int = 0
    trend: float | None = None
    members: tuple[str, ...] = ()
    verdict: Verdict = Verdict.UNKNOWN

    @property
    def member(self) -> str | None:
        """The member that has the partitions, or how many there are; None without any."""
        return f"{len(self.members)} members" if len(self.members) > 1 else next(iter(self.members), None)


def by_agent(rows: Iterable[LagRow]) -> list[AgentLag]:
    """Sum partitions up; unknown seconds of any partition make the sum unknown."""
    groups: dict[tuple[str, str], list[LagRow]] = {}
    for row in rows:
        groups.setdefault((row.agent, row.topic), []).append(row)
    out = []
    for (agent, topic), part in sorted(groups.items()):
        known = [r.seconds for r in part if r.seconds is not None]
        oldest = max(known) if len(known) == len(part) else None
        records, deleted = sum(r.records for r in part), sum(r.deleted for r in part)
        trends = [r.trend for r in part if r.trend is not None]
        trend = sum(trends) if len(trends) == len(part) else None
        members = tuple(sorted({r.member for r in part if r.member is not None}))
        verdict = worst(r.verdict for r in part)
        out.append(AgentLag(agent, topic, len(part), records, oldest, deleted, trend, members, verdict))
    return out
