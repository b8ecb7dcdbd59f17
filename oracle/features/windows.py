"""Sliding windows over acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.oracle.times import DAY_MS, HOUR_MS, MINUTE_MS

I64 = npt.NDArray[np.int64]

WINDOWS: Final = ("5m", "30m", "1h", "24h", "7d")
#: Window -> (number of buckets, their width in ms, the tier that holds the buckets).
_BUCKETS: Final[dict[str, tuple[int, int, str]]] = {
    "5m": (5, MINUTE_MS, "5m"),
    "30m": (6, 5 * MINUTE_MS, "1h"),
    "1h": (12, 5 * MINUTE_MS, "1h"),
    "24h": (24, HOUR_MS, "24h"),
    "7d": (7, DAY_MS, "7d"),
}
#: The largest count of one bucket, by tier: 16 bits for users; 24, and 32 where a bucket is a day, for items.
USER_CELLS: Final = {"5m": 2**16 - 1, "1h": 2**16 - 1, "24h": 2**16 - 1, "7d": 2**16 - 1}
ITEM_CELLS: Final = {"5m": 2**24 - 1, "1h": 2**24 - 1, "24h": 2**24 - 1, "7d": 2**32 - 1}
#: Live windows are exact for times at most this long before the newest act of their row: later acts reuse the
#: buckets of the oldest ones.
AHEAD_MS: Final = 5 * MINUTE_MS


def window_starts(at: int) -> I64:
    """Return the start of each window at the time ``at``, both in ms; int64 ``(len(WINDOWS),)``."""
    return np.array([(at // width - n + 1) * width for n, width, _ in map(_BUCKETS.__getitem__, WINDOWS)])


def window_counts(acts: pl.DataFrame, shape: tuple[int, int], at: int, cells: Mapping[str, int]) -> I64:
    """Return every window of every row and metric at ``at``, int64 ``(rows, len(WINDOWS), metrics)``.

    Parameters
    ----------
    acts
        Columns row, metric, ts (ms), amount.
    shape
        Number of rows and of metrics.
    at
        The time asked for, ms.
    cells
        The largest count of one bucket, by tier.
    """
    out = np.zeros((shape[0], len(WINDOWS), shape[1]), np.int64)
    for i, name in enumerate(WINDOWS):
        buckets, width, tier = _BUCKETS[name]
        last = at // width
        bucket = pl.col("ts") // width
        sums = (
            acts.filter((bucket > last - buckets) & (bucket <= last))
            .group_by("row", "metric", bucket.alias("bucket"))
            .agg(pl.col("amount").sum().clip(upper_bound=cells[tier]))
            .group_by("row", "metric")
            .agg(pl.col("amount").sum())
        )
        out[sums["row"].to_numpy(), i, sums["metric"].to_numpy()] = sums["amount"].to_numpy()
    return out
