"""The young items of a snapshot, searched where they lie: no process has a copy of them.

The rows of each list lie in the order of their age, the oldest first. So the young ones are its end. A search
looks at the ends of the nearest lists. Where they begin is brought up to date some lists at a time; what has
become too old meanwhile is left out of the result.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from headrace.serving.index.lists import Lists
from headrace.serving.index.scan import Rows

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

#: Lists whose begins are brought up to date at once, and time between two times, ms.
_LISTS, _EVERY_MS = 512, 1000
#: Items that are compared at once, to measure the recall; a multiple of 8.
_BLOCK = 65_536


class Young:
    """The items of an index that were published at a time or later. One thread uses it, that of the index.

    Parameters
    ----------
    index
        The index; what is withdrawn in it is not found. In each of its lists, rows are in the order of
        ``published``, the earliest first.
    keys, published
        Of its rows: key, uint64 ``(n,)``, and when it was published, ms, int64 ``(n,)``.

    Attributes
    ----------
    oldest
        Items published before this time (ms) are not found.
    """

    def __init__(self, index: Lists, keys: U64, published: I64) -> None:
        self._index, self._keys, self._published = index, keys, published
        starts = index.starts
        self._begins, self._ends = starts[:-1].copy(), starts[1:]
        self.oldest = -(1 << 62)
        self._count, self._next, self._at = len(keys), 0, self.oldest

    def __len__(self) -> int:
        """Return about how many items there are: withdrawn ones are believed to be young."""
        return max(0, self._count - self._index.out)

    def begin(self, oldest: int) -> None:
        """Leave out what was published before ``oldest`` (ms); in any thread, before the first search."""
        self.oldest = self._at = max(self.oldest, oldest)
        self._bring(0, len(self._begins))

    def advance(self, oldest: int) -> None:
        """Leave out what was published before ``oldest`` (ms), which does not go back."""
        self.oldest = max(self.oldest, oldest)
        if self.oldest - self._at >= _EVERY_MS:
            self._at = self.oldest
            first, last = self._next, min(self._next + _LISTS, len(self._begins))
            self._bring(first, last)
            self._next = last if last < len(self._begins) else 0

    def _bring(self, first: int, last: int) -> None:
        """Find out where the young rows of some lists begin: halve what is between, in all at once."""
        low, high = self._begins[first:last].copy(), self._ends[first:last].copy()
        before = int(low.sum())
        open_ = np.flatnonzero(low < high)
        while len(open_):
            middle = (low[open_] + high[open_]) >> 1
            old = self._published[middle] < self.oldest
            low[open_[old]] = middle[old] + 1
            high[open_[~old]] = middle[~old]
            open_ = open_[low[open_] < high[open_]]
        if gone := int(low.sum()) - before:
            self._begins = self._begins.copy()  # results of searches are kept beside it
            self._begins[first:last] = low
            self._count -= gone

    def search(self, vector: F32, k: int) -> tuple[U64, F32]:
        """Return the keys of up to ``k`` nearest items and their inner products, nearest first."""
        all_ = self._count == len(self._keys)
        some = (None, None) if all_ else (self._begins, self._count)
        rows, products = self._index.search(vector, k, *some)
        young = self._published[rows] >= self.oldest
        if not young.all():
            rows, products = rows[young], products[young]
        return self._keys[rows], products

    def blocks(self) -> Iterator[tuple[U64, Rows]]:
        """Yield keys and vectors of all items, for any thread; old and withdrawn ones are marked as dead."""
        for first in range(0, len(self._keys), _BLOCK):
            some = slice(first, min(first + _BLOCK, len(self._keys)))
            old = np.packbits(self._published[some] < self.oldest, bitorder="little")
            yield self._keys[some], self._index.part(some.start, some.stop, old)
