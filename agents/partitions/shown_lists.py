"""What the users of one partition were shown: their rows, and what is not in the online store yet. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headrace.models.state.shown import ShownState
from headrace.streams.tables.partition import StatePartition
from headrace.streams.tables.rows import PackedRows

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


class ShownLists:
    """Rows of what users were shown.

    Parameters
    ----------
    state
        The partition of their state store.
    """

    def __init__(self, state: StatePartition) -> None:
        self._state = state
        self._shown = ShownState(state.rows)
        self._touched: list[I64] = []  # row numbers changed since the last online flush

    def add(self, users: U64, slots: I64, items: U64, ts: I64, offsets: I64) -> None:
        """Apply impressions; parameters as in ``ShownState.apply``."""
        self._touch(self._shown.apply(users, slots, items, ts, offsets))

    def forget(self, key: int, offset: int, ts: int) -> None:
        """Clear the row of a user; parameters as in ``ShownState.forget``."""
        row = self._shown.forget(key, offset, ts)
        if row >= 0:
            self._touch(np.array([row], np.int64))

    def _touch(self, rows: I64) -> None:
        self._touched.append(rows)
        self._state.touch(rows)

    def take(self) -> tuple[PackedRows, U64]:
        """Return the changed rows with an item since the last call, packed, and the keys of those without."""
        touched, self._touched = self._touched, []
        table = self._state.rows
        rows = np.unique(np.concatenate(touched)) if touched else np.zeros(0, np.int64)
        rows = rows[table.data["key"][rows] != 0]
        filled = table.data["count"][rows] > 0
        return table.pack(rows[filled]), table.data["key"][rows[~filled]]
