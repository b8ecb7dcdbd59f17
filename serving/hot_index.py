"""Hot index: vector search over the items of the last hours (hnswlib).

One thread owns it: hnswlib is not safe when one thread adds while another searches (its issues 562, 590, 205).
Deleted points never free their memory (249), so the index is built anew, aside, when too many have expired.
"""

from __future__ import annotations

import heapq

import hnswlib
import numpy as np
import numpy.typing as npt

from models.embedding import DIM

F32 = npt.NDArray[np.float32]
U64 = npt.NDArray[np.uint64]

_M = 16
_EF_BUILD = 100
_EF_SEARCH = 200
_FIRST_CAPACITY = 4096
#: Rebuild when this share of the points is dead.
_DEAD_SHARE = 0.3


class HotIndex:
    """Items of the last ``max_age_ms``, nearest first.

    Parameters
    ----------
    max_age_ms
        Age at which an item leaves.
    """

    def __init__(self, max_age_ms: int) -> None:
        self._max_age_ms = max_age_ms
        self._index = self._new(_FIRST_CAPACITY)
        self._alive: dict[int, tuple[int, F32]] = {}
        self._dead: set[int] = set()
        self._by_age: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._alive)

    @staticmethod
    def _new(capacity: int) -> hnswlib.Index:
        index = hnswlib.Index(space="ip", dim=DIM)
        index.init_index(max_elements=capacity, M=_M, ef_construction=_EF_BUILD, random_seed=7)
        index.set_ef(_EF_SEARCH)
        index.set_num_threads(1)
        return index

    def put(self, key: int, vector: F32, published: int, now: int) -> bool:
        """Add or move an item; return whether it is in (it has a vector, and is young enough)."""
        if now - published > self._max_age_ms or not vector.any():
            self.drop(key)
            return False
        if self._index.get_current_count() >= self._index.get_max_elements():
            self._index.resize_index(2 * self._index.get_max_elements())
        if key in self._dead:
            self._index.unmark_deleted(key)
            self._dead.discard(key)
        self._index.add_items(vector[None, :], np.array([key], np.uint64))
        self._alive[key] = (published, vector.copy())
        heapq.heappush(self._by_age, (published, key))
        return True

    def drop(self, key: int) -> None:
        """Remove an item, if it is in."""
        if self._alive.pop(key, None) is not None:
            self._index.mark_deleted(key)
            self._dead.add(key)

    def expire(self, now: int) -> int:
        """Remove what has become too old; return how many."""
        gone = 0
        while self._by_age and now - self._by_age[0][0] > self._max_age_ms:
            published, key = heapq.heappop(self._by_age)
            if key in self._alive and self._alive[key][0] == published:
                self.drop(key)
                gone += 1
        if len(self._dead) > 1000 and len(self._dead) > _DEAD_SHARE * (len(self._dead) + len(self._alive)):
            self._rebuild()
        return gone

    def _rebuild(self) -> None:
        fresh = self._new(max(_FIRST_CAPACITY, 2 * len(self._alive)))
        if self._alive:
            vectors = np.stack([v for _, v in self._alive.values()])
            fresh.add_items(vectors, np.fromiter(self._alive, np.uint64, len(self._alive)))
        self._index, self._dead = fresh, set()

    def search(self, vector: F32, k: int) -> tuple[U64, F32]:
        """Return up to ``k`` nearest items and their inner products, nearest first; arrays ``(<=k,)``."""
        k = min(k, len(self._alive))
        if k == 0 or not vector.any():
            return np.zeros(0, np.uint64), np.zeros(0, np.float32)
        if k > _EF_SEARCH:
            self._index.set_ef(k)
        labels, distances = self._index.knn_query(vector[None, :], k=k, num_threads=1)
        return labels[0].astype(np.uint64), (1 - distances[0]).astype(np.float32)
