"""What the stages of answering take: how often, how long."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

from headrace.streams.metrics import STAGE_BOUNDS

#: In the order in which they run. ``read``: requests; ``rows``: of the online store; ``tick``: popular lists
#: and indexes, and which neighbours are needed; ``query``: the user's vectors and pairs; ``sources``,
#: ``merge``, ``filters``, ``candidates`` (their data), ``features``, ``score``, ``rerank``, ``reply``,
#: ``encode``; ``log``: impressions and counts, after the reply.
STAGES: Final = (
    "read", "rows", "tick", "query", "sources", "merge", "filters", "candidates", "features", "score",
    "rerank", "reply", "encode", "log",
)  # fmt: skip
#: What is waited for, while something else may run. ``queue``: until a list is begun, since its request;
#: ``store``: Redis, for each read; ``send``: until the broker has the reply.
WAITS: Final = ("queue", "store", "send")


class Times:
    """How often something took how long.

    Attributes
    ----------
    counts
        Number of times up to each of ``STAGE_BOUNDS``, the last one: of those longer than all.
    seconds
        Their sum, s.
    """

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(STAGE_BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Add a time."""
        self.counts[bisect_left(STAGE_BOUNDS, seconds)] += 1
        self.seconds += seconds


class Stages:
    """Notes the time of every stage. One thread uses it, and one stage runs at a time.

    Parameters
    ----------
    clock
        Monotonic seconds.

    Attributes
    ----------
    times
        By stage or wait: since the start of the process.
    told
        Is told of every time, if there is one: the stage or wait, when it began and ended, s.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.times = {name: Times() for name in (*WAITS, *STAGES)}
        self.told: Callable[[str, float, float], None] | None = None
        self._since = clock()

    def begin(self) -> None:
        """Count from now on: what was before belongs to no stage."""
        self._since = self.clock()

    def done(self, stage: str) -> None:
        """Count the time since the last call for this stage."""
        now = self.clock()
        self.times[stage].add(now - self._since)
        if self.told is not None:
            self.told(stage, self._since, now)
        self._since = now

    def waited(self, name: str, seconds: float) -> None:
        """Count a wait."""
        seconds = max(0.0, seconds)
        self.times[name].add(seconds)
        if self.told is not None:
            now = self.clock()
            self.told(name, now - seconds, now)
