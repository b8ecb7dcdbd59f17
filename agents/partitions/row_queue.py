"""A queue of fixed-width rows in one array: rows come in at the end and are forgotten at the front. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]

#: Smallest array allocated, rows.
SMALLEST = 64


class RowQueue:
    """Rows of one dtype. Every row has a number; the numbers go on counting while rows are forgotten.

    Parameters
    ----------
    dtype
        Of a row.

    Attributes
    ----------
    first, end
        Number of the first row that is kept, and of the next row.
    """

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._data: Rows = np.empty(SMALLEST, dtype)
        self._base = 0  # number of the row at the beginning of the array
        self.first = self.end = 0

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def nbytes(self) -> int:
        """Return the bytes allocated."""
        return self._data.nbytes

    def push(self, rows: Rows) -> None:
        """Add rows, ``(n,)``, at the end."""
        if self.end - self._base + len(rows) > len(self._data):
            self._move(max(SMALLEST, (len(self) + len(rows)) * 3 // 2))
        begin = self.end - self._base
        self._data[begin : begin + len(rows)] = rows
        self.end += len(rows)

    def rows(self, first: int | None = None, end: int | None = None) -> Rows:
        """Return a view of the rows from number ``first`` up to ``end``; by default of all that are kept."""
        begin = (self.first if first is None else first) - self._base
        return self._data[begin : (self.end if end is None else end) - self._base]

    def at(self, numbers: npt.NDArray[np.int64]) -> Rows:
        """Return copies of the rows with these numbers, ``(n,)``; all of them must be kept."""
        return self._data[numbers - self._base]

    def set(self, field: str, numbers: npt.NDArray[np.int64], value: Any) -> None:
        """Set one field of the rows with these numbers."""
        self._data[field][numbers - self._base] = value

    def forget(self, first: int) -> None:
        """Forget the rows before number ``first``."""
        self.first = first
        if len(self) * 4 < len(self._data) > SMALLEST:
            self._move(max(SMALLEST, len(self) * 2))

    def cut(self, end: int) -> None:
        """Forget the rows from number ``end`` on; the next row gets this number."""
        self.end = end

    def _move(self, capacity: int) -> None:
        data = np.empty(capacity, self._data.dtype)
        data[: len(self)] = self.rows()
        self._data, self._base = data, self.first
