"""What the stages of answering cost, added up."""

from __future__ import annotations

import time
from collections.abc import Callable

#: In the order in which they run. ``read``: requests; ``rows``: of the online store; ``tick``: popular lists
#: and indexes, and which neighbours are needed; ``query``: the user's vectors and pairs; ``sources``,
#: ``merge``, ``filters``, ``candidates`` (their data), ``features``, ``score``, ``rerank``, ``reply``,
#: ``encode``; ``log``: impressions and counts, after the reply.
STAGES = (
    "read", "rows", "tick", "query", "sources", "merge", "filters", "candidates", "features", "score",
    "rerank", "reply", "encode", "log",
)  # fmt: skip


class Stages:
    """Adds up the time of every stage. One thread uses it, and one stage runs at a time.

    Parameters
    ----------
    clock
        Monotonic seconds.

    Attributes
    ----------
    seconds
        By stage: s since the start of the process.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._since = clock()

    def begin(self) -> None:
        """Count from now on: what was before belongs to no stage."""
        self._since = self.clock()

    def done(self, stage: str) -> None:
        """Count the time since the last call for this stage."""
        now = self.clock()
        self.seconds[stage] += now - self._since
        self._since = now
