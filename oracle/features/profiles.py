"""What a row keeps of `users`, and the country of a user."""

from __future__ import annotations

import polars as pl

from headrace.oracle.features.since import Stories

_KEPT = ["offset", "timestamp", "gone", "country", "language", "age", "preferred", "followed", "sent_on"]


def profiles_of(stories: Stories) -> pl.DataFrame:
    """Return the last valid record of `users` of each user of one partition.

    Returns
    -------
    DataFrame
        user, offset, timestamp, gone, country, language, age, preferred, followed; sure: False where
        compaction may have removed a record that was applied after it, or where it may not have been applied.
    """
    valid = stories.users.filter(pl.col("verdict") == "")
    last = valid.group_by("user", maintain_order=True).agg(pl.col(_KEPT).last())
    # A compacted topic has the last record of each key. When it was refused, the last valid one may be gone.
    refused = (
        stories.users.filter(pl.col("named") != 0)
        .group_by("named", maintain_order=True)
        .agg(refused=pl.col("verdict").last() != "")
        .rename({"named": "user"})
    )
    unsure = (pl.col("refused").fill_null(False) | pl.col("sent_on")) & (not stories.whole)
    return last.join(refused, on="user", how="left").with_columns(sure=~unsure).drop("refused", "sent_on")


def event_countries(stories: Stories) -> pl.DataFrame:
    """Return user, seen (the last non-empty country of the events that count), countries (all of them)."""
    told = stories.events.filter(pl.col("country") != 0).sort("offset")
    country = pl.col("country")
    return told.group_by("user").agg(seen=country.last(), countries=country.unique())
