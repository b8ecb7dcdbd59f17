"""The lag of a partition as its worker sees it: from its position and the ends that the broker told. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

#: Most ends that are remembered of a partition. Of more, every second one is forgotten.
MOST_ENDS = 512


@dataclass(slots=True)
class OwnLag:
    """The lag in one partition.

    A record at or after the position was written after the newest look that saw the end at the position or
    before it, and after the last record that was processed. So the age of the first record that is not
    processed is at most the time since the later of the two: it is exact to the time between two looks.

    Attributes
    ----------
    position
        Offset after the last record that was processed, None unknown.
    processed_s
        Time of that record, s since the epoch, None unknown.
    """

    position: int | None = None
    processed_s: float | None = None
    _ends: deque[tuple[float, int]] = field(default_factory=deque)

    def processed(self, next_offset: int, timestamp_s: float) -> None:
        """Note a batch that was processed: the offset after its last record, and its time (s)."""
        self.position, self.processed_s = next_offset, timestamp_s

    def start(self, offset: int) -> None:
        """Note from where on the partition is read, when no batch was processed yet."""
        if self.position is None:
            self.position = offset

    def ends(self, end: int, now_s: float) -> None:
        """Note the end of the partition, at a time (s since the epoch)."""
        if self._ends and end < self._ends[-1][1]:  # another log, or one that has lost records
            self._ends.clear()
        if len(self._ends) > 1 and self._ends[-2][1] == end:
            self._ends.pop()  # of equal ends, the first and the last are enough
        self._ends.append((now_s, end))
        if self.position is not None:
            while len(self._ends) > 1 and self._ends[1][1] <= self.position:
                self._ends.popleft()
        if len(self._ends) > MOST_ENDS:
            self._ends = deque([*list(self._ends)[:-1:2], self._ends[-1]])

    def records(self) -> int | None:
        """Return the number of offsets that are not processed; None when not known, or nothing is there."""
        if self.position is None or not self._ends or not self._ends[-1][1]:
            return None
        return max(0, self._ends[-1][1] - self.position)

    def seconds(self, now_s: float) -> float | None:
        """Return the age of the first record that is not processed, s; 0 without one, None when not known."""
        left = self.records()
        if not left or self.position is None:
            return None if left is None else 0.0
        seen = max((at for at, end in self._ends if end <= self.position), default=-inf)
        since = max(seen, -inf if self.processed_s is None else self.processed_s)
        return None if since == -inf else max(0.0, now_s - since)
