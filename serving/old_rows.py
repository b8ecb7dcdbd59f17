"""Chooses the rows that a mirror drops, without ever looking at all of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.streams.tables.rows import RowTable

I64 = npt.NDArray[np.int64]

#: A table with fewer rows than this keeps them.
_FEW = 1000
#: Rows looked at for each row that was loaded, and for each row that is too many.
_FOR_LOADED, _FOR_OVER = 4, 16
#: Rows loaded until it looks again: a batch may be of one row.
_AFTER = 16


class OldRows:
    """Looks at a few rows of a table after each batch, all of them in turn.

    Parameters
    ----------
    most
        Most rows kept.
    time
        Name of the int64 field with the time of a row, ms.
    """

    def __init__(self, most: int, time: str) -> None:
        self._most, self._time = most, time
        self._next = 0  # the row to look at next
        self._loaded = 0  # rows since it has looked

    def choose(self, table: RowTable, before: int, loaded: int) -> I64:
        """Return the rows to drop, int64 ``(n,)``: old ones, and the oldest of too many.

        Parameters
        ----------
        table
            The table.
        before
            A row is old when its time is before this, ms.
        loaded
            Number of rows of the last batch: the more, the more rows are looked at.
        """
        self._loaded += loaded
        over = len(table) - self._most
        if len(table) <= min(_FEW, self._most) or (over <= 0 and self._loaded < _AFTER):
            return np.zeros(0, np.int64)
        rows = self._look(table, max(_FOR_LOADED * self._loaded, _FOR_OVER * over))
        self._loaded = 0
        time = table.data[self._time][rows]
        old = time < before
        if over > np.count_nonzero(old):
            return rows[np.argpartition(time, over - 1)[:over]] if over < len(rows) else rows
        return rows[old]

    def _look(self, table: RowTable, count: int) -> I64:
        """Return the next ``count`` rows of the table; those not in use are left out."""
        used = len(table.view())
        rows: I64 = (self._next + np.arange(min(count, used))) % used
        self._next = (self._next + len(rows)) % used
        live: I64 = rows[table.data["key"][rows] != 0]
        return live
