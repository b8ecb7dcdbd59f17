"""Approximate vector search over a catalogue: rows are in lists by direction, and only near lists are read.

The rows of a catalogue lie in the order of its lists. So a list is a range of rows, and the index is nothing
but the directions of the lists and where each begins: the vectors are those of the catalogue, in files that
every process of a machine maps (``serving/snapshot/``). How many rows a search looks at depends only on how
many it is to find, so it takes as long for every query. Of most it reads a few bits (``signs.py``). A small
catalogue is one list: all rows are compared.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.serving.index import kmeans
from headrace.serving.index.layout import Layout
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.scan import Rows
from headrace.serving.index.signed_scan import SignedRows
from headrace.serving.index.signs import Signs, turned

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

#: Up to this many rows, all are compared.
FEW = 20_000
_MOST_LISTS = 16_384
_ROWS_A_LIST = 200
#: A search for ``_MANY`` looks at ``_EFFORT * n**_GROWTH`` of ``n`` rows: 105,000 of a million, 418,000 of
#: ten million. One for fewer, down to ``_LEAST``, looks at ``(k / _MANY)**_FEWER`` of these rows: the nearest
#: lie in fewer lists.
_EFFORT, _GROWTH = 26.4, 0.6
_MANY, _LEAST, _FEWER = 300, 60, 0.25
#: So many of the last results are kept.
_KEPT = 8
#: A row is read when its estimate and this many sizes reach the worst of the best: about 1.5 standard errors.
_MARGIN = 1.0


def count_of_lists(n: int) -> int:
    """Return how many lists ``n`` rows are put into: a power of two; 1 for a small catalogue."""
    if n <= FEW:
        return 1
    return min(_MOST_LISTS, 1 << int(np.log2(n / _ROWS_A_LIST)))


def plan(sample: F32, n: int, threads: int = 1) -> F32:
    """Return the directions of the lists of a catalogue of ``n`` rows, float32 ``(lists, dim)``.

    Parameters
    ----------
    sample
        Unit vectors of some of its rows, float32 ``(m, dim)``: 32 a list are enough.
    """
    count = min(count_of_lists(n), len(sample))
    if count <= 1:
        return np.zeros((1, sample.shape[1]), np.float32)
    return kmeans.train(sample, count, threads)


def laid_out(lists: I32, centroids: F32, published: I64 | None = None) -> tuple[I64, Layout]:
    """Return the order in which rows of these lists are to lie, int64 ``(n,)``, and the layout then.

    In a list they lie in the order of ``published``, int64 ``(n,)``; by default they keep their order.
    """
    sizes = np.bincount(lists, minlength=len(centroids))
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]).astype(np.int64)
    order = np.argsort(lists, kind="stable") if published is None else np.lexsort((published, lists))
    return order.astype(np.int64), Layout(centroids, starts)


class Lists:
    """Vector search over rows that lie in the order of their lists.

    One thread: the index uses no other, and only one may use it.

    Parameters
    ----------
    vectors
        Vectors of the rows; arrays or maps of files. A row without a vector is never found.
    layout
        The lists.
    most
        How many rows a search for ``_MANY`` or more looks at; by default so many that about
        96 of 100 are found. One for fewer looks at fewer rows, and finds the same share.
    signs
        Those of the rows; by default they are made. A search that looks at all rows does not need them.

    Attributes
    ----------
    starts
        First row of each list, and the number of rows, int64 ``(lists + 1,)``.
    out
        Number of rows that are withdrawn.
    """

    def __init__(
        self, vectors: Quantised, layout: Layout, most: int | None = None, signs: Signs | None = None
    ) -> None:
        n = len(vectors.scale)
        if layout.starts[-1] != n or len(layout.starts) != len(layout.centroids) + 1:
            raise ValueError(f"{len(layout.centroids)} lists of {layout.starts[-1]} rows; there are {n} rows")
        self._n, self.out = n, 0
        self._last = dict[tuple[bytes, int, int], tuple[I64 | None, tuple[I64, F32]]]()
        self._dead = np.zeros(n // 8 + 1, np.uint8)
        self._vectors, self._rows = vectors, Rows(*vectors, self._dead)
        self.starts = np.ascontiguousarray(layout.starts, np.int64)
        self.most = most_rows(n) if most is None else most
        self._directions: Rows | None = None
        self._signed: SignedRows | None = None
        if len(layout.centroids) > 1:
            count = len(layout.centroids)
            self._directions = Rows(*layout.directions, np.zeros(count // 8 + 1, np.uint8))
            if self.most < n:
                self._signed = SignedRows(self._rows, *(signs or Signs.of(vectors, layout)))

    def __len__(self) -> int:
        return self._n

    def withdraw(self, rows: I64) -> None:
        """Never find these rows again, int64 ``(m,)``, which are different and were not withdrawn."""
        self.out += len(rows)
        self._last.clear()
        np.bitwise_or.at(self._dead, rows >> 3, (1 << (rows & 7)).astype(np.uint8))

    def restore(self, rows: I64) -> None:
        """Find rows again that were withdrawn, int64 ``(m,)``, each once."""
        self.out -= len(rows)
        self._last.clear()
        np.bitwise_and.at(self._dead, rows >> 3, ~(1 << (rows & 7)).astype(np.uint8))

    def withdrawn(self, rows: I64) -> npt.NDArray[np.bool_]:
        """Return which of some rows are withdrawn, bool ``(m,)``."""
        out: npt.NDArray[np.bool_] = (self._dead[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1 > 0
        return out

    @property
    def withdrawn_bits(self) -> npt.NDArray[np.uint8]:
        """Which rows are withdrawn, eight in a byte, the lowest bit first; to be read only."""
        return self._dead

    def is_withdrawn(self, row: int) -> bool:
        """Return whether one row is withdrawn."""
        return bool(self._dead[row >> 3] >> (row & 7) & 1)

    def part(self, first: int, last: int, left_out: npt.NDArray[np.uint8] | None = None) -> Rows:
        """Return some of the rows, to compare all of them; ``first`` is a multiple of 8.

        Those whose bit in ``left_out`` is set, uint8 ``(ceil((last - first) / 8),)``, are not found either.
        """
        high, low, scale = self._vectors.take(slice(first, last))
        dead = self._dead[first >> 3 :]
        return Rows(high, low, scale, dead if left_out is None else dead[: len(left_out)] | left_out)

    def alive(self) -> npt.NDArray[np.bool_]:
        """Return which rows are not withdrawn, bool ``(n,)``, a copy."""
        out: npt.NDArray[np.bool_] = np.unpackbits(self._dead, count=self._n, bitorder="little") == 0
        return out

    def search(
        self, vector: F32, k: int, begins: I64 | None = None, count: int | None = None
    ) -> tuple[I64, F32]:
        """Return up to ``k`` nearest rows and their inner products, nearest first; arrays ``(<=k,)``.

        The last results are kept: the lists of a page ask the same, and so do two sources while all is new.

        Parameters
        ----------
        vector
            float32 ``(dim,)``.
        begins
            Of each list only the rows from here on are looked at, int64 ``(lists,)``; by default all. The
            array is not changed later.
        count
            How many rows these are.
        """
        asked = vector.tobytes(), k, id(begins)
        if (known := self._last.get(asked)) is None:  # kept beside its result, the array keeps its id
            if len(self._last) == _KEPT:
                del self._last[next(iter(self._last))]
            found = self._search(vector, k, begins, count)
            for column in found:
                column.flags.writeable = False
            known = self._last[asked] = begins, found
        return known[1]

    def _search(self, vector: F32, k: int, begins: I64 | None, count: int | None) -> tuple[I64, F32]:
        n, most = (self._n, self.most) if count is None else (count, most_rows(count))
        begins = self.starts if begins is None else begins
        if k <= 0 or n <= 0 or not vector.any():
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        most = most if most >= n else rows_for(most, k)
        begins, ends, centres = self._nearest_lists(vector, most, n, begins)
        wide = k + k // 4 + 32
        if self._signed is None:
            return self._rows.nearest(vector, begins, ends, k, wide, most)
        size = float(np.sqrt(vector @ vector))
        return self._signed.nearest(
            vector, turned(vector), begins, ends, centres, k, wide, most, _MARGIN * size
        )

    def _nearest_lists(self, vector: F32, most: int, n: int, begins: I64) -> tuple[I64, I64, F32]:
        """Return the ranges of rows to look at and the products of their directions, the nearest first.

        Of ``n`` rows in all lists ``most`` are wanted.
        """
        if self._directions is None:
            return begins[:1], self.starts[1:], np.zeros(1, np.float32)
        count = self._directions.n
        wanted = min(count, 16 + int(1.2 * most * count / n))
        lists, products = self._directions.nearest(
            vector, np.zeros(1, np.int64), np.array([count]), wanted, wanted, count
        )
        return begins[lists], self.starts[lists + 1], products


def most_rows(n: int) -> int:
    """Return how many of ``n`` rows a search for ``_MANY`` looks at."""
    return min(n, max(FEW, int(_EFFORT * n**_GROWTH)))


def rows_for(most: int, k: int) -> int:
    """Return how many rows a search for ``k`` looks at, where one for ``_MANY`` looks at ``most``."""
    return int(most * min(1.0, max(k, _LEAST) / _MANY) ** _FEWER)
