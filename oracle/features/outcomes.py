"""The examples that impressions and events make: one for each shown slot, with what became of it."""

from __future__ import annotations

from typing import Final

import polars as pl

#: An event that reached its topic later than this (ms) after its own timestamp may have come after its
#: impression was closed. So labels are certain only for events this long before the end of the wait.
SLOW_MS: Final = 30_000
#: A list that is dated this much (ms) before one ahead of it in the topic is of a worker with a wrong clock.
BEHIND_MS: Final = 1000

SLOT: Final = ["user", "request", "ts", "position"]
_LABELS: Final = ["clicked", "dwell_ms", "liked", "hidden"]


def slots_of(shown: pl.DataFrame, events: pl.DataFrame, wait_ms: int) -> pl.DataFrame:
    """Return every slot of the impressions of one partition that are joined with events.

    An event with a request_id answers the newest impression of its user and request that has the item and was
    shown at or before the event. It counts when its record is dated before the impression closes (the time of
    the record of the impression plus ``wait_ms``) and is in the topic by then.

    Parameters
    ----------
    shown
        ``SHOWN``.
    events
        ``EVENTS`` with the column ``stream``, valid ones, retries too.

    Returns
    -------
    DataFrame
        ``SLOT``, user_id, item, propensity, features, rest, closes and late (ms; the wait is surely over),
        copies (how often the topic has the impression); clicked, dwell_ms, liked, hidden: from events that
        surely count; and ``most_clicked`` and so on: from those that may count, too.
    """
    slots = _slots(shown, wait_ms)
    labels = _labels(_answers(slots, events))
    out = slots.join(labels, on=SLOT, how="left", maintain_order="left")
    names = [name for label in _LABELS for name in (label, f"most_{label}")]
    return out.with_columns(pl.col(names).fill_null(0))


def _slots(shown: pl.DataFrame, wait_ms: int) -> pl.DataFrame:
    each = ["items", "propensities", "features", "rest"]
    stream = pl.col("timestamp").cum_max()
    return (
        shown.filter((pl.col("verdict") == "") & pl.col("request").is_not_null())
        .sort("offset")
        .select(
            *("user", "user_id", "request", "ts"),
            *each,
            closes=pl.col("timestamp") + wait_ms,
            # A list that is dated behind its topic closes later, as it was not read before the others.
            late=pl.when(stream - pl.col("timestamp") > BEHIND_MS)
            .then(stream + wait_ms + SLOW_MS)
            .otherwise(pl.col("timestamp") + wait_ms),
        )
        .with_columns(position=pl.int_ranges(pl.col("items").list.len()))
        .explode(*each, "position")
        .rename({"items": "item", "propensities": "propensity"})
        .filter(pl.col("position").is_not_null())
        .group_by(SLOT, maintain_order=True)
        .agg(pl.exclude(SLOT).first(), copies=pl.len())
    )


def _answers(slots: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Return the events of slots: ``SLOT``, kind, dwell, sure."""
    asked = events.filter(pl.col("request") != 0).select(
        "user", "request", "item", "kind", "offset", "stream", "timestamp", dwell="dwell_ms", did="ts"
    )
    on = ["user", "request", "item"]
    found = asked.join(slots.select(*SLOT, "item", "closes", "late"), on=on)
    before = pl.col("ts") <= pl.col("did")
    newest = pl.when(before).then("ts").max().over("offset")
    # Without any, the clocks that date lists and events may differ: each list may be meant.
    chosen = newest.is_null() | (pl.col("ts") == newest)
    timely = (
        (pl.col("timestamp") >= pl.col("ts"))
        & (pl.col("timestamp") + SLOW_MS <= pl.col("closes"))
        & (pl.col("stream") < pl.col("closes"))
    )
    told = found.with_columns(chosen=chosen, sure=newest.is_not_null() & timely)
    return told.filter(pl.col("chosen") & (pl.col("timestamp") < pl.col("late")))


def _labels(answers: pl.DataFrame) -> pl.DataFrame:
    kind, sure = pl.col("kind"), pl.col("sure")
    liked = kind.is_in(["like", "save"])
    dwell = pl.when(kind == "dwell").then("dwell").otherwise(0)
    return answers.group_by(SLOT).agg(
        clicked=((kind == "click") & sure).any().cast(pl.Int64),
        most_clicked=(kind == "click").any().cast(pl.Int64),
        dwell_ms=pl.when(sure).then(dwell).otherwise(0).max(),
        most_dwell_ms=dwell.max(),
        liked=(liked & sure).any().cast(pl.Int64),
        most_liked=liked.any().cast(pl.Int64),
        hidden=((kind == "hide") & sure).any().cast(pl.Int64),
        most_hidden=(kind == "hide").any().cast(pl.Int64),
    )
