"""Tells which partitions have records to read and are not read, though nothing holds them up. Pure.

A partition counts as stuck when its position has stayed the same for long while records were after it, at
every look. What waits lawfully is not *due* and starts anew: see ``Reading``. After a restart of the consumer
the next one has to wait, each time twice as long, until all has been well for a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from aiokafka import TopicPartition

#: Longest pause between two restarts, s.
LONGEST_PAUSE_S = 3600.0
#: Looks in the time after which a partition is stuck. When half of them are missing (the broker did not
#: answer, the process was stopped), nothing that was seen before counts.
LOOKS = 6


class Reading(NamedTuple):
    """How a partition is read.

    Attributes
    ----------
    tp
        The partition.
    position
        The offset to be taken next, None unknown.
    end
        Offset after the last record that can be read: a transaction that is open ends the log.
    due
        Whether it should be read now. It is not while its agent is slow (back-pressure), while tables are
        restored or the group rebalances, or while the broker is asked whether its log is still the same.
    """

    tp: TopicPartition
    position: int | None
    end: int
    due: bool


class Stuck(NamedTuple):
    """A partition that is not read: where, how many records are after it, and for how long (s)."""

    tp: TopicPartition
    position: int
    records: int
    seconds: float


class StuckWatch:
    """The looks at the partitions of one consumer.

    Parameters
    ----------
    after_s
        A partition is stuck after so many seconds.
    """

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._since: dict[TopicPartition, tuple[int, float]] = {}
        self._looked_s = float("-inf")
        self._pause_s = after_s
        self._restarted_s = float("-inf")

    def forget(self) -> None:
        """Begin anew: there is another assignment, or the consumer waits for something."""
        self._since.clear()

    def look(self, readings: Iterable[Reading], now_s: float) -> list[Stuck]:
        """Add a look; return what is stuck, nothing while a restart has to wait.

        Parameters
        ----------
        readings
            All partitions of the consumer; one that is missing begins anew when it is back.
        now_s
            Monotonic time.
        """
        if now_s - self._looked_s > self._after_s / 2:
            self._since.clear()
        self._looked_s = now_s
        before, self._since = self._since, {}
        stuck = []
        for tp, position, end, due in readings:
            if not due or position is None or end <= position:
                continue
            at, since = before.get(tp, (position, now_s))
            since = since if at == position else now_s
            self._since[tp] = position, since
            if now_s - since >= self._after_s:
                stuck.append(Stuck(tp, position, end - position, now_s - since))
        if now_s - self._restarted_s < self._pause_s:
            return []
        return stuck

    def restarted(self, now_s: float) -> float:
        """Note that the consumer was restarted; return the shortest time to the next restart, s."""
        calm = now_s - self._restarted_s > 2 * self._pause_s + self._after_s
        pause_s = self._after_s if calm else self._pause_s
        self._pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        self._restarted_s = now_s
        self._since.clear()
        return self._pause_s
