"""Vector search in an HNSW graph (hnswlib), with the methods of ``Lists``.

The graph has one point for every distinct vector: equal points would link only to one another, and a search
could not leave them. It is never changed once it is made: hnswlib is not safe when one thread adds while
another searches (its issues 562, 590, 205), and points that are deleted never free their memory (249).
"""

from __future__ import annotations

import hnswlib
import numpy as np
import numpy.typing as npt

from headrace.serving.index.quantised import Quantised

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

_M = 16
_EF_BUILD = 100
_EF_SEARCH = 300
#: Vectors that are added without letting other threads run.
_PIECE = 256


class Graph:
    """Vector search over rows that do not change, only are withdrawn.

    Parameters
    ----------
    vectors
        Vectors of the rows. A row without a vector is never found.
    """

    def __init__(self, vectors: Quantised) -> None:
        every = vectors.vectors(np.arange(len(vectors.scale)))
        self._alive = np.ones(len(every), bool)
        there = np.flatnonzero(vectors.scale > 0)
        distinct, point = np.unique(every[there], axis=0, return_inverse=True)
        order = np.argsort(point.ravel(), kind="stable")
        self._rows = there[order]  # rows of point 0, then of point 1 ...
        self._starts = np.searchsorted(point.ravel()[order], np.arange(len(distinct) + 1))
        self._index = hnswlib.Index(space="ip", dim=every.shape[1])
        self._index.init_index(max(1, len(distinct)), M=_M, ef_construction=_EF_BUILD, random_seed=7)
        self._index.set_num_threads(1)
        for first in range(0, len(distinct), _PIECE):
            labels = np.arange(first, min(first + _PIECE, len(distinct)))
            self._index.add_items(distinct[labels], labels)

    def __len__(self) -> int:
        return len(self._alive)

    def withdraw(self, rows: I64) -> None:
        """Never find these rows again, int64 ``(m,)``."""
        self._alive[rows] = False

    def withdrawn(self, rows: I64) -> Bool:
        """Return which of some rows are withdrawn, bool ``(m,)``."""
        out: Bool = ~self._alive[rows]
        return out

    def alive(self) -> Bool:
        """Return which rows are not withdrawn, bool ``(n,)``, a copy."""
        return self._alive.copy()

    def search(self, vector: F32, k: int) -> tuple[I64, F32]:
        """Return up to ``k`` nearest rows and their inner products, nearest first; arrays ``(<=k,)``.

        The search is widened while too many of the rows found are withdrawn.
        """
        points = len(self._starts) - 1
        if k <= 0 or not points or not vector.any():
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        wanted = min(points, k + 16)
        while True:
            rows, products = self._nearest(vector, wanted)
            if len(rows) >= k or wanted == points:
                return rows[:k], products[:k]
            wanted = min(points, 4 * wanted)

    def _nearest(self, vector: F32, points: int) -> tuple[I64, F32]:
        """Return the rows of the nearest points that are not withdrawn, and their products."""
        self._index.set_ef(max(_EF_SEARCH, points))
        try:
            found, distances = self._index.knn_query(vector[None, :], k=points, num_threads=1)
        except RuntimeError:  # the graph does not lead to so many points
            return self._nearest(vector, max(1, points // 2)) if points > 1 else self._none()
        labels = found[0].astype(np.int64)
        sizes = self._starts[labels + 1] - self._starts[labels]
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        rows = self._rows[np.repeat(self._starts[labels], sizes) + within]
        products = np.repeat((1 - distances[0]).astype(np.float32), sizes)
        keep = self._alive[rows]
        return rows[keep], products[keep]

    @staticmethod
    def _none() -> tuple[I64, F32]:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
