"""Hot index: vector search over the items of the last hours (hnswlib).

Only one thread may use it: hnswlib is not safe when one thread adds while another searches (its issues 562,
590, 205). Deleted points never free their memory (249), so a new index is built when too many have expired.

The graph has one point for every distinct vector, not for every item. Equal points would link only to one
another, and a search could not leave them. All items are compared, without the graph, while there are few of
them, and when hnswlib raises because it cannot reach as many points as asked for.
"""

from __future__ import annotations

import heapq
from itertools import chain

import hnswlib
import numpy as np
import numpy.typing as npt
import xxhash

from headrace.models.embeddings import DIM
from headrace.streams.tables.rows import RowTable

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

#: ``point`` is the hash of the vector, the label of its point in the graph.
_ROW = np.dtype([("key", "<u8"), ("published", "<i8"), ("point", "<u8"), ("vector", "<f4", (DIM,))])

_M = 16
_EF_BUILD = 100
_EF_SEARCH = 200
_FIRST_CAPACITY = 4096
#: Up to this many items, comparing all of them is faster than a search in the graph.
_FEW = 1000
#: Rebuild when this share of the points is dead.
_DEAD_SHARE = 0.3


class HotIndex:
    """Vector search over the items published in the last ``max_age_ms``.

    Parameters
    ----------
    max_age_ms
        An item older than this is removed.
    """

    def __init__(self, max_age_ms: int) -> None:
        self._max_age_ms = max_age_ms
        self._index = self._new(_FIRST_CAPACITY)
        self._alive = RowTable(_ROW)
        self._points: dict[int, dict[int, None]] = {}  # items at each point not deleted, in order of arrival
        self._dead: set[int] = set()
        self._by_age: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._alive)

    @staticmethod
    def _new(capacity: int) -> hnswlib.Index:
        index = hnswlib.Index(space="ip", dim=DIM)
        index.init_index(max_elements=capacity, M=_M, ef_construction=_EF_BUILD, random_seed=7)
        index.set_num_threads(1)
        return index

    def put(self, key: int, vector: F32, published: int, now: int) -> bool:
        """Add or update an item; return whether it is in the index (it has a vector, and is young enough)."""
        if now - published > self._max_age_ms or not vector.any():
            self.drop(key)
            return False
        point = xxhash.xxh3_64_intdigest(vector.tobytes())
        row = self._alive.row(key)
        if row < 0 or self._alive.data["point"][row] != point:
            self.drop(key)
            self._add(key, point, vector)
            row = int(self._alive.take([key])[0])
            self._alive.data["point"][row], self._alive.data["vector"][row] = point, vector
            heapq.heappush(self._by_age, (published, key))
        elif self._alive.data["published"][row] != published:
            heapq.heappush(self._by_age, (published, key))
        self._alive.data["published"][row] = published
        if len(self._by_age) > 2 * len(self._alive) + _FEW:  # items that were dropped or got another time
            rows = self._alive.rows()
            ages = zip(*(self._alive.data[name][rows].tolist() for name in ("published", "key")), strict=True)
            self._by_age = sorted(ages)  # a sorted list is a heap
        return True

    def _add(self, key: int, point: int, vector: F32) -> None:
        """Add an item to its point; add the point to the graph when it is new."""
        if point in self._points:
            self._points[point][key] = None
            return
        self._points[point] = {key: None}
        if point in self._dead:
            self._index.unmark_deleted(point)
            self._dead.discard(point)
            return
        if self._index.get_current_count() >= self._index.get_max_elements():
            self._index.resize_index(2 * self._index.get_max_elements())
        self._index.add_items(vector[None, :], np.array([point], np.uint64))

    def drop(self, key: int) -> None:
        """Remove an item, if it is in the index."""
        row = self._alive.row(key)
        if row < 0:
            return
        point = int(self._alive.data["point"][row])
        self._alive.drop([key])
        del self._points[point][key]
        if not self._points[point]:
            del self._points[point]
            self._index.mark_deleted(point)
            self._dead.add(point)

    def expire(self, now: int) -> int:
        """Remove the items that have become too old; return how many."""
        gone = 0
        while self._by_age and now - self._by_age[0][0] > self._max_age_ms:
            published, key = heapq.heappop(self._by_age)
            row = self._alive.row(key)
            if row >= 0 and self._alive.data["published"][row] == published:
                self.drop(key)
                gone += 1
        if len(self._dead) > _FEW and len(self._dead) > _DEAD_SHARE * (len(self._dead) + len(self._points)):
            self._rebuild()
        return gone

    def _rebuild(self) -> None:
        fresh = self._new(max(_FIRST_CAPACITY, 2 * len(self._points)))
        rows = self._alive.rows()
        if len(rows):
            points, first = np.unique(self._alive.data["point"][rows], return_index=True)
            fresh.add_items(self._alive.data["vector"][rows[first]], points)
        self._index, self._dead = fresh, set()

    def search(self, vector: F32, k: int) -> tuple[U64, F32]:
        """Return up to ``k`` nearest items and their inner products, nearest first; arrays ``(<=k,)``."""
        k = min(k, len(self._alive))
        if k <= 0 or not vector.any():
            return np.zeros(0, np.uint64), np.zeros(0, np.float32)
        if len(self._alive) <= _FEW:
            return self._exact(vector, k)
        n = min(k, len(self._points))
        self._index.set_ef(max(_EF_SEARCH, n))
        try:
            points, distances = self._index.knn_query(vector[None, :], k=n, num_threads=1)
        except RuntimeError:
            return self._exact(vector, k)
        at = [self._points[p] for p in points[0].tolist()]
        newest_first = chain.from_iterable(map(reversed, at))
        keys = np.fromiter(newest_first, np.uint64)[:k]
        product = np.repeat(1 - distances[0], list(map(len, at)))[:k]
        return keys, product.astype(np.float32)

    def _exact(self, vector: F32, k: int) -> tuple[U64, F32]:
        rows = self._alive.rows()
        product: F32 = self._alive.data["vector"][rows] @ vector
        best = np.argpartition(-product, k - 1)[:k]
        best = best[np.argsort(-product[best], kind="stable")]
        return self._alive.data["key"][rows[best]], product[best]
