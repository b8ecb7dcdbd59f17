"""Finds when an offset was written, from offsets whose time is known. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

#: Most known offsets of a partition. Of more, every second one is forgotten.
MOST_KNOWN = 512


class OffsetTimes:
    """Known (offset, time) pairs of one partition; between two of them the time is interpolated.

    Attributes
    ----------
    exact
        Offsets whose time the broker has given.
    """

    def __init__(self) -> None:
        self.exact: set[int] = set()
        self._offsets: list[int] = []
        self._times: dict[int, float] = {}
        self._end = -1

    def written(self, offset: int, at_s: float) -> None:
        """Note the timestamp (s since the epoch) of the first record at or after an offset: it is exact."""
        self._note(offset, at_s)
        self.exact.add(offset)

    def ends(self, end: int, at_s: float) -> None:
        """Note where the log ends, at a time.

        The record before the end was written before this look, if the look before saw a lower end. The one
        at the end will be written after the last look that sees this end.
        """
        if end < self._end:  # another log
            self._drop(list(self._offsets))
            self._end = -1
        if self._end not in (-1, end):
            self._estimate(end - 1, at_s)
        self._estimate(end, at_s)
        self._end = end

    def at(self, offset: int) -> float | None:
        """Return when the record at ``offset`` was written, s since the epoch; None when it is not known.

        Not known is what lies before the first or after the last offset that is known.
        """
        if offset in self._times and (offset in self.exact or offset < self._end):
            return self._times[offset]
        after = bisect_right(self._offsets, offset)
        if after == 0 or after == len(self._offsets) or offset >= self._end:
            return None
        low, high = self._offsets[after - 1], self._offsets[after]
        share = (offset - low) / (high - low)
        return self._times[low] + share * (self._times[high] - self._times[low])

    def forget_before(self, offset: int) -> None:
        """Forget what is not needed for the times of ``offset`` and later ones."""
        first = max(0, bisect_right(self._offsets, offset) - 1)
        self._drop(self._offsets[:first])

    def _estimate(self, offset: int, at_s: float) -> None:
        if offset not in self.exact:
            self._note(offset, at_s)

    def _note(self, offset: int, at_s: float) -> None:
        if offset not in self._times:
            insort(self._offsets, offset)
        self._times[offset] = at_s
        if len(self._offsets) > MOST_KNOWN:
            self._drop(self._offsets[1:-1:2])

    def _drop(self, offsets: list[int]) -> None:
        for offset in offsets:
            del self._offsets[bisect_left(self._offsets, offset)]
            del self._times[offset]
            self.exact.discard(offset)
