"""Verdicts that need more than one record: duplicates."""

from __future__ import annotations

import polars as pl


def judge(events: pl.DataFrame, window_ms: int) -> pl.DataFrame:
    """Return ``EVENTS`` by partition and offset; repeated events have the verdict "duplicate".

    The *stream time* of a record is the largest timestamp of its partition up to it, refused records
    included. A valid event is a duplicate when the last valid one before it with the same event_id has a
    stream time at most ``window_ms`` before its own. With a window of 0 nothing is a duplicate.
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
    """Return the valid events that are not duplicates."""
    return judged.filter(pl.col("verdict") == "")
