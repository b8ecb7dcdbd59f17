"""Pairs of items that a user clicked close together, and the neighbours of items that follow from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.oracle.features.users import RECENT
from headrace.oracle.times import DAY_MS, MINUTE_MS

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

#: A click makes pairs with at most this many clicks before it in the same session.
PAIRS: Final = 5
#: A live row has this many neighbours. Rows of items with more of them are compared in part.
SLOTS: Final = 64
HALF_LIFE_MS: Final = 7 * DAY_MS
#: Weights decay in steps of whole minutes.
STEP_MS: Final = MINUTE_MS

PAIR: Final = pl.Schema({"item": pl.UInt64, "other": pl.UInt64, "ts": pl.Int64, "back": pl.UInt8})

#: The last clicks of a user: time and item, newest first.
_Ring = list[tuple[int, int]]


def pairs_of(clicks: pl.DataFrame, gap_ms: int) -> pl.DataFrame:
    """Return the pairs that clicks make.

    Each click is tied to the clicks before it (in time) in the same session, at most ``PAIRS`` of them. A
    late click is put between the others; it is tied to those before it only, and clicks that came earlier are
    not tied to it later. Of each user the last ``RECENT`` clicks are known.

    Parameters
    ----------
    clicks
        user, begun, item, ts, in the order of offsets. Clicks with another ``begun`` are another user's.
    gap_ms
        A longer silence between two clicks starts a new session.

    Returns
    -------
    DataFrame
        ``PAIR``: item is the earlier click's, other the later one's; back is 0 for neighbouring clicks, 1
        when there is one click between them, and so on.
    """
    rings = defaultdict[tuple[int, bool], _Ring](list)
    made: list[tuple[int, int, int, int]] = []
    for user, begun, item, ts in clicks.select("user", "begun", "item", "ts").iter_rows():
        made.extend(_click(rings[user, begun], item, ts, gap_ms))
    return pl.DataFrame(made, PAIR, orient="row")


def cut_pairs(clicks: pl.DataFrame, gap_ms: int) -> pl.Series:
    """Return the items of pairs that depend on whether the clicks before ``begun`` were forgotten in between.

    Parameters
    ----------
    clicks
        As in ``pairs_of``; all of a user that are ``begun`` come after those that are not.
    """
    whole, cut = defaultdict[int, _Ring](list), defaultdict[tuple[int, bool], _Ring](list)
    items = set[int]()
    for user, begun, item, ts in clicks.select("user", "begun", "item", "ts").iter_rows():
        with_all, without = (set(_click(ring, item, ts, gap_ms)) for ring in (whole[user], cut[user, begun]))
        items.update(*(pair[:2] for pair in with_all ^ without))
    return pl.Series("item", sorted(items), pl.UInt64)


def _click(ring: _Ring, item: int, ts: int, gap_ms: int) -> Iterator[tuple[int, int, int, int]]:
    """Put a click on the ring; yield its pairs."""
    place = 0
    while place < len(ring) and ring[place][0] > ts:
        place += 1
    if place == RECENT:
        return
    at = ts
    for back, (before, other) in enumerate(ring[place : place + PAIRS]):
        if at - before > gap_ms:
            break
        at = before
        if other != item:
            yield other, item, ts, back
    ring.insert(place, (ts, item))
    del ring[RECENT:]


def neighbour_weights(pairs: pl.DataFrame, at: int) -> pl.DataFrame:
    """Return the weights of all neighbours at ``at`` (ms): what ``PAIR`` adds to them, both ways.

    Returns
    -------
    DataFrame
        item, other, seq (for *other* after *item*), co (both together), pairs (how many), newest (time of the
        newest one, whole minutes, ms).
    """
    step = pl.col("ts") // STEP_MS * STEP_MS
    left = pl.lit(2.0).pow((step - at).cast(pl.Float64) / HALF_LIFE_MS)
    ahead = pairs.select(
        "item", "other", step.alias("step"), left.alias("co"), seq=left / (pl.col("back") + 1)
    )
    behind = ahead.select(item="other", other="item", step="step", co="co", seq=pl.lit(0.0))
    return joined_weights([ahead, behind.select(ahead.columns)], pl.len(), "step")


def joined_weights(parts: Iterable[pl.DataFrame], count: pl.Expr, newest: str) -> pl.DataFrame:
    """Return the sums of weights by item and other."""
    return (
        pl.concat(parts)
        .group_by("item", "other")
        .agg(
            pl.col("seq", "co").sum(),
            pairs=count.cast(pl.Int64),
            newest=pl.col(newest).max().cast(pl.Int64),
        )
    )


@dataclass(frozen=True)
class Neighbours:
    """Items with their neighbours.

    Attributes
    ----------
    weights
        The result of ``neighbour_weights``.
    at
        The time of the weights, ms.
    """

    weights: pl.DataFrame
    at: int

    @classmethod
    def of(cls, parts: Iterable[pl.DataFrame], at: int) -> Neighbours:
        """Return all neighbours, of the weights of several partitions of users at ``at``."""
        return cls(joined_weights(parts, pl.col("pairs").sum(), "newest"), at)

    def of_partition(self, number: int, of: int, unsure: pl.Series) -> Neighbours:
        """Return the items with live rows in partition ``number`` of ``of``, without those in ``unsure``."""
        mine = (pl.col("item") % of == number) & ~pl.col("item").is_in(unsure.implode())
        return Neighbours(self.weights.filter(mine), self.at)

    def rows(self) -> pl.DataFrame:
        """Return a row for every item, by item: its totals at the time of its newest pair.

        Returns
        -------
        DataFrame
            row, item, seq, co, pairs, newest, others (number of neighbours).
        """
        return (
            self.weights.group_by("item")
            .agg(pl.col("seq", "co", "pairs").sum(), pl.col("newest").max(), others=pl.len().cast(pl.Int64))
            .with_columns(*self._moved("seq", "co"))
            .sort("item")
            .with_row_index("row")
        )

    def slots(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the neighbours of ``rows``: row, other, seq, co, at the time of the row's newest pair."""
        told = rows.select("row", "item", "newest")
        return (
            self.weights.drop("newest")
            .join(told, on="item")
            .with_columns(*self._moved("seq", "co"))
            .select("row", "other", "seq", "co")
        )

    def _moved(self, *names: str) -> list[pl.Expr]:
        since = (self.at - pl.col("newest")).cast(pl.Float64)
        return [pl.col(name) * pl.lit(2.0).pow(since / HALF_LIFE_MS) for name in names]
