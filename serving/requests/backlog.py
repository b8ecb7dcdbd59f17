"""How long a list may take, so that the requests behind it are in time, too. Pure: the clock is given.

Each request chooses what there is time for. One that has just come has time for everything, while others
wait in another partition whose time is nearly over. So what waits in this process counts: all of it must be
answered in time when everything behind gets the cheapest list.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

#: What a request is believed to cost beside its list at first, s; what a batch weighs beside the next one.
_EACH_S, _FADE = 0.001, 0.9
#: The shortest deadline is that of the last one to two times so many requests.
_LAST: Final = 256


class Backlog:
    """What a request costs when its list is the cheapest, and the shortest deadline lately."""

    def __init__(self) -> None:
        self._spent_s, self._count = _EACH_S, 1.0
        self._asked = 0
        self._shortest = self._before = math.inf

    def asked(self, deadline_s: float) -> None:
        """Note the deadline of a request: those that wait are believed to have the shortest lately."""
        if self._asked == _LAST:
            self._before, self._shortest, self._asked = self._shortest, math.inf, 0
        self._shortest = min(self._shortest, deadline_s)
        self._asked += 1

    def took(self, requests: int, seconds: float) -> None:
        """Note what requests took together, beside the ranked lists of some of them."""
        self._spent_s = _FADE * self._spent_s + max(0.0, seconds)
        self._count = _FADE * self._count + requests

    @property
    def each_s(self) -> float:
        """What a request takes beside a ranked list, s."""
        return self._spent_s / self._count

    def spare(self, ages: Iterable[tuple[float, int]], way_back_s: float) -> float:
        """Return how long the next list may take, s, so that all behind it are in time (or infinity).

        Parameters
        ----------
        ages
            Of requests that wait: the age, s, and how many are answered before it after the next list. Those
            that are too late whatever is done do not count.
        way_back_s
            How long before the deadline a reply must be on its way.
        """
        deadline, each, spare = min(self._shortest, self._before), self.each_s, math.inf
        for age, before in ages:
            done = age + (before + 1) * each
            if done <= deadline:
                spare = min(spare, deadline - way_back_s - done)
        return spare
