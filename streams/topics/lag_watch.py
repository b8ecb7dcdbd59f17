"""Keeps what a command has seen of every partition while it looks, and says what that means. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace

from aiokafka import TopicPartition

from headrace.streams.settings import Settings
from headrace.streams.topics.lag import LagRow, Look
from headrace.streams.topics.lag_pace import pace
from headrace.streams.topics.lag_times import OffsetTimes
from headrace.streams.topics.lag_verdict import Pace, Point, Verdict, Window, is_late, judge, trend

#: How far a window goes back, s; further for an agent that may be quiet for longer.
SPAN_S = 120.0
#: Who shows lag all the time looks this often, s. What is shown becomes as old as this, and as the next look.
EVERY_S = 1.0
#: And reads for at most so long when records were written, s: else one partition would make all of them old.
PEEK_S = 0.5


@dataclass(slots=True)
class _Group:
    """One partition, as one group reads it."""

    pace: Pace
    window: Window
    verdict: Verdict = Verdict.UNKNOWN


@dataclass(slots=True)
class LagWatch:
    """The windows of all partitions. A partition that is no longer told is forgotten.

    Attributes
    ----------
    pace
        (role, topic) -> how its group commits.
    """

    pace: Callable[[str, str], Pace]
    _groups: dict[tuple[str, str, int], _Group] = field(default_factory=dict)
    _times: dict[TopicPartition, OffsetTimes] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> LagWatch:
        """Return the watch of an installation."""
        return cls(lambda role, topic: pace(settings, role, topic))

    def add(self, look: Look) -> list[LagRow]:
        """Add a look; return its rows with seconds, trend and verdict."""
        self._note_times(look)
        rows = [self._judged(row, look.at_s) for row in look.rows]
        told = {(row.group, row.topic, row.partition) for row in rows}
        self._groups = {key: group for key, group in self._groups.items() if key in told}
        lowest: dict[TopicPartition, int] = {}
        for row in rows:
            tp = TopicPartition(row.topic, row.partition)
            lowest[tp] = min(lowest.get(tp, row.end), row.end - row.records)
        self._times = {tp: times for tp, times in self._times.items() if tp in lowest}
        for tp, times in self._times.items():
            times.forget_before(lowest[tp])
        return rows

    def known(self) -> Container[tuple[TopicPartition, int]]:
        """Return the (partition, offset) whose timestamps the broker has told."""
        return {(tp, offset) for tp, times in self._times.items() for offset in times.exact}

    def is_settled(self) -> bool:
        """Return whether more looks would say no more: nothing is late, or the worst is known."""
        return all(
            g.verdict.is_failure or not is_late(g.window.points[-1], g.pace) for g in self._groups.values()
        )

    def _note_times(self, look: Look) -> None:
        for row in look.rows:
            times = self._times.setdefault(TopicPartition(row.topic, row.partition), OffsetTimes())
            times.ends(row.end, look.at_s)
        for (tp, offset), at_ms in look.written.items():
            if tp in self._times:
                self._times[tp].written(offset, at_ms / 1000)

    def _judged(self, row: LagRow, at_s: float) -> LagRow:
        group = self._groups.get((row.group, row.topic, row.partition))
        if group is None:
            agent_pace = self.pace(row.agent, row.topic)
            group = _Group(agent_pace, Window(max(SPAN_S, 3 * agent_pace.quiet_s)))
            self._groups[row.group, row.topic, row.partition] = group
        seconds = row.seconds
        if seconds is None:
            written = self._times[TopicPartition(row.topic, row.partition)].at(row.end - row.records)
            seconds = None if written is None else max(0.0, at_s - written)
        group.window.add(Point(at_s, row.committed, row.end, row.records, seconds, row.held))
        group.verdict = judge(group.window.points, group.pace)
        return replace(row, seconds=seconds, trend=trend(group.window.points), verdict=group.verdict)
