"""The rows with the most clicks of a window, kept as rows change and as the window moves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from headrace.models.state.items import WINDOWS
from headrace.serving.index.leaders import Leaders
from headrace.streams.tables.rows import RowTable
from headrace.streams.windows import TIERS

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

_TIER = {tier.name: tier for tier in TIERS}
#: Longer than any event is ahead of the present, ms.
_FAR = 1 << 41


def window_clicks(
    data: npt.NDArray[np.void], rows: I64, now: int, window: str, buckets: int | None = None
) -> tuple[F32, F32]:
    """Return the clicks of rows in a window, now and at most later.

    Parameters
    ----------
    data
        Item rows or country rows.
    rows
        Row numbers, int64 ``(n,)``.
    now
        Time asked, ms.
    window
        ``"5m"``, ``"1h"``, ``"24h"`` or ``"7d"``.
    buckets
        Only its newest buckets.

    Returns
    -------
    most, clicks
        The clicks that any time from ``now`` on can find while the row does not change, and those of
        ``now``; float32 ``(n,)``. They differ by the events that are dated after ``now``.
    """
    tier = _TIER[window]
    wide = buckets or tier.buckets
    clicks = WINDOWS.read_one(data, now, window, "click", wide, rows)
    most = clicks
    ahead = np.flatnonzero(data[f"h_{window}"][rows] > now // tier.bucket_ms)
    if len(ahead):
        reach = (now + _FAR) // tier.bucket_ms - now // tier.bucket_ms + wide
        most = clicks.copy()
        most[ahead] = WINDOWS.read_one(data, now + _FAR, window, "click", reach, rows[ahead])
    return most, clicks


class WindowLeaders(Leaders):
    """The rows of a table with the most clicks of a window.

    A window moves by whole buckets. Between two of them the clicks of a row change only with the row. When a
    bucket begins, the rows held are counted again; all others can only have lost clicks.

    Parameters
    ----------
    table
        Item rows or country rows.
    window
        ``"5m"``, ``"1h"``, ``"24h"`` or ``"7d"``.
    size
        Length of the list.
    key
        Field with the key that the list names.
    find
        Returns the row numbers of such keys, -1 where there is none.
    room
        Number of keys held after a trim.
    buckets
        Only the newest buckets of the window.
    """

    def __init__(
        self,
        table: RowTable,
        window: str,
        size: int,
        *,
        key: str,
        find: Callable[[U64], I64],
        room: int,
        buckets: int | None = None,
    ) -> None:
        super().__init__(size, room)
        self._table, self._window, self._key, self._find = table, window, key, find
        self._buckets = buckets
        self._bucket, self._bucket_ms = -1, _TIER[window].bucket_ms

    def count(self, rows: I64, now: int) -> None:
        """Count the clicks of rows that have changed, or that a scan has come to; int64 ``(n,)``."""
        data = self._table.data
        most, clicks = window_clicks(data, rows, now, self._window, self._buckets)
        self.put(data[self._key][rows], most, clicks)

    def goes_back(self, now: int) -> bool:
        """Return whether ``advance`` to ``now`` moves the window back."""
        return now // self._bucket_ms < self._bucket

    def advance(self, now: int) -> int:
        """Move the window to ``now`` (ms); return how many rows were counted for it.

        When it moves back, rows that are not held may count more than before: a scan begins.
        """
        if self.goes_back(now):
            self.restart()
        elif now // self._bucket_ms == self._bucket:
            return 0
        self._bucket = now // self._bucket_ms
        keys = self.keys()
        rows = self._find(keys)
        self.drop(keys[rows < 0])
        self.count(rows[rows >= 0], now)
        return len(rows)
