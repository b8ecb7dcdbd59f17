"""Compares some searches of the hot index with exact ones, all the time.

The search is repeated after a reply. A thread of its own compares what was found with all items that the
index has at that moment. It takes at most 2 % of a core, however many items there are
(`serving/sampled.py`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from headrace.serving.index.hot import Contents, HotIndex
from headrace.serving.sampled import Sampled

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

#: Nearest items that are compared.
K = 100
#: Of so many replies one is looked at, and at most one in this time (s).
EVERY, PAUSE_S = 500, 1.0
#: The gauge is the mean of so many comparisons.
KEPT = 100
_ROWS = 4096
#: Rounding errors of two ways to compute an inner product of unit vectors differ by less.
_EQUAL = np.float32(1e-5)


class RecallProbe:
    """Measures how many of the nearest items the hot index finds.

    One thread calls it, that of the index.

    Parameters
    ----------
    every, pause_s
        See ``EVERY``.
    clock
        Monotonic seconds.

    Attributes
    ----------
    samples
        Number of comparisons.
    """

    def __init__(
        self, every: int = EVERY, pause_s: float = PAUSE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._sampled = Sampled("recall", every, pause_s, clock, self._take)
        self._last: deque[float] = deque(maxlen=KEPT)
        self.samples = 0

    def replied(self, hot: HotIndex) -> None:
        """Compare the last search of ``hot`` if it is time. Call it when the replies are on their way."""
        if not self._sampled.due() or hot.asked is None or not len(hot):
            return
        vector = hot.asked.copy()
        keys, _ = hot.search(vector, K)
        contents = hot.contents()
        self._sampled.begin(lambda: recall_of(contents, vector, keys, K))

    def settle(self, *, wait: bool = True) -> None:
        """Take the result of a comparison that is done."""
        self._sampled.settle(wait=wait)

    def _take(self, recall: float) -> None:
        self._last.append(recall)
        self.samples += 1

    @property
    def recall(self) -> float | None:
        """The mean of the last comparisons, None before the first one."""
        return sum(self._last) / len(self._last) if self._last else None

    def close(self) -> None:
        """End the thread, after the comparison that runs."""
        self._sampled.close()


def recall_of(contents: Contents, vector: F32, found: U64, k: int) -> float:
    """Return the share of the ``k`` nearest items that were found, 1 when there is no item.

    An item as near as the ``k``-th counts: equal vectors have no order.

    Parameters
    ----------
    contents
        All items.
    vector
        What was searched, float32 ``(dim,)``.
    found
        Keys of the items that the index found, uint64 ``(m,)``.
    """
    product, ours = _products(contents, vector, found)
    k = min(k, len(product))
    if not k:
        return 1.0
    least = np.partition(product, len(product) - k)[len(product) - k]
    return min(1.0, int(np.count_nonzero(product[ours] >= least - _EQUAL)) / k)


def _products(contents: Contents, vector: F32, found: U64) -> tuple[F32, npt.NDArray[np.bool_]]:
    """Return the inner product of every living item, and which of them were found; ``(n,)`` each."""
    products, ours = [np.zeros(0, np.float32)], [np.zeros(0, bool)]
    for items, alive in contents.parts:
        for first in range(0, len(items.key), _ROWS):
            rows = first + np.flatnonzero(alive[first : first + _ROWS])
            products.append(items.vectors.vectors(rows) @ vector)
            ours.append(np.isin(items.key[rows], found))
    return np.concatenate(products), np.concatenate(ours)
