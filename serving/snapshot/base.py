"""A snapshot under a catalogue: its items as they are, without those that have changed or are gone since."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.serving.catalog_reads import MappedItems
from headrace.serving.index.scan import Rows
from headrace.serving.index.young import Young
from headrace.serving.snapshot.reader import CatalogSnapshot
from headrace.streams.messages.ids import hash_many

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

#: Items that are compared at once, in .3 ms; a multiple of 8.
_BLOCK = 65_536
#: Columns that are shorter in the file, and what they are elsewhere.
_WIDER = {"duration": np.int64, "min_age": np.int16}


class Base:
    """The items of a snapshot that count, by row. A hidden item is not found.

    Parameters
    ----------
    snapshot
        The snapshot; nobody else hides rows of it.
    blocked_flags
        Items with one of these flags are marked as blocked.

    Attributes
    ----------
    snapshot
        The snapshot.
    hidden
        Number of hidden items.
    asked
        Vector of the last search, None before the first one.
    items
        The columns of the snapshot, for reads of all fields at once.
    young
        Its new items, for the hot index; at first all are.
    """

    def __init__(self, snapshot: CatalogSnapshot, blocked_flags: Collection[str] = ()) -> None:
        self.snapshot = snapshot
        self.hidden = 0
        self.asked: F32 | None = None
        self._blocked = snapshot.sets_with(hash_many(sorted(blocked_flags)))
        self.items = MappedItems(snapshot.column, self._blocked)
        self.young = Young(snapshot.index, snapshot.column["key"], snapshot.column["published"])

    def __len__(self) -> int:
        return len(self.snapshot)

    @property
    def count(self) -> int:
        """Number of items that are not hidden."""
        return len(self.snapshot) - self.hidden

    def find(self, keys: U64) -> I64:
        """Return the row of each item, int64 ``(n,)``; -1 where there is none or it is hidden."""
        rows = self.snapshot.find(keys)
        if self.hidden:
            there = np.flatnonzero(rows >= 0)
            rows[there[self.snapshot.index.withdrawn(rows[there])]] = -1
        return rows

    def row(self, key: int) -> int:
        """Return the row of one item, -1 where there is none or it is hidden."""
        row = int(self.snapshot.find(np.array([key], np.uint64))[0])
        return -1 if row >= 0 and self.snapshot.index.is_withdrawn(row) else row

    def hide(self, keys: U64) -> None:
        """Hide items, uint64 ``(n,)``, those that are here."""
        rows = self.find(keys)
        rows = np.unique(rows[rows >= 0])
        self.snapshot.index.withdraw(rows)
        self.hidden += len(rows)

    def show(self, keys: U64) -> None:
        """Show items again, uint64 ``(n,)``, those that are here."""
        rows = self.snapshot.find(keys)
        rows = np.unique(rows[rows >= 0])
        rows = rows[self.snapshot.index.withdrawn(rows)]
        self.snapshot.index.restore(rows)
        self.hidden -= len(rows)

    def search(self, vector: F32, k: int) -> tuple[U64, F32]:
        """Return the keys of up to ``k`` nearest items and their inner products, nearest first."""
        self.asked = vector
        rows, products = self.snapshot.index.search(vector, k)
        return self.snapshot.column["key"][rows], products

    def contents(self) -> Base:
        """Return all items, for ``blocks``."""
        return self

    def blocks(self) -> Iterator[tuple[U64, Rows]]:
        """Yield keys and vectors of all items, for any thread; those that are hidden are marked as dead."""
        keys = self.snapshot.column["key"]
        for first in range(0, len(self), _BLOCK):
            last = min(first + _BLOCK, len(self))
            yield keys[first:last], self.snapshot.index.part(first, last)

    def column(self, name: str, rows: I64) -> npt.NDArray[Any]:
        """Return one field of ``catalog.ROW`` of some rows, ``(n, ...)``."""
        column = self.snapshot.column
        if name in ("category", "creator", "language"):
            return self.snapshot.hashes(name, rows)
        if name == "rules":
            rules: npt.NDArray[np.bool_] = (column["allowed"][rows] != 0) | (column["blocked"][rows] != 0)
            return rules
        if name == "blocked":
            blocked: npt.NDArray[np.bool_] = self._blocked[column["flags"][rows]]
            return blocked
        out: npt.NDArray[Any] = column[name][rows]
        return out.astype(_WIDER[name]) if name in _WIDER else out
