"""Open impressions of one partition, and the time up to which its two topics were read."""

from __future__ import annotations

from headrace.models.outcomes import OutcomeJoin
from headrace.streams.messages.schemas import Example

#: The time of a topic moves without records only when it was read to its end and nothing came for this long.
IDLE_MS = 1000


class Progress:
    """The time up to which one topic of a partition was read, in record timestamps (ms). Pure.

    Parameters
    ----------
    now
        Present time, ms since the epoch.

    Attributes
    ----------
    read_to
        Every record with an earlier timestamp was read.
    """

    def __init__(self, now: int) -> None:
        self.read_to = 0
        self._heard = now

    def read(self, last_ts: int, now: int) -> None:
        """Note that records up to ``last_ts`` were read; a timestamp in the future counts as ``now``."""
        self.read_to = max(self.read_to, min(last_ts, now))
        self._heard = now

    def idle(self, now: int, at_end: bool) -> None:
        """Move the time of a topic that was read to its end and has been without records for ``IDLE_MS``."""
        if at_end and now - self._heard > IDLE_MS:
            self.read_to = max(self.read_to, now - IDLE_MS)


class JoinPartition:
    """Open impressions of one partition. Pure: the time is an argument.

    Parameters
    ----------
    wait_ms
        How long an impression stays open, ms.
    now
        Present time, ms since the epoch.
    """

    def __init__(self, wait_ms: int, now: int) -> None:
        self.join = OutcomeJoin(wait_ms)
        self.events = Progress(now)
        self.shown = Progress(now)

    def advance(self) -> list[Example]:
        """Close the impressions whose wait has passed in both topics; return their examples."""
        return self.join.close(self.events.read_to, self.shown.read_to)

    @property
    def read_to(self) -> int:
        """Time (ms) up to which both topics were read."""
        return min(self.events.read_to, self.shown.read_to)
