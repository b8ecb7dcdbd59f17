"""How long a list may take, so that the requests behind it are in time, too. Pure: the clock is given.

Each request chooses what there is time for. One that has just come has time for everything, while others
wait in another partition whose time is nearly over. So what waits in this process counts: all of it must be
answered in time when everything behind gets the cheapest list. Each has its own deadline (``deadlines.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

#: What a request is believed to cost beside its list at first, s; what a batch weighs beside the next one.
_EACH_S, _FADE = 0.001, 0.9


class Backlog:
    """What a request costs when its list is the cheapest."""

    def __init__(self) -> None:
        self._spent_s, self._count = _EACH_S, 1.0

    def took(self, requests: int, seconds: float) -> None:
        """Note what requests took together, beside the ranked lists of some of them."""
        self._spent_s = _FADE * self._spent_s + max(0.0, seconds)
        self._count = _FADE * self._count + requests

    @property
    def each_s(self) -> float:
        """What a request takes beside a ranked list, s."""
        return self._spent_s / self._count

    def spare(self, behind: Iterable[tuple[float, float, int]]) -> float:
        """Return how long the next list may take, s, so that all behind it are in time (or infinity).

        Parameters
        ----------
        behind
            Of requests that wait: how long its caller still waits, s; how much of that a reply needs for its
            way back, s; and how many are answered before it after the next list. Those that are too late
            whatever is done do not count.
        """
        each, spare = self.each_s, math.inf
        for left, way_back, before in behind:
            done = (before + 1) * each
            if done <= left:
                spare = min(spare, left - way_back - done)
        return spare
