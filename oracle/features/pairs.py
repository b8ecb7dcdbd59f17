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
SLOTS: Final = 48
#: The weights of a neighbour, with their half-lives, ms.
WEIGHTS: Final = {
    "seq": 7 * DAY_MS,  # for *other* after *item*
    "co": 7 * DAY_MS,  # both together
    "seq_recent": 30 * MINUTE_MS,
    "co_recent": 30 * MINUTE_MS,
}
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


def neighbour_weights(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return the weights of all neighbours: what ``PAIR`` adds to them, both ways.

    Returns
    -------
    DataFrame
        item, other, ``WEIGHTS`` at the time of their newest pair, pairs (how many), newest (time of that
        pair, whole minutes, ms).
    """
    ahead = pairs.select(
        "item",
        "other",
        seq=1.0 / (pl.col("back").cast(pl.Float64) + 1),
        co=pl.lit(1.0),
        pairs=pl.lit(1, pl.Int64),
        newest=pl.col("ts") // STEP_MS * STEP_MS,
    )
    both = [
        ahead,
        ahead.select(item="other", other="item", seq=pl.lit(0.0), co="co", pairs="pairs", newest="newest"),
    ]
    return _summed(pl.concat(both).with_columns(seq_recent="seq", co_recent="co"), "item", "other")


def _summed(weights: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return the sums of weights and pairs, at the time of the newest pair of each sum."""
    newest = pl.col("newest").max()
    summed = [(pl.col(name) * _left(life, newest)).sum() for name, life in WEIGHTS.items()]
    return weights.group_by(by).agg(*summed, pl.col("pairs").sum(), newest)


def _left(half_life_ms: int, at: pl.Expr) -> pl.Expr:
    """Return what is left of 1 at a time ``at`` not before ``newest``."""
    return pl.lit(2.0).pow((pl.col("newest") - at).cast(pl.Float64) / half_life_ms)


@dataclass(frozen=True)
class Neighbours:
    """Items with their neighbours.

    Attributes
    ----------
    weights
        As ``neighbour_weights`` returns them.
    """

    weights: pl.DataFrame

    @classmethod
    def of(cls, parts: Iterable[pl.DataFrame]) -> Neighbours:
        """Return all neighbours, of the weights of several partitions of users."""
        return cls(_summed(pl.concat(parts), "item", "other"))

    def of_partition(self, number: int, of: int, unsure: pl.Series) -> Neighbours:
        """Return the items with live rows in partition ``number`` of ``of``, without those in ``unsure``."""
        mine = (pl.col("item") % of == number) & ~pl.col("item").is_in(unsure.implode())
        return Neighbours(self.weights.filter(mine))

    def rows(self) -> pl.DataFrame:
        """Return a row for every item, by item: its totals at the time of its newest pair.

        Returns
        -------
        DataFrame
            row, item, ``WEIGHTS``, pairs, newest, others (number of neighbours).
        """
        others = self.weights.group_by("item").agg(others=pl.len().cast(pl.Int64))
        return _summed(self.weights, "item").join(others, on="item").sort("item").with_row_index("row")

    def slots(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the neighbours of ``rows``: row, other, ``WEIGHTS`` when the row had its newest pair."""
        told = rows.select("row", "item", at="newest")
        moved = [pl.col(name) * _left(life, pl.col("at")) for name, life in WEIGHTS.items()]
        return self.weights.join(told, on="item").select("row", "other", *moved)
