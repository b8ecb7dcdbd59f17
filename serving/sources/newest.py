"""Source: the most recently published items of the catalogue."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.catalog import Catalog

U64 = npt.NDArray[np.uint64]

#: The cached list is computed again after this time.
REFRESH_MS = 1000


def newest(catalog: Catalog, now: int, k: int) -> U64:
    """Return the ``k`` items published last before or at ``now`` (ms), newest first; uint64 ``(<=k,)``."""
    view = catalog.table.view()
    published = view["published"]
    rows = np.flatnonzero((published <= now) & (view["key"] != 0))
    if len(rows) > k:
        rows = rows[published[rows] >= np.partition(published[rows], -k)[-k]]
    keys: U64 = view["key"][rows[np.argsort(-published[rows], kind="stable")[:k]]]
    return keys


class Newest:
    """The ``size`` newest items, cached for ``REFRESH_MS`` of event time."""

    def __init__(self, catalog: Catalog, size: int) -> None:
        self._catalog = catalog
        self._size = size
        self._keys: U64 = np.zeros(0, np.uint64)
        self._at = -1

    def at(self, now: int) -> U64:
        """Return the newest items at ``now`` (ms), newest first."""
        if self._at < 0 or abs(now - self._at) >= REFRESH_MS:
            self._at = now
            self._keys = newest(self._catalog, now, self._size)
        return self._keys
