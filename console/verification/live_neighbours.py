"""Live neighbour rows for the comparison with the oracle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Rows = npt.NDArray[np.void]


class LiveNeighbours:
    """Values of neighbour rows; arrays are in the order of the rows.

    Parameters
    ----------
    rows
        Of dtype ``neighbours.ROW``, ``(n,)``.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @property
    def keys(self) -> pl.DataFrame:
        """A row for every row: key, item."""
        return pl.DataFrame({"key": self._rows["key"], "item": self._rows["key"]})

    def newest(self) -> I64:
        """Return the time of the newest pair, ms, int64 ``(n,)``."""
        newest: I64 = self._rows["updated"]
        return newest

    def totals(self) -> F64:
        """Return the totals at the time of the newest pair: next, together; float64 ``(n, 2)``."""
        return np.stack([self._rows["seq_total"], self._rows["co_total"]], axis=-1).astype(np.float64)

    @property
    def slots(self) -> pl.DataFrame:
        """The neighbours: row (position), other, seq, co, seq_recent, co_recent."""
        others = self._rows["other"]
        return pl.DataFrame(
            {
                "row": np.repeat(np.arange(len(others)), others.shape[1]),
                "other": others.ravel(),
            }
            | {
                name: self._rows[name].ravel().astype(np.float64)
                for name in ("seq", "co", "seq_recent", "co_recent")
            }
        ).filter(pl.col("other") != 0)
