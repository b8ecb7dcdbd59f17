"""Requests in another partition than their key's: counted and, when the settings say so, refused.

Nothing of an answer depends on the partition of its request. But a caller whose client uses another
partitioner than Kafka's default (murmur2) most likely has producers with the same client.
"""

from __future__ import annotations

import logging

import numpy as np

from headrace.streams.clock import SYSTEM, Clock
from headrace.streams.topics.placement import misplaced
from headrace.streams.transport.batches import RecordBatch

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

    def refused(self, batch: RecordBatch, partitions: int) -> set[int]:
        """Count the misplaced requests of a batch; return the offsets of those to refuse.

        ``partitions`` is the number of partitions of the topic; 0, not known, finds none.
        """
        if partitions <= 0:
            return set()
        wrong = misplaced(batch.records, batch.partition, partitions)
        if not wrong.any():
            return set()
        self.count += int(wrong.sum())
        self._say(batch)
        if not self._refuse:
            return set()
        return {batch.records[i].offset for i in np.flatnonzero(wrong).tolist()}

    def _say(self, batch: RecordBatch) -> None:
        now = self._clock.monotonic()
        if now - self._said_at < QUIET_S:
            return
        new, self._said, self._said_at = self.count - self._said, self.count, now
        log.warning(
            "%d requests in the wrong partition (the last ones in %s-%d) or without a key: "
            "a caller does not use Kafka's default partitioner",
            new,
            batch.topic,
            batch.partition,
            extra={"action": "misplaced", "topic": batch.topic, "count": new},
        )
