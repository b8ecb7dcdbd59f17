"""Which offset may be committed: pure bookkeeping, one queue of batches in flight per partition.

    delivered   [0..99]  [100..199]  [200..299]
    acked          x                     x         committable = 100, later 300

Holes left by compaction or by transaction markers need no attention: a batch ends where its last record does,
and the next one starts wherever it starts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

#: (topic, partition); Faust's and aiokafka's own named tuples compare equal to it.
Partition = tuple[str, int]


class Ticket:
    """One batch in flight. Acking is idempotent, and does nothing once the partition was taken away."""

    __slots__ = ("acked", "last_offset", "partition")

    def __init__(self, partition: Partition, last_offset: int) -> None:
        self.partition = partition
        self.last_offset = last_offset
        self.acked = False

    def ack(self) -> None:
        """Say that every effect of the batch is durable."""
        self.acked = True


class OffsetLedger:
    """Batches in flight, in the order of their delivery.

    A ticket that was forgotten (its partition was revoked) is not in any queue any more: acking it late
    cannot move an offset, even when the same records are in flight again under a newer ticket.
    """

    def __init__(self) -> None:
        self._open: dict[Partition, deque[Ticket]] = {}
        self._done: dict[Partition, int] = {}

    def open(self, partition: Partition, last_offset: int) -> Ticket:
        """Register a delivered batch that ends at ``last_offset``.

        Raises
        ------
        ValueError
            When the batch does not come after those in flight: the caller must ``forget`` the partition
            first.
        """
        queue = self._open.setdefault(partition, deque())
        if queue and last_offset <= queue[-1].last_offset:
            raise ValueError(
                f"{partition}: batch ends at {last_offset}, but {queue[-1].last_offset} is in flight"
            )
        ticket = Ticket(partition, last_offset)
        queue.append(ticket)
        return ticket

    def committable(self, partition: Partition) -> int | None:
        """Return the offset after the longest acked prefix, or None when nothing was acked yet."""
        queue = self._open.get(partition)
        while queue and queue[0].acked:
            self._done[partition] = queue.popleft().last_offset + 1
        return self._done.get(partition)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drop everything known about ``partitions``; their open tickets become void."""
        for partition in partitions:
            self._open.pop(partition, None)
            self._done.pop(partition, None)

    def partitions(self) -> list[Partition]:
        """Return the partitions with batches in flight or acked."""
        return list(self._open)

    def in_flight(self, partition: Partition) -> int:
        """Return the number of batches delivered and not yet part of the committable prefix."""
        self.committable(partition)
        return len(self._open.get(partition, ()))
