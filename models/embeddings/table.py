"""The learnt embeddings: rows by feature key, without collisions, that expire.

As in Monolith (Liu et al. 2022, "Real time recommendation system with collisionless embedding table"): a
feature gets a row when it was seen often enough, and loses it when it was not seen for long.
"""

from __future__ import annotations

import numpy as np

from headrace.models.embeddings.directions import DIM, F32, START, U8, U64, UNSEEN, directions
from headrace.models.embeddings.features import I64
from headrace.streams.tables.rows import RowTable

ROW = np.dtype(
    [
        ("key", "<u8"),
        ("updated", "<i8"),  # when it was seen last, ms
        ("squares", "<f4"),  # AdaGrad: sum of the mean squares of its gradients
        ("kind", "<u4"),
        ("vector", "<f4", (DIM,)),
    ]
)
#: When the table is full, this share of its rows is dropped: those not seen for longest.
_DROPPED = 0.1


class EmbeddingTable:
    """Embeddings by feature key. A feature without a row has its fixed direction.

    Parameters
    ----------
    max_rows
        Largest number of rows; 280 bytes each, and 16 for the index.
    """

    def __init__(self, max_rows: int = 1_000_000) -> None:
        self.max_rows = max_rows
        self.rows = RowTable(ROW)

    def __len__(self) -> int:
        return len(self.rows)

    def vectors(self, keys: U64, kinds: U8) -> F32:
        """Return the embedding of each feature, float32 ``(n, DIM)``; zeros for key 0."""
        rows = self.rows.find(keys)
        there = rows >= 0
        out = np.zeros((len(keys), DIM), np.float32)
        out[there] = self.rows.data["vector"][rows[there]]
        hashed = np.flatnonzero(~there & (UNSEEN[kinds] > 0) & (keys != 0))
        if len(hashed):
            out[hashed] = directions(keys[hashed]) * UNSEEN[kinds[hashed], None]
        return out

    def add(self, keys: U64, kinds: U8, now: int) -> None:
        """Give rows to features that have none; they start from their directions."""
        self._make_room(len(keys))
        rows = self.rows.take(keys)
        data = self.rows.data
        data["kind"][rows] = kinds
        data["updated"][rows] = now
        data["vector"][rows] = directions(keys) * START[kinds, None]

    def touch(self, rows: I64, now: int) -> None:
        """Note that the features of these rows were seen."""
        updated = self.rows.data["updated"]
        updated[rows] = np.maximum(updated[rows], now)

    def descend(self, rows: I64, grads: F32, rate: float) -> None:
        """Take an AdaGrad step with one step size for each row (different ``rows``, ``(n,)``)."""
        data = self.rows.data
        squares = data["squares"][rows] + np.einsum("ij,ij->i", grads, grads) / np.float32(DIM)
        data["squares"][rows] = squares
        step = np.float32(rate) / np.sqrt(np.maximum(squares, np.float32(1e-20)))
        data["vector"][rows] -= step[:, None] * grads

    def expire(self, before_ms: int) -> int:
        """Drop the rows of features that were not seen since; return how many."""
        return self.rows.drop(self.rows.idle(before_ms))

    def _make_room(self, more: int) -> None:
        if len(self) + more <= self.max_rows:
            return
        rows = self.rows.rows()
        keys, updated = self.rows.data["key"][rows], self.rows.data["updated"][rows]
        surplus = len(self) + more - self.max_rows + int(self.max_rows * _DROPPED)
        self.rows.drop(keys[np.lexsort((keys, updated))[:surplus]])
