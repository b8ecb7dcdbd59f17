"""The newest items of the hot index: appended, and all of them compared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import DIM
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.scan import Rows
from headrace.serving.index.settled import Columns

Bool = npt.NDArray[np.bool_]
F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

_FIRST = 1024


class Tail:
    """Items in the order in which they came. What was appended is not changed, only marked as dead."""

    def __init__(self, items: Columns | None = None) -> None:
        self.used = 0 if items is None else len(items.key)
        self._take_room(max(_FIRST, 2 * self.used))
        if items is not None:
            self._copy(items)
        self._row_of = {} if items is None else dict(zip(items.key.tolist(), range(self.used), strict=True))

    def __len__(self) -> int:
        return len(self._row_of)

    def _take_room(self, room: int) -> None:
        self._dead = np.zeros(room // 8 + 1, np.uint8)
        vectors = Quantised(
            np.zeros((room, DIM), np.int8), np.zeros((room, DIM), np.int8), np.zeros(room, np.float32)
        )
        self._all = Columns(np.zeros(room, np.uint64), vectors)
        self._rows = Rows(*vectors, self._dead)

    def _copy(self, items: Columns) -> None:
        n = len(items.key)
        self._all.key[:n] = items.key
        self._all.vectors.put(slice(n), items.vectors)

    def append(self, items: Columns) -> None:
        """Add items that are not here."""
        end = self.used + len(items.key)
        if end > len(self._all.key):
            before, dead = self.items(), self._dead
            self._take_room(2 * end)
            self._copy(before)
            self._dead[: len(dead)] = dead
        self._all.key[self.used : end] = items.key
        self._all.vectors.put(slice(self.used, end), items.vectors)
        self._row_of.update(zip(items.key.tolist(), range(self.used, end), strict=True))
        self.used = end

    @property
    def dead(self) -> int:
        """How many of those that were appended were dropped."""
        return self.used - len(self._row_of)

    def _rows_of(self, keys: U64) -> I64:
        """Return the rows of items, int64 ``(n,)``, -1 where there is none."""
        row_of = self._row_of.get
        return np.array([row_of(key, -1) for key in keys.tolist()], np.int64)

    def hold(self, keys: U64, vectors: Quantised) -> Bool:
        """Return which items are here with these vectors, bool ``(n,)``."""
        rows = self._rows_of(keys)
        here = np.flatnonzero(rows >= 0)
        out = np.zeros(len(keys), np.bool_)
        out[here] = self._all.vectors.take(rows[here]).alike(vectors.take(here))
        return out

    def drop(self, keys: U64) -> Bool:
        """Remove items with different keys; return which were here, bool ``(n,)``."""
        rows = self._rows_of(keys)
        here: Bool = rows >= 0
        for key in keys[here].tolist():
            del self._row_of[key]
        at = rows[here]
        np.bitwise_or.at(self._dead, at >> 3, np.left_shift(1, at & 7).astype(np.uint8))
        return here

    def items(self, first: int = 0) -> Columns:
        """Return all that was appended from ``first`` on, dead ones too; views that do not change."""
        return self._all.take(slice(first, self.used))

    def alive(self, first: int = 0) -> Bool:
        """Return which of ``items(first)`` were not dropped, bool ``(n,)``, a copy."""
        out: Bool = np.unpackbits(self._dead, count=self.used, bitorder="little") == 0
        return out[first:]

    def search(self, vector: F32, k: int) -> tuple[U64, F32]:
        """Return the keys of up to ``k`` nearest items and their inner products, nearest first."""
        ends = np.array([self.used])
        rows, products = self._rows.nearest(
            vector, np.zeros(1, np.int64), ends, k, k + k // 2 + 32, self.used
        )
        return self._all.key[rows], products
