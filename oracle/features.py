"""The oracle: every windowed feature as a batch job over the raw records would have it; live rows must agree.

    raw records -> read_* (headrace.oracle.records) -> judge (duplicates) -> acts -> windows, totals, decayed

Acts are one long table, a row for every thing that is counted: whose row (a number), which metric, when, how
much. Every feature is a group-by over it. There is no state, no order of arrival and no code in common with
the live tables: windows are told from event times here, not from rings.

Rows are numbered: ``Users.keys`` and ``Items.keys`` say whose they are, results are arrays by that number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

USER_METRICS: Final = ("shown", "click", "skip", "dwell", "dwell_s", "like", "save", "follow", "hide")
ITEM_METRICS: Final = ("shown", "click", "skip", "dwell_s", "like")
WINDOWS: Final = ("5m", "30m", "1h", "24h", "7d")
#: Window -> (buckets, their width, the tier whose cells they are).
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

HALF_LIFE_MS: Final = 30 * DAY_MS
RECENT: Final = 20
#: Windows are exact for times at most so far before the row's newest act: what lies ahead wipes old buckets.
AHEAD_MS: Final = 5 * MINUTE_MS
#: What one event says about the taste for its category and creator; dwell: per 30 s, at most 2.
TASTE: Final = {"click": 1.0, "skip": -0.2, "like": 2.0, "save": 2.0, "follow": 3.0, "hide": -2.0}
#: Categories (and creators) a row holds; who has more is not compared.
AFFINITIES: Final = 12
#: An item must have been published this long before an event about it: the catalogue travels on its own way.
PUBLISHED_MS: Final = 10_000


def judge(events: pl.DataFrame, window_ms: int) -> pl.DataFrame:
    """Return ``EVENTS`` in order, the verdict of repeated events being "duplicate".

    *Stream time* of a record is the largest timestamp of its partition up to it; every record counts. A valid
    event is a duplicate when the last valid one before it with its event_id has a stream time at most
    ``window_ms`` less than its own. A window of 0 means that nothing is a duplicate.
    """
    ordered = events.sort("partition", "offset").with_columns(
        stream=pl.col("timestamp").cum_max().over("partition")
    )
    if window_ms == 0:
        return ordered
    valid = ordered.filter(pl.col("verdict") == "")
    repeated = valid.filter(
        pl.col("stream").shift(1).over("partition", "event_id") >= pl.col("stream") - window_ms
    ).select("partition", "offset", again=pl.lit("duplicate"))
    return ordered.join(repeated, on=["partition", "offset"], how="left", maintain_order="left").with_columns(
        verdict=pl.coalesce("again", "verdict")
    )


def accepted(judged: pl.DataFrame) -> pl.DataFrame:
    """Return the events that count."""
    return judged.filter(pl.col("verdict") == "")


# --- features of numbered rows ---


def window_starts(at: int) -> I64:
    """Return where each window begins when it is asked for at ``at``, ms, int64 ``(len(WINDOWS),)``."""
    return np.array([(at // width - n + 1) * width for n, width, _ in map(_BUCKETS.__getitem__, WINDOWS)])


def windows(acts: pl.DataFrame, shape: tuple[int, int], at: int, cells: Mapping[str, int]) -> I64:
    """Return every window of every row and metric at ``at`` (ms), int64 ``(rows, len(WINDOWS), metrics)``.

    Parameters
    ----------
    acts
        Columns row, metric, ts (ms), amount.
    shape
        Rows and metrics.
    at
        The time asked.
    cells
        Where the count of one bucket stops, by tier.
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


def totals(acts: pl.DataFrame, shape: tuple[int, int]) -> I64:
    """Return the all-time counts, int64 ``(rows, metrics)``."""
    out = np.zeros(shape, np.int64)
    sums = acts.group_by("row", "metric").agg(pl.col("amount").sum())
    out[sums["row"].to_numpy(), sums["metric"].to_numpy()] = sums["amount"].to_numpy()
    return out


def _left(ts: pl.Expr, at: int) -> pl.Expr:
    """Return what is left at ``at`` of 1 at ``ts``."""
    return pl.lit(2.0).pow((ts - at).cast(pl.Float64) / HALF_LIFE_MS)


def decayed(acts: pl.DataFrame, shape: tuple[int, int], at: int) -> F64:
    """Return the counts with a half-life of 30 days as they stand at ``at``, float64 ``(rows, metrics)``."""
    out = np.zeros(shape, np.float64)
    sums = acts.group_by("row", "metric").agg((pl.col("amount") * _left(pl.col("ts"), at)).sum())
    out[sums["row"].to_numpy(), sums["metric"].to_numpy()] = sums["amount"].to_numpy()
    return out


def _by_row(frame: pl.DataFrame, n: int, value: pl.Expr, empty: int = 0) -> I64:
    """Return one aggregate a row, int64 ``(n,)``; ``empty`` where a row has nothing."""
    out = np.full(n, empty, np.int64)
    found = frame.group_by("row").agg(value.alias("value"))
    out[found["row"].to_numpy()] = found["value"].to_numpy()
    return out


