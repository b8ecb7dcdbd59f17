"""Affinities of users for categories and creators, and the time of their views; computed from events."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from headrace.oracle.features.counts import decay

Bool = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]

#: What one event adds to the weight of its item's category and creator; dwell: per 30 s, at most 2.
TASTE: Final = {"click": 1.0, "skip": -0.2, "like": 2.0, "save": 2.0, "follow": 3.0, "hide": -2.0}
#: A live row has this many categories, and as many creators. Users with more of them are not compared.
AFFINITIES: Final = 12
#: A longer view counts as one of so many seconds.
LONGEST_VIEW_S: Final = 600
#: The item must have been published at least this long (ms) before the event: workers read `items` and
#: `events` independently of each other.
PUBLISHED_MS: Final = 10_000
#: So much longer for an item that was sent on to its partition: the copy has the time of the original, and is
#: written when `ingest` has read that, which a broker that is away delays.
SENT_ON_MS: Final = 50_000


def taste() -> pl.Expr:
    """Return what each of ``EVENTS`` adds to the weights of its category and creator."""
    dwell = (pl.col("dwell_s") / 30).clip(upper_bound=2.0)
    other = pl.col("kind").replace_strict(TASTE, default=0.0, return_dtype=pl.Float64)
    return pl.when(pl.col("kind") == "dwell").then(dwell).otherwise(other)


def view() -> pl.Expr:
    """Return log(1 + seconds) of the views among ``EVENTS``; null for other events, and views of no time."""
    seconds = pl.col("dwell_s").clip(upper_bound=LONGEST_VIEW_S)
    return pl.when((pl.col("kind") == "dwell") & (pl.col("dwell_s") > 0)).then(seconds.log1p())


def item_attributes(items: pl.DataFrame) -> pl.DataFrame:
    """Return the attributes of every item in ``ITEMS``.

    Returns
    -------
    DataFrame
        item, category, creator, published (timestamp of its first record; later, if that was sent on), stable
        (true when it never changed and was never withdrawn).
    """
    category, creator = pl.col("category"), pl.col("creator")
    once = (category.n_unique() == 1) & (creator.n_unique() == 1) & category.is_not_null().all()
    return (
        items.filter(pl.col("verdict") == "")
        .group_by("item")
        .agg(
            category.first(),
            creator.first(),
            (pl.col("timestamp") + SENT_ON_MS * pl.col("sent_on").cast(pl.Int64)).min().alias("published"),
            stable=once,
        )
    )


def affinity_weights(
    tastes: pl.DataFrame, n: int, items: pl.DataFrame, what: str, at: int, *, complete: bool
) -> tuple[pl.DataFrame, Bool]:
    """Return the decayed weights of ``what`` at ``at``, and which of the ``n`` rows have known weights.

    Parameters and result are those of ``Users.affinities``; ``tastes`` is ``Users.tastes``.
    """
    told = tastes.filter(pl.col("taste") != 0).join(items, on="item", how="left")
    known = np.ones(n, bool)
    early = pl.col("timestamp") < pl.col("published") + PUBLISHED_MS
    unsure = told.filter(~(pl.col("stable") & ~early).fill_null(True) | (not complete))
    known[unsure["row"].unique().to_numpy()] = False
    weight = pl.col("taste") * decay(pl.col("ts"), at)
    sums = (
        told.rename({what: "key"})
        .filter(pl.col("key").fill_null(0) != 0)
        .group_by("row", "key")
        .agg(weight.sum().alias("weight"), weight.abs().sum().alias("size"))
    )
    many = sums.group_by("row").len().filter(pl.col("len") > AFFINITIES)
    known[many["row"].to_numpy()] = False
    return sums, known


def view_sums(tastes: pl.DataFrame, begin: I64, items: pl.DataFrame, at: int) -> pl.DataFrame:
    """Return the decayed views of each category; parameters and result are those of ``Users.views``."""
    told = tastes.filter(pl.col("view").is_not_null()).join(items, on="item", how="left")
    since = pl.Series(begin[told["row"].to_numpy()], dtype=pl.Int64)
    left = decay(pl.col("ts"), at)
    return (
        told.filter((pl.col("offset") > since) & (pl.col("category").fill_null(0) != 0))
        .group_by("row", pl.col("category").alias("key"))
        .agg(dwell=(pl.col("view") * left).sum(), views=left.sum())
    )
