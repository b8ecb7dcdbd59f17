"""Features of users, computed from the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.oracle.features.affinities import affinity_weights, taste, view, view_sums
from headrace.oracle.features.counts import Counted, by_row, metric_number
from headrace.oracle.features.windows import USER_CELLS

I64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

USER_METRICS: Final = ("shown", "click", "skip", "dwell", "dwell_s", "like", "save", "follow", "hide")
#: Number of clicks in a live row.
RECENT: Final = 20

_USER = ["partition", "user"]
_NAMED = [*_USER, "user_id"]
_ACT = ["partition", "user", "user_id", "ts", "metric", "amount"]


@dataclass(frozen=True)
class Users(Counted):
    """Users with their acts; one row for every (partition, user).

    Attributes
    ----------
    keys
        row, partition, user (its 64-bit key), user_id.
    acts
        row, metric (of ``USER_METRICS``), ts (ms), amount.
    clicks
        row, ts, item.
    tastes
        row, ts, item, timestamp (of the record), offset, taste, view (log seconds; null: none).
    others
        row, ts: when something else was written to the row.
    """

    clicks: pl.DataFrame
    tastes: pl.DataFrame
    others: pl.DataFrame

    metrics: ClassVar[tuple[str, ...]] = USER_METRICS
    cells: ClassVar[Mapping[str, int]] = USER_CELLS
    largest_total: ClassVar[int] = 2**32 - 1

    def newest(self) -> I64:
        """Return the time (ms) of the newest act or other change, int64 ``(rows,)``; -1 without any."""
        every = pl.concat([self.acts.select("row", "ts"), self.others])
        return by_row(every, self.shape[0], pl.col("ts").max(), -1)

    def n_clicks(self) -> I64:
        """Return the all-time clicks, int64 ``(rows,)``."""
        return by_row(self.clicks, self.shape[0], pl.len())

    def recent_ts(self) -> I64:
        """Return the times of the last clicks, newest first, int64 ``(rows, RECENT)``; -1 where none."""
        out = np.full((self.shape[0], RECENT), -1, np.int64)
        last = (
            self.clicks.sort("row", "ts", descending=[False, True])
            .with_columns(place=pl.int_range(pl.len()).over("row"))
            .filter(pl.col("place") < RECENT)
        )
        out[last["row"].to_numpy(), last["place"].to_numpy()] = last["ts"].to_numpy()
        return out

    def affinities(
        self, items: pl.DataFrame, what: str, at: int, *, complete: bool = True
    ) -> tuple[pl.DataFrame, Bool]:
        """Return the decayed weights of ``what`` ("category" or "creator") at ``at``, and which are known.

        Parameters
        ----------
        items
            The result of ``item_attributes``.
        complete
            True when no record of `items` is missing. If the topic was compacted, any item may have had other
            attributes before, and no weight is known.

        Returns
        -------
        weights, known
            row, key, weight, size (the sum of the absolute amounts: rounding errors grow with it); and bool
            ``(rows,)``: False where the topics do not have the data, or a live row has too few places.
        """
        return affinity_weights(self.tastes, self.shape[0], items, what, at, complete=complete)

    def views(self, begin: I64, items: pl.DataFrame, at: int) -> pl.DataFrame:
        """Return the decayed views of each category at ``at``: row, key, dwell (log seconds), views.

        They are known where the affinities are.

        Parameters
        ----------
        begin
            Views after this offset count, int64 ``(rows,)``.
        items
            The result of ``item_attributes``.
        """
        return view_sums(self.tastes, begin, items, at)


def users_of(events: pl.DataFrame, shown: pl.DataFrame, others: pl.DataFrame | None = None) -> Users:
    """Return the users of accepted ``EVENTS`` and valid ``SHOWN``, and those of ``others``.

    ``others`` (partition, user, user_id, ts) have a row also when nothing of them is counted.
    """
    acts = pl.concat(_acts(events, shown))
    others = acts.clear() if others is None else others
    every = pl.concat([frame.select(_NAMED) for frame in (acts, others)])
    keys = every.group_by(_USER).agg(pl.col("user_id").first()).sort(_USER).with_row_index("row")
    rows = keys.select("row", *_USER)
    mine = events.join(rows, on=_USER, how="left", maintain_order="left")
    return Users(
        keys=keys,
        acts=acts.join(rows, on=_USER, how="left").select("row", "metric", "ts", "amount"),
        clicks=mine.filter(pl.col("kind") == "click").select("row", "ts", "item"),
        tastes=mine.select("row", "ts", "item", "timestamp", "offset", taste=taste(), view=view()),
        others=others.join(rows, on=_USER).select("row", "ts"),
    )


def _acts(events: pl.DataFrame, shown: pl.DataFrame) -> list[pl.DataFrame]:
    """Return the acts of users: events, the seconds of dwell, shown slots."""
    count = events.with_columns(
        metric=metric_number(pl.col("kind"), USER_METRICS), amount=pl.lit(1, pl.Int64)
    )
    dwell = events.filter(pl.col("kind") == "dwell").with_columns(
        metric=_metric("dwell_s"), amount=pl.col("dwell_s")
    )
    seen = shown.filter((pl.col("verdict") == "") & (pl.col("user") != 0))
    slots = seen.with_columns(metric=_metric("shown"), amount=pl.col("items").list.len().cast(pl.Int64))
    return [part.select(_ACT) for part in (count, dwell, slots)]


def _metric(name: str) -> pl.Expr:
    return pl.lit(USER_METRICS.index(name), pl.UInt8)
