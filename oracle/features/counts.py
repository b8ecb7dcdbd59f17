"""Counts of rows: windows, all-time totals, decayed counts, time of the newest act."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.oracle.features.windows import window_counts
from headrace.oracle.times import DAY_MS

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

HALF_LIFE_MS: Final = 30 * DAY_MS


@dataclass(frozen=True)
class Counted:
    """Rows with the acts that are counted in them. Results are arrays in the order of the rows.

    Attributes
    ----------
    keys
        row (0, 1, ...), and the columns that identify the user or the item.
    acts
        row, metric (position in ``metrics``), ts (ms), amount.
    metrics
        Names of the metrics.
    cells
        The largest count of one bucket of a window, by tier.
    largest_total
        The largest total; larger sums are cut to it.
    """

    keys: pl.DataFrame
    acts: pl.DataFrame

    metrics: ClassVar[tuple[str, ...]]
    cells: ClassVar[Mapping[str, int]]
    largest_total: ClassVar[int]
    #: Decayed counts use the time of an act rounded down to a multiple of this, ms.
    step_ms: ClassVar[int] = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of metrics."""
        return len(self.keys), len(self.metrics)

    def windows(self, at: int) -> I64:
        """Return every window at ``at`` (ms), int64 ``(rows, len(WINDOWS), metrics)``."""
        return window_counts(self.acts, self.shape, at, self.cells)

    def totals(self) -> I64:
        """Return the all-time counts, int64 ``(rows, metrics)``."""
        out = np.zeros(self.shape, np.int64)
        sums = self.acts.group_by("row", "metric").agg(pl.col("amount").sum())
        out[sums["row"].to_numpy(), sums["metric"].to_numpy()] = sums["amount"].to_numpy()
        return np.minimum(out, self.largest_total)

    def decayed(self, at: int) -> F64:
        """Return the counts with a half-life of 30 days at ``at`` (ms), float64 ``(rows, metrics)``."""
        out = np.zeros(self.shape, np.float64)
        left = pl.col("amount") * decay(pl.col("ts") // self.step_ms * self.step_ms, at)
        sums = self.acts.group_by("row", "metric").agg(left.sum())
        out[sums["row"].to_numpy(), sums["metric"].to_numpy()] = sums["amount"].to_numpy()
        return out

    def newest(self) -> I64:
        """Return the time (ms) of the newest act of each row, int64 ``(rows,)``; -1 without any."""
        return by_row(self.acts, self.shape[0], pl.col("ts").max(), -1)


def decay(ts: pl.Expr, at: int) -> pl.Expr:
    """Return the weight at ``at`` (ms) of an amount of 1 at ``ts`` (ms); above 1 if ``ts`` is later."""
    return pl.lit(2.0).pow((ts - at).cast(pl.Float64) / HALF_LIFE_MS)


def by_row(frame: pl.DataFrame, n: int, value: pl.Expr, empty: int = 0) -> I64:
    """Return an aggregate of each of ``n`` rows, int64 ``(n,)``; ``empty`` for rows that ``frame`` lacks."""
    out = np.full(n, empty, np.int64)
    found = frame.group_by("row").agg(value.alias("value"))
    out[found["row"].to_numpy()] = found["value"].to_numpy()
    return out


def metric_number(name: pl.Expr, metrics: tuple[str, ...]) -> pl.Expr:
    """Return the position of each name in ``metrics``."""
    return name.replace_strict(list(metrics), list(range(len(metrics))), return_dtype=pl.UInt8)


def numbered(parts: list[pl.DataFrame], key: list[str], name: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Number the distinct keys of ``parts``, in ascending order.

    Returns
    -------
    keys, rows
        The keys: row, the columns ``key``, and one ``name`` for each. The rows: all parts, with the number of
        their key.
    """
    every = pl.concat(parts)
    keys = every.group_by(key).agg(pl.col(name).first()).sort(key).with_row_index("row")
    return keys, every.join(keys.select("row", *key), on=key, how="left", maintain_order="left")
