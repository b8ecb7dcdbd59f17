"""Whether requests are refused because too many wait: pure, from what answers cost and how many wait.

The ladder makes cheaper lists when time is short, and the cheapest when it is over. When more requests come
than even the cheapest lists can be made for, all of them wait longer and longer. Then it helps those behind
to refuse the requests whose time is over: an error costs far less than a list.
"""

from __future__ import annotations

from typing import Final

from headrace.serving.ladder import Quantile

#: What was known to wait in a partition is forgotten after so long, s: another worker may have it.
_KNOWN_S: Final = 10.0
#: Longest time that an error asks for, s.
_LONGEST_S: Final = 60.0


class Overload:
    """Estimates how long it would take to answer all that wait with the cheapest lists.

    Parameters
    ----------
    limit_s
        When it would take longer, requests whose time is over are refused. 0: never.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._each = Quantile()
        self._behind: dict[int, tuple[int, float]] = {}

    def behind(self, partition: int, records: int, now: float) -> None:
        """Note how many records wait in Kafka behind the batch of a partition; ``now``: monotonic seconds."""
        self._behind[partition] = records, now

    def took(self, answers: int, seconds: float, now: float) -> None:
        """Note how long some answers of the cheapest kind took together."""
        self._each.add(seconds / answers, now)

    def drain_s(self, here: int, now: float) -> float:
        """Return how long it takes to answer all that wait, s; 0 when nothing is known.

        ``here`` is the number of requests of the present batch that wait.
        """
        waiting = here + sum(records for records, at in self._behind.values() if now - at <= _KNOWN_S)
        return waiting * self._each.read(now)

    def retry_after_s(self, here: int, now: float) -> float:
        """Return when a request whose time is over may be sent again, s; 0: it is answered."""
        drain = self.drain_s(here, now)
        return min(drain, _LONGEST_S) if 0 < self._limit_s < drain else 0.0
