"""The part of the hot index that does not change, made by a background thread."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.serving.index.graph import Graph
from headrace.serving.index.key_slots import KeySlots
from headrace.serving.index.key_table import KeyTable
from headrace.serving.index.kmeans import SAMPLE, assign
from headrace.serving.index.lists import Lists, count_of_lists, laid_out, plan
from headrace.serving.index.quantised import Quantised

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Engine: TypeAlias = Literal["lists", "hnsw"]


class Columns(NamedTuple):
    """Items in columns, older ones first; arrays ``(n,)``.

    Attributes
    ----------
    key
        uint64.
    vectors
        Their vectors.
    """

    key: U64
    vectors: Quantised

    def take(self, rows: I64 | slice) -> Columns:
        """Return some of them."""
        return Columns(self.key[rows], self.vectors.take(rows))

    @classmethod
    def joined(cls, parts: list[Columns]) -> Columns:
        """Return the items of all parts."""
        vectors = zip(*(part.vectors for part in parts), strict=True)
        return cls(
            np.concatenate([part.key for part in parts]),
            Quantised(*map(np.concatenate, vectors)),
        )


class Settled:
    """Items that can be searched by their vectors. Only one thread uses it once it is made.

    Parameters
    ----------
    items
        Items with different keys.
    engine
        How they are searched: in ``lists`` or in a graph (``hnsw``).
    """

    def __init__(self, items: Columns, engine: Engine = "lists") -> None:
        self._index: Lists | Graph
        if engine == "hnsw":
            self.items = items
            self._index = Graph(items.vectors)
        else:
            self.items, self._index = _in_lists(items)
        self._keys = KeyTable(*KeySlots.of(self.items.key))
        self.dead = 0

    def __len__(self) -> int:
        return len(self.items.key)

    def hold(self, keys: U64, vectors: Quantised) -> npt.NDArray[np.bool_]:
        """Return which items are here with these vectors, bool ``(n,)``."""
        rows = self._keys.find(keys)
        here = np.flatnonzero(rows >= 0)
        rows, out = rows[here], np.zeros(len(keys), np.bool_)
        out[here] = ~self._index.withdrawn(rows) & self.items.vectors.take(rows).alike(vectors.take(here))
        return out

    def withdraw(self, keys: U64) -> None:
        """Never find items again, if they are here."""
        rows = self._keys.find(keys)
        rows = rows[rows >= 0]
        rows = rows[~self._index.withdrawn(rows)]
        self._index.withdraw(rows)
        self.dead += len(rows)

    def alive(self) -> npt.NDArray[np.bool_]:
        """Return which items were not withdrawn, bool ``(n,)``, a copy."""
        return self._index.alive()

    def search(self, vector: F32, k: int) -> tuple[U64, F32]:
        """Return the keys of up to ``k`` nearest items and their inner products, nearest first."""
        rows, products = self._index.search(vector, k)
        return self.items.key[rows], products


def _in_lists(items: Columns) -> tuple[Columns, Lists]:
    """Return the items in the order of their lists, and the lists."""
    n = len(items.key)
    some = np.random.default_rng(7).permutation(n)[: SAMPLE * count_of_lists(n)]
    centroids = plan(items.vectors.vectors(some), n)
    order, layout = laid_out(assign(items.vectors, centroids), centroids)
    ordered = items.take(order)
    return ordered, Lists(ordered.vectors, layout)
