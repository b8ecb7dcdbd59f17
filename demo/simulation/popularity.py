"""The popular list, shown to the control group."""

from __future__ import annotations

import heapq

from headrace.streams.settings import HOUR_MS, MINUTE_MS


class Popularity:
    """Clicks of all users per item over the last hour, in buckets of a minute."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[int, int]] = {}
        self._total: dict[int, int] = {}
        self._top: list[int] = []
        self._asked = -HOUR_MS

    def add(self, item: int, ts: int) -> None:
        """Count a click."""
        bucket = self._buckets.setdefault(ts // MINUTE_MS, {})
        bucket[item] = bucket.get(item, 0) + 1
        self._total[item] = self._total.get(item, 0) + 1

    def top(self, k: int, now: int) -> list[int]:
        """Return the ``k`` items clicked most in the last hour, most first; computed at most 1 s ago."""
        if now - self._asked >= 1000 or len(self._top) < k:
            for minute in [m for m in self._buckets if m < (now - HOUR_MS) // MINUTE_MS]:
                for item, count in self._buckets.pop(minute).items():
                    self._total[item] -= count
            self._top = heapq.nlargest(max(k, 200), self._total, key=lambda i: (self._total[i], -i))
            self._asked = now
        return self._top[:k]