def _metric(name: pl.Expr, names: tuple[str, ...]) -> pl.Expr:
    return name.replace_strict(list(names), list(range(len(names))), return_dtype=pl.UInt8)


def _numbered(parts: list[pl.DataFrame], key: list[str], show: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the distinct keys, sorted, with their ``row`` numbers, and all parts with theirs."""
    every = pl.concat(parts)
    keys = every.group_by(key).agg(pl.col(show).first()).sort(key).with_row_index("row")
    return keys, every.join(keys.select("row", *key), on=key, how="left", maintain_order="left")


# --- users ---


@dataclass(frozen=True)
class Users:
    """What the records say about users, a row for every (partition, user).

    Attributes
    ----------
    keys
        row, partition, user (its 64-bit key), user_id.
    acts
        row, metric (of ``USER_METRICS``), ts, amount.
    clicks
        row, ts, item.
    tastes
        row, ts, item, timestamp (the record's), taste.
    """

    keys: pl.DataFrame
    acts: pl.DataFrame
    clicks: pl.DataFrame
    tastes: pl.DataFrame

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and metrics."""
        return len(self.keys), len(USER_METRICS)

    def windows(self, at: int) -> I64:
        """Return every window at ``at``, int64 ``(rows, len(WINDOWS), metrics)``."""
        return windows(self.acts, self.shape, at, USER_CELLS)

    def totals(self) -> I64:
        """Return the all-time counts, int64 ``(rows, metrics)``."""
        return totals(self.acts, self.shape)

    def decayed(self, at: int) -> F64:
        """Return the decayed counts at ``at``, float64 ``(rows, metrics)``."""
        return decayed(self.acts, self.shape, at)

    def newest(self) -> I64:
        """Return the time of the newest act of each row, int64 ``(rows,)``; -1 without any."""
        return _by_row(self.acts, self.shape[0], pl.col("ts").max(), -1)

    def n_clicks(self) -> I64:
        """Return the all-time clicks, int64 ``(rows,)``."""
        return _by_row(self.clicks, self.shape[0], pl.len())

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
        """Return the decayed weights of ``what`` ("category" or "creator") at ``at``, and who has them.

        Parameters
        ----------
        items
            What ``attributes`` says of each item.
        complete
            No record of `items` is missing. Where the topic was compacted, any item may have had other
            attributes before, and nobody's weights can be told.

        Returns
        -------
        weights, known
            row, key, weight, size (the sum of what was added, signs left out: rounding goes by it); and bool
            ``(rows,)``: False where the weights cannot be told from the topics, or a row cannot hold them.
        """
        told = self.tastes.filter(pl.col("taste") != 0).join(items, on="item", how="left")
        known = np.ones(self.shape[0], bool)
        early = pl.col("timestamp") < pl.col("published") + PUBLISHED_MS
        unsure = told.filter(~(pl.col("stable") & ~early).fill_null(True) | (not complete))
        known[unsure["row"].unique().to_numpy()] = False
        weight = pl.col("taste") * _left(pl.col("ts"), at)
        sums = (
            told.rename({what: "key"})
            .filter(pl.col("key").fill_null(0) != 0)
            .group_by("row", "key")
            .agg(weight.sum().alias("weight"), weight.abs().sum().alias("size"))
        )
        many = sums.group_by("row").len().filter(pl.col("len") > AFFINITIES)
        known[many["row"].to_numpy()] = False
        return sums, known


def users(events: pl.DataFrame, shown: pl.DataFrame, forgotten: pl.DataFrame | None = None) -> Users:
    """Put together what accepted ``EVENTS`` and valid ``SHOWN`` say about users who are not ``forgotten``."""
    if forgotten is not None:
        events, shown = (f.join(forgotten, on="user", how="anti") for f in (events, shown))
    whose = ["partition", "user"]
    kept = ["partition", "user", "user_id", "ts", "metric", "amount"]
    metric = _metric(pl.col("kind"), USER_METRICS)
    count = events.with_columns(metric=metric, amount=pl.lit(1, pl.Int64)).select(kept)
    dwell = (
        events.filter(pl.col("kind") == "dwell")
        .with_columns(metric=pl.lit(USER_METRICS.index("dwell_s"), pl.UInt8), amount=pl.col("dwell_s"))
        .select(kept)
    )
    seen = shown.filter((pl.col("verdict") == "") & (pl.col("user") != 0))
    slots = seen.with_columns(
        metric=pl.lit(USER_METRICS.index("shown"), pl.UInt8), amount=pl.col("items").list.len().cast(pl.Int64)
    ).select(kept)
    keys, acts = _numbered([count, dwell, slots], whose, "user_id")
    mine = events.join(keys.select("row", *whose), on=whose, how="left", maintain_order="left")
    taste = (
        pl.when(pl.col("kind") == "dwell")
        .then((pl.col("dwell_s") / 30).clip(upper_bound=2.0))
        .otherwise(pl.col("kind").replace_strict(TASTE, default=0.0, return_dtype=pl.Float64))
    )
    return Users(
        keys=keys,
        acts=acts.select("row", "metric", "ts", "amount"),
        clicks=mine.filter(pl.col("kind") == "click").select("row", "ts", "item"),
        tastes=mine.select("row", "ts", "item", "timestamp", taste=taste),
    )


def attributes(items: pl.DataFrame) -> pl.DataFrame:
    """Return what ``ITEMS`` say of every item.

    Returns
    -------
    DataFrame
        item, category, creator, published (timestamp of its first record), stable (it never changed and was
        never withdrawn).
    """
    category, creator = pl.col("category"), pl.col("creator")
    once = (category.n_unique() == 1) & (creator.n_unique() == 1) & category.is_not_null().all()
    return (
        items.filter(pl.col("verdict") == "")
        .group_by("item")
        .agg(category.first(), creator.first(), pl.col("timestamp").min().alias("published"), stable=once)
    )


# --- items ---


@dataclass(frozen=True)
class Items:
    """What the records say about items, or about items in countries, a row for each.

    Attributes
    ----------
    keys
        row, item, country (0 when this is about items everywhere), name.
    acts
        row, metric (of ``ITEM_METRICS``), ts, amount.
    """

    keys: pl.DataFrame
    acts: pl.DataFrame

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and metrics."""
        return len(self.keys), len(ITEM_METRICS)

    def of_partition(self, number: int, of: int) -> Items:
        """Return those whose rows are kept in one partition out of ``of``."""
        keys = self.keys.filter(pl.col("item") % of == number)
        acts = self.acts.join(keys.select("row").with_row_index("new"), on="row")
        return Items(
            keys.drop("row").with_row_index("row"),
            acts.select(pl.col("new").alias("row"), *acts.columns[1:-1]),
        )

    def windows(self, at: int) -> I64:
        """Return every window at ``at``, int64 ``(rows, len(WINDOWS), metrics)``."""
        return windows(self.acts, self.shape, at, ITEM_CELLS)

    def totals(self) -> I64:
        """Return the all-time counts, int64 ``(rows, metrics)``."""
        return totals(self.acts, self.shape)

    def decayed(self, at: int) -> F64:
        """Return the decayed counts at ``at``, float64 ``(rows, metrics)``."""
        return decayed(self.acts, self.shape, at)

    def newest(self) -> I64:
        """Return the time of the newest act of each row, int64 ``(rows,)``; -1 without any."""
        return _by_row(self.acts, self.shape[0], pl.col("ts").max(), -1)

    def first_ts(self) -> I64:
        """Return the time of the first act of each row, int64 ``(rows,)``."""
        return _by_row(self.acts, self.shape[0], pl.col("ts").min())

    def last_click(self) -> I64:
        """Return the time of the last click, int64 ``(rows,)``; 0 without any."""
        clicks = self.acts.filter(pl.col("metric") == ITEM_METRICS.index("click"))
        return _by_row(clicks, self.shape[0], pl.col("ts").max())


#: Kind of event -> the item metric it counts in.
_ITEM_METRIC: Final = {"click": "click", "skip": "skip", "dwell": "dwell_s", "like": "like", "save": "like"}


def items(events: pl.DataFrame, shown: pl.DataFrame) -> tuple[Items, Items]:
    """Put together what accepted ``EVENTS`` and valid ``SHOWN`` say about items: everywhere, by country."""
    kept = ["item", "country", "name", "place", "ts", "metric", "amount"]
    names: dict[str, Any] = {"name": pl.col("item_id"), "place": pl.col("country_id")}
    counted = events.filter(pl.col("kind").is_in(list(_ITEM_METRIC)))
    metric = _metric(pl.col("kind").replace_strict(_ITEM_METRIC, return_dtype=pl.String), ITEM_METRICS)
    amount = pl.when(pl.col("kind") == "dwell").then(pl.col("dwell_s")).otherwise(1)
    did = counted.with_columns(metric=metric, amount=amount, **names).select(kept)
    slots = (
        shown.filter(pl.col("verdict") == "")
        .explode("items", "item_ids")
        .rename({"items": "item", "item_ids": "item_id"})
        .filter(pl.col("item").fill_null(0) != 0)
        .with_columns(
            metric=pl.lit(ITEM_METRICS.index("shown"), pl.UInt8), amount=pl.lit(1, pl.Int64), **names
        )
        .select(kept)
    )
    every = pl.concat([did, slots])
    nowhere = every.with_columns(country=pl.lit(0, pl.UInt64))
    there = every.filter(pl.col("country") != 0).with_columns(
        name=pl.concat_str("name", pl.lit(" in "), "place")
    )
    return tuple(_items(part) for part in (nowhere, there))  # type: ignore[return-value]


def _items(part: pl.DataFrame) -> Items:
    keys, acts = _numbered([part], ["item", "country"], "name")
    return Items(keys, acts.select("row", "metric", "ts", "amount"))
