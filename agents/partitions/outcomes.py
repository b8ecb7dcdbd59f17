"""Open impressions of one partition, and how far in time its topics were read."""

from __future__ import annotations

from headrace.models.outcomes import OutcomeJoin
from headrace.streams.messages.schemas import Example

#: Wall time moves a topic on only when it was read to its end and nothing has come for this long.
IDLE_MS = 1000


class Progress:
    """How far one topic of a partition was read, in the time of its records (ms). Pure."""

    def __init__(self, now: int) -> None:
        self.read_to = 0
        self._heard = now

    def read(self, last_ts: int, now: int) -> None:
        """Note records up to ``last_ts``. A producer whose clock is ahead cannot move time past ``now``."""
        self.read_to = max(self.read_to, min(last_ts, now))
        self._heard = now

    def idle(self, now: int, at_end: bool) -> None:
        """Let wall time move on a topic that has nothing more to read."""
        if at_end and now - self._heard > IDLE_MS:
            self.read_to = max(self.read_to, now - IDLE_MS)


class JoinPartition:
    """Open impressions of one partition. Pure: time is passed in."""

    def __init__(self, wait_ms: int, now: int) -> None:
        self.join = OutcomeJoin(wait_ms)
        self.events = Progress(now)
        self.shown = Progress(now)

    def advance(self) -> list[Example]:
        """Return the examples that what was read so far closes."""
        return self.join.close(self.events.read_to, self.shown.read_to)

    @property
    def read_to(self) -> int:
        """The time (ms) up to which both topics were read."""
        return min(self.events.read_to, self.shown.read_to)
