"""Computes which offset may be committed: one queue of batches in flight per partition. Pure.

    delivered   [0..99]  [100..199]  [200..299]
    acked          x                     x         committable = 100; 300 when the second batch is acked too

Offsets without records (removed by compaction, or transaction markers) belong to the batch before them. When
the log continues (or ends) at 310, the last batch above makes 310 committable. So the lag becomes 0 at the
end of a partition.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from .places import Place

#: (topic, partition); Faust's and aiokafka's own named tuples compare equal to it.
TopicPartition = tuple[str, int]


class Ticket:
    """One batch in flight. A second ack does nothing; nor does an ack after the partition was revoked.

    Attributes
    ----------
    partition
        Its (topic, partition).
    last_offset
        Offset of its last record.
    next_offset
        Offset that is committable when this batch and all before it are acked.
    acked
        Whether it was acked.
    place
        The place after its last record, committed together with the offset; None unknown.
    void
        Whether the partition was revoked, or moved to another offset: the batch needs no more work.
    """

    __slots__ = ("acked", "last_offset", "next_offset", "partition", "place", "void")

    def __init__(self, partition: TopicPartition, last_offset: int, place: Place | None = None) -> None:
        self.partition = partition
        self.last_offset = last_offset
        self.next_offset = last_offset + 1
        self.place = place
        self.acked = False
        self.void = False

    def ack(self) -> None:
        """Note that every effect of the batch is durable."""
        self.acked = True


class OffsetLedger:
    """Batches in flight, by partition, in the order of delivery.

    ``forget`` removes the tickets of a revoked partition from the queue. A late ack of such a ticket cannot
    move an offset, even when the same records are in flight again with a newer ticket.
    """

    def __init__(self) -> None:
        self._open: dict[TopicPartition, deque[Ticket]] = {}
        self._done: dict[TopicPartition, int] = {}
        self._places: dict[TopicPartition, Place | None] = {}

    def open(self, partition: TopicPartition, last_offset: int, place: Place | None = None) -> Ticket:
        """Register a delivered batch that ends at ``last_offset``.

        Raises
        ------
        ValueError
            When the batch does not come after those in flight: ``forget`` the partition first.
        """
        queue = self._open.setdefault(partition, deque())
        if queue and last_offset <= queue[-1].last_offset:
            raise ValueError(
                f"{partition}: batch ends at {last_offset}, but {queue[-1].last_offset} is in flight"
            )
        ticket = Ticket(partition, last_offset, place)
        queue.append(ticket)
        return ticket

    def skip(self, partition: TopicPartition, next_offset: int) -> None:
        """Note that there is no record between the last delivered one and ``next_offset``.

        ``next_offset`` becomes committable with the last batch in flight, or at once when there is none.
        """
        queue = self._open.get(partition)
        if queue:
            queue[-1].next_offset = max(queue[-1].next_offset, next_offset)
        else:
            self._done[partition] = max(self._done.get(partition, next_offset), next_offset)

    def committable(self, partition: TopicPartition) -> int | None:
        """Return the offset up to which all batches are acked, or None when none is acked yet."""
        queue = self._open.get(partition)
        while queue and queue[0].acked:
            ticket = queue.popleft()
            self._done[partition], self._places[partition] = ticket.next_offset, ticket.place
        return self._done.get(partition)

    def place(self, partition: TopicPartition, offset: int) -> Place | None:
        """Return the place to be committed together with ``offset``; None when it is not known."""
        place = self._places.get(partition)
        return place if place is not None and place.next <= offset else None

    def turn(self, partition: TopicPartition, place: Place) -> None:
        """Note that another log begins at ``place``, or the rest of one that has lost its last records.

        Batches of the old log that are in flight go on to be processed. Their offsets mean nothing in the new
        log: they make none after ``place.next`` committable.
        """
        for ticket in self._open.get(partition, ()):
            if ticket.next_offset > place.next:
                ticket.next_offset, ticket.place = place.next, place
                ticket.last_offset = place.next - 1
        if partition in self._done:
            self._done[partition] = min(self._done[partition], place.next)
            self._places[partition] = place

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Remove everything about ``partitions``; their open tickets become void."""
        for partition in partitions:
            for ticket in self._open.pop(partition, ()):
                ticket.void = True
            self._done.pop(partition, None)
            self._places.pop(partition, None)

    def restart(self, partition: TopicPartition, offset: int) -> None:
        """Forget the partition and make ``offset`` committable: it is read from there on."""
        self.forget([partition])
        self._done[partition] = offset

    def begin(self, places: Mapping[TopicPartition, Place]) -> None:
        """Make the places committable at which partitions are read on: a state has everything before them."""
        for partition, place in places.items():
            self._done[partition], self._places[partition] = place.next, place

    def partitions(self) -> list[TopicPartition]:
        """Return the partitions with batches in flight or acked."""
        return list(self._open.keys() | self._done.keys())

    def in_flight(self, partition: TopicPartition) -> int:
        """Return the number of delivered batches that ``committable`` does not cover yet."""
        self.committable(partition)
        return len(self._open.get(partition, ()))
