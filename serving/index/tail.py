"""The newest items of the hot index: appended, and all of them compared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.embeddings import DIM
from headrace.serving.index.quantised import Quantised
from headrace.serving.index.scan import Rows
from headrace.serving.index.settled import Columns

F32 = npt.NDArray[np.float32]
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

    def append(self, key: int, vector: Quantised) -> None:
        """Add an item that is not here, with its vector, one row."""
        if self.used == len(self._all.key):
            before, dead = self.items(), self._dead
            self._take_room(2 * self.used)
            self._copy(before)
            self._dead[: len(dead)] = dead
        at = self.used
        self._all.key[at] = key
        self._all.vectors.put(slice(at, at + 1), vector)
        self._row_of[key] = at
        self.used += 1

    @property
    def dead(self) -> int:
        """How many of those that were appended were dropped."""
        return self.used - len(self._row_of)

    def holds(self, key: int, vector: Quantised) -> bool:
        """Return whether an item is here with this vector, one row."""
        row = self._row_of.get(key, -1)
        return row >= 0 and self._all.vectors.take(slice(row, row + 1)).same(vector)

    def drop(self, key: int) -> bool:
        """Remove an item; return whether it was here."""
        row = self._row_of.pop(key, None)
        if row is None:
            return False
        self._dead[row >> 3] |= np.uint8(1 << (row & 7))
        return True

    def items(self, first: int = 0) -> Columns:
        """Return all that was appended from ``first`` on, dead ones too; views that do not change."""
        return self._all.take(slice(first, self.used))

    def alive(self, first: int = 0) -> npt.NDArray[np.bool_]:
        """Return which of ``items(first)`` were not dropped, bool ``(n,)``, a copy."""
        out: npt.NDArray[np.bool_] = np.unpackbits(self._dead, count=self.used, bitorder="little") == 0
        return out[first:]

    def search(self, vector: F32, k: int) -> tuple[U64, F32]:
        """Return the keys of up to ``k`` nearest items and their inner products, nearest first."""
        ends = np.array([self.used])
        rows, products = self._rows.nearest(
            vector, np.zeros(1, np.int64), ends, k, k + k // 2 + 32, self.used
        )
        return self._all.key[rows], products
