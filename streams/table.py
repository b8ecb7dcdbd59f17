"""Columnar table: a fixed-width row per 64-bit key, kept in one numpy structured array.

A row is its own serialised form: ``pack`` is a byte copy, ``load`` of a million rows is one ``frombuffer``.
The same row format is the changelog's, Redis's and the serving mirror's, so every reader computes values from
the same bytes with the same code. Fields lie on multiples of their size (pad bytes see to it): scattered
updates are four times as fast then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

_FIRST_CAPACITY = 1024


class Table:
    """Rows of one structured dtype by 64-bit key.

    Parameters
    ----------
    dtype
        Structured dtype of a row. It must have a ``key`` field (uint64).
    blank
        What a new row looks like; zeros when absent.
    """

    def __init__(self, dtype: np.dtype[Any], blank: npt.NDArray[Any] | np.void | None = None) -> None:
        self.dtype = dtype
        self._blank = np.zeros((), dtype) if blank is None else np.array(blank, dtype)
        self.data: npt.NDArray[Any] = np.zeros(_FIRST_CAPACITY, dtype)
        self._row: dict[int, int] = {}
        self._free: list[int] = []
        self._used = 0

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, key: int) -> bool:
        return key in self._row

    def keys(self) -> U64:
        """Return all keys, uint64, in insertion order."""
        return np.fromiter(self._row.keys(), np.uint64, len(self._row))

    def rows(self) -> Rows:
        """Return all row numbers, int64, in the order of ``keys``."""
        return np.fromiter(self._row.values(), np.int64, len(self._row))

    def view(self) -> npt.NDArray[Any]:
        """Return all rows ever used without a copy, for scans of a few fields; dropped ones have key 0."""
        return self.data[: self._used]

    def find(self, keys: U64 | Sequence[int]) -> Rows:
        """Return the row of each key, int64 ``(n,)``; -1 where there is none. Never grows the table."""
        get = self._row.get
        items = keys.tolist() if isinstance(keys, np.ndarray) else keys
        return np.array([get(k, -1) for k in items], dtype=np.int64)

    def row(self, key: int) -> int:
        """Return the row of one key, -1 where there is none."""
        return self._row.get(key, -1)

    def take(self, keys: U64 | Sequence[int]) -> Rows:
        """Return the row of each key, int64 ``(n,)``, making blank rows for the new ones."""
        rows, free = self._row, self._free
        out: list[int] = []
        new: list[int] = []
        for key in keys.tolist() if isinstance(keys, np.ndarray) else keys:
            row = rows.get(key)
            if row is None:
                if free:
                    row = free.pop()
                else:
                    row = self._used
                    self._used += 1
                rows[key] = row
                new.append(key)
            out.append(row)
        if new:
            self._make([rows[key] for key in new], new)
        return np.array(out, dtype=np.int64)

    def _make(self, rows: list[int], keys: list[int]) -> None:
        """Grow to hold ``rows`` and blank them, all at once."""
        if self._used > len(self.data):
            size = len(self.data)
            while size < self._used:
                size *= 2
            grown = np.zeros(size, self.dtype)
            grown[: len(self.data)] = self.data
            self.data = grown
        self.data[rows] = self._blank
        self.data["key"][rows] = keys

    def drop(self, keys: Iterable[int]) -> int:
        """Forget keys; return how many there were. Their rows are used again."""
        dropped = 0
        for key in keys:
            row = self._row.pop(key, None)
            if row is not None:
                self._free.append(row)
                self.data["key"][row] = 0
                dropped += 1
        return dropped

    def pack(self, rows: Rows) -> list[bytes]:
        """Return the serialised rows."""
        size = self.dtype.itemsize
        blob = self.data[rows].tobytes()
        return [blob[i : i + size] for i in range(0, len(blob), size)]

    def load(self, packed: Sequence[bytes]) -> int:
        """Put serialised rows in place, the last one of a key winning; return how many were taken.

        A row of another size (another version of the code wrote it) is passed over: the caller can tell by
        the count.
        """
        size = self.dtype.itemsize
        good = [b for b in packed if len(b) == size]
        if good:
            new = np.frombuffer(b"".join(good), self.dtype)
            # With repeated indices numpy assigns in order, so the newest row stands.
            self.data_at(self.take(new["key"]), new)
        return len(good)

    def data_at(self, rows: Rows, values: npt.NDArray[Any]) -> None:
        """Assign whole rows."""
        self.data[rows] = values
