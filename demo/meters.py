"""Rates and latencies of the demo's traffic; times are monotonic seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np


class Meter:
    """How often something happens: the total, and the rate over the last ``over_s`` seconds."""

    def __init__(self, over_s: float = 4.0) -> None:
        self._over_s = over_s
        self._recent: deque[tuple[float, int]] = deque()
        self.total = 0

    def add(self, count: int, at: float) -> None:
        """Add ``count`` at time ``at`` (s)."""
        self.total += count
        self._recent.append((at, count))

    def rate(self, at: float) -> float:
        """Return the rate at ``at`` (s), per second."""
        while self._recent and self._recent[0][0] < at - self._over_s:
            self._recent.popleft()
        return sum(n for _, n in self._recent) / self._over_s


class Latencies:
    """Milliseconds from request to reply: all of them (the newest 100,000), and those of the last seconds."""

    def __init__(self) -> None:
        self._all: deque[float] = deque(maxlen=100_000)
        self._recent: deque[tuple[float, float]] = deque(maxlen=5000)

    def add(self, ms: float, at: float) -> None:
        """Add a latency of ``ms`` measured at ``at`` (s)."""
        self._all.append(ms)
        self._recent.append((at, ms))

    def overall(self) -> tuple[float, float]:
        """Return p50 and p99, ms; 0 without any."""
        return _percentiles(self._all)

    def recent(self, at: float, over_s: float = 5.0) -> tuple[float, float]:
        """Return p50 and p99 of the last ``over_s`` seconds, ms; 0 without any."""
        return _percentiles([ms for t, ms in self._recent if t >= at - over_s])


def _percentiles(values: Iterable[float]) -> tuple[float, float]:
    have = np.array(list(values))
    if not len(have):
        return 0.0, 0.0
    p50, p99 = np.percentile(have, (50, 99))
    return float(p50), float(p99)
