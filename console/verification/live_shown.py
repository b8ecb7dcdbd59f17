"""Live values of what users were shown, for the comparison with the oracle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

Rows = npt.NDArray[np.void]


class LiveShown:
    """Values of rows of what users were shown.

    Parameters
    ----------
    rows
        Of dtype ``shown.ROW``, ``(n,)``.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @property
    def marks(self) -> pl.DataFrame:
        """A row for every row: user, offset, since, forgotten, updated (ms)."""
        names = ("offset", "since", "forgotten", "updated")
        return pl.DataFrame({"user": self._rows["key"], **{name: self._rows[name] for name in names}})

    @property
    def lists(self) -> pl.DataFrame:
        """The items of the rows: user, place (from 0, the oldest), item, second, times (how often)."""
        items = self._rows["items"]
        place = np.broadcast_to(np.arange(items.shape[1]), items.shape)
        used = place < self._rows["count"][:, None]
        return pl.DataFrame(
            {
                "user": np.repeat(self._rows["key"], used.sum(axis=1)),
                "place": place[used].astype(np.int64),
                "item": items[used],
                "second": self._rows["times"][used].astype(np.int64),
                "times": self._rows["counts"][used].astype(np.int64),
            }
        )
