"""Verdicts that need more than one record: duplicates. And what the dedup window of a partition holds."""

from __future__ import annotations

import polars as pl

from headrace.oracle.records.frames import key_of
from headrace.oracle.records.places import AGAIN


def judge(events: pl.DataFrame, window_ms: int) -> pl.DataFrame:
    """Return ``EVENTS`` with their stream time, by partition and offset; repeated ones are "duplicate".

    The *stream time* of a record (column ``stream``) is the largest timestamp of its partition up to it, at
    least 0. Refused records count for it, records that do not ``moves_time`` do not. A valid event is a
    duplicate when the last valid one before it with the same event_id has a stream time at most ``window_ms``
    before its own. With a window of 0 nothing is a duplicate.
    """
    time = pl.when("moves_time").then(pl.col("timestamp").clip(lower_bound=0))
    ordered = events.sort("partition", "offset").with_columns(
        stream=time.cum_max().forward_fill().over("partition")
    )
    if window_ms == 0:
        return ordered
    valid = ordered.filter(pl.col("verdict").is_in(["", AGAIN]))
    repeated = valid.filter(
        (pl.col("stream").shift(1).over("partition", "event_id") >= pl.col("stream") - window_ms)
        & (pl.col("verdict") == "")
    ).select("partition", "offset", again=pl.lit("duplicate"))
    return ordered.join(repeated, on=["partition", "offset"], how="left", maintain_order="left").with_columns(
        verdict=pl.coalesce("again", "verdict")
    )


def accepted(judged: pl.DataFrame) -> pl.DataFrame:
    """Return the valid events that are not duplicates."""
    return judged.filter(pl.col("verdict") == "")


def valid(judged: pl.DataFrame) -> pl.DataFrame:
    """Return the valid events, duplicates and those sent on twice too."""
    return judged.filter(pl.col("verdict").is_in(["", "duplicate", AGAIN]))


def remembered(judged: pl.DataFrame, window_ms: int) -> dict[int, int]:
    """Return the ids in the dedup window at the end of one partition: key of event_id -> stream time (ms).

    Parameters
    ----------
    judged
        The result of ``judge``, the rows of one partition.
    """
    newest = judged["stream"].max()
    if newest is None or window_ms == 0:
        return {}
    last = valid(judged).group_by("event_id").agg(pl.col("stream").max())
    held = last.filter(pl.col("stream") >= int(str(newest)) - window_ms)
    return {key_of(event_id): stream for event_id, stream in held.iter_rows()}
