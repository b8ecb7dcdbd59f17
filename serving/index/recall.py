"""Compares some searches of the hot index, and of the catalogue's snapshot, with exact ones, all the time.

The search is repeated after a reply. A thread of its own compares what was found with all items that the
index has. It takes at most 2 % of a core, however many items there are (`serving/sampled.py`), and works a
block at a time with long rests between: a comparison with ten million items does not slow answers down.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from headrace.models.state.key_sets import among
from headrace.serving.index.scan import Rows
from headrace.serving.sampled import Sampled

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

#: Nearest items that are compared.
K = 100
#: Of so many replies one is looked at, and at most one in this time (s).
EVERY, PAUSE_S = 500, 1.0
#: The gauge is the mean of so many comparisons.
KEPT = 100
#: After a block, the thread rests so many times as long as the block took.
_PAUSES = 9
#: Of each block, so many times ``K`` rows are chosen by their high bytes and compared exactly.
_WIDE = 4
#: Rounding errors of two ways to compute an inner product of unit vectors differ by less.
_EQUAL = np.float32(1e-5)


class Compared(Protocol):
    """All items of an index; another thread may read it."""

    def blocks(self) -> Iterator[tuple[U64, Rows]]:
        """Yield keys, uint64 ``(n,)``, and vectors of all items, some ten thousand at once.

        Items that are not there any more may be among them, marked as dead.
        """
        ...


class Searched(Protocol):
    """An index whose searches are compared: the hot one, or that of the catalogue's snapshot."""

    asked: F32 | None  # vector of the last search

    def __len__(self) -> int: ...

    def search(self, vector: F32, k: int) -> tuple[U64, F32]:
        """Return up to ``k`` nearest items and their inner products."""
        ...

    def contents(self) -> Compared:
        """Return the items as they are now; it takes no time that grows with their number."""
        ...


class RecallProbe:
    """Measures how many of the nearest items an index finds.

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

    def replied(self, index: Searched) -> None:
        """Compare the last search of ``index`` if it is time. Call it when the replies are on their way."""
        if not self._sampled.due() or index.asked is None or not len(index):
            return
        vector = index.asked.copy()
        keys, _ = index.search(vector, K)
        contents = index.contents()
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


def recall_of(contents: Compared, vector: F32, found: U64, k: int) -> float:
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
    best, ours, pause_s = np.zeros(0, np.float32), [np.zeros(0, np.float32)], 0.0
    for keys, rows in contents.blocks():
        time.sleep(pause_s)
        began = time.perf_counter()
        every, there = np.array([0, rows.n]), np.flatnonzero(among(keys, found))
        near = rows.nearest(vector, every[:1], every[1:], k, _WIDE * k, rows.n)[1]
        best = np.sort(np.concatenate([best, near]))[-k:]
        ours.append(rows.nearest(vector, there, there + 1, len(there), len(there), rows.n)[1])
        pause_s = _PAUSES * (time.perf_counter() - began)
    if not len(best):
        return 1.0
    good = np.count_nonzero(np.concatenate(ours) >= best.min() - _EQUAL)
    return min(1.0, int(good) / len(best))
