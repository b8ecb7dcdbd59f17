"""The examples that impressions and events make: one for each shown slot, with what became of it."""

from __future__ import annotations

from typing import Final

import polars as pl

from headrace.oracle.features.slot_labels import (
    LIST,
    NOT_WANTED,
    SLOT,
    SLOW_MS,
    TOUCHES,
    Early,
    closed_early,
    followed,
    labels_of,
)

_NEXT: Final = ["next_at", "next_request", "next_ts", "next_plain"]
_LABELS: Final = ["clicked", "dwell_ms", "liked", "hidden", "touched", "skipped"]


def slots_of(
    shown: pl.DataFrame,
    events: pl.DataFrame,
    wait_ms: int,
    early: Early,
    examples: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Return every slot of the impressions of one partition that are joined with events.

    An event with a request_id answers the newest impression of its user and request that has the item and was
    shown at or before the event. It counts when its record is dated before the impression closes and is in
    the topic by then.

    A candidate that was not shown has the positions after the slots. An event without a request_id answers
    the newest impression of its user at or before it, if that has left out the item, in the same time. When
    the newest has closed, it may answer one that was written later and is dated earlier. One that was written
    when an older one had closed does not take its events.

    Some slots close before their impression, see ``closed_early``.

    An impression closes ``wait_ms`` after the time of its record. But that is the clock of the worker that
    wrote it. When the record is dated before it came, the live join lets the wait begin when it came, if it
    was reading live; after a restart nobody knows that any more. When it is dated ahead, the wait begins when
    it was read. No topic says when that was. It is sure only that no example is written before its
    impression has closed. So events may or may not count that are dated between the end of the wait and the
    record of the example.

    Parameters
    ----------
    shown
        ``SHOWN``.
    events
        ``EVENTS`` with the column ``stream``, valid ones, retries too.
    examples
        ``EXAMPLES``. Without the example of a slot, its impression closes at the end of the wait.

    Returns
    -------
    DataFrame
        ``SLOT``, came (time of its record, ms), nth (number of the impression in its topic), user_id, item,
        propensity, features, rest,
        closes (end of the wait, ms), open_to (until then the impression was surely open, ms), late (then it
        was surely closed, ms), copies (how often the topic has the impression); clicked, dwell_ms, liked,
        hidden: from events that surely count; and
        ``most_clicked`` and so on: from those that may count, too; labels: see ``labels_of``.
    """
    slots = _written(_slots(shown, wait_ms), examples)
    answers = _answers(slots, events)
    slots = closed_early(slots, answers, early)
    out = slots.join(_labels(_counted(answers, slots)), on=SLOT, how="left", maintain_order="left")
    names = [name for label in _LABELS for name in (label, f"most_{label}")]
    return labels_of(out.with_columns(pl.col(names).fill_null(0)))


def _slots(shown: pl.DataFrame, wait_ms: int) -> pl.DataFrame:
    each = ["items", "propensities", "features", "rest"]
    return (
        followed(shown.filter((pl.col("verdict") == "") & pl.col("request").is_not_null()))
        .with_columns(slots=pl.col("items").list.len(), items=pl.concat_list("items", "unshown"))
        .select(
            *("user", "user_id", "request", "ts", "slots", *_NEXT, "plain", *each),
            came="timestamp",
            closes=pl.col("timestamp") + wait_ms,
            nth=pl.int_range(pl.len()),
        )
        .with_columns(position=pl.int_ranges(pl.col("items").list.len()))
        .explode(*each, "position")
        .rename({"items": "item", "propensities": "propensity"})
        .filter(pl.col("position").is_not_null())
        .with_columns(unshown=pl.col("position") >= pl.col("slots"))
        .drop("slots")
        .group_by(SLOT, maintain_order=True)
        .agg(pl.exclude(SLOT).first(), copies=pl.len())
    )


def _written(slots: pl.DataFrame, examples: pl.DataFrame | None) -> pl.DataFrame:
    """Return slots with the times (ms) between which their impressions have closed: open_to, late."""
    closes = pl.col("closes")
    if examples is None:
        return slots.with_columns(open_to=closes, late=closes, written=closes)
    valid = examples.filter(pl.col("verdict") == "").sort("offset")
    written = valid.group_by(SLOT, maintain_order=True).agg(written=pl.col("timestamp").first())
    at = pl.col("written").fill_null(closes)
    told = slots.join(written, on=SLOT, how="left", maintain_order="left")
    return told.with_columns(
        open_to=pl.min_horizontal(closes, at), late=pl.max_horizontal(closes, at), written=at
    )


def _answers(slots: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Return the events of slots, and of what was not shown, that come while their list may be open.

    ``SLOT``, kind, dwell, timestamp, stream, sure; depth: the first position of the item on the list, null
    for what was not shown.
    """
    told = events.select(
        "user", "request", "item", "kind", "offset", "stream", "timestamp", dwell="dwell_ms", did="ts"
    )
    places = slots.select(*SLOT, "item", "unshown", "open_to", "late")
    shown = places.filter(~pl.col("unshown"))
    found = told.filter(pl.col("request") != 0).join(shown, on=["user", "request", "item"])
    before = pl.col("ts") <= pl.col("did")
    newest = pl.when(before).then("ts").max().over("offset")
    # Without any, the clocks that date lists and events may differ: each list may be meant.
    chosen = newest.is_null() | (pl.col("ts") == newest)
    answers = _timely(found.with_columns(chosen=chosen, known=newest.is_not_null()))
    alone = told.filter(pl.col("request") == 0).drop("request")
    lists = slots.group_by(LIST).agg(pl.col("nth", "came").min(), pl.col("open_to").min())
    mine = alone.join(lists, on="user").filter(before).sort("offset", "nth")
    mine = mine.with_columns(
        last=pl.col("ts") == pl.col("ts").max().over("offset"),
        newest=pl.col("ts") == pl.col("ts").cum_max().over("offset"),  # in the topic, when it was written
    )
    # One that is dated before the newest and was written after it, by a clock that was wrong, may be the
    # newest that is still open.
    after = pl.col("nth") > pl.when("last").then("nth").min().over("offset")
    # One had closed before a newer one was written, which an event that is dated ahead is after.
    newer = pl.when("newest").then("came").shift(-1).backward_fill().over("offset")
    last = mine.filter(pl.col("last") | after | (pl.col("newest") & (newer >= pl.col("open_to"))))
    # Of two impressions of one time, the younger is meant.
    last = last.with_columns(chosen=True, known=pl.col("last") & (pl.col("last").sum().over("offset") == 1))
    left_out = places.filter("unshown")
    deeds = _timely(last.join(left_out, on=["user", "request", "ts", "item"]))
    answers = answers.with_columns(depth=pl.col("position").min().over("offset", *LIST))
    columns = [*SLOT, "kind", "dwell", "timestamp", "stream", "depth", "sure"]
    return pl.concat(
        [answers.select(columns), deeds.with_columns(depth=pl.lit(None, pl.Int64)).select(columns)]
    )


def _counted(answers: pl.DataFrame, slots: pl.DataFrame) -> pl.DataFrame:
    """Return the events that may count, because their slot was open, with ``sure``: whether they must."""
    told = answers.join(slots.select(*SLOT, "closed_from", "closed_to"), on=SLOT)
    sure = pl.col("sure") & (pl.max_horizontal("timestamp", "stream") < pl.col("closed_from"))
    return told.filter(pl.col("timestamp") < pl.col("closed_to")).with_columns(sure=sure)


def _timely(found: pl.DataFrame) -> pl.DataFrame:
    """Return the chosen events that may count, with ``sure``: whether they must."""
    timely = (
        (pl.col("timestamp") >= pl.col("ts"))
        & (pl.col("timestamp") + SLOW_MS <= pl.col("open_to"))
        & (pl.col("stream") < pl.col("open_to"))
    )
    told = found.with_columns(sure=pl.col("known") & timely)
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
        touched=(kind.is_in(TOUCHES) & sure).any().cast(pl.Int64),
        most_touched=kind.is_in(TOUCHES).any().cast(pl.Int64),
        skipped=(kind.is_in(NOT_WANTED) & sure).any().cast(pl.Int64),
        most_skipped=kind.is_in(NOT_WANTED).any().cast(pl.Int64),
    )
