"""Which offset may be committed: pure bookkeeping, one queue of batches in flight per partition.

    delivered   [0..99]  [100..199]  [200..299]
    acked          x                     x         committable = 100, later 300

Holes left by compaction or by transaction markers belong to the batch before them: when the log goes on (or
ends) at 310, the last batch above makes 310 committable, so that nothing seems to be left to read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

#: (topic, partition); Faust's and aiokafka's own named tuples compare equal to it.
TopicPartition = tuple[str, int]


class Ticket:
    """One batch in flight. Acking is idempotent, and does nothing once the partition was taken away.

    Attributes
    ----------
    void
        The partition was taken away, or moved to another offset: nobody needs to work on the batch any more.
    """

    __slots__ = ("acked", "last_offset", "next_offset", "partition", "void")

    def __init__(self, partition: TopicPartition, last_offset: int) -> None:
        self.partition = partition
        self.last_offset = last_offset
        self.next_offset = last_offset + 1
        self.acked = False
        self.void = False

    def ack(self) -> None:
        """Say that every effect of the batch is durable."""
        self.acked = True


class OffsetLedger:
    """Batches in flight, in the order of their delivery.

    A ticket that was forgotten (its partition was revoked) is not in any queue any more: acking it late
    cannot move an offset, even when the same records are in flight again under a newer ticket.
    """

    def __init__(self) -> None:
        self._open: dict[TopicPartition, deque[Ticket]] = {}
        self._done: dict[TopicPartition, int] = {}

    def open(self, partition: TopicPartition, last_offset: int) -> Ticket:
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

    def skip(self, partition: TopicPartition, next_offset: int) -> None:
        """Note that no record lies between what was delivered last and ``next_offset``.

        ``next_offset`` becomes committable together with the last batch in flight, or now when there is none.
        """
        queue = self._open.get(partition)
        if queue:
            queue[-1].next_offset = max(queue[-1].next_offset, next_offset)
        else:
            self._done[partition] = max(self._done.get(partition, next_offset), next_offset)

    def committable(self, partition: TopicPartition) -> int | None:
        """Return the offset after the longest acked prefix, or None when nothing was acked yet."""
        queue = self._open.get(partition)
        while queue and queue[0].acked:
            self._done[partition] = queue.popleft().next_offset
        return self._done.get(partition)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Drop everything known about ``partitions``; their open tickets become void."""
        for partition in partitions:
            for ticket in self._open.pop(partition, ()):
                ticket.void = True
            self._done.pop(partition, None)

    def restart(self, partition: TopicPartition, offset: int) -> None:
        """Forget the partition and make ``offset``, where it is read from now on, committable."""
        self.forget([partition])
        self._done[partition] = offset

    def partitions(self) -> list[TopicPartition]:
        """Return the partitions with batches in flight or acked."""
        return list(self._open.keys() | self._done.keys())

    def in_flight(self, partition: TopicPartition) -> int:
        """Return the number of batches delivered and not yet part of the committable prefix."""
        self.committable(partition)
        return len(self._open.get(partition, ()))
