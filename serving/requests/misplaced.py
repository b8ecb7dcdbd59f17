"""Requests in another partition than their key's: counted and, when the settings say so, refused.

Nothing of an answer depends on the partition of its request. But a caller whose client uses another
partitioner than Kafka's default (murmur2) most likely has producers with the same client.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.streams.clock import SYSTEM, Clock

log = logging.getLogger(__name__)

#: Shortest time between two log lines, s.
QUIET_S = 30.0


class MisplacedRequests:
    """Finds misplaced requests, counts them, and logs their number.

    Parameters
    ----------
    refuse
        Whether they are refused.
    clock
        Time.

    Attributes
    ----------
    count
        Misplaced requests since the start.
    """

    def __init__(self, *, refuse: bool, clock: Clock = SYSTEM) -> None:
        self.count = 0
        self._refuse = refuse
        self._clock = clock
        self._said = 0
        self._said_at = -QUIET_S

    def refused(self, records: Sequence[Any], wrong: npt.NDArray[np.bool_], where: str) -> set[int]:
        """Count the misplaced ones of ``records``; return the offsets of those to refuse.

        Parameters
        ----------
        records
            Records of one partition.
        wrong
            Which of them are misplaced, bool ``(n,)``; see streams/topics/placement.py.
        where
            Topic and partition, for the log.
        """
        if not wrong.any():
            return set()
        self.count += int(wrong.sum())
        self._say(where)
        if not self._refuse:
            return set()
        return {records[i].offset for i in np.flatnonzero(wrong).tolist()}

    def _say(self, where: str) -> None:
        now = self._clock.monotonic()
        if now - self._said_at < QUIET_S:
            return
        new, self._said, self._said_at = self.count - self._said, self.count, now
        log.warning(
            "%d requests in the wrong partition or without a key, the last ones in %s: "
            "a caller does not use Kafka's default partitioner",
            new,
            where,
            extra={"action": "misplaced", "count": new},
        )
