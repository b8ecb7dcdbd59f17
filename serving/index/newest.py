"""The newest items: of the whole catalogue, of each creator, of each category."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]


class Newest:
    """Sorted lists, fed item by item."""

    def __init__(self) -> None:
        self._items: dict[int, tuple[int, int, int]] = {}
        self._all: list[tuple[int, int]] = []
        self._groups: dict[int, list[tuple[int, int]]] = {}

    def put(self, key: int, published: int, category: int, creator: int) -> None:
        """Add or replace an item."""
        self.drop(key)
        self._items[key] = published, category, creator
        insort(self._all, (published, key))
        for group in (category, creator):
            insort(self._groups.setdefault(group, []), (published, key))

    def drop(self, key: int) -> None:
        """Remove an item, if it is here."""
        if key not in self._items:
            return
        published, category, creator = self._items.pop(key)
        for entries in (self._all, self._groups[category], self._groups[creator]):
            at = bisect_left(entries, (published, key))
            if entries[at : at + 1] == [(published, key)]:
                del entries[at]

    @staticmethod
    def _top(entries: list[tuple[int, int]], now: int, k: int) -> U64:
        end = bisect_left(entries, (now + 1, 0))
        out = [key for _, key in entries[max(0, end - k) : end]]
        return np.array(out[::-1], np.uint64)

    def newest(self, now: int, k: int) -> U64:
        """Return the ``k`` items published last before or at ``now`` (ms), the newest first."""
        return self._top(self._all, now, k)

    def by_creator(self, creator: int, now: int, k: int) -> U64:
        """Return those of a creator."""
        return self._top(self._groups.get(creator, []), now, k)

    def by_category(self, category: int, now: int, k: int) -> U64:
        """Return those of a category."""
        return self._top(self._groups.get(category, []), now, k)

    def of_creators(self, creators: Iterable[int], now: int, k: int) -> U64:
        """Return those of several creators."""
        entries = sorted(e for c in creators for e in self._groups.get(int(c), [])[-4 * k :])
        return self._top(entries, now, k)
