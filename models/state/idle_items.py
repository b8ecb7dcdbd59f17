"""What is kept of items without events lately: the few values that are read of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.streams.tables.rows import RowTable

Bool = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Rows = npt.NDArray[Any]  # of item_state.ROW

#: ``offset`` says which of two states of an item is newer, as in a whole row. ``clicks``: of all time.
IDLE = np.dtype(
    [("key", "<u8"), ("offset", "<i8"), ("first_ts", "<i8"), ("last_click", "<i8"), ("clicks", "<u8")]
)


class IdleItems:
    """The idle items: 40 bytes each, and their place in the index (24 bytes on average).

    All that features read of an item without events in its windows is here. So their values do not change
    when its row is dropped.

    Parameters
    ----------
    click
        Place of the clicks among the totals of a row.

    Attributes
    ----------
    table
        Rows of dtype ``IDLE``.
    """

    def __init__(self, click: int) -> None:
        self._click = click
        self.table = RowTable(IDLE)

    def __len__(self) -> int:
        return len(self.table)

    def put(self, rows: Rows) -> int:
        """Keep the values of whole rows, unless newer ones are known; return how many were kept."""
        idle = np.empty(len(rows), IDLE)
        for name in ("key", "offset", "first_ts", "last_click"):
            idle[name] = rows[name]
        idle["clicks"] = rows["totals"][:, self._click]
        idle["clicks"] |= rows["totals_x"][:, self._click].astype(np.uint64) << np.uint64(32)
        return self.table.load(idle)

    def drop(self, keys: U64) -> None:
        """Forget items: they are deleted, or have a whole row again."""
        if len(self.table):
            self.table.drop(keys)

    def newer(self, keys: U64, offsets: I64) -> Bool:
        """Return of which keys a newer state than that of ``offsets`` is known, bool ``(n,)``."""
        at = self.table.find(keys)
        out: Bool = (at >= 0) & (self.table.data["offset"][at] > offsets)
        return out
